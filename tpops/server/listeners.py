"""
Opens the sockets on which clients arrive.

Purpose: one L{Listener} value for each place in the configuration; all are bound before any is served, so that a port
in use is found while nothing has happened yet.
"""

from __future__ import annotations

import os
import socket
import stat

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorFDSet

from tpops.errors import ConfigError
from tpops.server.factory import POP3Factory
from tpops.server.offers import OFF
from tpops.server.shared import Shared
from tpops.server.transport import TCPPort, UNIXPort

_ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104 (compared with, not bound to)


@attrs.frozen
class Listener:
    """
    Where to listen.

    @ivar address: an IPv4 or IPv6 address, or "unix:/path"
    @ivar port: TCP port, 0 for a free one; no meaning for a UNIX socket
    @ivar backlog: connections that may wait to be accepted
    @ivar tls: when TLS is on, see L{tpops.server.offers}
    @ivar mode: permissions of a UNIX socket
    """

    address: str
    port: int = 110
    backlog: int = 1024
    mode: int = 0o660
    tls: str = OFF

    @property
    def path(self) -> str | None:
        """The path of a UNIX socket."""
        return self.address.removeprefix("unix:") if self.address.startswith("unix:") else None

    def __str__(self) -> str:
        return self.address if self.path is not None else _host_and_port(self.address, self.port)


def where(address: IAddress) -> str:
    """The address of an open listener, for people."""
    if isinstance(address, IPv4Address | IPv6Address):
        return _host_and_port(address.host, address.port)
    return f"unix:{os.fsdecode(getattr(address, 'name', b'') or b'')}"


def _host_and_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(listener: Listener, shared: Shared, reactor: IReactorFDSet) -> IListeningPort:
    """
    Open one.

    @raise ConfigError: when the address cannot be had, with what to do about it
    """
    path = listener.path
    factory = POP3Factory(shared)
    factory.tls = listener.tls
    port: TCPPort | UNIXPort
    if path is not None:
        _remove_stale(path)
        port = UNIXPort(os.fsencode(path), factory, listener.backlog, listener.mode, reactor=reactor)
    else:
        port = TCPPort(listener.port, factory, listener.backlog, listener.address, reactor=reactor)
    try:
        port.startListening()
    except CannotListenError as problem:
        raise ConfigError([f"cannot listen on {listener}: {_advice(problem.socketError)}"]) from problem
    if path is not None:
        factory.local = (path, 0)
    else:
        if listener.address not in _ALL_ADDRESSES:
            factory.local = (listener.address, port.getHost().port)
        # Connections inherit it: replies are whole writes, nothing is gained by waiting for more.
        port.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return port


def _advice(problem: object) -> str:
    text = getattr(problem, "strerror", None) or str(problem)
    advice = {
        "Address already in use": "another program has this port; stop it, or choose another port in [[listen]]",
        "Permission denied": "start as root (with server.user set, rights are dropped afterwards), "
        "or choose a port from 1024 up",
        "Cannot assign requested address": "this machine has no such address",
    }.get(text)
    return f"{text} ({advice})" if advice else text


def _remove_stale(path: str) -> None:
    """Remove a UNIX socket that nobody listens on any more; anything else stays."""
    if not os.path.isdir(os.path.dirname(path)):
        raise ConfigError([f"cannot listen on unix:{path}: its directory does not exist"])
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError([f"cannot listen on unix:{path}: a file that is no socket is there"])
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)
    except OSError as problem:
        raise ConfigError([f"cannot listen on unix:{path}: {problem.strerror}"]) from problem
    else:
        raise ConfigError([f"cannot listen on unix:{path}: another program listens on it"])
    finally:
        probe.close()
