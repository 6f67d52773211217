"""A POP3 server in memory: fake clock, fake transport, real protocol, and parts that a test can hold up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.cred.portal import IRealm, Portal
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.mail.interfaces import IMailboxPOP3
from twisted.python.failure import Failure
from zope.interface import implementer

from tpops.errors import BadCredentials, UnknownUser
from tpops.interfaces import IEvents
from tpops.mailbox.memory import MemoryDriver
from tpops.mailbox.view import Mailbox
from tpops.model import Account, Session
from tpops.policy.limits import Limits
from tpops.policy.memory import Memory
from tpops.policy.penalties import Penalties
from tpops.protocol.capabilities import Offer
from tpops.protocol.sasl import Plain
from tpops.server.factory import POP3Factory
from tpops.server.listeners import Listener, bind, serve
from tpops.server.offers import ALWAYS, OFF, Offers
from tpops.server.options import ServerOptions
from tpops.server.pop3 import POP3Server
from tpops.server.shared import Shared

GREETING = b"+OK tpops ready\r\n"
LOGIN = b"USER joe\r\nPASS secret\r\n"


@implementer(ICredentialsChecker)
class Checker:
    """
    Knows joe with the password "secret"; C{hold} makes it answer when the test says so.

    @ivar waiting: the answer that is being waited for
    """

    credentialInterfaces = (IUsernamePassword, IUsernameHashedPassword)

    def __init__(self) -> None:
        self.hold = False
        self.waiting: Deferred[bytes] | None = None

    def requestAvatarId(self, credentials: Any) -> Any:
        """See ICredentialsChecker."""
        if credentials.username != b"joe":
            raise UnknownUser("no such user")
        if not credentials.checkPassword(b"secret"):
            raise BadCredentials("wrong password")
        if self.hold:
            self.waiting = Deferred()
            return self.waiting
        return b"test:joe"


@implementer(IRealm)
class Realm:
    """Opens maildrops of a driver and counts who logs out."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.logouts = 0

    def requestAvatar(self, avatarId: bytes, mind: object, *interfaces: Any) -> Any:
        """See IRealm."""
        return Deferred.fromCoroutine(self._open())

    async def _open(self) -> Any:
        account = Account("joe", "test")
        mailbox = Mailbox(await self.driver.open_maildrop(account), account)

        def logout() -> Deferred[None]:
            self.logouts += 1
            return mailbox.logout()

        return IMailboxPOP3, mailbox, logout


@implementer(IEvents)
class Recorder:
    """
    Writes down what happened.

    @ivar ok_waits_for: what the +OK of a login waits for
    """

    ok_waits_for: Deferred[None] | None = None

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.details: list[str] = []
        self.sessions: list[Session] = []

    def emit(self, kind: str, session: Session, detail: str = "") -> None:
        """See IEvents."""
        self.kinds.append(kind)
        self.details.append(detail)
        self.sessions.append(session)

    def logged_in(self, session: Session) -> Deferred[None] | None:
        """See IEvents."""
        self.emit("login", session)
        return self.ok_waits_for


class Client:
    """One connection, seen from the client."""

    def __init__(self, server: POP3Server, transport: StringTransport) -> None:
        self.server = server
        self.transport = transport
        self.writes = 0
        write = transport.write

        def counted(data: bytes) -> None:
            self.writes += 1
            write(data)

        transport.write = counted

    def say(self, data: bytes) -> bytes:
        """Send octets; gives what came back at once."""
        self.server.dataReceived(data)
        return self.heard()

    def heard(self) -> bytes:
        """What came since the last time."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def vanish(self, reason: Callable[[], BaseException] = ConnectionResetError) -> None:
        """The connection is lost."""
        self.server.connectionLost(Failure(reason()))

    @property
    def closed(self) -> bool:
        """The server has closed the connection."""
        return bool(self.transport.disconnecting)


def listen(listener: Listener, shared: Shared, reactor: Any, tls: str = OFF) -> Any:
    """A listener that is served."""
    factory = POP3Factory(shared)
    factory.tls = tls
    with bind(listener) as opened:
        return serve(listener, opened, factory, reactor)


class Harness:
    """
    The server's parts.

    @ivar stored: joe's messages by unique-id
    """

    def __init__(
        self,
        messages: dict[bytes, bytes] | None = None,
        driver: Any = None,
        offer: Offer | None = None,
        limits: dict[str, Any] | None = None,
        tls: str = OFF,
        plaintext: str = ALWAYS,
        networks: tuple[str, ...] = (),
        apop_only: bool = False,
        **options: Any,
    ) -> None:
        self.clock = Clock()
        self.stored = messages if messages is not None else {b"a": b"Subject: a\n\n.x\n", b"b": b"Subject: b\n\ny\n"}
        self.driver = driver if driver is not None else MemoryDriver({"joe": self.stored})
        self.checker = Checker()
        self.realm = Realm(self.driver)
        self.events = Recorder()
        settings: dict[str, Any] = {
            "connections": 100, "connections_per_address": 100, "ipv6_prefix": 64, "exempt": (),
            "login_delay_seconds": 0,
        }  # fmt: skip
        settings.update(limits or {})
        first = settings.pop("auth_delay_seconds", 2.0)
        settings["memory"] = memory = Memory()
        most = settings.pop("auth_delay_max_seconds", first)
        settings["penalties"] = Penalties(first, most, self.clock.seconds, memory)
        offer = offer or Offer(mechanisms={b"PLAIN": Plain})
        self.shared = Shared(
            portal=Portal(self.realm, [self.checker]),
            limiter=Limits(seconds=self.clock.seconds, **settings),
            events=self.events,
            clock=self.clock,
            epoch=self.clock.seconds,
            offers=Offers(offer, plaintext, networks, apop_only=apop_only),
            options=ServerOptions(**options),
            hostname="host.example",
        )
        self.factory = POP3Factory(self.shared)
        self.factory.tls = tls

    def connect(self, greeted: bool = True, host: str = "") -> Client:
        """A new connection; its greeting is taken off."""
        server = self.factory.buildProtocol(IPv4Address("TCP", host, 4711) if host else None)
        assert isinstance(server, POP3Server)
        transport = StringTransport()
        client = Client(server, transport)
        server.makeConnection(transport)
        if greeted:
            assert client.heard().startswith(b"+OK"), "no greeting"
        return client

    def logged_in(self) -> Client:
        """A connection of joe after login."""
        client = self.connect()
        assert b"+OK joe has" in client.say(LOGIN)
        return client
