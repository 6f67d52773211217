"""
Delivery into a spool, safe at every octet.

Purpose: a message is appended behind a "From " line, with lines that look like one quoted, and an empty line behind it.
Who is killed meanwhile leaves nothing: before the spool is touched, a journal says which octets will be the message's;
then the spool gets its new length at once, so that what other programs append comes behind these octets; then they are
written.  Without the journal the message counts; with it, whoever opens the spool next cuts the octets out
(L{recover}), and nothing else.
When it fails otherwise, the spool gets its old length back before its locks are released.
Limits: everything here blocks, and its caller holds the spool's locks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
import time
import zlib
from collections.abc import Iterator

import attrs
from twisted.logger import Logger

from tpops.interfaces import IIncomingMessage
from tpops.mailbox import mbox_rewrite
from tpops.model import Envelope

_log = Logger()

_MAGIC = b"tpopsMA1"

#: Magic, CRC of what follows, inode, old length, new length; then what the message begins with.
_HEAD = struct.Struct("<8sLQQQ")

_MOST_JOURNAL = 1 << 16

#: File systems where no room can be reserved.
_NO_RESERVE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


@attrs.frozen
class Addition:
    """
    What a journal says.

    @ivar inode: of the spool
    @ivar start: its old length
    @ivar end: its new length
    @ivar beginning: what is written at its old end first
    """

    inode: int
    start: int
    end: int
    beginning: bytes

    def pack(self) -> bytes:
        """The journal."""
        octets = _HEAD.pack(_MAGIC, 0, self.inode, self.start, self.end) + self.beginning
        return octets[:8] + struct.pack("<L", zlib.crc32(octets[12:])) + octets[12:]

    @classmethod
    def unpack(cls, octets: bytes) -> Addition | None:
        """From such a journal; None when it is none."""
        if len(octets) < _HEAD.size:
            return None
        magic, checksum, inode, start, end = _HEAD.unpack_from(octets)
        if magic != _MAGIC or checksum != zlib.crc32(octets[12:]):
            return None
        return cls(inode, start, end, octets[_HEAD.size :])


class Quoting:
    """
    Quotes lines that begin with "From ", in pieces of any size.

    @param again: "mboxrd": lines that have been quoted before are quoted once more
    """

    def __init__(self, again: bool) -> None:
        self._again = again
        self._lines = re.compile(rb"^(>*From )" if again else rb"^(From )", re.MULTILINE)
        #: What may become "From ", and whether it stands at the beginning of a line, or behind ">" there.
        self._held, self._fresh = b"", True

    def feed(self, octets: bytes) -> bytes:
        """The next octets."""
        octets = self._held + octets
        fresh = self._fresh
        last = octets.rfind(b"\n") + 1
        self._held, self._fresh = b"", False
        if last or fresh:
            begun = octets[last:].lstrip(b">") if self._again else octets[last:]
            if len(begun) < 5 and b"From ".startswith(begun):
                self._held, self._fresh = begun, True
        text = octets[: len(octets) - len(self._held)]
        whole = 0 if fresh else text.find(b"\n") + 1 or len(text)
        return text[:whole] + self._lines.sub(rb">\1", text[whole:])

    def finish(self) -> bytes:
        """What was kept back."""
        held, self._held = self._held, b""
        return held


def separator(envelope: Envelope) -> bytes:
    """The line before a message (RFC 4155)."""
    sender = b"".join(envelope.sender.encode("utf-8", "surrogateescape").split()) or b"MAILER-DAEMON"
    return b"From %s  %s\n" % (sender, time.asctime(time.gmtime(envelope.at)).encode("ascii"))


def as_stored(message: IIncomingMessage, again: bool) -> Iterator[bytes]:
    """A message as it is in a spool, with the empty line behind it."""
    quoting = Quoting(again)
    last = b"\n"
    for chunk in message.chunks():
        quoted = quoting.feed(chunk)
        last = quoted[-1:] or last
        yield quoted
    rest = quoting.finish()
    last = rest[-1:] or last
    yield rest + (b"\n" if last == b"\n" else b"\n\n")


def append(spool: int, message: IIncomingMessage, envelope: Envelope, again: bool, journal: bytes) -> None:
    """
    Append a message.

    @param spool: descriptor, open for reading and writing
    @param again: see L{Quoting}
    @param journal: path for the journal; nothing may be there
    @raise OSError: when it failed; then nothing was appended, or the journal is there for L{recover}
    """
    facts = os.fstat(spool)
    beginning = _missing_end(spool, facts.st_size) + separator(envelope)
    end = facts.st_size + len(beginning) + sum(map(len, as_stored(message, again)))
    _write_journal(journal, Addition(facts.st_ino, facts.st_size, end, beginning))
    try:
        os.ftruncate(spool, end)
        _reserve(spool, facts.st_size, end)
        at = facts.st_size + _write_all(spool, beginning, facts.st_size)
        for chunk in as_stored(message, again):
            at += _write_all(spool, chunk, at)
        if at != end:
            raise OSError(0, "the message has changed while it was written")
        os.fsync(spool)
        _forget(journal)
    except BaseException:
        os.ftruncate(spool, facts.st_size)
        os.fsync(spool)
        with contextlib.suppress(FileNotFoundError):
            _forget(journal)
        raise


def recover(spool: int, journal: bytes, rewriting: bytes) -> None:
    """
    Cut out what a process left behind that was killed while it appended, and finish what one left that was rewriting.

    @param journal: path of the journal of L{append}
    @param rewriting: path of the journal of L{tpops.mailbox.mbox_rewrite}
    @raise OSError: when it failed; the journals are still there
    """
    if os.path.lexists(rewriting):
        # Whoever appends or rewrites recovers first, so the other journal is older, and was being obeyed.
        with contextlib.suppress(FileNotFoundError):
            _forget(journal)
        mbox_rewrite.recover(spool, rewriting)
        return
    try:
        with open(journal, "rb", opener=_without_links) as file:
            octets = file.read(_MOST_JOURNAL)
    except FileNotFoundError:
        return
    addition, facts = Addition.unpack(octets), os.fstat(spool)
    if addition is not None and _is_there(spool, addition, facts):
        _cut_out(spool, addition, facts, journal, rewriting)
        _log.info("took half a message out of a spool by {journal!r}", journal=journal)
    elif addition is not None and _has_not_begun(spool, addition, facts):
        _log.info("removed {journal!r}: nothing was appended", journal=journal)
    else:
        aside = journal + b".unused"
        os.rename(journal, aside)
        _log.error("{aside!r}: another program has rewritten the spool; the journal was put aside", aside=aside)
        return
    with contextlib.suppress(FileNotFoundError):
        _forget(journal)


def _cut_out(spool: int, addition: Addition, facts: os.stat_result, journal: bytes, rewriting: bytes) -> None:
    if facts.st_size == addition.end:
        os.ftruncate(spool, addition.start)
        os.fsync(spool)
    else:
        mbox_rewrite.cut(spool, [(addition.start, addition.end)], rewriting, lambda: _forget(journal))


def _is_there(spool: int, addition: Addition, facts: os.stat_result) -> bool:
    """Whether the octets at the old end are still what L{append} put there."""
    if facts.st_ino != addition.inode or facts.st_size < addition.end:
        return False
    return _is_ours(spool, addition) and os.pread(spool, 5, addition.end) in (b"", b"From ")


def _has_not_begun(spool: int, addition: Addition, facts: os.stat_result) -> bool:
    """Whether nothing stands at the old end, or what another program has appended there."""
    if facts.st_ino != addition.inode or facts.st_size < addition.start or _is_ours(spool, addition):
        return False
    return os.pread(spool, 5, addition.start) in (b"", b"From ")


def _is_ours(spool: int, addition: Addition) -> bool:
    """Whether zeros or the beginning of a message of L{append} stand at the old end."""
    found = os.pread(spool, len(addition.beginning), addition.start)
    pairs = zip(found, addition.beginning, strict=False)
    return len(found) == len(addition.beginning) and all(one in (0, other) for one, other in pairs)


def _missing_end(spool: int, length: int) -> bytes:
    """What the last message lacks until a separator may follow."""
    tail = os.pread(spool, 3, max(length - 3, 0))
    if not tail or tail.endswith((b"\n\n", b"\n\r\n")) or tail == b"\n":
        return b""
    return b"\n" if tail.endswith(b"\n") else b"\n\n"


def _reserve(spool: int, start: int, end: int) -> None:
    """Have a disk that is too full say so now."""
    try:
        os.posix_fallocate(spool, start, end - start)
    except OSError as problem:
        if problem.errno not in _NO_RESERVE:
            raise


def _write_journal(path: bytes, addition: Addition) -> None:
    temporary = path + b".tmp"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o600)
    try:
        try:
            os.write(descriptor, addition.pack())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
        mbox_rewrite.sync_directory(path)
    except OSError:
        for one in (temporary, path):
            with contextlib.suppress(OSError):
                os.unlink(one)
        raise


def _write_all(file: int, octets: bytes, offset: int) -> int:
    done = 0
    while done < len(octets):
        done += os.pwrite(file, octets[done:], offset + done)
    return done


def _forget(journal: bytes) -> None:
    os.unlink(journal)
    mbox_rewrite.sync_directory(journal)


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
