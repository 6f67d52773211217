"""
What the server does for a line that has no ready reply.

Purpose: the states of L{tpops.protocol.states} decide, the server acts; these values are all that passes
between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Login:
    """
    Verify name and password, then open the maildrop.

    @ivar authorization: whose maildrop, where it is not that of the name (RFC 4616 section 2), else b""
    """

    name: bytes
    password: bytes = field(repr=False)
    authorization: bytes = b""


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
class LoginProven:
    """
    The same for a name that a SASL exchange has verified.

    @ivar proof: what the client sent for it, for the memory of failures
    @ivar source: name of the accounts source whose secret proved it, "" for the first that knows the name
    """

    name: bytes
    proof: bytes = field(repr=False, default=b"")
    source: str = ""


@dataclass(frozen=True, slots=True)
class LoginByTicket:
    """
    The same for a name that another process has verified.

    @ivar proof: its ticket, which is good once
    """

    name: bytes
    proof: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LoginRejected:
    """
    A SASL exchange has found that the proof is wrong: a failed login.

    @ivar why: for the log
    @ivar challenge: what the client is told, and may answer, before the exchange ends; None where it ends at once
    """

    name: bytes
    proof: bytes = field(repr=False)
    why: str = "wrong password"
    challenge: bytes | None = None


@dataclass(frozen=True, slots=True)
class Consult:
    """
    A SASL exchange needs something that only the server can find out.

    @ivar question: a value whose type says what is asked; its C{name}, where it has one, is who wants to log in
    @ivar resume: takes the answer and gives what is done next; raises CommandError where the exchange cannot go on
    """

    question: object
    resume: Callable[[object], Result] = field(repr=False, compare=False)


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
    """
    Answer, then close.

    @ivar reason: see L{tpops.model.Session.reason}
    """

    reply: bytes
    reason: str = "quit"


#: What begins a login.
AnyLogin = Login | LoginByDigest | LoginByKeyedDigest | LoginProven | LoginByTicket | LoginRejected
Action = AnyLogin | Consult | StartTLS | Retrieve | Listing | Commit | Close
Result = bytes | Action
