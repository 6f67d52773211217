"""
Logs in to another POP3 server.

Purpose: the way that suits server and password, and what a refusal means:

    AUTH PLAIN   over TLS where the server announces it, and where the password cannot go into a line
    APOP         without TLS, where the greeting has a timestamp: the password is not sent then
    USER, PASS   otherwise

Security: a password with a line end in it is never sent by PASS, where it would be a command of its own.
Limits: one way is tried, not one after the other: each try may count as a guess at the other server.
Errors: by response code.  A no without a code is taken for a wrong password, unless the server promises a code for
wrong passwords (AUTH-RESP-CODE, RFC 3206 §6); its words are in the error's text.
"""

from __future__ import annotations

import base64
import hashlib

import attrs

from tpops.errors import (
    BadCredentials,
    MaildropBroken,
    MaildropBusy,
    StorageUnavailable,
    TooSoon,
    TpopsError,
)
from tpops.upstream.connection import Connection
from tpops.upstream.replies import Capabilities, Status

#: Longest command with its line end (RFC 2449 §4).
_LONGEST = 255

#: Octets that make a new line or cut one off.
_NO_LINE = (b"\r", b"\n", b"\0")

AUTO, PLAIN, APOP, USER = "auto", "plain", "apop", "user"


@attrs.frozen(slots=True)
class Identity:
    """
    Who logs in.

    @ivar user: the name there
    """

    user: bytes
    password: bytes = attrs.field(repr=False)


def choose(way: str, password: bytes, stamp: bytes | None, capabilities: Capabilities, secured: bool) -> str:
    """
    The way to log in.

    @param way: the configured one
    @raise MaildropBroken: when there is none
    """
    fits = not any(one in password for one in _NO_LINE)
    announced = b"PLAIN" in capabilities.sasl
    if b"\0" in password:
        raise MaildropBroken("a password with a NUL cannot be sent in any way")
    if way == AUTO:
        if announced and (secured or not fits):
            return PLAIN
        return APOP if stamp is not None and not secured else _fitting(USER, fits)
    if way == APOP and stamp is None:
        raise MaildropBroken("no timestamp in the greeting, so that APOP cannot be used")
    return _fitting(way, fits)


def _fitting(way: str, fits: bool) -> str:
    if way == USER and not fits:
        raise MaildropBroken("a password with a line end can be sent by AUTH PLAIN only")
    return way


async def log_in(
    connection: Connection, way: str, stamp: bytes | None, capabilities: Capabilities, identity: Identity
) -> None:
    """
    Log in.

    @param way: the configured one
    @raise BadCredentials: when the server says that name or password is wrong
    @raise MaildropBusy: when another session holds the maildrop
    @raise TooSoon: when the last login was too short a time ago
    @raise StorageUnavailable: when that cannot be said now
    @raise MaildropBroken: when it cannot be done at all
    """
    if any(one in identity.user for one in _NO_LINE):
        raise MaildropBroken(f"{connection.where}: a name with control characters cannot be sent")
    try:
        chosen = choose(way, identity.password, stamp, capabilities, connection.secured)
    except MaildropBroken as problem:
        raise MaildropBroken(f"{connection.where}: {problem}") from None
    if chosen == PLAIN:
        status = await _plain(connection, identity)
    elif chosen == APOP:
        made = hashlib.md5((stamp or b"") + identity.password, usedforsecurity=False).hexdigest()
        status = await connection.send(b"APOP %s %s" % (identity.user, made.encode("ascii")))
    else:
        status = await connection.send(b"USER " + identity.user)
        if status.positive:
            status = await connection.send(b"PASS " + identity.password)
    if not status.positive:
        raise refusal(status, connection.where, capabilities)


async def _plain(connection: Connection, identity: Identity) -> Status:
    """AUTH PLAIN (RFC 4616), in one line where it is not too long (RFC 5034 §4)."""
    response = base64.b64encode(b"\0%s\0%s" % (identity.user, identity.password))
    if len(response) + len(b"AUTH PLAIN \r\n") <= _LONGEST:
        status = await connection.send(b"AUTH PLAIN " + response)
    else:
        status = await connection.send(b"AUTH PLAIN")
    if status.goes_on:
        # Also a server that overlooks the initial response.
        status = await connection.send(response)
    if status.goes_on:
        await connection.send(b"*")
        raise StorageUnavailable(f"{connection.where}: AUTH PLAIN asks for more than one response")
    return status


def refusal(status: Status, where: str, capabilities: Capabilities | None = None) -> TpopsError:
    """
    What a negative answer before or at the login means.

    @param capabilities: None before the password was sent
    """
    text = f"{where} says {status.text}"
    if status.has("IN-USE"):
        return MaildropBusy(text)
    if status.has("LOGIN-DELAY"):
        return TooSoon(text)
    if status.has("SYS/PERM"):
        return MaildropBroken(text)
    if status.has("SYS") or capabilities is None:
        return StorageUnavailable(text)
    if status.has("AUTH") or b"AUTH-RESP-CODE" not in capabilities.names:
        return BadCredentials(text)
    return StorageUnavailable(text)
