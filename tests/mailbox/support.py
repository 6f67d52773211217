"""What the tests of tpops.mailbox share: a Maildir to write, drivers over it, and child processes."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tpops.interfaces import IAppendable, IMaildrop, IMaildropDriver
from tpops.mailbox import listings
from tpops.mailbox.locations import Maildrops, Split
from tpops.mailbox.locks import LOCK_FILE
from tpops.mailbox.maildir import MaildirDriver, MaildirOptions
from tpops.model import Account

_T = TypeVar("_T")

JOE = Account("joe@example.org", "test", home="/home/joe")

#: For tests by hypothesis: a busy machine is no failure, and setUp runs once for all examples.
unhurried = settings(deadline=None, suppress_health_check=list(HealthCheck))

_seconds = count(1_600_000_000)


async def at_once(f: Callable[..., _T], *arguments: object) -> _T:
    """A run_in_thread that has no thread."""
    return f(*arguments)


class Later:
    """A run_in_thread whose functions run when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[..., Any], tuple[object, ...]]] = []

    def __call__(self, f: Callable[..., _T], *arguments: object) -> Deferred[_T]:
        done: Deferred[_T] = Deferred()
        self.waiting.append((done, f, arguments))
        return done

    def run(self) -> None:
        """Run what waits; what was cancelled meanwhile runs all the same, as in a thread."""
        while self.waiting:
            done, f, arguments = self.waiting.pop(0)
            try:
                result = f(*arguments)
            except OSError:
                if not done.called:
                    done.errback()
            else:
                done.callback(result)


class Maildir:
    """
    A Maildir that a test writes as delivery agents and mail programs do.

    Every change gives its directory a new time, so no test depends on the ticks of a file system.
    """

    def __init__(self, path: str) -> None:
        self.root = os.path.abspath(path)
        self.path = os.fsencode(self.root) + b"/"
        for directory in ("tmp", "new", "cur"):
            os.makedirs(os.path.join(self.root, directory))
        self.touch()

    def touch(self, *directories: str) -> None:
        """Give directories another time."""
        for directory in directories or ("new", "cur"):
            now = next(_seconds) * 1_000_000_000 + 500_000_000
            os.utime(os.path.join(self.root, directory), ns=(now, now))

    def file(self, name: str | bytes, directory: str = "new") -> bytes:
        """The path of a message."""
        return self.path + directory.encode() + b"/" + os.fsencode(name)

    def deliver(self, name: str | bytes, message: bytes = b"Subject: x\n\nbody\n", directory: str = "new") -> bytes:
        """Store a message; gives its path."""
        path = self.file(name, directory)
        with open(path, "wb") as file:
            file.write(message)
        self.touch(directory)
        return path

    def move(self, old: str | bytes, new: str | bytes, source: str = "new", target: str = "cur") -> None:
        """Rename a message as a mail program does that sets flags."""
        os.rename(self.file(old, source), self.file(new, target))
        self.touch(source, target)

    def delete(self, name: str | bytes, directory: str = "new") -> None:
        """Remove a message as another program does."""
        os.unlink(self.file(name, directory))
        self.touch(directory)

    def files(self) -> list[str]:
        """All files in new and cur, sorted, as "new/name"."""
        return sorted(
            f"{directory}/{name}" for directory in ("new", "cur") for name in os.listdir(f"{self.root}/{directory}")
        )

    def tree(self) -> list[tuple[str, int, int]]:
        """Every file of new and cur with inode and time."""
        stats = [(name, os.lstat(os.path.join(self.root, name))) for name in self.files()]
        return [(name, found.st_ino, found.st_mtime_ns) for name, found in stats]


@implementer(IMaildropDriver, IAppendable)
class LocatedDriver(MaildirDriver):
    """Maildirs where a template says."""

    def __init__(self, location: str, split: Split, *arguments: Any) -> None:
        super().__init__(*arguments)
        there = Maildrops(location, split, {"maildir": self})
        self.open_maildrop, self.append = there.open_maildrop, there.append


class MaildirTestCase(SynchronousTestCase):
    """A Maildir, and a file system clock by which no listing is racy."""

    def setUp(self) -> None:
        """An empty Maildir."""
        self.maildir = Maildir(self.mktemp())
        self.clock = Clock()
        self.settled()

    def settled(self) -> None:
        """From now on no listing is racy."""
        self.patch(listings, "_file_system_clock", lambda lock: 1 << 62)

    def driver(self, run_in_thread: Any = at_once, maildir: Maildir | None = None, **options: Any) -> LocatedDriver:
        """A driver as a process of its own has it: with nothing in memory."""
        location = options.pop("location", "maildir:" + (maildir or self.maildir).root)
        clock: IReactorTime = self.clock
        return LocatedDriver(
            location,
            lambda name: (name, ""),
            MaildirOptions(**options),
            run_in_thread,
            lambda seconds: deferLater(clock, seconds, lambda: None),
            clock.seconds,
        )

    def wait(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """The result of a coroutine that does not have to wait."""
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def fails(self, coroutine: Coroutine[Any, Any, object], *errors: type[Exception]) -> Any:
        """The exception of a coroutine that does not have to wait."""
        return self.failureResultOf(Deferred.fromCoroutine(coroutine), *errors).value

    def open(self, driver: LocatedDriver | None = None, **options: Any) -> Any:
        """An open maildrop."""
        return self.wait((driver or self.driver(**options)).open_maildrop(JOE))

    def listing(self, driver: LocatedDriver | None = None, **options: Any) -> list[tuple[int, bytes]]:
        """Octets and unique-id of every message of a session that is over at once."""
        maildrop = self.open(driver, **options)
        self.wait(maildrop.close())
        return rows(maildrop)

    def unique_ids(self, driver: LocatedDriver | None = None, **options: Any) -> list[bytes]:
        """Unique-ids of a session that is over at once."""
        return [unique_id for _, unique_id in self.listing(driver, **options)]

    def content(self, maildrop: IMaildrop, number: int) -> bytes:
        """The stored octets of a message."""
        return self.wait(content(maildrop, number))

    def locked(self) -> bool:
        """Whether a session has the Maildir's lock, as another process sees it."""
        return locked(self.maildir.path)


def rows(maildrop: IMaildrop) -> list[tuple[int, bytes]]:
    """Octets and unique-id of every message of a maildrop."""
    messages = maildrop.messages
    return [(messages.sizes[number - 1], messages.unique_id(number)) for number in range(1, messages.count + 1)]


async def content(maildrop: IMaildrop, number: int, chunk_octets: int = 1 << 18) -> bytes:
    """The stored octets of a message."""
    message = await maildrop.open(number)
    chunks = []
    try:
        while True:
            chunk = message.read(chunk_octets)
            if not isinstance(chunk, bytes):
                chunk = await chunk
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
    finally:
        message.close()


def locked(maildir: bytes) -> bool:
    """Whether somebody has the lock of a Maildir that can be written."""
    try:
        with open(maildir + LOCK_FILE, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def descriptors() -> set[str]:
    """The open descriptors of this process, each with what it is of."""
    found = set()
    for one in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{one} {os.readlink(f'/proc/self/fd/{one}')}")
        except FileNotFoundError:
            # The descriptor that listed the directory.
            continue
    return found


@contextmanager
def public_folder() -> Iterator[str]:
    """A folder that every user may enter."""
    folder = tempfile.mkdtemp(prefix="tpops-test-")
    os.chmod(folder, 0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def without_rights(f: Callable[[], str]) -> str:
    """
    Run a function in a child process that is not root.

    @return: what it gave, or the name of its exception
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer = "nothing"
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            answer = f()
        except BaseException as problem:
            answer = f"{type(problem).__name__}: {problem}"
        finally:
            os.write(writing, answer.encode("utf-8", "replace"))
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        answer = file.read().decode()
    os.waitpid(child, 0)
    return answer


#: System calls that change something.
CHANGING = ("open", "write", "pwrite", "fsync", "link", "rename", "unlink", "ftruncate", "mkdir", "utime")


def killed_at(call: int, after: bool, job: Callable[[], object]) -> bool:
    """
    Do a job in a child process that is killed at the changing system call of that number, before it or after it.

    @return: whether there was such a call
    """
    child = os.fork()
    if child == 0:
        status = 2
        try:
            numbers = count()

            def dying(real: Callable[..., object]) -> Callable[..., object]:
                def run(*arguments: object, **named: object) -> object:
                    if next(numbers) != call:
                        return real(*arguments, **named)
                    try:
                        if after:
                            real(*arguments, **named)
                    finally:
                        os._exit(1)

                return run

            for name in CHANGING:
                setattr(os, name, dying(getattr(os, name)))
            job()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, 1):
        raise AssertionError(f"the child failed before it was killed at call {call}")
    return status == 1
