"""
What the server does for a line that has no ready reply.

Purpose: the states of L{tpops.protocol.states} decide, the server acts; these values are all that passes
between them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Login:
    """Verify name and password, then open the maildrop."""

    name: bytes
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LoginByDigest:
    """The same with the digest of APOP over the timestamp of the greeting."""

    name: bytes
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LoginByKeyedDigest:
    """The same with the digest of CRAM-MD5: of the challenge, keyed with the password (RFC 2195)."""

    name: bytes
    challenge: bytes
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StartTLS:
    """Answer, then begin the TLS handshake."""


class Retrieve(NamedTuple):
    """Send a message; with C{lines}, its header and that many lines of its body."""

    number: int
    octets: int
    lines: int | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """Send a multi-line reply of any length."""

    first: bytes
    chunks: Iterable[bytes]


@dataclass(frozen=True, slots=True)
class Commit:
    """Enter UPDATE: remove what is marked, answer, close (RFC 1939 section 6)."""


@dataclass(frozen=True, slots=True)
class Close:
    """Answer, then close."""

    reply: bytes


#: What begins a login.
AnyLogin = Login | LoginByDigest | LoginByKeyedDigest
Action = AnyLogin | StartTLS | Retrieve | Listing | Commit | Close
Result = bytes | Action
