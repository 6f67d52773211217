"""
The exclusive lock on a Maildir (RFC 1939 section 4).

Purpose: C{flock} on the file C{tpops_lock} in the Maildir, as TPOPS 0.8 has it.  The kernel releases it when its
holder dies, however he dies, so there is no stale lock.  Mail is delivered all the same: Maildir needs no lock for it.
Where the Maildir cannot be written, the directory itself is locked.
A session in a folder may hold the lock of the folder, and share that of the Maildir with others of its kind, so that
whoever has the Maildir with all its folders is alone.
"""

from __future__ import annotations

import errno
import fcntl
import os

LOCK_FILE = b"tpops_lock"

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)


class MaildirLock:
    """
    A lock that is held until L{release}.

    @ivar descriptor: of the locked file; its file system is the Maildir's
    @ivar writable: the locked file is C{tpops_lock}, and not the directory
    @ivar above: released with this one
    """

    __slots__ = ("above", "descriptor", "writable")

    def __init__(self, descriptor: int, writable: bool) -> None:
        self.descriptor = descriptor
        self.writable = writable
        self.above: MaildirLock | None = None

    @property
    def held(self) -> bool:
        """Whether it has not been released."""
        return self.descriptor >= 0

    def release(self) -> None:
        """Let go.  Idempotent."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        above, self.above = self.above, None
        if above is not None:
            above.release()


def try_lock(maildir: bytes, shared: bool = False) -> MaildirLock | None:
    """
    Lock a Maildir, or give None when another session holds it.

    @param maildir: its path, ending in '/'
    @param shared: others may share it
    @raise OSError: when it cannot be locked at all; FileNotFoundError when there is no such directory
    """
    while True:
        path = maildir + LOCK_FILE
        descriptor, writable = _open(maildir, path)
        try:
            if not _flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
                os.close(descriptor)
                return None
            if not writable or _still_there(path, descriptor):
                if os.geteuid() == 0:
                    _give_to_owner(descriptor, maildir)
                return MaildirLock(descriptor, writable)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open(maildir: bytes, path: bytes) -> tuple[int, bool]:
    try:
        try:
            # Nearly always it is there, and without O_CREAT the kernel need not lock the directory.
            return os.open(path, _FLAGS), True
        except FileNotFoundError:
            return os.open(path, _FLAGS | os.O_CREAT, 0o600), True
    except OSError as problem:
        if problem.errno not in _READ_ONLY:
            raise
        return os.open(maildir, _DIRECTORY_FLAGS), False


def _flock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still_there(path: bytes, descriptor: int) -> bool:
    # Somebody may have removed the file between open and flock: such a lock would exclude nobody.
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (named.st_ino, named.st_dev) == (held.st_ino, held.st_dev)


def _give_to_owner(descriptor: int, maildir: bytes) -> None:
    owner = os.stat(maildir)
    if owner.st_uid != os.fstat(descriptor).st_uid:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
