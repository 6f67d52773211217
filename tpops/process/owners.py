"""
Whose session it is, for the kernel: the ids that a session's process runs with, and the way to them.

Purpose: from an account to an L{Owner}, refusing root and whatever is too close to it; L{become} gives everything else
up for good: groups, group, user, the way back by programs with set-user-id bits, core dumps, and memory and files
beyond the limits.
Limits: Linux.
Errors: MaildropBroken for who must not own a session; what the kernel refuses is OSError, and nothing is served then.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import resource
from collections.abc import Sequence

import attrs

from tpops.errors import ConfigError, MaildropBroken
from tpops.model import Account

#: prctl(2).
_SET_DUMPABLE, _SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS = 4, 36, 38

#: Where the shell of somebody is told who is not in the machine's user database.
_NO_SHELL = "/bin/sh"

_libc = ctypes.CDLL(None, use_errno=True)


@attrs.frozen
class Owner:
    """
    See the module.

    @ivar groups: supplementary groups
    @ivar home: "" where there is none
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str = _NO_SHELL


@attrs.frozen
class Bounds:
    """
    What a session's process may use.

    @ivar memory_octets: address space, 0 for any
    """

    memory_octets: int
    open_files: int


def owner_of(account: Account, minimum_uid: int, extra_groups: Sequence[int] = ()) -> Owner:
    """
    Whose mail an account's is.

    @raise MaildropBroken: when the account does not say it, or it is somebody who must not have sessions
    """
    uid, gid = account.uid, account.gid
    if uid is None:
        raise MaildropBroken(f"{account.name!r} has no user id, and sessions run as the owner of the mail")
    if uid == 0 or uid < minimum_uid:
        raise MaildropBroken(f"{account.name!r} has the user id {uid}; sessions.minimum_uid is {minimum_uid}")
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        entry = None
    if gid is None:
        if entry is None:
            raise MaildropBroken(f"{account.name!r} has no group id, and user {uid} is not known to this machine")
        gid = entry.pw_gid
    if gid == 0:
        raise MaildropBroken(f"{account.name!r} has the group id 0, which no session gets")
    groups = {gid, *extra_groups}
    if entry is not None:
        groups.update(os.getgrouplist(entry.pw_name, gid))
    groups.discard(0)
    home = account.home or (entry.pw_dir if entry is not None else "")
    return Owner(uid, gid, tuple(sorted(groups)), home, (entry.pw_shell if entry is not None else "") or _NO_SHELL)


def group_ids(names: tuple[str, ...]) -> tuple[int, ...]:
    """
    The ids of groups.

    @raise ConfigError: when there is no such group, or it is root's
    """
    found = []
    for name in names:
        try:
            gid = int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
        except KeyError:
            raise ConfigError([f"sessions.groups: there is no group {name!r} on this machine"]) from None
        if gid == 0:
            raise ConfigError(["sessions.groups: root's group is given to no session"])
        found.append(gid)
    return tuple(found)


def become(owner: Owner, bounds: Bounds) -> None:
    """
    Be this owner and nobody else, for good.

    @raise OSError: when that is not possible; do not go on then
    """
    if owner.uid == 0 or owner.gid == 0:
        raise PermissionError("no session runs as root")
    _take_on(owner, bounds)
    if os.getresuid() != (owner.uid,) * 3 or os.getresgid() != (owner.gid,) * 3:
        raise PermissionError(f"cannot become user {owner.uid}")
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise PermissionError("root's rights could be had back")


def rehearse() -> None:
    """
    Do what L{become} does, for who this process is already.

    Python knows the way then.  The process has no core dumps, cannot come to other rights by programs, and makes files
    for itself alone from now on.
    """
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    _take_on(Owner(os.getuid(), os.getgid(), tuple(os.getgroups()), ""), Bounds(0, files))


def _take_on(owner: Owner, bounds: Bounds) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (bounds.open_files, bounds.open_files))
    if bounds.memory_octets:
        resource.setrlimit(resource.RLIMIT_AS, (bounds.memory_octets, bounds.memory_octets))
    os.setgroups(owner.groups)
    os.setresgid(owner.gid, owner.gid, owner.gid)
    os.setresuid(owner.uid, owner.uid, owner.uid)
    os.umask(0o077)
    _prctl(_SET_NO_NEW_PRIVS, 1)
    _prctl(_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """
    Be the parent of what processes of ours leave behind, in place of process 1, which may be a tpops that knows
    nothing of them (a container without an init).

    @raise OSError: when the kernel refuses
    """
    _prctl(_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
