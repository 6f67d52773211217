"""
Opens the sockets on which clients arrive.

Purpose: one L{Listener} value for each place in the configuration; all are bound before any is served, so that a port
in use is found while nothing has happened yet.  Whoever has bound a socket keeps it: ports only serve it, as long as
they like, with whatever factory.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import Any

import attrs
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IReactorFDSet
from twisted.internet.protocol import Factory

from tpops.errors import ConfigError
from tpops.server.factory import POP3Factory
from tpops.server.transport import TCPPort, UNIXPort

AnyPort = TCPPort | UNIXPort

_ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104 (compared with, not bound to)


@attrs.frozen
class Listener:
    """
    Where to listen.

    @ivar address: an IPv4 or IPv6 address, or "unix:/path"
    @ivar port: TCP port, 0 for a free one; no meaning for a UNIX socket
    @ivar backlog: connections that may wait to be accepted
    @ivar mode: permissions of a UNIX socket
    @ivar uid: to whom a UNIX socket belongs, -1 for the server's user
    @ivar gid: likewise its group
    @ivar systemd_name: of the socket that systemd has opened for it, "" when only the address counts
    """

    address: str
    port: int = 110
    backlog: int = 1024
    mode: int = 0o660
    uid: int = -1
    gid: int = -1
    systemd_name: str = ""

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


def place_of(opened: socket.socket) -> str:
    """The same of a socket."""
    name = opened.getsockname()
    return f"unix:{name}" if opened.family == socket.AF_UNIX else _host_and_port(name[0], name[1])


def _host_and_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(listener: Listener) -> socket.socket:
    """
    Open a listening socket.

    @raise ConfigError: when the place cannot be had, with what to do about it
    """
    path = listener.path
    address: bytes | tuple[str, int]
    if path is not None:
        _remove_stale(path)
        family, address = socket.AF_UNIX, os.fsencode(path)
    else:
        family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
        address = (listener.address, listener.port)
    opened = socket.socket(family)
    try:
        opened.setblocking(False)
        if path is None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Connections inherit it: replies are whole writes, nothing is gained by waiting for more.
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.bind(address)
        if path is not None:
            os.chmod(path, listener.mode)
        opened.listen(listener.backlog)
    except OSError as problem:
        opened.close()
        raise ConfigError([f"cannot listen on {listener}: {_advice(problem)}"]) from problem
    return opened


def serve(listener: Listener, opened: socket.socket, factory: Factory[Any], reactor: IReactorFDSet) -> AnyPort:
    """Serve a listening socket; it stays open when the port is closed."""
    port: AnyPort
    if listener.path is not None:
        port = UNIXPort._fromListeningDescriptor(reactor, opened.fileno(), factory)
    else:
        port = TCPPort._fromListeningDescriptor(reactor, opened.fileno(), opened.family, factory)
    _tell_place(factory, listener, opened.getsockname())
    port.startListening()
    return port


def change(port: AnyPort, listener: Listener, factory: Factory[Any]) -> None:
    """Let another factory make the protocols of an open port from now on."""
    _tell_place(factory, listener, port.socket.getsockname())
    before, port.factory = port.factory, factory
    factory.doStart()
    if before is not None:
        before.doStop()


def _tell_place(factory: Factory[Any], listener: Listener, name: Any) -> None:
    """Tell where all its clients arrive, where that is one place."""
    if isinstance(factory, POP3Factory):
        if listener.path is not None:
            factory.local = (listener.path, 0)
        elif listener.address not in _ALL_ADDRESSES:
            factory.local = (listener.address, name[1])


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
