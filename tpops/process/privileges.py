"""
Gives up root's rights, for good.

Purpose: ports below 1024 are bound as root; everything a client sends is handled as an ordinary user.
"""

from __future__ import annotations

import grp
import os
import pwd

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
