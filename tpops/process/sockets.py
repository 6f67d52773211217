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
import stat
from collections.abc import Collection, Mapping, Sequence

from twisted.logger import Logger

from tpops.errors import ConfigError
from tpops.process.privileges import Identity
from tpops.server.listeners import Listener, bind

_log = Logger()


class Sockets:
    """
    See the module.

    @ivar opened: the sockets by their places
    @param opened: those that are open already
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
                prepared[place] = self._open(self._found(place, listener, prepared.values()), listener, owner)
            except ConfigError:
                self.discard(prepared)
                raise
        return prepared

    def keep(self, prepared: Mapping[str, socket.socket]) -> None:
        """These are the sockets from now on; the others are closed."""
        for opened in self.opened.values():
            if opened not in prepared.values():
                self.close(opened)
        self.opened = dict(prepared)

    def discard(self, prepared: Mapping[str, socket.socket]) -> None:
        """The new ones among these are not wanted after all."""
        for opened in prepared.values():
            if opened not in self.opened.values():
                self.close(opened)

    def _found(self, place: str, listener: Listener, taken: Collection[socket.socket]) -> socket.socket | None:
        """The socket that is open there; also one that was opened as any free port and has this one."""
        found = self.opened.get(place)
        if (found is not None and found not in taken) or listener.path is not None:
            return found
        where = (listener.address, listener.port)
        return next((one for one in self.opened.values() if _place_of(one) == where and one not in taken), None)

    def _open(self, found: socket.socket | None, listener: Listener, owner: Identity | None) -> socket.socket:
        opened = bind(listener) if found is None else found
        try:
            opened.listen(listener.backlog)
            path = listener.path
            if path is not None:
                _give(path, listener, owner if os.geteuid() == 0 else None)
        except OSError as problem:
            if found is None:
                self.close(opened)
            advice = "" if listener.uid == listener.gid == -1 else " (to give it to another user needs a start as root)"
            raise ConfigError([f"cannot listen on {listener}: {problem.strerror}{advice}"]) from problem
        return opened

    def close(self, opened: socket.socket) -> None:
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


def _give(path: str, listener: Listener, owner: Identity | None) -> None:
    """Let a socket have its user, group and mode; what is right already is left alone: it may not be ours any more."""
    found = os.stat(path)
    uid = listener.uid if listener.uid != -1 else owner.uid if owner is not None else found.st_uid
    gid = listener.gid if listener.gid != -1 else owner.gid if owner is not None else found.st_gid
    if stat.S_IMODE(found.st_mode) != listener.mode:
        os.chmod(path, listener.mode)
    if (uid, gid) != (found.st_uid, found.st_gid):
        os.chown(path, uid, gid)


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


def _place_of(opened: socket.socket) -> tuple[str, int]:
    """Address and port."""
    name = opened.getsockname()
    return (name[0], name[1]) if opened.family != socket.AF_UNIX else (str(name), 0)
