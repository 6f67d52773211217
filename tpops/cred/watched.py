"""
Accounts files that are kept in memory and read again when they have changed.

Purpose: what the sources made of text files share: looking at the files, reading them line by line, complaining of
bad lines.
Limits: the files are looked at once a second at most, so a change may be seen a second late; big files are read again
in a thread, so a little later.  While a file changes under the reading, or its writer has it locked, what was read
before stays in force.
Errors: bad lines are logged once for each load, with number and reason and never the line itself, and skipped.  A file
that cannot be read is LookupUnavailable.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import BinaryIO, Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tpops.cred.hashes import RunInThread
from tpops.errors import LookupUnavailable

T = TypeVar("T")

#: Seconds between two looks at the files.
LOOK_SECONDS = 1.0

#: Files over this size together are read again in a thread; the old accounts hold until it is done.
BIG_OCTETS = 256 * 1024


class BadLine(ValueError):
    """A line that cannot be used; the text says why."""


class _BeingWritten(LookupUnavailable):
    """Somebody writes to a file, which cannot be whole now."""


@attrs.frozen(slots=True)
class Parsed(Generic[T]):
    """
    What files say.

    @ivar entries: the accounts by name
    @ivar complaints: the bad lines, as "path:number: reason"
    @ivar unusable: why nothing of it can be used, "" where it can
    """

    entries: Mapping[str, T] = attrs.field(factory=dict, repr=False)
    complaints: tuple[str, ...] = ()
    unusable: str = ""


def each_line(
    path: str,
    octets: bytes,
    parse_line: Callable[[str], T | None],
    complaints: list[str],
    errors: str = "strict",
) -> Iterator[T]:
    """
    What the lines of a file give.

    @param parse_line: gives None for a line to pass over, raises L{BadLine} for one that cannot be used
    @param complaints: gets a text for each bad line
    @param errors: what becomes of octets that are not UTF-8, as in L{bytes.decode}
    """
    for number, raw in enumerate(octets.split(b"\n"), start=1):
        try:
            found = parse_line(raw.rstrip(b"\r").decode("utf-8", errors))
        except UnicodeDecodeError:
            complaints.append(f"{path}:{number}: line is not UTF-8")
        except BadLine as error:
            complaints.append(f"{path}:{number}: {error}")
        else:
            if found is not None:
                yield found


def readable_by_all(path: str) -> bool:
    """Whether everybody on this machine may read a file, as far as its own mode says."""
    return bool(os.stat(path).st_mode & stat.S_IROTH)


def open_to_all(path: str) -> str:
    """What an operator is told of a file with secrets that everybody may read."""
    return f"{path} has passwords as they are, and everybody on this machine may read it; chmod 0640 {path}"


#: Device, inode, size and times of each file: who they were when they were read.
_Identity = tuple[tuple[int, ...], ...]


def _identity(facts: Sequence[os.stat_result]) -> _Identity:
    return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in facts)


def _lock(file: BinaryIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _BeingWritten(f"{file.name} is locked by a program that writes it") from None
    except OSError:
        pass  # a file system without locks


def _whole(path: str, locked: bool) -> tuple[os.stat_result, bytes]:
    """
    What a file holds at one moment, and who it is.

    @raise _BeingWritten: when somebody is writing to it
    """
    with open(path, "rb") as file:
        if locked:
            _lock(file)
        facts = os.fstat(file.fileno())
        octets = file.read()
        file.seek(0)
        # The same twice: then it was so at the moment in between, also where nobody locks.
        if file.read() != octets:
            raise _BeingWritten(f"{path} is being written")
    return facts, octets


class WatchedFiles(Generic[T]):
    """
    The accounts of one or several files that belong together.

    @param paths: the files; when one has changed, all are read again
    @param parse: makes accounts of what the files hold, in the order of C{paths}
    @param run_in_thread: runs a blocking function in a thread
    @param seconds: the time
    @param hint: what the operator should do where a file may not be read
    @param locked: those of the files whose writers take an exclusive flock(2); whoever may read a file can take one too
    """

    log = Logger()

    def __init__(
        self,
        paths: Sequence[str],
        parse: Callable[[Sequence[bytes]], Parsed[T]],
        run_in_thread: RunInThread,
        seconds: Callable[[], float],
        hint: str = "",
        locked: Collection[str] = (),
    ) -> None:
        self._locked = frozenset(locked)
        self._paths = tuple(paths)
        self._parse = parse
        self._run_in_thread = run_in_thread
        self._seconds = seconds
        self._hint = hint
        self._look_at: float | None = None
        self._reading: Deferred[None] | None = None
        self._forget()

    def entries(self) -> Mapping[str, T]:
        """
        The accounts by name, from memory where the files are as they were.

        @raise LookupUnavailable: when a file cannot be read or used
        """
        now = self._seconds()
        if self._look_at is None or now >= self._look_at:
            self._refresh()
            self._look_at = now + LOOK_SECONDS
        return self._usable().entries

    def read(self) -> Parsed[T]:
        """
        What the files say now, whatever is in memory.

        @raise LookupUnavailable: when a file cannot be read or used
        """
        self._take(*self._read())
        return self._usable()

    def _usable(self) -> Parsed[T]:
        if self._parsed.unusable:
            raise LookupUnavailable(self._parsed.unusable)
        return self._parsed

    def _refresh(self) -> None:
        """Read the files again if they are not those that were read last; big ones in a thread."""
        if self._reading is not None:
            return
        try:
            facts = [self._stat(path) for path in self._paths]
            if _identity(facts) == self._identity:
                return
            if sum(one.st_size for one in facts) > BIG_OCTETS and self._parsed.entries:
                reading = Deferred.fromCoroutine(self._read_later())
                self._reading = None if reading.called else reading
            else:
                self._take(*self._read())
        except _BeingWritten:
            if not self._parsed.entries:
                raise
        except LookupUnavailable:
            self._forget()
            raise

    async def _read_later(self) -> None:
        try:
            self._take(*await self._run_in_thread(self._read))
        except _BeingWritten:
            pass  # looked at again in a second
        except LookupUnavailable as error:
            self._forget()
            self.log.error("{reason}", reason=str(error))
        finally:
            self._reading = None

    def _read(self) -> tuple[_Identity, Parsed[T]]:
        facts: list[os.stat_result] = []
        octets: list[bytes] = []
        for path in self._paths:
            try:
                one, read = _whole(path, path in self._locked)
            except OSError as error:
                raise self._unreadable(path, error) from None
            facts.append(one)
            octets.append(read)
        return _identity(facts), self._parse(octets)

    def _stat(self, path: str) -> os.stat_result:
        try:
            return os.stat(path)
        except OSError as error:
            raise self._unreadable(path, error) from None

    def _unreadable(self, path: str, error: OSError) -> LookupUnavailable:
        hint = f"; {self._hint}" if self._hint and isinstance(error, PermissionError) else ""
        return LookupUnavailable(f"cannot read {path}: {error.strerror}{hint}")

    def _forget(self) -> None:
        """Nothing is known; the next lookup reads."""
        self._look_at = None
        self._identity: _Identity = ()
        self._parsed: Parsed[T] = Parsed()

    def _take(self, identity: _Identity, parsed: Parsed[T]) -> None:
        for complaint in parsed.complaints:
            self.log.warn("{complaint}; line skipped", complaint=complaint)
        self._identity = identity
        self._parsed = parsed
