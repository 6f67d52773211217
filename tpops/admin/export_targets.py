"""
Where exported messages go: an mbox file, a Maildir, a directory of C{.eml} files.

Purpose: complete or not there at all: everything is written under another name beside the target and gets its own name
last, on disk by then; what is there already is never touched.
mbox: "mboxrd": lines that begin with "From ", or with ">" signs and "From ", get one sign more, so that whoever takes
one away has the message octet by octet; a message without a line end at its end gets one.  Maildir and C{.eml}: octet
by octet.
Unique-ids are kept beside the messages, never in them: C{tpops_uidl} in a Maildir, which C{uidl_map} reads, and in a
directory of files (lines C{filename TAB unique-id}); for an mbox file, C{TARGET.uidl} (lines C{number TAB unique-id}).
Limits: blocks; for threads.  A process that is killed leaves C{TARGET.export-*}, which may be removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import socket
import time
from typing import IO, Protocol

import attrs

from tpops.mailbox.unique_ids import MAP_FILE

_OPENING = re.compile(rb"(\n>*)From ")
_UNDECIDED = re.compile(rb">*(F(?:r(?:om?)?)?)?")


class Taken(Exception):
    """There is something at the target already."""


@attrs.frozen
class About:
    """
    A message, before its octets.

    @ivar number: 1 for the first that is exported
    @ivar arrived: seconds since the epoch
    @ivar sender: the reverse-path, b"" where it is not known
    """

    number: int
    unique_id: bytes
    arrived: float
    sender: bytes


class Target(Protocol):
    """
    See the module.

    open; then begin, write as often as needed, and end for every message; then publish.  discard may be called at any
    time, and leaves nothing unless publish is done.
    """

    def open(self) -> None:
        """Be ready.  @raise Taken: when there is something at the target already"""

    def begin(self, message: About) -> None:
        """A message comes."""

    def write(self, chunk: bytes) -> None:
        """Its next octets."""

    def end(self) -> None:
        """That was all of it."""

    def publish(self) -> None:
        """Give the whole its name.  @raise Taken: when somebody else has it"""

    def discard(self) -> None:
        """Leave nothing behind.  Idempotent."""


class MboxStream:
    """Messages as an mbox, written to an open file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._quoting = Quoting()
        self._last = b""

    def open(self) -> None:
        """See L{Target.open}."""

    def begin(self, message: About) -> None:
        """See L{Target.begin}."""
        when = time.asctime(time.gmtime(message.arrived)).encode("ascii")
        self._file.write(b"From %s %s\n" % (message.sender or b"MAILER-DAEMON", when))
        self._quoting = Quoting()
        self._last = b"\n"

    def write(self, chunk: bytes) -> None:
        """See L{Target.write}."""
        self._last = chunk[-1:] or self._last
        self._file.write(self._quoting.feed(chunk))

    def end(self) -> None:
        """See L{Target.end}."""
        self._file.write(self._quoting.finish() + (b"\n" if self._last == b"\n" else b"\n\n"))

    def publish(self) -> None:
        """See L{Target.publish}."""
        self._file.flush()

    def discard(self) -> None:
        """See L{Target.discard}: what is written is written."""


class MboxFile:
    """An mbox file and its C{.uidl}."""

    def __init__(self, path: str) -> None:
        self._path, self._ids_path = path, path + ".uidl"
        self._temporary, self._ids_temporary = _beside(path), _beside(self._ids_path)
        self._files: list[IO[bytes]] = []

    def open(self) -> None:
        """See L{Target.open}."""
        for path in (self._path, self._ids_path):
            _refuse(path)
        for path in (self._temporary, self._ids_temporary):
            self._files.append(_new(path))
        self._stream = MboxStream(self._files[0])

    def begin(self, message: About) -> None:
        """See L{Target.begin}."""
        self._files[1].write(b"%d\t%s\n" % (message.number, message.unique_id))
        self._stream.begin(message)

    def write(self, chunk: bytes) -> None:
        """See L{Target.write}."""
        self._stream.write(chunk)

    def end(self) -> None:
        """See L{Target.end}."""
        self._stream.end()

    def publish(self) -> None:
        """See L{Target.publish}."""
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        try:
            # Unlike a rename, this never replaces anything.
            os.link(self._ids_temporary, self._ids_path)
            try:
                os.link(self._temporary, self._path)
            except BaseException:
                os.unlink(self._ids_path)
                raise
        except FileExistsError as there:
            raise Taken(there.filename2) from None
        _sync_directory(self._path)

    def discard(self) -> None:
        """See L{Target.discard}."""
        for file, path in zip(self._files, (self._temporary, self._ids_temporary), strict=False):
            # What could not be written is to be thrown away.
            with contextlib.suppress(OSError):
                file.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


class _Directory:
    """Files in a directory, and C{tpops_uidl}."""

    #: Where in the directory the messages go, and what else is in it.
    part = ""
    others: tuple[str, ...] = ()

    def __init__(self, path: str) -> None:
        self._path = path
        self._temporary = _beside(path)
        self._ids: IO[bytes] | None = None
        self._file: IO[bytes] | None = None
        self._arrived = 0.0

    def open(self) -> None:
        """See L{Target.open}."""
        _refuse(self._path)
        os.mkdir(self._temporary, 0o700)
        for one in (self.part, *self.others):
            if one:
                os.mkdir(os.path.join(self._temporary, one), 0o700)
        self._ids = _new(os.path.join(self._temporary, os.fsdecode(MAP_FILE)))

    def name(self, message: About) -> str:
        """The file name of a message."""
        return f"{message.number:06d}.eml"

    def begin(self, message: About) -> None:
        """See L{Target.begin}."""
        assert self._ids is not None
        name = self.name(message)
        self._ids.write(b"%s\t%s\n" % (name.encode("ascii"), message.unique_id))
        self._file = _new(os.path.join(self._temporary, self.part, name))
        self._arrived = message.arrived

    def write(self, chunk: bytes) -> None:
        """See L{Target.write}."""
        assert self._file is not None
        self._file.write(chunk)

    def end(self) -> None:
        """See L{Target.end}: programs take the file's time for that of its arrival."""
        assert self._file is not None
        self._file.flush()
        os.utime(self._file.fileno(), (self._arrived, self._arrived))
        self._file.close()

    def publish(self) -> None:
        """See L{Target.publish}."""
        assert self._ids is not None
        self._ids.flush()
        # One call for everything; an fsync for each of many files would take for ever.
        os.sync()
        _refuse(self._path)
        try:
            os.rename(self._temporary, self._path)
        except OSError as problem:
            if os.path.lexists(self._path):
                raise Taken(self._path) from None
            raise problem
        _sync_directory(self._path)

    def discard(self) -> None:
        """See L{Target.discard}."""
        for file in (self._ids, self._file):
            with contextlib.suppress(OSError):
                if file is not None:
                    file.close()
        if os.path.lexists(self._temporary):
            shutil.rmtree(self._temporary)


class EmlDirectory(_Directory):
    """Files C{000001.eml} and so on, in the order of the messages."""


class MaildirDirectory(_Directory):
    """A Maildir with all messages in C{new}, in their order."""

    part = "new"
    others = ("cur", "tmp")

    def __init__(self, path: str) -> None:
        super().__init__(path)
        host = socket.gethostname().replace("/", "\\057").replace(":", "\\072")
        self._seconds, self._unique = int(time.time()), f"P{os.getpid()}R{secrets.token_hex(4)}.{host}"

    def name(self, message: About) -> str:
        """See L{_Directory.name}: mail that is delivered later comes behind it."""
        return f"{self._seconds}.M{message.number:09d}{self._unique}"


class Quoting:
    """Quotes a message as "mboxrd" does, chunk by chunk, with the same result for every way of cutting."""

    __slots__ = ("_open", "_waiting")

    def __init__(self) -> None:
        #: Only ">" signs, or nothing, since the last line began.
        self._open = True
        self._waiting = b""

    def feed(self, chunk: bytes) -> bytes:
        """The next octets, quoted; the beginning of a "From " waits."""
        lead = b"\n" if self._open else b""
        text = lead + self._waiting + chunk
        at = text.rfind(b"\n")
        found = _UNDECIDED.fullmatch(text, at + 1) if at >= 0 else None
        self._open = found is not None
        self._waiting = (found[1] or b"") if found else b""
        text = text[: len(text) - len(self._waiting)]
        return _OPENING.sub(rb"\1>From ", text)[len(lead) :]

    def finish(self) -> bytes:
        """What still waits."""
        waiting, self._waiting = self._waiting, b""
        return waiting


def _refuse(path: str) -> None:
    if os.path.lexists(path):
        raise Taken(path)


def _beside(path: str) -> str:
    """A new name in the same directory."""
    return f"{path.rstrip('/')}.export-{secrets.token_hex(8)}"


def _new(path: str) -> IO[bytes]:
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600))


def _sync_directory(path: str) -> None:
    descriptor = os.open(os.path.dirname(path.rstrip("/")) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
