"""
The listening sockets of the server, whoever serves them.

Purpose: opened once and kept for as long as the configuration wants them: over reloads, over the replacement of the
processes that serve them, and over that of this one.  What is opened for a new configuration is closed again when that
turns out to be wrong.
Limits: a socket is known by its place (address and port, or path); where several have the same, port 0, by its turn.
Errors: ConfigError when a place cannot be had.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence

from twisted.logger import Logger

from tpops.errors import ConfigError
from tpops.process.privileges import Identity
from tpops.server.listeners import Listener, bind

_log = Logger()


class Sockets:
    """
    See the module.

    @ivar opened: the sockets by their places
    """

    def __init__(self, opened: Mapping[str, socket.socket] | None = None) -> None:
        self.opened: dict[str, socket.socket] = dict(opened or {})

    def prepare(self, wanted: Sequence[Listener], owner: Identity | None) -> dict[str, socket.socket]:
        """
        The sockets for these places, in their order; those that are open already, and new ones.

        Give the result to L{keep}, or to L{discard}.

        @param owner: to whom sockets in the file system belong, where this process is root
        @raise ConfigError: when a place cannot be had; then nothing has changed
        """
        prepared: dict[str, socket.socket] = {}
        for place, listener in zip(places(wanted), wanted, strict=True):
            try:
                prepared[place] = self._open(place, listener, owner)
            except ConfigError:
                self.discard(prepared)
                raise
        return prepared

    def keep(self, prepared: Mapping[str, socket.socket]) -> None:
        """These are the sockets from now on; the others are closed."""
        for place, opened in self.opened.items():
            if place not in prepared:
                _close(place, opened)
        self.opened = dict(prepared)

    def discard(self, prepared: Mapping[str, socket.socket]) -> None:
        """The new ones among these are not wanted after all."""
        for place, opened in prepared.items():
            if self.opened.get(place) is not opened:
                _close(place, opened)

    def _open(self, place: str, listener: Listener, owner: Identity | None) -> socket.socket:
        opened = self.opened.get(place)
        if opened is None:
            opened = bind(listener)
        else:
            opened.listen(listener.backlog)
        path = listener.path
        if path is not None:
            try:
                if owner is not None and os.geteuid() == 0:
                    os.chown(path, owner.uid, owner.gid)
                os.chmod(path, listener.mode)
            except OSError as problem:
                if self.opened.get(place) is not opened:
                    _close(place, opened)
                raise ConfigError([f"cannot listen on {listener}: {problem.strerror}"]) from problem
        return opened


def places(wanted: Sequence[Listener]) -> list[str]:
    """The names of these places, each one different."""
    names: list[str] = []
    for listener in wanted:
        name, turn = str(listener), 1
        while name in names:
            turn += 1
            name = f"{listener} ({turn})"
        names.append(name)
    return names


def _close(place: str, opened: socket.socket) -> None:
    """Close it; a path in the file system goes, too, where this process may remove it."""
    path = opened.getsockname() if opened.family == socket.AF_UNIX else ""
    opened.close()
    if not path:
        return
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as problem:
        _log.info(
            "socket {path} stays: {why}; the next start replaces it",
            event="socket-left",
            path=os.fsdecode(path),
            why=problem.strerror,
        )
