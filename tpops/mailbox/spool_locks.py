"""
The locks on a mail spool: fcntl, flock and the dotlock, all of them, always in that order.

Purpose: delivery agents and mail programs agree on none of the three; whoever takes all of them is safe from everybody.
They are held while a spool is read or rewritten, never during a session, so delivery waits no longer than that.
The fcntl lock belongs to the open file (F_OFD_SETLK), not to the process: the classic one of POSIX is lost when
anything in the process closes the same file.  Both exclude each other.
The dotlock is made as NFS needs it: a file of a unique name, linked to C{SPOOL.lock}; the link count tells whether
that worked.  One that its owner left behind is taken away: one of ours at once when its process does not exist, one
of another program when the process whose number is in it does not exist and it is over L{DEAD_SECONDS} old, and one
without a number when it is over L{STALE_SECONDS} old.
Limits: nothing here waits; L{try_lock} is called again by whoever wants to.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from typing import NamedTuple, Protocol

from twisted.logger import Logger

_log = Logger()

#: What becomes of the dotlock: it must be there, is left out where it cannot be made, or is not made at all.
ALWAYS, TRY, NEVER = "always", "try", "never"

#: Age in seconds of a dotlock that is stale when its process does not exist; clocks of NFS hosts may differ a little.
DEAD_SECONDS = 30

#: Age in seconds of a dotlock without a process number that is stale.
STALE_SECONDS = 300

#: Why a dotlock cannot be made where the others are enough: no right, no room, no quota.
_WITHOUT = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)

#: Descriptors have run out: in this process, or on the machine.
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)

_MODE = 0o444


class Dotlock(NamedTuple):
    """
    One that we have made.

    @ivar content: by which we know it
    @ivar facts: by which we know it when nothing can be opened: device, inode and moment.  Others may take it for stale
        only long after that moment, so that none of theirs has the same
    """

    path: bytes
    content: bytes = b""
    facts: tuple[int, int, int] = (0, 0, 0)


class Dotlocks(Protocol):
    """Who makes dotlocks, and takes them away."""

    def make(self, spool: bytes, required: bool) -> Dotlock | None:
        """
        The dotlock; None where it cannot be made and is not required.

        @raise BlockingIOError: when somebody else has it
        @raise OSError: when it cannot be made and is required
        """

    def remove(self, made: Dotlock) -> None:
        """Take away what C{make} has given."""


class DotlocksHere:
    """This process itself."""

    def make(self, spool: bytes, required: bool) -> Dotlock | None:
        """See L{Dotlocks}."""
        return _make_dotlock(spool, required)

    def remove(self, made: Dotlock) -> None:
        """See L{Dotlocks}."""
        _remove_own(made)


HERE: Dotlocks = DotlocksHere()


class SpoolLock:
    """
    All locks on a spool, until L{release}.

    @ivar descriptor: of the spool, open for reading and, where that is allowed, for writing
    @ivar writable: whether it is open for writing
    """

    __slots__ = ("_dotlock", "_dotlocks", "descriptor", "writable")

    def __init__(self, descriptor: int, writable: bool, dotlock: Dotlock | None, dotlocks: Dotlocks = HERE) -> None:
        self.descriptor = descriptor
        self.writable = writable
        self._dotlock = dotlock
        self._dotlocks = dotlocks

    def __del__(self) -> None:
        # Taken in a thread for somebody who has stopped waiting for it.
        self.release()

    def release(self) -> None:
        """Let go, in the opposite order.  Idempotent; closing the descriptor takes the other two along."""
        dotlock, self._dotlock = self._dotlock, None
        if dotlock is not None:
            self._dotlocks.remove(dotlock)
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def try_lock(spool: bytes, dotlock: str = TRY, dotlocks: Dotlocks = HERE) -> SpoolLock | None:
    """
    Take all locks, or give None when somebody else has one of them.

    @param dotlock: L{ALWAYS}, L{TRY} or L{NEVER}
    @param dotlocks: who makes it
    @raise OSError: when the spool cannot be opened or locked at all; FileNotFoundError when there is none
    """
    while True:
        descriptor, writable = _open(spool)
        try:
            _lock_file(descriptor, writable)
            made = dotlocks.make(spool, dotlock == ALWAYS) if dotlock != NEVER and writable else None
            lock = SpoolLock(descriptor, writable, made, dotlocks)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        if _is(spool, os.fstat(descriptor)):
            return lock
        # Somebody has put another file in its place between open and lock.
        lock.release()


def _open(spool: bytes) -> tuple[int, bool]:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(spool, os.O_RDWR | flags), True
    except OSError as problem:
        if problem.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return os.open(spool, os.O_RDONLY | flags), False


def _lock_file(descriptor: int, writable: bool) -> None:
    """
    fcntl, then flock; shared ones where the spool may only be read.

    @raise BlockingIOError: when somebody else has one of them
    """
    kind = fcntl.F_WRLCK if writable else fcntl.F_RDLCK
    # struct flock: type, whence, start, length (0: all, and what is appended), pid (0 for F_OFD_SETLK).
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))
    fcntl.flock(descriptor, (fcntl.LOCK_EX if writable else fcntl.LOCK_SH) | fcntl.LOCK_NB)


def _make_dotlock(spool: bytes, required: bool) -> Dotlock | None:
    """See L{Dotlocks.make}."""
    path = spool + b".lock"
    try:
        made = _link_unique(path)
        if made is None and _is_stale(path):
            _log.warn("took the dotlock {path!r} away: who made it is gone", path=path)
            made = _link_unique(path)
    except OSError as problem:
        if required or problem.errno not in _WITHOUT:
            raise
        return None
    if made is None:
        raise BlockingIOError(errno.EAGAIN, "somebody else has the dotlock", os.fsdecode(path))
    return made


def _link_unique(path: bytes) -> Dotlock | None:
    """
    Make a file of a unique name and link it to C{path}; None when C{path} is there already.

    The content is the process number, where others look for it, where that number counts, and a word by which we know
    our own: an inode is used again at once.
    """
    content = b"%d\n%s\n%s\n" % (os.getpid(), _processes_here(), os.urandom(8).hex().encode())
    unique = b"%s.%s.%d.%s" % (path, socket.gethostname().encode(), os.getpid(), os.urandom(4).hex().encode())
    descriptor = os.open(unique, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    try:
        os.write(descriptor, content)
        # Over NFS the answer may be lost and the link made; the count tells.
        with contextlib.suppress(FileExistsError):
            os.link(unique, path)
        facts = os.fstat(descriptor)
        return Dotlock(path, content, _facts(facts)) if facts.st_nlink == 2 else None
    finally:
        os.close(descriptor)
        os.unlink(unique)


def _is_stale(path: bytes) -> bool:
    """Whether the dotlock was left behind; then it is away now, and nobody else's was touched."""
    try:
        text, changed_ns = _look(path)
    except FileNotFoundError:
        return True
    number = text.split(b"\n", 1)[0].strip(b" \0")
    age = _now_there(path) - changed_ns / 1e9
    if number.isdigit() and int(number):
        from_here = text.split(b"\n")[1:2] == [_processes_here()]
        if (age <= DEAD_SECONDS and not from_here) or _runs(int(number)):
            return False
    elif age <= STALE_SECONDS:
        return False
    return _take_away(path, (text, changed_ns))


def _look(path: bytes) -> tuple[bytes, int]:
    """What a dotlock says, and since when in nanoseconds."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        return file.read(512), os.fstat(file.fileno()).st_mtime_ns


def _now_there(path: bytes) -> float:
    """The time by the clock of the file system, which may be another machine's."""
    probe = b"%s.%s.%d.t" % (path, socket.gethostname().encode(), os.getpid())
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.utime(descriptor)
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        os.unlink(probe)


def _processes_here() -> bytes:
    """What tells this machine's, or this container's, process numbers from others'."""
    return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}".encode()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _take_away(path: bytes, stale: tuple[bytes, int]) -> bool:
    """Remove a stale dotlock; when another one has come meanwhile, it is put back."""
    aside = b"%s.%d.%s" % (path, os.getpid(), os.urandom(4).hex().encode())
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return True
    same = False
    try:
        same = _look(aside) == stale
    finally:
        if not same:
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        os.unlink(aside)
    return same


def _remove_own(made: Dotlock) -> None:
    try:
        if _is_own(made):
            os.unlink(made.path)
    except OSError as problem:
        if problem.errno != errno.ENOENT:
            _log.error("cannot remove the dotlock {path!r}: {why}", path=made.path, why=str(problem))


def _is_own(made: Dotlock) -> bool:
    try:
        return _look(made.path)[0] == made.content
    except OSError as problem:
        if problem.errno not in _NO_DESCRIPTORS:
            raise
        return _facts(os.stat(made.path, follow_symlinks=False)) == made.facts


def _facts(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_dev, facts.st_ino, facts.st_mtime_ns


def _is(path: bytes, facts: os.stat_result) -> bool:
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (named.st_ino, named.st_dev) == (facts.st_ino, facts.st_dev)
