"""
Landlock: a process gives up, for good, what it does not need to touch (landlock(7)).

Purpose: the three system calls, and from paths to what may be done beneath them (L{restrict}).  Beside files it takes
away TCP (new connections and listening), signals to other processes, and sockets in the abstract namespace.
How: by ctypes, since there is no kept library for it.  What the kernel knows is asked for (L{abi}), and of that
everything is handled that is known here; a newer kernel's further rights are left as they are.
Limits: Linux 5.19 (ABI 2) or newer; the first ABI cannot let files be moved between directories, which Maildirs need,
and counts as none.  UDP and sockets that have a path are not Landlock's affair.  What is open already stays open; to
look at (stat), to change modes and owners, and to take locks is not restricted.
Errors: OSError when a kernel that has Landlock does not do what it should: do not go on then.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence

import attrs

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE = 1 << 4, 1 << 5
MAKE_DIR, MAKE_REG = 1 << 7, 1 << 8
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

#: All rights to files that each ABI brought; the first one's are those up to the making of symbolic links.
_FILES = ((1, (1 << 13) - 1), (2, REFER), (3, TRUNCATE), (5, IOCTL_DEV))

#: To listen at a TCP port, and to connect to one.
_TCP = (4, 0b11)

#: Sockets of the abstract namespace, and signals to processes outside.
_SCOPES = (6, 0b11)

#: The least ABI that is of use.
LEAST_ABI = 2

#: What a rule for a file, not a directory, may have.
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

#: Rights of somebody who only reads, who writes to a file, and who keeps files in a directory.
READ_TREE = READ_FILE | READ_DIR
WRITE = READ_FILE | WRITE_FILE | TRUNCATE
KEEP_FILES = WRITE | READ_DIR | REMOVE_FILE | MAKE_REG | REFER

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Ruleset(ctypes.Structure):
    """struct landlock_ruleset_attr; older kernels know the first fields only."""

    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    """struct landlock_path_beneath_attr."""

    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("directory", ctypes.c_int32))


@attrs.frozen
class Rule:
    """
    What may be done with a file, or beneath a directory.

    @ivar rights: of those above
    @ivar link: the path may be a symbolic link, and what it leads to is meant
    """

    path: bytes
    rights: int
    link: bool = True


def abi() -> int:
    """The kernel's ABI; 0 where there is no Landlock, or it was turned off."""
    found = int(_libc.syscall(ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)))
    return max(0, found)


def taken(version: int) -> Iterator[str]:
    """What an ABI takes away, in words."""
    if version < LEAST_ABI:
        return
    yield "files elsewhere"
    if version >= _TCP[0]:
        yield "TCP"
    if version >= _SCOPES[0]:
        yield "signals to others"


def restrict(rules: Iterable[Rule], version: int, enforce: bool = True) -> None:
    """
    From now on this process, and those that it starts, can do what the rules say and no more.

    A path that cannot be found or entered is left out: whoever tries to use it finds that out.

    @param version: what L{abi} gives
    @param enforce: else everything is made ready only, and thrown away
    @raise OSError: when the kernel refuses
    """
    if version < LEAST_ABI:
        raise OSError(errno.EOPNOTSUPP, "this kernel has no Landlock that is of use")
    files = sum(rights for since, rights in _FILES if version >= since)
    ruleset = _Ruleset(
        files,
        _TCP[1] if version >= _TCP[0] else 0,
        _SCOPES[1] if version >= _SCOPES[0] else 0,
    )
    size = 24 if version >= _SCOPES[0] else 16 if version >= _TCP[0] else 8
    descriptor = _call(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for rule in rules:
            _add(descriptor, rule, files)
        if enforce:
            _call(_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def _add(ruleset: int, rule: Rule, files: int) -> None:
    try:
        found = os.open(rule.path, os.O_PATH | os.O_CLOEXEC | (0 if rule.link else os.O_NOFOLLOW))
    except OSError as problem:
        if problem.errno in (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return
        raise
    try:
        mode = os.fstat(found).st_mode
        rights = rule.rights & files
        if not stat.S_ISDIR(mode):
            rights &= _OF_FILES
        if rights and not stat.S_ISLNK(mode):
            beneath = _Beneath(rights, found)
            kind, flags = ctypes.c_int(_PATH_BENEATH), ctypes.c_uint32(0)
            _call(_ADD_RULE, ctypes.c_int(ruleset), kind, ctypes.byref(beneath), flags)
    finally:
        os.close(found)


def _call(number: int, *arguments: object) -> int:
    found = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock: {os.strerror(code)}")
    return found


def words(version: int) -> str:
    """A list of what is taken away, for people."""
    parts: Sequence[str] = tuple(taken(version))
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)
