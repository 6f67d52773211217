"""What all connections of one factory share."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import attrs
from twisted.cred.portal import Portal
from twisted.internet.interfaces import IReactorTime

from tpops.errors import LookupUnavailable
from tpops.interfaces import IEvents, ILimiter
from tpops.server.offers import Offers
from tpops.server.options import ServerOptions
from tpops.server.pace import Bandwidth
from tpops.server.strangers import Strangers

if TYPE_CHECKING:
    from tpops.server.apart import Apart
    from tpops.server.pop3 import POP3Server


class Transcript(Protocol):
    """Where transcripts go, see L{tpops.server.transcript}."""

    def wants(self, host: str) -> bool:
        """Whether a transcript of a client at this address is kept."""

    def tell(self, session: str, text: str) -> None:
        """One line of it; control characters are not escaped yet."""


async def no_answers(question: object) -> object:
    """Where no mechanism is offered that asks."""
    raise LookupUnavailable(f"nobody answers {type(question).__name__}")


@attrs.define(kw_only=True, eq=False)
class Shared:
    """
    See the module.

    @ivar portal: verifies credentials and gives mailboxes
    @ivar limiter: decides who may connect
    @ivar events: is told what happens
    @ivar clock: time and timers
    @ivar epoch: seconds since the epoch, for logs
    @ivar offers: what is possible for whom
    @ivar options: limits and timers
    @ivar hostname: our name in APOP timestamps and CRAM-MD5 challenges
    @ivar tls_context: starts TLS (an IOpenSSLServerConnectionCreator), None without a certificate
    @ivar consult: answers the questions of SASL exchanges; raises LookupUnavailable where it cannot
    @ivar whose: the name under which failed logins with a name are counted
    @ivar bandwidth: how fast mail is sent, None for as fast as it goes
    @ivar strangers: those that have not logged in
    @ivar apart: starts sessions in processes of their own, None where they are served here
    @ivar transcript: keeps transcripts, None where nobody asked for them
    @ivar connections: the open connections, and those that are lost while a command still runs
    """

    portal: Portal
    limiter: ILimiter
    events: IEvents
    clock: IReactorTime
    epoch: Callable[[], float]
    offers: Offers
    options: ServerOptions
    hostname: str
    tls_context: object | None = None
    consult: Callable[[object], Awaitable[object]] = attrs.field(default=no_answers)
    whose: Callable[[bytes], bytes] = attrs.field(default=bytes)
    transcript: Transcript | None = None
    bandwidth: Bandwidth | None = None
    strangers: Strangers = attrs.field(factory=lambda: Strangers(0))
    apart: Apart | None = None
    connections: set[POP3Server] = attrs.field(factory=set)

    def stamp(self) -> bytes:
        """For APOP (RFC 1939 section 7) and CRAM-MD5 (RFC 2195): unique, not to be guessed, like a message-id."""
        return f"<{secrets.token_hex(12)}.{int(self.epoch())}@{self.hostname}>".encode("ascii", "replace")
