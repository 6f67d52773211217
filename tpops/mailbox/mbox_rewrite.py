"""
Taking messages out of a spool, safe at every octet.

Purpose: the spool is rewritten in its own place, under its locks: delivery agents that have it open and wait for the
lock append to it afterwards, and nothing is lost, which a new file of the same name could not promise (see
docs/decisions/0006).  Before the first octet is touched, everything that will stand behind the first gap is in a
journal on disk.  Whoever is killed, at any point, leaves the old spool, the new one, or a journal from which
L{recover} makes the new one, with what was appended meanwhile behind it.
Cheap cases: when only the last messages go, the spool is cut off, which needs no journal.
What stays: owner, group and mode, since the file does, and its times, by which mail programs know new mail.
Limits: the journal needs room for what stands behind the first gap; without it nothing is removed.  Everything here
blocks, and its caller holds the spool's locks.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence

import attrs
from twisted.logger import Logger

_log = Logger()

#: A part of the spool: from an octet to the one before another.
Range = tuple[int, int]

_MAGIC = b"tpopsMJ1"

#: Magic, CRC of the head, inode, offset, old length, new length, CRC of the tail, digests of what surrounds it.
_HEAD = struct.Struct("<8sLQQQQL20s20s")

_CHUNK = 1 << 20

#: Octets before the gap, and at the old end, by which a journal's spool is known.
_WITNESS = 4096


@attrs.frozen(slots=True)
class Plan:
    """
    What a journal says.

    @ivar inode: of the spool
    @ivar offset: where the tail goes
    @ivar old_length: of the spool before
    @ivar new_length: of the spool afterwards
    @ivar checksum: of the tail
    @ivar before: digest of the octets before the offset
    @ivar last: digest of the last octets of the old spool, behind the new length
    """

    inode: int
    offset: int
    old_length: int
    new_length: int
    checksum: int
    before: bytes
    last: bytes

    def pack(self) -> bytes:
        """The head of the journal."""
        octets = _HEAD.pack(_MAGIC, 0, *attrs.astuple(self))
        return octets[:8] + struct.pack("<L", zlib.crc32(octets[12:])) + octets[12:]

    @classmethod
    def unpack(cls, octets: bytes) -> Plan | None:
        """From such a head; None when it is none."""
        if len(octets) != _HEAD.size:
            return None
        magic, checksum, *rest = _HEAD.unpack(octets)
        if magic != _MAGIC or checksum != zlib.crc32(octets[12:]):
            return None
        return cls(*rest)


def cut(spool: int, gaps: Sequence[Range], journal: bytes) -> None:
    """
    Take ranges out of a spool.

    @param spool: descriptor, open for reading and writing
    @param gaps: in order, not overlapping, within the spool
    @param journal: path for the journal; nothing may be there
    @raise OSError: when it failed; then nothing was removed, or the journal is there for L{recover}
    """
    if not gaps:
        return
    facts = os.fstat(spool)
    kept = list(_between(gaps, facts.st_size))
    if kept:
        _rewrite(spool, gaps[0][0], kept, facts, journal)
    else:
        os.ftruncate(spool, gaps[0][0])
        os.fsync(spool)
    os.utime(spool, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def recover(spool: int, journal: bytes) -> None:
    """
    Bring to an end what a journal says that a process left behind which was killed.

    A journal that does not belong to this spool any more, since another program has rewritten it, is put aside.

    @raise OSError: when it failed; the journal is still there
    """
    try:
        file = os.open(journal, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        plan = Plan.unpack(os.read(file, _HEAD.size))
        facts = os.fstat(spool)
        if plan is None or os.fstat(file).st_size != _HEAD.size + plan.new_length - plan.offset:
            # It was being written: the spool is untouched.
            _log.info("removed the unfinished journal {journal!r}", journal=journal)
        elif _is_old(spool, plan, facts):
            appended = (plan.old_length, facts.st_size)
            if appended[0] < appended[1]:
                _extend(spool, file, plan, appended, journal)
                os.close(file)
                file = os.open(journal, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                plan = Plan.unpack(os.read(file, _HEAD.size)) or plan
            _apply(spool, file, plan)
            _log.info("finished the rewriting of a spool by {journal!r}", journal=journal)
        elif not _is_new(spool, plan, facts):
            aside = journal + b".unused"
            os.rename(journal, aside)
            _log.error("{aside!r}: another program has rewritten the spool; the journal was put aside", aside=aside)
            return
        _forget(journal)
    finally:
        os.close(file)


def _between(gaps: Sequence[Range], length: int) -> Iterator[Range]:
    """What stays behind the first gap."""
    for (_, start), (end, _) in zip(gaps, (*gaps[1:], (length, length)), strict=True):
        if start < end:
            yield start, end


def _rewrite(spool: int, offset: int, kept: Sequence[Range], facts: os.stat_result, journal: bytes) -> None:
    octets = sum(end - start for start, end in kept)
    plan = Plan(
        facts.st_ino,
        offset,
        facts.st_size,
        offset + octets,
        0,
        _digest(spool, max(0, offset - _WITNESS), offset),
        _digest(spool, max(offset + octets, facts.st_size - _WITNESS), facts.st_size),
    )
    _write_journal(journal, plan, (chunk for start, end in kept for chunk in _chunks(spool, start, end)))
    file = os.open(journal, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        _apply(spool, file, plan)
    finally:
        os.close(file)
    _forget(journal)


def _write_journal(path: bytes, plan: Plan, tail: Iterable[bytes]) -> None:
    """A journal is there whole or, by its length and checksum, not at all."""
    temporary = path + b".tmp"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags | os.O_CLOEXEC, 0o600)) as file:
            file.write(bytes(_HEAD.size))
            checksum = 0
            for chunk in tail:
                checksum = zlib.crc32(chunk, checksum)
                file.write(chunk)
            file.seek(0)
            file.write(attrs.evolve(plan, checksum=checksum).pack())
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
        _sync_directory(path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _apply(spool: int, journal: int, plan: Plan) -> None:
    """Copy the tail to its place and cut the rest off."""
    offset = plan.offset
    for chunk in _chunks(journal, _HEAD.size, _HEAD.size + plan.new_length - plan.offset):
        offset += _write_all(spool, chunk, offset)
    os.fsync(spool)
    os.ftruncate(spool, plan.new_length)
    os.fsync(spool)


def _extend(spool: int, file: int, plan: Plan, appended: Range, journal: bytes) -> None:
    """Replace a journal by one whose tail has what was appended to the spool since."""
    start, end = appended
    longer = attrs.evolve(
        plan,
        old_length=end,
        new_length=plan.new_length + end - start,
        last=_digest(spool, max(plan.new_length + end - start, end - _WITNESS), end),
    )

    def tail() -> Iterator[bytes]:
        yield from _chunks(file, _HEAD.size, _HEAD.size + plan.new_length - plan.offset)
        yield from _chunks(spool, start, end)

    _write_journal(journal, longer, tail())


def _is_old(spool: int, plan: Plan, facts: os.stat_result) -> bool:
    """Whether the spool has not been cut to its new length yet."""
    return (
        facts.st_ino == plan.inode
        and facts.st_size >= plan.old_length
        and _digest(spool, max(0, plan.offset - _WITNESS), plan.offset) == plan.before
        and _digest(spool, max(plan.new_length, plan.old_length - _WITNESS), plan.old_length) == plan.last
    )


def _is_new(spool: int, plan: Plan, facts: os.stat_result) -> bool:
    """Whether the spool has been rewritten already, and perhaps grown since."""
    if facts.st_ino != plan.inode or facts.st_size < plan.new_length:
        return False
    checksum = 0
    for chunk in _chunks(spool, plan.offset, plan.new_length):
        checksum = zlib.crc32(chunk, checksum)
    return checksum == plan.checksum


def _chunks(file: int, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        chunk = os.pread(file, min(_CHUNK, end - start), start)
        if not chunk:
            raise OSError(0, "file is shorter than it was")
        yield chunk
        start += len(chunk)


def _digest(file: int, start: int, end: int) -> bytes:
    return hashlib.sha1(b"".join(_chunks(file, start, end)), usedforsecurity=False).digest()


def _write_all(file: int, octets: bytes, offset: int) -> int:
    done = 0
    while done < len(octets):
        done += os.pwrite(file, octets[done:], offset + done)
    return done


def _forget(journal: bytes) -> None:
    os.unlink(journal)
    _sync_directory(journal)


def _sync_directory(path: bytes) -> None:
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
