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
from tpops.server.listeners import Listener, bind, place_of

_log = Logger()


class Sockets:
    """
    See the module.

    @ivar opened: the sockets by their places
    @ivar given: those that whoever started the process has opened (L{tpops.process.activation}), and their names; they
        are never closed: he goes on listening there
    """

    def __init__(self, given: Mapping[socket.socket, str] | None = None) -> None:
        self.opened: dict[str, socket.socket] = {}
        self.given: dict[socket.socket, str] = dict(given or {})

    def prepare(self, wanted: Sequence[Listener], owner: Identity | None) -> dict[str, socket.socket]:
        """
        The sockets for these places, in their order; those that are open already, and new ones.

        Give the result to L{keep}, or to L{discard}.

        @param owner: to whom sockets in the file system belong, where this process is root
        @raise ConfigError: when a place cannot be had; then nothing has changed
        """
        prepared: dict[str, socket.socket] = {}
        matched = match(self.given, wanted)
        for place, listener in zip(places(wanted), wanted, strict=True):
            try:
                found = matched.get(place) or self._found(place, listener, prepared.values())
                prepared[place] = self._open(found, listener, owner)
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
            if path is not None and opened not in self.given:
                _give(path, listener, owner if os.geteuid() == 0 else None)
        except OSError as problem:
            if found is None:
                self.close(opened)
            advice = "" if listener.uid == listener.gid == -1 else " (to give it to another user needs a start as root)"
            raise ConfigError([f"cannot listen on {listener}: {problem.strerror}{advice}"]) from problem
        return opened

    def close(self, opened: socket.socket) -> None:
        """Close it; a path in the file system goes, too, where this process may remove it."""
        if opened in self.given:
            return
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


def match(given: Mapping[socket.socket, str], wanted: Sequence[Listener]) -> dict[str, socket.socket]:
    """
    Which place gets which of the sockets that whoever started the process has opened.

    By its name, where the listener has one (C{systemd_name}), else by its address.

    @raise ConfigError: when somebody listens at a place that nobody wants, or a name is not there
    """
    matched: dict[str, socket.socket] = {}
    if not given:
        return matched
    problems = []
    for place, listener in zip(places(wanted), wanted, strict=True):
        left = [one for one in given if one not in matched.values()]
        there = [one for one in left if _place_of(one) == (listener.path or listener.address, _port(listener))]
        name = listener.systemd_name
        if name:
            named = [one for one in left if given[one] == name and _is_unix(one) == (listener.path is not None)]
            there = [one for one in there if one in named] or named
            if not there:
                known = ", ".join(sorted({one for one in given.values() if one})) or "none"
                problems.append(f"listen.systemd_name: systemd passes no socket {name!r} for {listener}, but: {known}")
        if there:
            matched[place] = there[0]
    for one, name in given.items():
        if one not in matched.values() and not problems:
            problems.append(
                f"systemd passes the socket {place_of(one)}{name and f' ({name})'}, and no listener has this address: "
                "correct [[listen]] or the .socket unit, or name the socket there with systemd_name"
            )
    if problems:
        raise ConfigError(problems)
    return matched


def _port(listener: Listener) -> int:
    return listener.port if listener.path is None else 0


def _is_unix(opened: socket.socket) -> bool:
    return opened.family == socket.AF_UNIX


def _place_of(opened: socket.socket) -> tuple[str, int]:
    """Address and port."""
    name = opened.getsockname()
    return (name[0], name[1]) if opened.family != socket.AF_UNIX else (str(name), 0)
