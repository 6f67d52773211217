"""
The connections to one directory server: one for searches, a few for the binds of users.

Purpose: a connection that is open is used again; one that turns out to have ended is replaced without anybody noticing.
Searches share one connection, on which they overtake each other, and which is bound as the driver's own name before
anything is looked for.  Users' binds go over other connections, one at a time each, on which nothing is ever searched:
whoever a bind has made of such a connection has no say in anything.
Limits: no more than C{most} users' binds at a time; who comes then waits, as long as his time allows.
Format: an address is C{ldap://host[:port]}, C{ldaps://host[:port]} or C{ldapi://%2Fpath%2Fof%2Fsocket}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
from sansldap import BindResponse, LDAPResultCode
from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from tpops.cred.ldap_connection import (
    Answered,
    ConnectionGone,
    Found,
    LDAPConnection,
    Question,
    ServerFailed,
    TooLate,
    in_time,
    result_code,
    result_text,
)
from tpops.upstream.reasons import reason_text

#: Seconds without use after which a connection is not trusted any more: something in between may have forgotten it.
_IDLE_SECONDS = 200.0

_PORTS = {"ldap": 389, "ldaps": 636}

#: Makes the context of TLS to a host of this name.
TLSContext = Callable[[str], Any]


@attrs.frozen
class Address:
    """
    Where a server is.

    @ivar url: as it was written
    @ivar scheme: ldap, ldaps or ldapi
    @ivar path: of the socket, for ldapi
    """

    url: str
    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, url: str) -> Address:
        """
        Read an address.

        @raise ValueError: when it is none
        """
        parts = urlsplit(url)
        if parts.query or parts.fragment or parts.username is not None:
            raise ValueError("has more than a host and a port: the base and the filter have keys of their own")
        if parts.scheme == "ldapi":
            path = unquote(parts.netloc) or parts.path
            if not path.startswith("/") or "\0" in path or (parts.netloc and parts.path not in ("", "/")):
                raise ValueError("needs the path of a socket, as in ldapi://%2Frun%2Fslapd%2Fldapi")
            return cls(url, parts.scheme, path=path)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("is not of the form ldap://host, ldap://host:port, ldaps://host or ldapi://%2Fsocket")
        if parts.path not in ("", "/"):
            raise ValueError("has more than a host and a port: the base and the filter have keys of their own")
        return cls(url, parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])


@attrs.frozen
class Access:
    """
    How to get in.

    @ivar dn: whom searches are made as, "" for nobody
    @ivar starttls: whether TLS is turned on with StartTLS on connections that have neither TLS nor a socket
    @ivar most: connections for users' binds
    """

    dn: str
    password: bytes = attrs.field(repr=False)
    starttls: bool
    tls_context: TLSContext
    most: int


class Server:
    """
    See the module.

    @ivar address: where it is
    @ivar failed_at: when it last gave no answer, None when its last answer came
    @param reactor: connects
    """

    def __init__(self, address: Address, access: Access, reactor: Any) -> None:
        self.address = address
        self.failed_at: float | None = None
        self._access = access
        self._reactor = reactor
        self._searching: LDAPConnection | None = None
        self._opening = DeferredLock()
        self._binding: list[LDAPConnection] = []
        self._slots = DeferredSemaphore(access.most)
        self._all: set[LDAPConnection] = set()
        self._ended: list[Deferred[None]] = []

    async def search(self, question: Question, most: int, until: float) -> Found:
        """
        Look for entries, as the driver's own name.

        @raise ServerFailed: when the search could not be carried out
        """
        present = self._searching
        if present is not None and self._fresh(present):
            now = self._reactor.seconds()
            try:
                return await present.search(question, most, now + (until - now) / 2)
            except Answered as error:
                if error.code != LDAPResultCode.OPERATIONS_ERROR:
                    raise
                # What Active Directory says to a connection that is not, or not any more, bound.
                present.close()
            except ServerFailed:
                pass
        connection = await self._search_connection(until)
        return await connection.search(question, most, until)

    async def bind(self, dn: str, password: bytes, until: float) -> BindResponse:
        """
        Ask whether it is the password of an entry; the answer may be a no.

        @raise ServerFailed: when there is no answer
        """
        await in_time(self._slots.acquire(), until, self._reactor, "all connections were in use for too long")
        try:
            while self._binding:
                present = self._binding.pop()
                if self._fresh(present):
                    try:
                        return await self._bind_on(present, dn, password, until)
                    except ConnectionGone:
                        continue
            return await self._bind_on(await self._open(until), dn, password, until)
        finally:
            self._slots.release()

    def close(self) -> Deferred[None]:
        """End every connection; fires when they have ended."""
        self._binding.clear()
        self._searching = None
        ended: Deferred[None] = Deferred()
        self._ended.append(ended)
        for connection in list(self._all):
            connection.close()
        self._tell_end()
        return ended

    async def _bind_on(self, connection: LDAPConnection, dn: str, password: bytes, until: float) -> BindResponse:
        answer = await connection.bind(dn, password, until)
        if connection.alive:
            self._binding.append(connection)
        return answer

    async def _search_connection(self, until: float) -> LDAPConnection:
        """The connection for searches, made by whoever comes first; the others wait for it."""
        await in_time(self._opening.acquire(), until, self._reactor, "cannot connect in time")
        try:
            present = self._searching
            if present is None or not present.alive:
                connection = await self._open(until)
                await self._authenticate(connection, until)
                present = self._searching = connection
            return present
        finally:
            self._opening.release()

    async def _authenticate(self, connection: LDAPConnection, until: float) -> None:
        if not self._access.dn:
            return
        answer = await connection.bind(self._access.dn, self._access.password, until)
        if result_code(answer) != LDAPResultCode.SUCCESS:
            connection.close()
            raise ServerFailed(f"bind as {self._access.dn!r}: {result_text(answer)}")

    async def _open(self, until: float) -> LDAPConnection:
        """A new connection, with TLS where there is to be TLS."""
        address, left = self.address, max(until - self._reactor.seconds(), 0)
        endpoint: UNIXClientEndpoint | HostnameEndpoint
        if address.scheme == "ldapi":
            endpoint = UNIXClientEndpoint(self._reactor, address.path, timeout=left)
        else:
            endpoint = HostnameEndpoint(self._reactor, address.host, address.port, timeout=left)
        connecting = endpoint.connect(Factory.forProtocol(self._connection))
        try:
            made = await in_time(connecting, until, self._reactor, "cannot connect in time")
        except (ConnectError, ConnectingCancelledError, OSError, ValueError) as error:
            if self._reactor.seconds() >= until:
                raise TooLate("cannot connect in time") from None
            raise ServerFailed(f"cannot connect: {reason_text(Failure(error))}") from None
        assert isinstance(made, LDAPConnection)
        try:
            if address.scheme == "ldaps":
                await made.secure(self._access.tls_context(address.host), until)
            elif address.scheme == "ldap" and self._access.starttls:
                await made.start_tls(self._access.tls_context(address.host), until)
        except BaseException:
            made.close()
            raise
        return made

    def _connection(self) -> LDAPConnection:
        connection = LDAPConnection(self._reactor, self._gone)
        self._all.add(connection)
        return connection

    def _fresh(self, connection: LDAPConnection) -> bool:
        """Whether it may be used again; else it is closed."""
        if connection.alive and self._reactor.seconds() - connection.used_at > _IDLE_SECONDS:
            connection.close()
        return connection.alive

    def _gone(self, connection: LDAPConnection) -> None:
        self._all.discard(connection)
        if connection in self._binding:
            self._binding.remove(connection)
        if self._searching is connection:
            self._searching = None
        self._tell_end()

    def _tell_end(self) -> None:
        while self._ended and not self._all:
            self._ended.pop().callback(None)
