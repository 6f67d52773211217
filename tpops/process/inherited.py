"""
What inetd, xinetd, tcpserver or a pipe gives to a program as its standard input.

    a connected socket    one session; the addresses are those of the socket
    a listening socket    "wait" mode
    anything else         one session, by way of two threads that copy between a socket and standard input and output

Purpose: takes it away from the descriptors 0, 1 and 2, so that nothing which is printed gets to the client.
Security: TCPREMOTEIP, TCPREMOTEPORT, TCPLOCALIP and TCPLOCALPORT are believed only where the socket itself has no
addresses: whoever sets them there has made the connection.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
import threading
from collections.abc import Mapping

import attrs
from twisted.logger import Logger

_log = Logger()

_OCTETS = 65536

#: Where a connection comes from or goes to: address and port, "unix" and 0 where nobody knows.
End = tuple[str, int]

_NOWHERE = ("unix", 0)


@attrs.frozen
class Inherited:
    """
    See the module.

    @ivar socket: connected or listening
    @ivar listening: which of them
    @ivar error_is_ours: whether standard error goes elsewhere than to the client
    """

    socket: socket.socket
    listening: bool
    error_is_ours: bool

    @property
    def internet(self) -> bool:
        """Whether the socket has an address and a port."""
        return self.socket.family in (socket.AF_INET, socket.AF_INET6)


def take() -> Inherited:
    """Take it; the descriptors 0 and 1 lead nowhere from now on, and 2, too, if it led to the client."""
    theirs = _identities(0, 1)
    error_is_ours = not _identities(2) & theirs
    is_socket = stat.S_ISSOCK(os.fstat(0).st_mode)
    taken = socket.socket(fileno=os.dup(0)) if is_socket else _copied(os.dup(0), os.dup(1))
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1) if error_is_ours else (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    taken.setblocking(False)
    taken.set_inheritable(False)
    listening = bool(taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    if taken.family in (socket.AF_INET, socket.AF_INET6):
        # See tpops.server.listeners; connections inherit it.
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Inherited(taken, listening, error_is_ours)


def ends(connected: socket.socket, environment: Mapping[str, str]) -> tuple[End, End]:
    """Who has connected, and to where."""
    told = [_told(environment, one) for one in ("TCPREMOTE", "TCPLOCAL")]
    if connected.family not in (socket.AF_INET, socket.AF_INET6):
        return told[0] or _NOWHERE, told[1] or _NOWHERE
    peer, local = (_end(name) for name in (connected.getpeername(), connected.getsockname()))
    if told[0] is not None and told[0][0] != peer[0]:
        _log.warn(
            "TCPREMOTEIP says {told}, but the connection comes from {peer}, which counts",
            event="inetd-address",
            told=told[0][0],
            peer=peer[0],
        )
    return peer, local


def _identities(*descriptors: int) -> set[tuple[int, int]]:
    """Which files these are; those that are closed are none."""
    found = set()
    for descriptor in descriptors:
        try:
            status = os.fstat(descriptor)
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return found


def _end(name: tuple[str, int]) -> End:
    return _plain(name[0]), name[1]


def _plain(host: str) -> str:
    """An IPv4 address that an IPv6 socket has written is that IPv4 address."""
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _told(environment: Mapping[str, str], which: str) -> End | None:
    """What the environment says of an end."""
    host, port = environment.get(f"{which}IP", ""), environment.get(f"{which}PORT", "")
    if not host:
        return None
    try:
        return _plain(host), int(port) if port.isdigit() and int(port) < 65536 else 0
    except ValueError:
        _log.warn("{name} is no IP address: {value}", event="inetd-address", name=f"{which}IP", value=host)
        return None


def _copied(given: int, taken: int) -> socket.socket:
    """One end of a pair of sockets, the other of which is copied from and to these descriptors."""
    ours, other = socket.socketpair()
    threading.Thread(target=_copy_in, args=(given, other), name="from standard input", daemon=True).start()
    # At the end of the program what was written last is still copied.
    threading.Thread(target=_copy_out, args=(other, taken), name="to standard output").start()
    return ours


def _copy_in(given: int, other: socket.socket) -> None:
    try:
        while octets := os.read(given, _OCTETS):
            other.sendall(octets)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the session has ended


def _copy_out(other: socket.socket, taken: int) -> None:
    try:
        while octets := other.recv(_OCTETS):
            written = memoryview(octets)
            while written:
                written = written[os.write(taken, written) :]
    except OSError:
        # Nobody reads: the client has gone.
        other.shutdown(socket.SHUT_RDWR)
