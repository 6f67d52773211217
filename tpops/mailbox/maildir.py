"""
Maildir: one file a message, in C{new} and C{cur}.

Purpose: opens Maildirs, also those that a delivery agent, Dovecot or Courier uses at the same time, and those that
cannot be written; and takes new mail (L{tpops.mailbox.maildir_append}).
A Maildir that is not there is an empty maildrop (or is made, C{create}); one that cannot be read is an error that
needs an administrator, never an empty listing.
Deletion is C{unlink} at UPDATE, and nothing else removes a file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable

import attrs

from tpops.errors import MaildropBroken, MaildropBusy, StorageError, StorageUnavailable
from tpops.interfaces import IIncomingMessage, IMaildrop
from tpops.mailbox import maildir_append
from tpops.mailbox.acting_as import Owner, acting_as, owner_of
from tpops.mailbox.listings import Listings
from tpops.mailbox.locks import LOCK_FILE, MaildirLock, try_lock
from tpops.mailbox.maildir_scan import Settings
from tpops.mailbox.maildir_session import MaildirSession
from tpops.mailbox.quota import quota_of
from tpops.mailbox.sizes import EXACT
from tpops.mailbox.stored_file import RunInThread
from tpops.model import Account, Envelope

#: Seconds between two tries for a lock.
_LOCK_RETRY_SECONDS = 0.1

_NEEDS_ADMINISTRATOR = (
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EROFS,
)


@attrs.frozen(kw_only=True)
class MaildirOptions:
    """
    How Maildirs are served.

    @ivar create: make missing directories at login and when mail arrives
    @ivar sizes: how sizes are learnt, see L{tpops.mailbox.sizes}
    @ivar mark_seen: a retrieved message gets the flag S at UPDATE
    @ivar index: keep C{tpops_index} files
    @ivar index_dir: where, "" for each Maildir itself
    @ivar lock_wait_seconds: how long to wait for another session to end
    @ivar uidl_map: the file C{tpops_uidl} overrides unique-ids
    @ivar cache_octets: memory for listings
    """

    create: bool = False
    sizes: str = EXACT
    mark_seen: bool = False
    index: bool = True
    index_dir: str = ""
    lock_wait_seconds: float = 10.0
    uidl_map: bool = False
    cache_octets: int = 64 << 20


class MaildirDriver:
    """
    Opens Maildirs.

    @param run_in_thread: runs a blocking function elsewhere
    @param sleep: seconds to an awaitable that is over then; cancelling ends the wait
    @param seconds: a clock that never goes back
    """

    def __init__(
        self,
        options: MaildirOptions,
        run_in_thread: RunInThread,
        sleep: Callable[[float], Awaitable[object]],
        seconds: Callable[[], float],
    ) -> None:
        self.options = options
        self.listings = Listings(
            Settings(options.sizes, options.uidl_map), options.index, options.index_dir, options.cache_octets
        )
        self._run_in_thread = run_in_thread
        self._sleep = sleep
        self._seconds = seconds

    async def open_at(self, account: Account, path: bytes) -> IMaildrop:
        """The maildrop of a Maildir; raises as L{IMaildropDriver.open_maildrop} does."""
        maildir = path.rstrip(b"/") + b"/"
        try:
            return await self._open(maildir)
        except OSError as problem:
            raise _as_storage_error(problem, maildir) from problem

    async def append_at(self, account: Account, path: bytes, message: IIncomingMessage, envelope: Envelope) -> bytes:
        """Store a message; see L{IAppendable.append}."""
        maildir = path.rstrip(b"/") + b"/"
        try:
            unique_id: bytes = await self._run_in_thread(self._append, account, maildir, message)
        except OSError as problem:
            raise _as_storage_error(problem, maildir) from problem
        return unique_id

    def _append(self, account: Account, maildir: bytes, message: IIncomingMessage) -> bytes:
        owner = owner_of(account, maildir)
        quota = quota_of(account)
        try:
            with acting_as(owner):
                return maildir_append.append(maildir, message, account.name, quota)
        except FileNotFoundError:
            if not self.options.create:
                raise MaildropBroken(
                    f"{os.fsdecode(maildir)} is not there, or not whole; make it, or let maildir.create do that"
                ) from None
        _create_for(maildir, owner)
        with acting_as(owner):
            return maildir_append.append(maildir, message, account.name, quota)

    async def _open(self, maildir: bytes) -> IMaildrop:
        lock = await self._lock(maildir)
        try:
            listing = self.listings.current(maildir)
            if listing is None:
                if self.options.create:
                    await self._run_in_thread(create, maildir)
                listing = await self._run_in_thread(
                    self.listings.refresh, maildir, lock, self.listings.cache.get(maildir)
                )
                self.listings.cache.put(maildir, *listing)
            return MaildirSession(
                maildir,
                listing,
                lock,
                self.listings,
                self._run_in_thread,
                self.options.sizes,
                self.options.mark_seen,
            )
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    async def _lock(self, maildir: bytes) -> MaildirLock | None:
        deadline = 0.0
        while True:
            try:
                lock = try_lock(maildir)
            except FileNotFoundError:
                if not self.options.create:
                    return None
                await self._run_in_thread(create, maildir)
                lock = try_lock(maildir)
            if lock is not None:
                return lock
            now = self._seconds()
            deadline = deadline or now + self.options.lock_wait_seconds
            if now >= deadline:
                raise MaildropBusy(f"{os.fsdecode(maildir)} is locked by another session", maildir + LOCK_FILE)
            await self._sleep(min(_LOCK_RETRY_SECONDS, deadline - now))


def _create_for(maildir: bytes, owner: Owner) -> None:
    """Make a Maildir of somebody, with his rights where they are enough."""
    try:
        with acting_as(owner):
            create(maildir, owner)
    except PermissionError:
        create(maildir, owner)


def create(maildir: bytes, owner: Owner | None = None) -> None:
    """
    Make a Maildir and the directories above it, for its owner alone; what is there already stays as it is.

    @param owner: whose they are when root makes them; None for the owner of the directory that they are in
    """
    missing = []
    path = maildir.rstrip(b"/")
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    if owner is None:
        above = os.stat(path)
        owner = above.st_uid, above.st_gid
    for directory in (*reversed(missing), maildir + b"tmp", maildir + b"new", maildir + b"cur"):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            # Somebody else was faster, or it is no directory, which shows when it is read.
            continue
        if os.geteuid() == 0:
            os.chown(directory, *owner, follow_symlinks=False)


def _as_storage_error(problem: OSError, maildir: bytes) -> StorageError:
    text = f"{os.fsdecode(maildir)}: {problem.strerror or problem}"
    return MaildropBroken(text) if problem.errno in _NEEDS_ADMINISTRATOR else StorageUnavailable(text)
