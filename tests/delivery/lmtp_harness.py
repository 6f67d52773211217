"""An LMTP server in memory: fake clock, fake transport, real protocol, and parts that a test can hold up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tpops.delivery.incoming import Message
from tpops.delivery.lmtp import LMTPFactory
from tpops.delivery.lmtp_content import Content
from tpops.delivery.lmtp_deliveries import Deliveries
from tpops.delivery.lmtp_header import Headers
from tpops.delivery.lmtp_shared import Options, Shared
from tpops.errors import UnknownUser
from tpops.interfaces import IIncomingMessage
from tpops.mailbox.memory import MemoryDriver
from tpops.model import Account, Envelope

GREETING = b"220 mail.example.org LMTP ready\r\n"
BEGIN = b"LHLO mx.example.org\r\nMAIL FROM:<a@example.org>\r\n"

MESSAGE = b"Subject: hello\r\n\r\n..two dots\r\nbye\r\n"
STORED = b"Subject: hello\n\n.two dots\nbye\n"
END = b".\r\n"

NO_HEADERS = Headers(False, False, False)

#: 2026-11-25 12:00 UTC.
NOW = 1795608000.0


class Maildrops(MemoryDriver):
    """
    Keeps mail in memory, or raises what a test says, or waits.

    @ivar errors: what is raised for whom
    @ivar holds: who has to wait
    @ivar held: what they wait for, in the order of their deliveries
    @ivar most: most deliveries at the same time
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, Exception] = {}
        self.holds: set[str] = set()
        self.held: list[tuple[str, Deferred[None]]] = []
        self.envelopes: list[Envelope] = []
        self.most = self._now = 0

    async def append(self, account: Account, message: IIncomingMessage, envelope: Envelope) -> bytes:
        """See IAppendable."""
        self._now += 1
        self.most = max(self.most, self._now)
        self.envelopes.append(envelope)
        try:
            if account.name in self.holds:
                waiting: Deferred[None] = Deferred()
                self.held.append((account.name, waiting))
                await waiting
            if account.name in self.errors:
                raise self.errors[account.name]
            return await super().append(account, message, envelope)
        finally:
            self._now -= 1

    def release(self, name: str) -> None:
        """Let the first of somebody's deliveries go on."""
        entry = next(one for one in self.held if one[0] == name)
        self.held.remove(entry)
        entry[1].callback(None)

    def octets(self, name: str) -> list[bytes]:
        """What lies in somebody's maildrop."""
        return list(self.stored.get(name, {}).values())


class Server:
    """
    What all connections of a test share.

    @ivar told: what became of messages
    @ivar threads: work for threads that waits, when C{hold_threads} is set
    """

    def __init__(self, headers: Headers = NO_HEADERS, at_a_time: int = 8, defers: bool = False, **options: Any) -> None:
        self.clock = Clock()
        self.maildrops = Maildrops()
        self.lookups: dict[str, Exception | Deferred[Account]] = {}
        self.told: list[dict[str, str | int | float]] = []
        self.hold_threads = False
        self.threads: list[tuple[Callable[[], None], Deferred[None]]] = []
        self.messages: list[Message] = []
        settings = {
            "hostname": "mail.example.org",
            "most_octets": 1 << 22,
            "most_recipients": 10,
            "most_connections": 3,
            "timeout_seconds": 300.0,
            "networks": ("127.0.0.0/8", "::1/128"),
            **options,
        }
        deliveries = Deliveries(
            self._account, self.maildrops, headers, at_a_time, defers, self.clock.seconds, self._tell
        )
        self.shared = Shared(Options(**settings), deliveries, self._content, self.clock, lambda: NOW)
        self.factory = LMTPFactory(self.shared)
        self.factory._prefix = "abcdef"

    def _tell(self, event: str, facts: Mapping[str, str | int | float]) -> None:
        self.told.append({"event": event, **facts})

    async def _account(self, address: str) -> Account:
        name = address.partition("@")[0]
        found = self.lookups.get(name)
        if isinstance(found, Exception):
            raise found
        if found is not None:
            return await found
        if name.startswith("no"):
            raise UnknownUser("no source has this name")
        return Account(name, "test")

    def _content(self) -> Content:
        message = Message()
        self.messages.append(message)
        return Content(message, self._run_in_thread, self.shared.options.most_octets)

    def _run_in_thread(self, work: Callable[[], None]) -> Deferred[None]:
        if not self.hold_threads:
            return maybeDeferred(work)
        waiting: Deferred[None] = Deferred()
        self.threads.append((work, waiting))
        return waiting

    def run_threads(self) -> None:
        """Let what waits for a thread happen."""
        waiting, self.threads = self.threads, []
        for work, deferred in waiting:
            maybeDeferred(work).chainDeferred(deferred)

    def client(self, host: str = "") -> Client:
        """A connection, by a UNIX socket or from an address."""
        return Client(self, host)


class Client:
    """One connection, seen from the client."""

    def __init__(self, server: Server, host: str = "") -> None:
        address = IPv4Address("TCP", host, 1024) if host else UNIXAddress(b"")
        self.server = server.factory.buildProtocol(address)
        self.transport = StringTransport()
        # StringTransport can do neither.
        self.transport.abortConnection = self._abort  # type: ignore[method-assign]
        self.aborted = False
        self.server.makeConnection(self.transport)

    def say(self, octets: bytes) -> bytes:
        """Send something; gives what comes back at once."""
        self.transport.clear()
        self.server.dataReceived(octets)
        return self.transport.value()

    def said(self) -> bytes:
        """What has come since this was asked last, or something was sent."""
        octets: bytes = self.transport.value()
        self.transport.clear()
        return octets

    def begin(self, *recipients: str) -> Client:
        """Up to 354."""
        said = self.say(
            BEGIN + b"".join(b"RCPT TO:<%s@example.org>\r\n" % one.encode() for one in recipients) + b"DATA\r\n"
        )
        assert said.endswith(b"354 send the message, end with CRLF.CRLF\r\n"), said
        return self

    @property
    def closed(self) -> bool:
        """Whether the server has closed."""
        return bool(self.transport.disconnecting) or self.aborted

    def leave(self) -> None:
        """The connection is lost."""
        self.server.connectionLost(Failure(ConnectionDone()))

    def _abort(self) -> None:
        self.aborted = True
        self.leave()
