"""
Sockets that another program has opened before this one was started: systemd's socket activation.

    LISTEN_PID       the process that they are for
    LISTEN_FDS       how many there are: descriptors 3, 4, ...
    LISTEN_FDNAMES   their names (FileDescriptorName=), with colons between them; "unknown" where there is none

Purpose: ports below 1024 without root, and clients that wait instead of being refused while the server restarts.  Which
listener of the configuration gets which of them is decided by L{tpops.process.sockets.Sockets}.
Limits: listening stream sockets; systemd keeps all of them open, too, so they are never shut down, and no path is
removed.
Errors: ConfigError, with what to change in the .socket unit.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import MutableMapping
from functools import cache

from tpops.errors import ConfigError

_FIRST = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


@cache
def started_with() -> dict[str, str]:
    """The variables as the process was started with them: Twisted takes them out of the environment on import."""
    try:
        with open("/proc/self/environ", "rb") as file:
            assignments = (os.fsdecode(one).partition("=") for one in file.read().split(b"\0"))
            return {name: value for name, _, value in assignments if name in _VARIABLES}
    except OSError:  # no Linux, or no /proc
        return {name: os.environ[name] for name in _VARIABLES if name in os.environ}


def take(environment: MutableMapping[str, str] | None = None, first: int = _FIRST) -> dict[socket.socket, str]:
    """
    The sockets and their names, once: whatever is started from here is not told of them.

    @param environment: to be read instead of that of the process
    @param first: the number of the first descriptor
    @raise ConfigError: when one of them is no listening stream socket
    """
    if environment is None:
        environment = started_with()
        for name in _VARIABLES:
            os.environ.pop(name, None)
    process, count, names = (environment.pop(name, "") for name in _VARIABLES)
    if process != str(os.getpid()) or not count.isdigit():
        return {}
    named = names.split(":") if names else []
    taken: dict[socket.socket, str] = {}
    for turn in range(int(count)):
        name = named[turn] if turn < len(named) else ""
        taken[adopt(first + turn, name)] = name
    return taken


def adopt(descriptor: int, name: str) -> socket.socket:
    """
    A listening socket that is open.

    @param name: for messages
    @raise ConfigError: when it is something else
    """
    what = f"descriptor {descriptor} ({name})" if name else f"descriptor {descriptor}"
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError as problem:
        raise ConfigError([f"systemd passes {what}, which is not open: {problem.strerror}"]) from problem
    if not is_socket:
        raise ConfigError([f"systemd passes {what}, which is no socket: use ListenStream= only"])
    opened = socket.socket(fileno=descriptor)
    if opened.type != socket.SOCK_STREAM or not opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        opened.detach()
        raise ConfigError([f"systemd passes {what}, which does not listen: use ListenStream= and Accept=no"])
    opened.setblocking(False)
    opened.set_inheritable(False)
    if opened.family != socket.AF_UNIX:
        # Connections inherit it, see tpops.server.listeners.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened
