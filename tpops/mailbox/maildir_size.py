"""
The file C{maildirsize} of Maildir++: what a Maildir holds, and how much it may.

Purpose: a delivery must know how many octets and messages there are without looking at all of them.  The first line is
the quota ("1000000S,1000C": octets and messages), each further line a change ("1234 1"); their sum counts.
Who keeps it: deliveries where there is a quota or the file is there already, and sessions that delete where it is.
Only the first make it.
When it is counted anew: when it is not there, longer than 5,120 octets, broken, or has another quota than the account;
and before a message is refused, unless that has just been done and nothing has changed since.  Messages in C{.Trash}
and those marked as trashed do not count, as Maildir++ has it.
Two deliveries at a time: the file C{tpops_quota_lock} is locked while a delivery looks whether there is room and takes
it, and while a session deletes up to L{BATCH} messages; never for the length of a session.  A delivery takes its octets
before its message is visible, a session gives them back after its message is gone: who is killed in between leaves too
much in the file, which is found when somebody is about to be refused, and never too little.
Limits: blocks.  Programs that deliver without keeping the file right make it say too little until it is counted anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
from twisted.logger import Logger

from tpops.errors import QuotaExceeded, StorageUnavailable
from tpops.mailbox.quota import Quota

_log = Logger()

FILE, LOCK_FILE = b"maildirsize", b"tpops_quota_lock"

#: A longer file is counted anew.
MOST_OCTETS = 5120

#: Age at which a file that says "full" is not believed.
BELIEVED_SECONDS = 900

#: Messages that are deleted while the lock is held once.
BATCH = 100

_LOCK_SECONDS, _RETRY_SECONDS = 30.0, 0.01

_STORED = re.compile(rb"[^:]*?,S=([0-9]{1,15})(?=[,:]|\Z)")
_TRASHED = re.compile(rb":2,[^,]*T")
_PART = re.compile(rb"([0-9]{1,18})([SC])")


@attrs.frozen
class Counted:
    """
    What the file says.

    @ivar quota: of its first line
    @ivar octets: sum of all
    @ivar messages: likewise
    @ivar settled: it was counted anew and nothing was added
    """

    quota: Quota
    octets: int
    messages: int
    settled: bool


def parse(text: bytes) -> Counted | None:
    """What is in a file; None when it is broken."""
    first, *lines = text.split(b"\n")
    parts: dict[bytes, int] = {letter: int(number) for number, letter in _PART.findall(first)}
    octets = messages = 0
    if not lines or lines[-1]:
        return None
    for line in lines[:-1]:
        try:
            one, other = map(int, line.split())
        except ValueError:
            return None
        octets, messages = octets + one, messages + other
    if octets < 0 or messages < 0:
        return None
    return Counted(Quota(parts.get(b"S", 0), parts.get(b"C", 0)), octets, messages, len(lines) == 2)


def stored_octets(directory: bytes, name: bytes) -> int:
    """What a message counts for.  @raise OSError: when it has gone"""
    if _TRASHED.search(name):
        return 0
    told = _STORED.match(name)
    return int(told[1]) if told else os.stat(directory + name, follow_symlinks=False).st_size


@contextmanager
def place_for(maildir: bytes, name: str, quota: Quota | None, octets: int) -> Iterator[None]:
    """
    Take room for a message that comes to be there within C{with}; when that raises, the room is given back.

    @param name: whose the Maildir is, for messages
    @param quota: of the account; None where the file may say it
    @param octets: stored octets of the message
    @raise QuotaExceeded: when there is none
    @raise StorageUnavailable: when others hold the lock for too long
    """
    if not quota and not os.path.lexists(maildir + FILE):
        yield
        return
    with _locked(maildir):
        _admit(maildir, name, quota, octets)
        _add(maildir, octets, 1)
        try:
            yield
        except BaseException:
            _add(maildir, -octets, -1)
            raise


def counts(folder: bytes) -> bool:
    """Whether the messages of a folder count, by its directory from the Maildir on; b"" is the Maildir itself."""
    return not folder or (folder.startswith(b".") and b"/" not in folder and folder != b".Trash")


class Removal:
    """Deletes messages of a Maildir and keeps the file right, where there is one."""

    def __init__(self, maildir: bytes) -> None:
        self._maildir = maildir
        self._kept = os.path.lexists(maildir + FILE)
        self._lock: int | None = None
        self._octets = self._messages = 0

    def unlink(self, path: bytes) -> None:
        """Remove a message.  @raise OSError: when that fails"""
        if not self._kept:
            os.unlink(path)
            return
        directory, name = os.path.split(path)
        octets = stored_octets(directory + b"/", name)
        if self._lock is None:
            self._lock = self._take()
        os.unlink(path)
        if not _TRASHED.search(name):
            self._octets += octets
            self._messages += 1
        if self._messages >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what was removed, and let others go on.  Never raises."""
        if self._messages:
            _add(self._maildir, -self._octets, -self._messages)
        self._octets = self._messages = 0
        lock, self._lock = self._lock, None
        if lock is not None and lock >= 0:
            os.close(lock)

    def _take(self) -> int:
        try:
            return _lock(self._maildir)
        except (OSError, StorageUnavailable) as problem:
            _log.warn("{maildir!r}: deleted without the lock of its quota: {why}", maildir=self._maildir, why=problem)
            return -1


def _admit(maildir: bytes, name: str, quota: Quota | None, octets: int) -> None:
    """@raise QuotaExceeded: when a message does not fit, as far as can be known"""
    counted = _read(maildir)
    if counted is None or (quota and counted.quota != quota):
        counted = _count_anew(maildir, quota or _first_line(maildir))
    limit = counted.quota if quota is None else quota
    try:
        limit.admit(name, counted.octets, counted.messages, octets)
    except QuotaExceeded:
        if counted.settled and not _outdated(maildir):
            raise
        counted = _count_anew(maildir, counted.quota)
        limit.admit(name, counted.octets, counted.messages, octets)


def _read(maildir: bytes) -> Counted | None:
    """What the file says; None when it must be counted anew."""
    try:
        descriptor = os.open(maildir + FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        text = os.read(descriptor, MOST_OCTETS + 1)
    finally:
        os.close(descriptor)
    return None if len(text) > MOST_OCTETS else parse(text)


def _first_line(maildir: bytes) -> Quota:
    """The quota that the file says, whatever the rest of it is."""
    try:
        with open(maildir + FILE, "rb") as file:
            counted = parse(file.readline(MOST_OCTETS).rstrip(b"\n") + b"\n")
    except FileNotFoundError:
        return Quota()
    return counted.quota if counted is not None else Quota()


def _outdated(maildir: bytes) -> bool:
    """Whether what was counted anew may be wrong by now."""
    try:
        counted = os.stat(maildir + FILE)
    except FileNotFoundError:
        return True
    changed_ns = max(os.stat(maildir + one).st_ctime_ns for one in (b"new", b"cur"))
    old = time.time_ns() - counted.st_mtime_ns > BELIEVED_SECONDS * 1_000_000_000
    return old or changed_ns >= counted.st_ctime_ns


def _count_anew(maildir: bytes, quota: Quota) -> Counted:
    """Look at all messages, and write the file."""
    directories = list(_directories(maildir))
    before = _times(directories)
    octets = messages = 0
    for directory in directories:
        for name in _names(directory):
            with contextlib.suppress(FileNotFoundError):
                octets += stored_octets(directory, name)
                messages += not _TRASHED.search(name)
    said = ",".join(f"{number}{letter}" for number, letter in ((quota.octets, "S"), (quota.messages, "C")) if number)
    _replace(maildir, f"{said or '0S'}\n{octets} {messages}\n".encode())
    if _times(directories) != before:
        # Somebody else has delivered or deleted meanwhile: the next one counts again.
        _forget(maildir)
    return Counted(quota, octets, messages, settled=True)


def _directories(maildir: bytes) -> Iterator[bytes]:
    """All directories with messages that count: of the Maildir and of its folders."""
    folders = [maildir]
    with os.scandir(maildir) as found:
        for one in found:
            if one.name.startswith(b".") and one.name != b".Trash" and one.is_dir(follow_symlinks=False):
                folders.append(maildir + one.name + b"/")
    for folder in folders:
        yield folder + b"new/"
        yield folder + b"cur/"


def _names(directory: bytes) -> list[bytes]:
    try:
        with os.scandir(directory) as found:
            return [one.name for one in found if one.name[:1] != b"." and one.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _times(directories: list[bytes]) -> list[int]:
    found = []
    for one in directories:
        try:
            found.append(os.stat(one).st_mtime_ns)
        except FileNotFoundError:
            found.append(0)
    return found


def _replace(maildir: bytes, text: bytes) -> None:
    """Put another file in its place, whole or not at all."""
    temporary = maildir + b"tmp/maildirsize.%d.%d" % (os.getpid(), time.time_ns())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o600)
    try:
        try:
            os.write(descriptor, text)
        finally:
            os.close(descriptor)
        os.rename(temporary, maildir + FILE)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _add(maildir: bytes, octets: int, messages: int) -> None:
    """Write a change.  Where that is not possible the file goes, and the next one counts anew."""
    line = b"%d %d\n" % (octets, messages)
    try:
        descriptor = os.open(maildir + FILE, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if os.write(descriptor, line) != len(line):
                raise OSError(0, "written in part only")
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return
    except OSError as problem:
        _log.warn("cannot write {file!r}, so it goes: {why}", file=maildir + FILE, why=str(problem))
        _forget(maildir)


def _forget(maildir: bytes) -> None:
    try:
        os.unlink(maildir + FILE)
    except FileNotFoundError:
        pass
    except OSError as problem:
        _log.error("cannot remove {file!r}, which is wrong: {why}", file=maildir + FILE, why=str(problem))


@contextmanager
def _locked(maildir: bytes) -> Iterator[None]:
    descriptor = _lock(maildir)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(maildir: bytes) -> int:
    """The lock's descriptor.  @raise StorageUnavailable: when others hold it for too long"""
    path = maildir + LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    until = time.monotonic() + _LOCK_SECONDS
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise StorageUnavailable(f"{os.fsdecode(path)} is held by another process") from None
                time.sleep(_RETRY_SECONDS)
            else:
                return descriptor
    except BaseException:
        os.close(descriptor)
        raise
