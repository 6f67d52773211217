"""
Working on a user's files with his rights and no others, in one thread of a process that runs as root.

Purpose: a Maildir belongs to its user, who may put links where a delivery expects directories.  As the user, root can
do no more harm there than he could do himself; and what is made is his.
How: Linux keeps the user and group that count for files (setfsuid(2), setfsgid(2)) for each thread.
Limits: the process keeps its supplementary groups.  Without root nothing is changed.
"""

from __future__ import annotations

import ctypes
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

from tpops.model import Account

#: User id and group id.
Owner = tuple[int, int]

_libc = ctypes.CDLL(None)
for _function in (_libc.setfsuid, _libc.setfsgid):
    _function.argtypes = (ctypes.c_uint,)
    _function.restype = ctypes.c_int

#: Not a user: asks which one it is.
_NOBODY_AT_ALL = 0xFFFFFFFF


def owner_of(account: Account, place: bytes) -> Owner:
    """
    Whose an account's mail is: what the account says, else who owns the place or the directory nearest above.

    @raise OSError: when that cannot be found out
    """
    uid, gid = account.uid, account.gid
    if uid is not None and gid is None:
        try:
            gid = pwd.getpwuid(uid).pw_gid
        except KeyError:
            gid = _nearest(place).st_gid
    if uid is None or gid is None:
        found = _nearest(place)
        return found.st_uid, found.st_gid if gid is None else gid
    return uid, gid


@contextmanager
def acting_as(owner: Owner) -> Iterator[None]:
    """
    Have the owner's rights to files within C{with}, in this thread, where the process runs as root.

    @raise PermissionError: when that is not possible
    """
    if os.geteuid() != 0 or owner[0] == 0:
        yield
        return
    uid, gid = owner
    before = _libc.setfsgid(gid)
    try:
        _libc.setfsuid(uid)
        if (_libc.setfsuid(_NOBODY_AT_ALL), _libc.setfsgid(_NOBODY_AT_ALL)) != owner:
            raise PermissionError(0, f"cannot act as user {uid} and group {gid}")
        yield
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(before)


def _nearest(place: bytes) -> os.stat_result:
    path = place.rstrip(b"/")
    while True:
        try:
            return os.stat(path or b"/")
        except FileNotFoundError:
            path = os.path.dirname(path)
