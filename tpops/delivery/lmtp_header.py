"""
The lines that a delivery by LMTP puts before a message: pure code, no I/O.

Purpose: C{Received:} (RFC 5321 section 4.4), beside C{Return-Path:} and C{Delivered-To:}.
Limits: line ends are LF, as in stored mail.  What a client calls himself appears in a comment-safe form.
"""

from __future__ import annotations

import re
from email.utils import formatdate

import attrs

#: What a client's name may have to appear as it is.
_NAME = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")


@attrs.frozen(slots=True)
class Hop:
    """
    How a message came here.

    @ivar client: how the client calls himself
    @ivar peer: his address; "unix" for a UNIX socket
    @ivar hostname: this machine's name
    @ivar delivery: the delivery's name in our log
    @ivar utf8: whether addresses may have UTF-8 (RFC 6531 section 4.3)
    @ivar at: when it came, seconds since the epoch
    """

    client: str
    peer: str
    hostname: str
    delivery: str
    utf8: bool
    at: float


@attrs.frozen(slots=True)
class Headers:
    """Which lines are put before a message."""

    return_path: bool = True
    delivered_to: bool = True
    received: bool = True


def fields(headers: Headers, hop: Hop, sender: str, recipient: str) -> list[tuple[bytes, bytes]]:
    """
    What is put before a message for one recipient, names and values.

    @param sender: the reverse-path
    @param recipient: the forward-path
    """
    wanted = (
        (headers.return_path, b"Return-Path", f"<{sender}>".encode()),
        (headers.delivered_to, b"Delivered-To", recipient.encode()),
        (headers.received, b"Received", received(hop, recipient)),
    )
    return [(name, value) for want, name, value in wanted if want]


def received(hop: Hop, recipient: str) -> bytes:
    """The trace field of a message for one recipient."""
    client = hop.client if _NAME.fullmatch(hop.client) else "unknown"
    peer = "local" if hop.peer == "unix" else f"[IPv6:{hop.peer}]" if ":" in hop.peer else f"[{hop.peer}]"
    protocol = "UTF8LMTP" if hop.utf8 else "LMTP"
    return (
        f"from {client} ({peer})\n"
        f"\tby {hop.hostname} (tpops) with {protocol} id {hop.delivery}\n"
        f"\tfor <{recipient}>; {formatdate(hop.at, localtime=True)}"
    ).encode()
