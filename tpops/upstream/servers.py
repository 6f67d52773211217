"""
The servers behind this one: where they are, and sessions there.

Purpose: from a place and a name with its password to a session that has logged in; counts the connections.
Format: a place is C{HOST}, C{HOST:PORT} or C{[IPV6]:PORT}; C{$(user)}, C{$(local_part)} and C{$(domain)} in the
configured place and the configured name stand for parts of the login name.
Security: without TLS nothing is sent when TLS is wanted.  A server that turns out to be this very one is noticed.
Errors: see L{tpops.upstream.login.log_in}.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from tpops.coroutines import run
from tpops.errors import MaildropBroken, StorageUnavailable
from tpops.model import Peer
from tpops.upstream import login, replies
from tpops.upstream.connection import Connection
from tpops.upstream.login import Identity
from tpops.upstream.readers import take_text
from tpops.upstream.reasons import reason_text
from tpops.upstream.replies import Capabilities

OFF, STARTTLS, IMPLICIT = "off", "starttls", "implicit"

#: Makes the context of TLS to a host of this name.
TLSContext = Callable[[str], Any]

#: Makes the endpoint to connect with: reactor, host, port, seconds.
MakeEndpoint = Callable[[Any, str, int, float], Any]

_VARIABLE = re.compile(r"\$\(([a-z_]+)\)")
_PLACE = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?))(?::([0-9]{1,5}))?"
)


@attrs.frozen(slots=True)
class Place:
    """Where a server is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, port: int) -> Place:
        """
        Read one.

        @param port: the port where the text has none
        @raise ValueError: when it is none
        """
        found = _PLACE.fullmatch(text)
        if found is None or not 0 < int(found[3] or port) < 65536:
            raise ValueError(f"{text!r} is no server: HOST, HOST:PORT or [IPV6]:PORT")
        return cls(found[1] or found[2], int(found[3] or port))


@attrs.frozen
class Settings:
    """
    How to get in.

    @ivar server: the configured place, "" for none
    @ivar tls: off, starttls or implicit
    @ivar tls_context: for the TLS of a host
    @ivar user: the name there, as a template
    @ivar password: the password there of everybody, None for each his own
    @ivar way: how to log in, see L{tpops.upstream.login}
    @ivar connect_timeout_seconds: until the greeting is there
    @ivar timeout_seconds: until an answer, or more of it, is there
    @ivar keepalive_seconds: between NOOPs, 0 for none
    @ivar connections: most of them at the same time, 0 for any number
    """

    server: str
    tls: str
    tls_context: TLSContext
    user: str = "$(user)"
    password: bytes | None = attrs.field(default=None, repr=False)
    way: str = login.AUTO
    connect_timeout_seconds: float = 20.0
    timeout_seconds: float = 60.0
    keepalive_seconds: float = 120.0
    connections: int = 1000


@attrs.frozen(eq=False)
class LoggedIn:
    """
    A session with another server, after login.

    @ivar user: the name there
    """

    place: Place
    user: bytes
    connection: Connection
    capabilities: Capabilities

    def close(self) -> None:
        """Drop it: no QUIT, so that the server changes nothing."""
        self.connection.abort("the session is over")


def endpoint_of(reactor: Any, host: str, port: int, seconds: float) -> Any:
    """What connects to a host by its name."""
    from twisted.internet.endpoints import HostnameEndpoint

    return HostnameEndpoint(reactor, host, port, seconds)


class Upstream:
    """
    See the module.

    @param split: local part and domain of a login name
    @param endpoint: makes what connects
    """

    def __init__(
        self,
        settings: Settings,
        split: Callable[[str], tuple[str, str]],
        reactor: Any,
        endpoint: MakeEndpoint = endpoint_of,
    ) -> None:
        self.settings = settings
        self._split = split
        self._reactor = reactor
        self._endpoint = endpoint
        self._connections: set[Connection] = set()
        self._own: set[tuple[str, int, str, int]] = set()
        self._opening = 0

    def place(self, name: str, text: str = "") -> Place:
        """
        The server of a login name.

        @param text: a place of its own, "" for the configured one
        @raise MaildropBroken: when there is none
        """
        settings = self.settings
        try:
            if not text:
                if not settings.server:
                    raise ValueError("there is no proxy.server")
                text = self._filled(settings.server, name)
            return Place.parse(text, 995 if settings.tls == IMPLICIT else 110)
        except ValueError as problem:
            raise MaildropBroken(f"the server behind {name!r}: {problem}") from None

    def user(self, name: str) -> bytes:
        """The name there of a login name, as the configuration has it."""
        return self._filled(self.settings.user, name).encode()

    async def log_in(self, place: Place, identity: Identity, peer: Peer | None = None) -> LoggedIn:
        """
        A new session.

        @param peer: for whom; to notice when that is ourselves
        @raise LoginError: see L{login.log_in}
        @raise StorageError: see L{login.log_in}
        """
        if peer is not None and self._is_own(peer):
            raise MaildropBroken(f"{place} is this server itself: it would go on logging in at itself for ever")
        most = self.settings.connections
        if most and len(self._connections) + self._opening >= most:
            raise StorageUnavailable(f"{place}: there are {most} connections already (proxy.connections)")
        self._opening += 1
        try:
            connection = await self._connect(place)
        finally:
            self._opening -= 1
        seconds = 2 * self.settings.timeout_seconds
        try:
            return await run(self._log_in(connection, place, identity)).addTimeout(seconds, self._reactor)
        except TimeoutError:
            connection.abort("the login took too long")
            raise StorageUnavailable(f"{place}: the login took more than {seconds:g} seconds") from None
        except BaseException:
            connection.abort("the login was not finished")
            raise

    def stop(self) -> None:
        """Drop all sessions."""
        for connection in list(self._connections):
            connection.abort("tpops ends")

    async def _connect(self, place: Place) -> Connection:
        settings = self.settings
        endpoint = self._endpoint(self._reactor, place.host, place.port, settings.connect_timeout_seconds)
        connecting: Deferred[Any] = endpoint.connect(Factory.forProtocol(lambda: self._connection(place)))
        try:
            made = await connecting.addTimeout(settings.connect_timeout_seconds, self._reactor)
        except (TimeoutError, ConnectingCancelledError):
            why = f"no connection within {settings.connect_timeout_seconds:g} seconds"
            raise StorageUnavailable(f"{place}: {why}") from None
        except (ConnectError, OSError, ValueError) as error:
            raise StorageUnavailable(f"{place}: cannot connect: {reason_text(Failure(error))}") from None
        assert isinstance(made, Connection)
        self._connections.add(made)
        self._own.add(_ends(*made.local, *made.remote))
        return made

    async def _log_in(self, connection: Connection, place: Place, identity: Identity) -> LoggedIn:
        stamp, capabilities = await self._greeted(connection, place)
        await login.log_in(connection, self.settings.way, stamp, capabilities, identity)
        return LoggedIn(place, identity.user, connection, capabilities)

    async def _greeted(self, connection: Connection, place: Place) -> tuple[bytes | None, Capabilities]:
        """Everything before the login: greeting, TLS, what the server can do."""
        settings = self.settings
        if settings.tls == IMPLICIT:
            try:
                await connection.secure(settings.tls_context(place.host))
            except BaseException:
                connection.greeting.addErrback(lambda _: None)
                raise
        greeting = await connection.greeting
        if not greeting.positive:
            raise login.refusal(greeting, connection.where)
        stamp = replies.stamp(greeting)
        if settings.tls == STARTTLS:
            started = await connection.send(b"STLS")
            if not started.positive:
                raise MaildropBroken(
                    f"{place} does not do STLS ({started.text}), and proxy.tls asks for it; no password was sent"
                )
            await connection.secure(settings.tls_context(place.host))
            # What came without TLS may be from anybody (RFC 2595 section 4).
            stamp = None
        status, text = await take_text(connection, b"CAPA", replies.MOST_CAPABILITIES)
        return stamp, Capabilities.parse(text) if status.positive else Capabilities()

    def _connection(self, place: Place) -> Connection:
        settings = self.settings
        return Connection(str(place), self._reactor, settings.timeout_seconds, settings.keepalive_seconds, self._gone)

    def _gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._own.discard(_ends(*connection.local, *connection.remote))

    def _is_own(self, peer: Peer) -> bool:
        """Whether the client's connection is one of ours; a port alone may be used for several."""
        return bool(peer.port) and _ends(peer.host, peer.port, peer.local_host, peer.local_port) in self._own

    def _filled(self, template: str, name: str) -> str:
        local_part, domain = self._split(name)
        values = {"user": name, "local_part": local_part, "domain": domain}

        def value(found: re.Match[str]) -> str:
            filled = values.get(found[1])
            if not filled:
                raise MaildropBroken(f"{template!r} needs {found[0]}, and {name!r} has none")
            return filled

        return _VARIABLE.sub(value, template)


def _ends(host: str, port: int, other: str, other_port: int) -> tuple[str, int, str, int]:
    """Both ends of a connection, the same for IPv4 on a socket of IPv6."""
    return host.removeprefix("::ffff:"), port, other.removeprefix("::ffff:"), other_port
