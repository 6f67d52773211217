"""
Gives up root's rights: for good, or for the work of a command.

Purpose: ports below 1024 are bound as root; everything a client sends is handled as an ordinary user (L{become}).  An
administrator's command touches mail as the server's user, so that what it makes is his, and its own files as root
(L{Deputy}).
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from tpops.errors import ConfigError


@attrs.frozen
class Identity:
    """
    Whom to run as.

    @ivar uid: user id
    @ivar gid: primary group id
    @ivar name: user name for the supplementary groups, None for a bare number
    """

    uid: int
    gid: int
    name: str | None


def identity(user: str, group: str) -> Identity | None:
    """
    Look user and group up, each a name or a number; None when no user is given.

    @raise ConfigError: when one of them does not exist
    """
    if not user:
        if group:
            raise ConfigError(["server.group is given without server.user"])
        return None
    try:
        found = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
        uid, gid, name = found.pw_uid, found.pw_gid, found.pw_name
    except KeyError:
        if not user.isdigit():
            raise ConfigError([f"server.user: there is no user {user!r} on this machine"]) from None
        uid, gid, name = int(user), int(user), None
    if group:
        try:
            gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise ConfigError([f"server.group: there is no group {group!r} on this machine"]) from None
    return Identity(uid, gid, name)


def become(who: Identity) -> None:
    """
    Run as somebody else from now on.

    @raise ConfigError: when this process may not, or when root's rights could be had back
    """
    if os.geteuid() == who.uid and os.getegid() == who.gid:
        return
    try:
        if who.name is not None:
            os.initgroups(who.name, who.gid)
        else:
            os.setgroups([who.gid])
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
    except PermissionError as problem:
        why = f"cannot become user {who.name or who.uid}: {problem.strerror}; only root can change its user"
        raise ConfigError([f"server.user: {why}"]) from problem
    if who.uid != 0:
        try:
            os.setuid(0)
        except PermissionError:
            return
        raise ConfigError(["server.user: root's rights could be had back; refusing to run"])


class Deputy:
    """
    Root at work in somebody's name.

    For commands, not for what clients send: root's rights stay within reach.

    @param who: for whom; None, or a process that is not root's, changes nothing
    """

    def __init__(self, who: Identity | None) -> None:
        self._who = who if os.geteuid() == 0 and who is not None and who.uid != 0 else None
        self._gid = os.getegid()
        self._groups: tuple[int, ...] = ()

    def work_for(self, who: Identity, groups: tuple[int, ...]) -> None:
        """
        It is somebody else than was known before, where this process is root's.

        @param groups: his supplementary groups
        """
        if os.geteuid() == 0 and who.uid != 0:
            self._who, self._groups = who, groups

    def begin(self) -> None:
        """From now on files are touched with his rights, and new ones are his."""
        who = self._who
        if who is None:
            return
        if who.name is not None:
            os.initgroups(who.name, who.gid)
        else:
            os.setgroups(self._groups or [who.gid])
        os.setegid(who.gid)
        os.seteuid(who.uid)

    @contextmanager
    def as_root(self) -> Iterator[None]:
        """Within, files are touched with the rights of whoever has started the command, in all threads."""
        if self._who is None or os.geteuid() == 0:
            yield
            return
        os.seteuid(0)
        os.setegid(self._gid)
        try:
            yield
        finally:
            os.setegid(self._who.gid)
            os.seteuid(self._who.uid)
