"""
Maildir: one file a message, in C{new} and C{cur}.

Purpose: opens Maildirs, also those that a delivery agent, Dovecot or Courier uses at the same time, and those that
cannot be written; and takes new mail (L{tpops.mailbox.maildir_append}).
A Maildir that is not there is an empty maildrop (or is made, C{create}); one that cannot be read is an error that
needs an administrator, never an empty listing.
An account's C{folder} is a Maildir++ folder in it; with C{recursive}, an account without one has all of them together.
Deletion is C{unlink} at UPDATE, and nothing else removes a file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable

import attrs

from tpops.errors import MaildropBroken, MaildropBusy, NoSuchFolder, StorageError, StorageUnavailable
from tpops.interfaces import IIncomingMessage, IMaildrop
from tpops.mailbox import folder_names, maildir_append, maildir_restore
from tpops.mailbox.acting_as import Owner, acting_as, owner_of
from tpops.mailbox.folder_names import Ignored
from tpops.mailbox.index import Stamp
from tpops.mailbox.listings import Listings
from tpops.mailbox.locks import LOCK_FILE, MaildirLock, try_lock
from tpops.mailbox.maildir_folders import is_folder, is_there
from tpops.mailbox.maildir_scan import Settings
from tpops.mailbox.maildir_session import MaildirSession
from tpops.mailbox.maildir_size import counts
from tpops.mailbox.maildir_tree import MANY_DIRECTORIES, Part, Tree, Trees
from tpops.mailbox.maildir_tree_session import TreeSession
from tpops.mailbox.quota import quota_of
from tpops.mailbox.sizes import EXACT
from tpops.mailbox.snapshot import Snapshot
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
    @ivar tpop3d: unique-ids are those of tpop3d
    @ivar recursive: a Maildir and all its folders are one maildrop
    @ivar ignored_folders: without these, see L{Ignored}
    """

    create: bool = False
    sizes: str = EXACT
    mark_seen: bool = False
    index: bool = True
    index_dir: str = ""
    lock_wait_seconds: float = 10.0
    uidl_map: bool = False
    cache_octets: int = 64 << 20
    tpop3d: bool = False
    recursive: bool = False
    ignored_folders: tuple[str, ...] = ()


#: A lock that another one stands for.
_LOCKED_ABOVE = MaildirLock(-1, False)


class MaildirDriver:
    """
    Opens Maildirs.

    @cvar has_folders: it looks at the folder of an account itself
    @param run_in_thread: runs a blocking function elsewhere
    @param sleep: seconds to an awaitable that is over then; cancelling ends the wait
    @param seconds: a clock that never goes back
    """

    has_folders = True

    def __init__(
        self,
        options: MaildirOptions,
        run_in_thread: RunInThread,
        sleep: Callable[[float], Awaitable[object]],
        seconds: Callable[[], float],
    ) -> None:
        self.options = options
        self._settings = Settings(options.sizes, options.uidl_map, options.tpop3d)
        self.listings = Listings(self._settings, options.index, options.index_dir, options.cache_octets)
        self.trees = Trees(self.listings, Ignored(options.ignored_folders), options.tpop3d, options.cache_octets)
        self._run_in_thread = run_in_thread
        self._sleep = sleep
        self._seconds = seconds

    async def open_at(self, account: Account, path: bytes) -> IMaildrop:
        """
        The maildrop of a Maildir, or of the account's folder in it; raises as L{IMaildropDriver.open_maildrop} does.

        Locks: a session has the lock of what it is in, the Maildir or one folder.  Where sessions may have the Maildir
        with all folders, those in a folder also share the Maildir's lock with each other, and exclude these.
        """
        maildir = path.rstrip(b"/") + b"/"
        try:
            folder = account.folder
            if folder and not folder_names.is_inbox(folder):
                return await self._open_folder(maildir, folder_names.directory_of(folder), folder)
            lock = await self._lock(maildir, lambda: try_lock(maildir))
            if self.options.recursive and not folder:
                return await self._open_tree(maildir, lock)
            return await self._open(maildir, lock)
        except OSError as problem:
            raise as_storage_error(problem, maildir) from problem

    async def append_at(self, account: Account, path: bytes, message: IIncomingMessage, envelope: Envelope) -> bytes:
        """Store a message; see L{IAppendable.append}."""
        maildir = path.rstrip(b"/") + b"/"
        try:
            unique_id: bytes = await self._run_in_thread(self._append, account, maildir, message)
        except OSError as problem:
            raise as_storage_error(problem, maildir) from problem
        return unique_id

    def _append(self, account: Account, maildir: bytes, message: IIncomingMessage) -> bytes:
        owner = owner_of(account, maildir)
        quota = quota_of(account)
        try:
            with acting_as(owner):
                return maildir_append.append(maildir, message, account.name, quota, self._settings.unique_id)
        except FileNotFoundError:
            if not self.options.create:
                raise MaildropBroken(
                    f"{os.fsdecode(maildir)} is not there, or not whole; make it, or let maildir.create do that"
                ) from None
        _create_for(maildir, owner)
        with acting_as(owner):
            return maildir_append.append(maildir, message, account.name, quota, self._settings.unique_id)

    async def restore_at(
        self, account: Account, path: bytes, message: IIncomingMessage, unique_id: bytes, at: float
    ) -> None:
        """Store a message that has a unique-id; see L{IRestorable.restore}."""
        maildir = path.rstrip(b"/") + b"/"
        if not self.options.uidl_map:
            raise MaildropBroken("a Maildir keeps unique-ids in tpops_uidl, which maildir.uidl_map = true turns on")
        try:
            await self._run_in_thread(self._restore, account, maildir, message, unique_id, at)
        except OSError as problem:
            raise as_storage_error(problem, maildir) from problem

    def _restore(
        self, account: Account, maildir: bytes, message: IIncomingMessage, unique_id: bytes, at: float
    ) -> None:
        owner = owner_of(account, maildir)
        if not os.path.lexists(maildir + b"new"):
            _create_for(maildir, owner)
        with acting_as(owner):
            maildir_restore.restore(maildir, message, account.name, unique_id, at)

    async def _open(self, maildir: bytes, lock: MaildirLock | None, folder: bytes = b"") -> IMaildrop:
        try:
            path = _path(maildir, folder)
            listing = self.listings.current(path)
            if listing is None:
                if self.options.create:
                    await self._run_in_thread(create, path)
                listing = await self._run_in_thread(
                    self.listings.refresh, path, lock, self.listings.cache.get(path), folder
                )
                self.listings.cache.put(path, *listing)
            return self._session(maildir, folder, listing, lock)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    def _session(
        self, maildir: bytes, folder: bytes, listing: tuple[Stamp, Snapshot], lock: MaildirLock | None
    ) -> MaildirSession:
        return MaildirSession(
            _path(maildir, folder),
            listing,
            lock,
            self.listings,
            self._run_in_thread,
            self.options.sizes,
            self.options.mark_seen,
            maildir if counts(folder) else None,
        )

    async def _open_folder(self, maildir: bytes, directory: bytes, folder: str) -> IMaildrop:
        path = _path(maildir, directory)
        if not is_folder(path):
            # What is there and is no folder, a link among others, stays as it is.
            if not self.options.create or is_there(path):
                raise NoSuchFolder(f"{os.fsdecode(maildir)} has no folder {folder!r} ({os.fsdecode(directory)})")
            await self._run_in_thread(create_folder, path)
        lock = await self._lock(path, lambda: self._try_folder(maildir, path))
        if lock is None:
            raise NoSuchFolder(f"{os.fsdecode(path)} has just gone")
        return await self._open(maildir, lock, directory)

    def _try_folder(self, maildir: bytes, path: bytes) -> MaildirLock | None:
        """The lock of a folder, and a share in that of the Maildir where a session may have all folders."""
        if not self.options.recursive:
            return try_lock(path)
        above = try_lock(maildir, shared=True)
        if above is None:
            return None
        try:
            lock = try_lock(path)
        except BaseException:
            above.release()
            raise
        if lock is None:
            above.release()
            return None
        lock.above = above
        return lock

    async def _open_tree(self, maildir: bytes, lock: MaildirLock | None) -> IMaildrop:
        trees = self.trees
        try:
            _, old = trees.cache.get(maildir) or (None, None)
            tree = old
            if old is None or not await self._is_current(maildir, old):
                if self.options.create:
                    await self._run_in_thread(create, maildir)
                tree = await self._run_in_thread(trees.refresh, maildir, lock, old)
                trees.cache.put(maildir, None, tree)
            assert tree is not None

            def open_part(part: Part) -> MaildirSession:
                held = _LOCKED_ABOVE if lock is not None else None
                return self._session(maildir, part.directory, (part.stamp, part.messages), held)

            return TreeSession(tree, lock, open_part, lambda: trees.cache.drop(maildir))
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    async def _is_current(self, maildir: bytes, tree: Tree) -> bool:
        if len(tree.looked) + len(tree.parts) < MANY_DIRECTORIES:
            return self.trees.current(maildir, tree)
        current: bool = await self._run_in_thread(self.trees.current, maildir, tree)
        return current

    async def _lock(self, maildir: bytes, try_it: Callable[[], MaildirLock | None]) -> MaildirLock | None:
        deadline = 0.0
        while True:
            try:
                lock = try_it()
            except FileNotFoundError:
                if not self.options.create:
                    return None
                await self._run_in_thread(create, maildir)
                lock = try_it()
            if lock is not None:
                return lock
            now = self._seconds()
            deadline = deadline or now + self.options.lock_wait_seconds
            if now >= deadline:
                raise MaildropBusy(f"{os.fsdecode(maildir)} is locked by another session", maildir + LOCK_FILE)
            await self._sleep(min(_LOCK_RETRY_SECONDS, deadline - now))


def _path(maildir: bytes, folder: bytes) -> bytes:
    return maildir + folder + b"/" if folder else maildir


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


def create_folder(path: bytes) -> None:
    """Make a folder, with the empty file C{maildirfolder} that Maildir++ wants in it, and its Maildir if need be."""
    create(path)
    try:
        descriptor = os.open(path + b"maildirfolder", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        if os.geteuid() == 0:
            owner = os.stat(path)
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    finally:
        os.close(descriptor)


def as_storage_error(problem: OSError, maildir: bytes) -> StorageError:
    """What a failure means for whoever wants his mail."""
    text = f"{os.fsdecode(maildir)}: {problem.strerror or problem}"
    return MaildropBroken(text) if problem.errno in _NEEDS_ADMINISTRATOR else StorageUnavailable(text)
