"""
Mail spools: all messages of a user in one file, in the mbox format.

Purpose: opens spools in /var/mail and mbox files in homes, which delivery agents and mail programs
use at the same time.
Locks: one session at a time has a lock of ours, in the index directory; the spool's own locks
(L{tpops.mailbox.spool_locks}) are held only while it is read at login and rewritten at QUIT.
A spool that is not there is an empty maildrop; one that cannot be read or is in another format is an error that needs
an administrator, never an empty listing.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Awaitable, Callable

import attrs

from tpops.errors import MaildropBroken, MaildropBusy, StorageError, StorageUnavailable
from tpops.interfaces import IMaildrop
from tpops.mailbox import mbox_rewrite, spool_locks
from tpops.mailbox.mbox_listings import Listing, MboxListings
from tpops.mailbox.mbox_scan import HASH, NoSpool
from tpops.mailbox.mbox_session import MboxSession
from tpops.mailbox.snapshot import Snapshot
from tpops.mailbox.spool_locks import SpoolLock
from tpops.mailbox.stored_file import RunInThread
from tpops.model import Account

#: Seconds between two tries for a lock.
_RETRY_SECONDS = 0.1

_NEEDS_ADMINISTRATOR = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)

_NO_SPOOL: Listing = (((0, 0, -1), (0, 0, 0), (0, 0, 0)), Snapshot.of([], [], []))


@attrs.frozen(kw_only=True)
class MboxOptions:
    """
    How spools are served.

    @ivar directory: for index files, journals and the locks of sessions
    @ivar unique_ids: their style, see L{tpops.mailbox.mbox_scan}
    @ivar unquote: the spools are "mboxrd"
    @ivar dotlock: see L{tpops.mailbox.spool_locks}
    @ivar mark_seen: a retrieved message that stays gets the mark of mail programs at UPDATE
    @ivar index: keep index files
    @ivar lock_wait_seconds: how long to wait for another session, or for a delivery, to end
    @ivar cache_octets: memory for listings
    """

    directory: str
    unique_ids: str = HASH
    unquote: bool = False
    dotlock: str = spool_locks.TRY
    mark_seen: bool = False
    index: bool = True
    lock_wait_seconds: float = 10.0
    cache_octets: int = 64 << 20


class MboxDriver:
    """
    Opens spools.

    @ivar listings: what is known of spools
    @ivar run_in_thread: runs a blocking function elsewhere
    @param sleep: seconds to an awaitable that is over then
    @param seconds: a clock that never goes back
    """

    def __init__(
        self,
        options: MboxOptions,
        run_in_thread: RunInThread,
        sleep: Callable[[float], Awaitable[object]],
        seconds: Callable[[], float],
    ) -> None:
        self.options = options
        self.listings = MboxListings(
            options.unique_ids, options.unquote, options.directory, options.index, options.cache_octets
        )
        self.run_in_thread = run_in_thread
        self._sleep = sleep
        self._seconds = seconds

    async def open_at(self, account: Account, spool: bytes) -> IMaildrop:
        """The maildrop of a spool; raises as L{IMaildropDriver.open_maildrop} does."""
        try:
            release = await self._lock_session(spool)
            try:
                return MboxSession(self, spool, await self._list(spool), release)
            except BaseException:
                release()
                raise
        except OSError as problem:
            raise _as_storage_error(problem, spool) from problem
        except NoSpool as problem:
            raise MaildropBroken(f"{os.fsdecode(spool)} {problem}") from problem

    async def lock_spool(self, spool: bytes) -> SpoolLock:
        """
        Take all locks of a spool.

        @raise MaildropBusy: when somebody holds one for too long
        @raise OSError: when it cannot be locked
        """
        deadline = self._seconds() + self.options.lock_wait_seconds
        while True:
            lock: SpoolLock | None = await self.run_in_thread(spool_locks.try_lock, spool, self.options.dotlock)
            if lock is not None:
                return lock
            await self._wait(deadline, f"{os.fsdecode(spool)} is locked by another program", spool)

    async def _list(self, spool: bytes) -> Listing:
        try:
            known = None if self.listings.has_journal(spool) else self.listings.current(spool, os.stat(spool))
            if known is not None:
                return known
            lock = await self.lock_spool(spool)
        except FileNotFoundError:
            return _NO_SPOOL
        try:
            listing: Listing = await self.run_in_thread(self._read, spool, lock)
            return listing
        finally:
            lock.release()

    def _read(self, spool: bytes, lock: SpoolLock) -> Listing:
        if lock.writable:
            mbox_rewrite.recover(lock.descriptor, self.listings.journal(spool))
        return self.listings.refresh(spool, lock.descriptor)

    async def _lock_session(self, spool: bytes) -> Callable[[], None]:
        """The lock that keeps other sessions out; gives what releases it."""
        path = self.listings.path(spool, b".lock")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            try:
                descriptor = os.open(path, flags, 0o600)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
                descriptor = os.open(path, flags, 0o600)
        except OSError as problem:
            raise MaildropBroken(
                f"cannot make {os.fsdecode(path)}: {problem.strerror}; mbox.index_dir must be a directory that the "
                "server's user may write"
            ) from problem
        deadline = self._seconds() + self.options.lock_wait_seconds
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await self._wait(deadline, f"{os.fsdecode(spool)} is open in another session", path)
                else:
                    return lambda: os.close(descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    async def _wait(self, deadline: float, why: str, lock: bytes) -> None:
        """Wait a moment; when the time is over, @raise MaildropBusy."""
        now = self._seconds()
        if now >= deadline:
            raise MaildropBusy(why, lock)
        await self._sleep(min(_RETRY_SECONDS, deadline - now))


def _as_storage_error(problem: OSError, spool: bytes) -> StorageError:
    text = f"{os.fsdecode(spool)}: {problem.strerror or problem}"
    return MaildropBroken(text) if problem.errno in _NEEDS_ADMINISTRATOR else StorageUnavailable(text)
