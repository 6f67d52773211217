"""
Which MySQL servers there are, how to get in, and which one to ask first.

Purpose: what a connection needs to know, without the client library, so that a configuration can be checked where
that is not installed.  The servers are asked in the order of the configuration; one that failed moves to the end of
the line for some seconds, so that a server that hangs is not waited for by each login anew.
Limits: names are resolved by the client library.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

#: Port of MySQL and MariaDB.
PORT = 3306

#: Seconds for which a server that failed is asked after the others.
AVOIDED_SECONDS = 15.0

_HOST = re.compile(r"[A-Za-z0-9._-]+")


@attrs.frozen
class Server:
    """
    One server.

    @ivar host: name or address, "" for a UNIX socket
    @ivar port: TCP port
    @ivar path: of the UNIX socket, "" for TCP
    """

    host: str = ""
    port: int = PORT
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_server(text: str) -> Server:
    """
    Read "db1", "db1:3307", "[2001:db8::1]:3307" or "unix:/run/mysqld/mysqld.sock".

    @raise ValueError: when it is none of them
    """
    if text.startswith("unix:"):
        if not text.startswith("unix:/") or "\0" in text:
            raise ValueError('must have an absolute path after "unix:"')
        return Server(path=text[5:])
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
    elif text.count(":") > 1:
        raise ValueError(f"must have an IPv6 address in brackets, such as [{text}]:{PORT}")
    else:
        host, colon, rest = text.partition(":")
        closed, rest = "]", colon + rest
    good = re.fullmatch(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*" if text.startswith("[") else _HOST, host)
    if not good or not closed or not re.fullmatch(r"(?::[0-9]{1,5})?", rest, re.ASCII):
        raise ValueError('must be a host such as "db1", "db1:3307" or "[::1]:3306", or "unix:/path"')
    port = int(rest[1:]) if rest else PORT
    if not 1 <= port <= 65535:
        raise ValueError("must have a port from 1 to 65535")
    if host.lower() == "localhost":
        # The client library would take it for its own UNIX socket, whatever the port.
        raise ValueError(f'must say which way: "127.0.0.1:{port}", or "unix:" and the path of the server\'s socket')
    return Server(host, port)


@attrs.frozen
class Access:
    """
    How to get into a database.

    @ivar servers: in the order in which they are asked
    @ivar tls: "off"; "encrypt", whoever the server is; "verify", with a certificate for its name
    @ivar tls_ca: file with the authorities that may have signed the server's certificate
    @ivar tls_certificate: file with our own certificate, "" for none
    @ivar tls_key: file with its key, "" where it is in the same file
    @ivar timeout_seconds: for everything that is asked: connecting, going on to the next server, the answer
    """

    servers: Sequence[Server]
    user: str
    password: str = attrs.field(repr=False)
    database: str
    tls: str = "off"
    tls_ca: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    timeout_seconds: float = 10.0

    def share_seconds(self) -> int:
        """
        Time for one step: with it at least two servers, or two connections to one, can be tried within the whole.

        Whole seconds, at least one: the client library counts like that.
        """
        return max(1, int(self.timeout_seconds / max(2, len(self.servers))))


def access_of(servers: Sequence[str], tls: str, **others: Any) -> Access:
    """
    An access from the keys of the configuration.

    @param tls: as in L{Access}, or "auto": "verify" where there are authorities, else "off"
    @param others: what else L{Access} has
    """
    if tls == "auto":
        tls = "verify" if others["tls_ca"] else "off"
    return Access(servers=tuple(parse_server(one) for one in servers), tls=tls, **others)


class Line:
    """
    The servers in the order in which they should be asked now; for several threads.

    @param seconds: the time
    """

    def __init__(self, servers: Sequence[Server], seconds: Callable[[], float]) -> None:
        self._servers = tuple(servers)
        self._seconds = seconds
        self._avoided: dict[Server, float] = {}
        self._down: set[Server] = set()
        self._news: deque[tuple[Server, str]] = deque()

    def order(self) -> list[Server]:
        """All of them, those that failed a short time ago last."""
        now = self._seconds()
        return sorted(self._servers, key=lambda server: self._avoided.get(server, now) > now)

    def failed(self, server: Server, why: str) -> None:
        """It did not answer."""
        self._avoided[server] = self._seconds() + AVOIDED_SECONDS
        if server not in self._down:
            self._down.add(server)
            self._news.append((server, why))

    def answered(self, server: Server) -> None:
        """It did."""
        self._avoided.pop(server, None)
        if server in self._down:
            self._down.discard(server)
            self._news.append((server, ""))

    def news(self) -> Iterator[tuple[Server, str]]:
        """Servers that have failed since the last call, each with the reason, or that answer again, with ""."""
        while self._news:
            yield self._news.popleft()
