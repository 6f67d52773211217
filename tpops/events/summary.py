"""
What was done in a session, in one line for people and for programs that look for C{name=value}.

    top=0/0 retr=2/4567 dele=1/2300 left=3/9120 uidl=5d41402a/removed seconds=0.812 reason=quit

Purpose: messages and octets that were sent by TOP and RETR, messages deleted, what is left; and whether the list of
unique-ids has changed: C{uidl} is a checksum of what UIDL listed at login, with C{/removed} where the session has
removed messages.  When a mail program fetches everything again, the checksums of its last sessions tell whether the
list was another one.
Limits: octets of deleted messages are those that the maildrop had more at login.  The checksum is CRC-32, no proof.
"""

from __future__ import annotations

from tpops.events.text import one_line
from tpops.model import Session


def summary(session: Session, ended_at: float) -> str:
    """The line of a session that logged in and has ended."""
    seconds = max(0.0, ended_at - session.connected_at)
    removed = session.octets_at_login - session.octets_left
    return (
        f"top={session.top_count}/{session.top_octets} retr={session.retr_count}/{session.retr_octets}"
        f" dele={session.dele_count}/{removed if session.dele_count else 0}"
        f" left={session.messages_left}/{session.octets_left} uidl={uidl(session) or '-'}"
        f" seconds={seconds:.3f} reason={one_line(session.reason).replace(' ', '-') or '-'}"
    )


def uidl(session: Session) -> str | None:
    """The checksum of the list of unique-ids, None before a login."""
    if session.listing is None:
        return None
    checksum = f"{session.listing.uidl_checksum():08x}"
    return f"{checksum}/removed" if session.dele_count else checksum
