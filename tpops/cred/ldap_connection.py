"""
One connection to a directory server (LDAP version 3, RFC 4511).

Purpose: what the driver "ldap" needs of the protocol: StartTLS, simple bind and search, each with a time by which its
answer must be there.  Requests and answers are made and read by sansldap, which knows no sockets.
Limits: nothing but a bind runs while a bind is under way, as RFC 4511 §4.2.1 asks; searches may overtake each other.
Referrals are not followed.
Security: an empty password is never sent: a server would answer "success" (RFC 4513 §5.1.2).  Octets that came before
TLS was on are forgotten.
Errors: L{ServerFailed}; the connection cannot be used any more when it is no longer C{alive}.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
from sansldap import AuthenticationCredential as Credential
from sansldap import (
    BindResponse,
    ExtendedOperations,
    ExtendedResponse,
    LDAPClient,
    LDAPControl,
    LDAPFilter,
    LDAPMessage,
    LDAPResultCode,
    ProtocolError,
    SearchResultDone,
    SearchResultEntry,
    SearchScope,
)
from sansldap.asn1 import ASN1Tag, ASN1Writer, TagClass
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from tpops.upstream.reasons import reason_text

_T = TypeVar("_T")

#: Octets that a server may send until the next answer is complete: entries are a few hundred.
_MOST_OCTETS = 4 << 20

#: Seconds that a connection may take to end in good order.
_CLOSE_SECONDS = 1.0

#: What an operator can do about some answers.
_HINTS: dict[int, str] = {
    LDAPResultCode.REFERRAL: "; referrals are not followed, name the server that has the entries in urls",
    LDAPResultCode.STRONG_AUTH_REQUIRED: "; the server wants TLS",
    LDAPResultCode.CONFIDENTIALITY_REQUIRED: "; the server wants TLS",
}

#: Control of a request and of its answer, draft-behera-ldap-password-policy.
PASSWORD_POLICY = "1.3.6.1.4.1.42.2.27.8.5.1"  # noqa: S105  # an object identifier


class ServerFailed(Exception):
    """A server has not given an answer that says anything about a user; the text says why."""


class ConnectionGone(ServerFailed):
    """The connection ended before the answer came."""


class TooLate(ServerFailed):
    """The time was up."""


class Answered(ServerFailed):
    """A server has answered a search with an error."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


@attrs.frozen
class Question:
    """
    A search.

    @ivar attributes: what is wanted of the entries, empty for nothing
    """

    base: str
    scope: SearchScope
    filter: LDAPFilter
    attributes: tuple[str, ...] = ()


@attrs.frozen
class Found:
    """
    The answer to a search.

    @ivar more: whether there are more entries than were asked for
    """

    entries: tuple[SearchResultEntry, ...]
    more: bool


@dataclasses.dataclass(frozen=True)
class _Password(Credential):
    """A simple bind's password in octets, as the client sent it."""

    auth_id: int = dataclasses.field(init=False, repr=False, default=0)
    password: bytes = dataclasses.field(repr=False, default=b"")

    def pack(self, writer: ASN1Writer, options: object) -> None:
        writer.write_octet_string(self.password, tag=ASN1Tag(TagClass.CONTEXT_SPECIFIC, self.auth_id, False))


@attrs.define
class _Request:
    """A request that waits for its answer, and the entries that have come for it."""

    answer: Deferred[LDAPMessage]
    entries: list[SearchResultEntry] = attrs.field(factory=list)


@implementer(IHandshakeListener)
class LDAPConnection(Protocol):
    """
    See the module.

    @ivar alive: whether it can be used
    @ivar used_at: when it was used last
    @param clock: IReactorTime
    @param gone: called once when the connection has ended
    """

    def __init__(self, clock: Any, gone: Callable[[LDAPConnection], None]) -> None:
        self.alive = False
        self.used_at = clock.seconds()
        self._clock = clock
        self._gone = gone
        self._session = LDAPClient()
        self._requests: dict[int, _Request] = {}
        self._handshake: Deferred[None] = Deferred()
        self._octets = 0
        self._why = ""
        self._closing: IDelayedCall | None = None

    # What Twisted calls.

    def connectionMade(self) -> None:
        """See L{Protocol.connectionMade}."""
        if not self.alive and ITCPTransport.providedBy(self.transport):
            self.transport.setTcpKeepAlive(True)
        self.alive = True

    def handshakeCompleted(self) -> None:
        """See L{IHandshakeListener}: the certificate is verified."""
        self._handshake.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """See L{Protocol.dataReceived}."""
        self._octets += len(data)
        if self._octets > _MOST_OCTETS:
            self._abort("the server sent more than anybody has asked for")
            return
        try:
            messages = self._session.receive(data)
        except ProtocolError as error:
            self._abort(str(error))
            return
        for message in messages:
            self._take(message)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See L{Protocol.connectionLost}."""
        self.alive = False
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        why = ConnectionGone(self._why or reason_text(reason))
        requests, self._requests = self._requests, {}
        if not self._handshake.called:
            self._handshake.addErrback(lambda _: None)
            self._handshake.errback(why)
        for request in requests.values():
            request.answer.errback(why)
        self._gone(self)

    # Requests.

    async def start_tls(self, context: Any, until: float) -> None:
        """
        Ask for TLS and turn it on, RFC 4511 §4.14.

        @raise ServerFailed: when the server does not want to, or cannot prove who it is
        """
        self._must_live()
        answer = await self._ask(self._session.extended_request(ExtendedOperations.LDAP_START_TLS.value), until)
        if not isinstance(answer, ExtendedResponse) or result_code(answer) != LDAPResultCode.SUCCESS:
            self._abort("StartTLS was refused")
            raise ServerFailed(f"StartTLS was refused: {result_text(answer)}")
        self._session = LDAPClient()
        await self.secure(context, until)

    async def secure(self, context: Any, until: float) -> None:
        """
        Turn TLS on, and wait until the server has proved who it is.

        @param context: as for L{TLSMemoryBIOFactory}
        @raise ServerFailed: when it cannot
        """
        self._must_live()
        plain = self._wire
        factory = TLSMemoryBIOFactory(context, True, Factory.forProtocol(lambda: self), self._clock)
        plain.protocol = factory.buildProtocol(None)
        plain.protocol.makeConnection(plain)
        try:
            await in_time(self._handshake, until, self._clock, "TLS was not on in time")
        except ServerFailed as problem:
            self._abort(str(problem))
            raise

    async def bind(self, dn: str, password: bytes, until: float) -> BindResponse:
        """
        Authenticate with a name and a password; the answer may be a no.

        @raise ServerFailed: when there is no answer
        """
        if not dn or not password:
            raise ValueError("neither name nor password may be empty in a bind")
        self._must_live()
        control = LDAPControl(PASSWORD_POLICY, critical=False, value=None)
        answer = await self._ask(self._session.bind(dn, _Password(password=password), [control]), until, alone=True)
        if not isinstance(answer, BindResponse):
            self._abort("the server answered a bind with something else")
            raise ServerFailed("the server answered a bind with something else")
        return answer

    async def search(self, question: Question, most: int, until: float) -> Found:
        """
        Look for entries.

        @param most: how many are wanted
        @raise ServerFailed: when the search could not be carried out to its end
        """
        self._must_live()
        left = max(until - self._clock.seconds(), 0)
        number = self._session.search_request(
            question.base,
            question.scope,
            size_limit=most,
            time_limit=int(left) + 1,
            filter=question.filter,
            attributes=list(question.attributes) or ["1.1"],
        )
        entries: list[SearchResultEntry] = []
        answer = await self._ask(number, until, entries)
        if not isinstance(answer, SearchResultDone):
            self._abort("the server answered a search with something else")
            raise ServerFailed("the server answered a search with something else")
        code = result_code(answer)
        if code not in (LDAPResultCode.SUCCESS, LDAPResultCode.SIZE_LIMIT_EXCEEDED):
            raise Answered(f"search in {question.base!r}: {result_text(answer)}", code)
        return Found(tuple(entries[:most]), code != LDAPResultCode.SUCCESS or len(entries) > most)

    def close(self) -> None:
        """End it in good order; idempotent."""
        if self.alive:
            self.alive = False
            self._session.unbind()
            self._flush()
            self._wire.loseConnection()
            # With TLS on, an end in good order needs a server that answers.
            self._closing = self._clock.callLater(_CLOSE_SECONDS, self._wire.abortConnection)

    # Inner.

    @property
    def _wire(self) -> Any:
        """The transport, which can do more than Twisted's interface for all of them says."""
        return self.transport

    async def _ask(
        self, number: int, until: float, entries: list[SearchResultEntry] | None = None, alone: bool = False
    ) -> LDAPMessage:
        """
        Send the request with this number and wait for its answer.

        @param alone: nothing else can be asked until the answer is there
        """
        request = _Request(Deferred(), [] if entries is None else entries)
        self._requests[number] = request
        self._flush()
        self.used_at = self._clock.seconds()
        try:
            return await in_time(request.answer, until, self._clock, "no answer in time")
        except TooLate as problem:
            self._abort(str(problem))
            raise
        finally:
            if self._requests.pop(number, None) is not None and alone:
                self._abort("nobody waits for the answer any more")

    def _must_live(self) -> None:
        if not self.alive:
            raise ConnectionGone(self._why or "the server has closed the connection")

    def _take(self, message: LDAPMessage) -> None:
        """An answer, or a part of one."""
        request = self._requests.get(message.message_id)
        if request is None:
            return  # of a search that nobody waits for any more
        if isinstance(message, SearchResultEntry):
            request.entries.append(message)
        elif isinstance(message, (SearchResultDone, BindResponse, ExtendedResponse)):
            del self._requests[message.message_id]
            self._octets = 0
            request.answer.callback(message)

    def _flush(self) -> None:
        self._wire.write(self._session.data_to_send())

    def _abort(self, why: str) -> None:
        if self.alive:
            self.alive = False
            self._why = why
            self._wire.abortConnection()


async def in_time(waiting: Deferred[_T], until: float, clock: Any, why: str) -> _T:
    """
    What it gives, if that comes in time; else it is cancelled.

    @raise TooLate: with C{why}, when it does not
    """
    try:
        return await waiting.addTimeout(max(until - clock.seconds(), 0), clock)
    except TimeoutError:
        raise TooLate(why) from None


def result_code(message: BindResponse | SearchResultDone | ExtendedResponse) -> int:
    """
    The result as a number, to be compared with members of LDAPResultCode.

    The library's own member for a code that it does not know has the right value and is equal to SUCCESS.
    """
    code: int = message.result.result_code.value
    return code


def result_text(message: LDAPMessage) -> str:
    """What a server said, for the log."""
    if not isinstance(message, (BindResponse, SearchResultDone, ExtendedResponse)):
        return "an answer that is none"
    result = message.result
    said = f" ({result.diagnostics_message[:200]!r})" if result.diagnostics_message else ""
    hint = _HINTS.get(result_code(message), "")
    return f"{result.result_code.name.lower().replace('_', ' ')}{said}{hint}"
