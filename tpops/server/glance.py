"""
What a session does now, in words for an operator.

Limits: of a session in a process of its own, what that has said last (L{Seen}), which may be a second ago.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tpops.protocol.actions import Commit, Consult, Listing, Retrieve, StartTLS

if TYPE_CHECKING:
    from tpops.server.pop3 import POP3Server

_STATES = {"Authorization": "login", "Exchange": "login", "Transaction": "transaction", "Update": "update"}
_DOING = {Commit: "removing", Consult: "logging in", Listing: "listing", StartTLS: "TLS handshake"}


@attrs.frozen
class Seen:
    """
    What another process has said of a session.

    @ivar doing: as L{doing} says it
    @ivar updating: it is in UPDATE
    """

    doing: str
    updating: bool


def state(server: POP3Server) -> str:
    """The state of RFC 1939: login, transaction or update."""
    if server.apart is not None:
        return "update" if server.seen is not None and server.seen.updating else "transaction"
    return _STATES[type(server.conversation.state).__name__]


def doing(server: POP3Server) -> str:
    """What a session does now, "" when it waits for its client's next command."""
    if server.apart is not None:
        return server.seen.doing if server.seen is not None else "in a process of its own"
    if not server.busy and not server.paused:
        return ""
    action = server.doing
    if isinstance(action, Retrieve):
        text = f"{'RETR' if action.lines is None else 'TOP'} {action.number}"
    else:
        text = _DOING.get(type(action), "logging in")
    return f"{text}, client does not read" if server.paused else text
