"""
Mail spools: all messages of a user in one file, in the mbox format.

Purpose: opens spools in /var/mail and mbox files in homes, which delivery agents and mail programs use at the same
time; and takes new mail (L{tpops.mailbox.mbox_append}).
Locks: one session at a time has a lock of ours, in the index directory; the spool's own locks
(L{tpops.mailbox.spool_locks}) are held only while it is read at login and rewritten at QUIT.
A spool that is not there is an empty maildrop; one that cannot be read or is in another format is an error that needs
an administrator, never an empty listing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Awaitable, Callable

import attrs

from tpops.errors import MaildropBroken, MaildropBusy, StorageError, StorageUnavailable
from tpops.interfaces import IIncomingMessage, IMaildrop
from tpops.mailbox import mbox_append, spool_locks
from tpops.mailbox.acting_as import owner_of
from tpops.mailbox.mbox_listings import Listing, MboxListings
from tpops.mailbox.mbox_scan import HASH, NoSpool, Place
from tpops.mailbox.mbox_session import MboxSession
from tpops.mailbox.quota import quota_of
from tpops.mailbox.snapshot import Snapshot
from tpops.mailbox.spool_locks import SpoolLock
from tpops.mailbox.stored_file import RunInThread
from tpops.model import Account, Envelope

#: Seconds between two tries for a lock.
_RETRY_SECONDS = 0.1

_NEEDS_ADMINISTRATOR = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)

#: The machine's trouble, which passes: no descriptor, no memory, no room.
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EIO)

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
    @param dotlocks: who makes dotlocks
    """

    def __init__(
        self,
        options: MboxOptions,
        run_in_thread: RunInThread,
        sleep: Callable[[float], Awaitable[object]],
        seconds: Callable[[], float],
        dotlocks: spool_locks.Dotlocks = spool_locks.HERE,
    ) -> None:
        self.options = options
        self.listings = MboxListings(
            options.unique_ids, options.unquote, options.directory, options.index, options.cache_octets
        )
        self.run_in_thread = run_in_thread
        self._sleep = sleep
        self._seconds = seconds
        self._dotlocks = dotlocks

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

    async def append_at(self, account: Account, spool: bytes, message: IIncomingMessage, envelope: Envelope) -> bytes:
        """Store a message; see L{IAppendable.append}."""
        try:
            try:
                lock = await self.lock_spool(spool)
            except FileNotFoundError:
                await self.run_in_thread(_create, account, spool)
                lock = await self.lock_spool(spool)
            # The thread releases the lock, whether somebody still waits for it or not.
            await self.run_in_thread(self._append, account, spool, lock, message, envelope)
        except OSError as problem:
            raise _as_storage_error(problem, spool) from problem
        except NoSpool as problem:
            raise MaildropBroken(f"{os.fsdecode(spool)} {problem}") from problem
        except MaildropBusy as problem:
            raise StorageUnavailable(str(problem)) from problem
        return b""

    def _append(
        self, account: Account, spool: bytes, lock: SpoolLock, message: IIncomingMessage, envelope: Envelope
    ) -> None:
        try:
            _check_owner(account, lock)
            self._make_directory(spool)
            self.listings.recover(spool, lock.descriptor)
            quota = quota_of(account)
            if quota:
                listing = self.listings.refresh(spool, lock.descriptor)
                places = map(Place.unpack, listing[1].all_places())
                octets = sum(place.end - place.body for place in places)
                more = sum(map(len, mbox_append.as_stored(message, self.options.unquote))) - 1
                quota.admit(account.name, octets, listing[1].count, more)
            journal = self.listings.path(spool, b".append")
            mbox_append.append(lock.descriptor, message, envelope, self.options.unquote, journal)
        finally:
            lock.release()

    def _make_directory(self, spool: bytes) -> None:
        os.makedirs(os.path.dirname(self.listings.path(spool, b".append")), 0o700, exist_ok=True)

    async def lock_spool(self, spool: bytes) -> SpoolLock:
        """
        Take all locks of a spool.

        @raise MaildropBusy: when somebody holds one for too long
        @raise OSError: when it cannot be locked
        """
        deadline = self._seconds() + self.options.lock_wait_seconds
        while True:
            lock: SpoolLock | None = await self.run_in_thread(
                spool_locks.try_lock, spool, self.options.dotlock, self._dotlocks
            )
            if lock is not None:
                return lock
            await self._wait(deadline, f"{os.fsdecode(spool)} is locked by another program", spool)

    def remembered(self, spool: bytes) -> bytes:
        """One of the files in which is kept what is known of a spool."""
        return self.listings.path(spool, b".lock")

    async def _list(self, spool: bytes) -> Listing:
        try:
            known = None if self.listings.has_journal(spool) else self.listings.current(spool, os.stat(spool))
            if known is not None:
                return known
            lock = await self.lock_spool(spool)
        except FileNotFoundError:
            return _NO_SPOOL
        try:
            listing: Listing = await self.run_in_thread(self.read, spool, lock)
            return listing
        finally:
            lock.release()

    def read(self, spool: bytes, lock: SpoolLock) -> Listing:
        """The listing of a locked spool.  Blocks."""
        if lock.writable:
            self.listings.recover(spool, lock.descriptor)
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
            if problem.errno in _PASSING:
                raise
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


def _create(account: Account, spool: bytes) -> None:
    """Make an empty spool of somebody."""
    try:
        descriptor = os.open(spool, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        return
    except FileNotFoundError:
        raise MaildropBroken(f"there is no directory {os.fsdecode(os.path.dirname(spool))} for a spool") from None
    try:
        if os.geteuid() == 0 and account.uid is not None:
            os.fchown(descriptor, *owner_of(account, spool))
    finally:
        os.close(descriptor)


def _check_owner(account: Account, lock: SpoolLock) -> None:
    """
    Whether root may write to a spool for somebody.

    @raise OSError: when it may be another file, which a link leads to
    """
    facts = os.fstat(lock.descriptor)
    if not lock.writable:
        raise PermissionError(errno.EACCES, "the spool may not be written")
    if not stat.S_ISREG(facts.st_mode):
        raise PermissionError(errno.EACCES, "the spool is not a file")
    if os.geteuid() == 0 and account.uid is not None and (facts.st_uid != account.uid or facts.st_nlink != 1):
        raise PermissionError(errno.EACCES, f"the spool is not a file of user {account.uid} alone")


def _as_storage_error(problem: OSError, spool: bytes) -> StorageError:
    text = f"{os.fsdecode(spool)}: {problem.strerror or problem}"
    return MaildropBroken(text) if problem.errno in _NEEDS_ADMINISTRATOR else StorageUnavailable(text)
