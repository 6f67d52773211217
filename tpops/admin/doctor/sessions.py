"""
Sessions: logging in, what a second session finds, and how soon a lock goes.

Purpose: unique-ids have to be the same in every session, and a client whose line broke must get in again.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

import attrs

from tpops.admin.doctor import mail
from tpops.admin.doctor.before_login import capabilities
from tpops.admin.doctor.findings import Findings, note, ok, problem, warning
from tpops.admin.doctor.wire import Address, Broken, Wire, shown

#: The least idle time of RFC 1939 section 3.
_RFC_IDLE_SECONDS = 600

#: How long a lock is waited for.
_LOCK_SECONDS = 60.0


@attrs.frozen
class Login:
    """Name and password."""

    name: bytes
    password: bytes = attrs.field(repr=False)


class Refused(Exception):
    """The login was refused; the text is the server's reply."""


def logged_in(address: Address, login: Login) -> Wire:
    """
    A connection in TRANSACTION; USER and PASS, or AUTH PLAIN where that is not offered.

    @raise Refused: when the server says no
    """
    wire = Wire(address)
    try:
        offered = capabilities(wire)
        if b"PLAIN" in offered.get(b"SASL", ()) and b"USER" not in offered:
            answer = wire.command(b"AUTH PLAIN")
            if answer.startswith(b"+"):
                answer = wire.command(base64.b64encode(b"\0" + login.name + b"\0" + login.password))
        else:
            answer = wire.command(b"USER " + login.name)
            if answer.startswith(b"+OK"):
                answer = wire.command(b"PASS " + login.password)
        if not answer.startswith(b"+OK"):
            raise Refused(shown(answer))
        return wire
    except BaseException:
        wire.close()
        raise


def look(address: Address, login: Login, most_messages: int) -> Findings:
    """One session: listings, errors, pipelining, the newest messages."""
    with logged_in(address, login) as wire:
        after = capabilities(wire)
        for tag in (b"UIDL", b"TOP"):
            if after and tag not in after:
                yield warning("CAPA", f"{tag.decode()} is not listed after login", "Some programs do without it.")
        found = mail.listing(wire)
        yield from mail.listings_agree(found)
        yield from mail.single_forms(wire, found)
        if b"PIPELINING" in after:
            yield from mail.pipelined(wire)
        yield from mail.messages(wire, found, sorted(found.sizes)[-most_messages:])
        answer = wire.command(b"QUIT")
        if not answer.startswith(b"+OK"):
            yield problem("QUIT", f"it is answered with {shown(answer)!r}", "Programs think that deletions failed.")


def stability(address: Address, login: Login) -> Findings:
    """Two sessions see the same messages under the same unique-ids."""
    seen = []
    for _ in range(2):
        with logged_in(address, login) as wire:
            seen.append(mail.listing(wire))
            wire.quit()
    first, second = seen
    gone = set(first.unique_ids.values()) - set(second.unique_ids.values())
    new = set(second.unique_ids.values()) - set(first.unique_ids.values())
    if gone and new:
        yield problem(
            "unique-ids",
            f"{len(gone)} of {len(first.unique_ids)} are others in the next session",
            "Programs that leave mail on the server fetch it again (RFC 1939 §7).",
        )
    elif gone or new:
        yield note("unique-ids", "mail came or went between two sessions", "Ask again at a quiet time.")
    elif [*first.unique_ids.values()] != [*second.unique_ids.values()]:
        yield note("unique-ids", "the same in another order in the next session")
    else:
        yield ok("unique-ids", "the same in the next session")


def lock(address: Address, login: Login, seconds: Callable[[], float] = time.monotonic) -> Findings:
    """A second session, and how soon the first one's end lets it in."""
    with logged_in(address, login):
        try:
            _once(address, login)
        except Refused as refused:
            level = ok if "[IN-USE]" in str(refused) else note
            yield level("lock", f"a second session meanwhile gets {refused}")
        except Broken as broken:
            yield warning("lock", f"a second session meanwhile: {broken}", "It should be told -ERR [IN-USE].")
        else:
            yield note("lock", "a second session is let in while the first goes on", "RFC 1939 §4 wants one at a time.")
    yield from _waits(address, login, "a broken connection", seconds)
    _once(address, login)
    yield from _waits(address, login, "QUIT", seconds)


def _once(address: Address, login: Login) -> None:
    """Log in and quit."""
    with logged_in(address, login) as wire:
        wire.quit()


def _waits(address: Address, login: Login, what: str, seconds: Callable[[], float]) -> Findings:
    """How long the next login must wait."""
    began = seconds()
    while True:
        try:
            _once(address, login)
            break
        except Refused as refused:
            if seconds() - began > _LOCK_SECONDS:
                yield problem(
                    "lock",
                    f"{_LOCK_SECONDS:g} seconds after {what} a login still gets {refused}",
                    "A client whose line broke cannot fetch its mail.",
                )
                return
            time.sleep(0.2)
    waited = seconds() - began
    if waited < _LOCK_SECONDS / 12:
        yield ok("lock", f"after {what} the next login is let in at once")
    else:
        yield warning(
            "lock", f"after {what} the next login had to wait {waited:.0f} seconds", "Programs show an error."
        )


def idle(address: Address, login: Login, seconds: float) -> Findings:
    """A session in which nothing is said."""
    with logged_in(address, login) as wire:
        alive = wire.silent(seconds) and wire.command(b"NOOP").startswith(b"+OK")
    if alive:
        yield ok("idle", f"a session lives after {seconds:g} seconds of silence")
    elif seconds <= _RFC_IDLE_SECONDS:
        yield problem(
            "idle",
            f"a session is ended within {seconds:g} seconds of silence",
            f"RFC 1939 §3 asks for at least {_RFC_IDLE_SECONDS}; slow programs lose their deletions.",
        )
    else:
        yield note("idle", f"a session is ended within {seconds:g} seconds of silence")
