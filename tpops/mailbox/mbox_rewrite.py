"""
Taking messages out of a spool, and marking some, safe at every octet.

Purpose: the spool is rewritten in its own place, under its locks: delivery agents that have it open and wait for the
lock append to it afterwards, and nothing is lost, which a new file of the same name could not promise (see
docs/decisions/0006).  Before the first octet is touched, everything that will stand behind the first gap is in a
journal on disk.  Whoever is killed, at any point, leaves the old spool, the new one, or a journal from which
L{recover} makes the new one, with what was appended meanwhile behind it.
Longer than before: a spool that marks make longer (L{replace}) gets its new length first, with NULs, so that room is
there before the first octet is touched, and so that mail which is delivered to a torn spool stands behind all that
L{recover} still has to write.
Cheap cases: when only the last messages go, the spool is cut off, which needs no journal; octets that are replaced by
as many are written in their place.
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
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import attrs
from twisted.logger import Logger

_log = Logger()

#: A part of the spool: from an octet to the one before another.
Range = tuple[int, int]

#: What a new part of the spool is made of: octets, or where they are now.
Piece = Range | bytes


class Edit(NamedTuple):
    """Octets that take the place of what is between two offsets, and are no fewer."""

    start: int
    end: int
    octets: bytes


_MAGIC = b"tpopsMJ1"

#: Magic, CRC of the head, inode, offset, old length, new length, CRC of the tail, digests of what surrounds it.
_HEAD = struct.Struct("<8sLQQQQL20s20s")

_CHUNK = 1 << 20

#: Octets before the gap, and at the old end, by which a journal's spool is known.
_WITNESS = 4096


class _NoRoom(OSError):
    """The spool cannot be made longer; it is as it was."""


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
    @ivar last: digest of the last octets of the old spool, behind the new length where that is shorter
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


def cut(spool: int, gaps: Sequence[Range], journal: bytes, promised: Callable[[], None] | None = None) -> None:
    """
    Take ranges out of a spool.

    @param spool: descriptor, open for reading and writing
    @param gaps: in order, not overlapping, within the spool
    @param journal: path for the journal; nothing may be there
    @param promised: called when the journal is on disk and nothing has been removed yet; not where none is needed
    @raise OSError: when it failed; then nothing was removed, or the journal is there for L{recover}
    """
    if not gaps:
        return
    facts = os.fstat(spool)
    kept = list(_between(gaps, facts.st_size))
    if kept:
        _rewrite(spool, gaps[0][0], kept, facts, journal, promised)
    else:
        os.ftruncate(spool, gaps[0][0])
        os.fsync(spool)
    os.utime(spool, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def replace(spool: int, edits: Sequence[Edit], journal: bytes) -> None:
    """
    Replace parts of a spool.

    @param spool: descriptor, open for reading and writing
    @param edits: in order, not overlapping, within the spool
    @param journal: path for the journal; nothing may be there
    @raise OSError: when it failed; then nothing was replaced, or the journal is there for L{recover}, or some
        edits that change no length are done
    """
    facts = os.fstat(spool)
    if all(len(edit.octets) == edit.end - edit.start for edit in edits):
        for edit in edits:
            _write_all(spool, edit.octets, edit.start)
        os.fsync(spool)
    else:
        _rewrite(spool, edits[0].start, list(_edited(edits, facts.st_size)), facts, journal)
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
        elif _bring_to_end(spool, file, plan, facts, journal):
            _log.info("finished the rewriting of a spool by {journal!r}", journal=journal)
        elif not _is_new(spool, plan, facts):
            aside = journal + b".unused"
            os.rename(journal, aside)
            _log.error("{aside!r}: another program has rewritten the spool; the journal was put aside", aside=aside)
            return
    except _NoRoom as problem:
        _log.warn("marks of {journal!r} are lost: {why}; the spool is as it was", journal=journal, why=str(problem))
    finally:
        os.close(file)
    _forget(journal)


def _bring_to_end(spool: int, file: int, plan: Plan, facts: os.stat_result, journal: bytes) -> bool:
    """Do what is still to be done; whether this is the journal's spool."""
    begun = False
    if plan.new_length <= plan.old_length:
        if not _is_old(spool, plan, facts):
            return False
        appended = (plan.old_length, facts.st_size)
    else:
        if facts.st_ino != plan.inode or facts.st_size < plan.old_length or not _same_before(spool, plan):
            return False
        nuls = _nuls(spool, plan)
        begun = plan.old_length + nuls == plan.new_length or _copied(spool, file, plan)
        if not begun and _last(spool, plan.offset, plan.old_length, plan.new_length) != plan.last:
            return False
        appended = (plan.old_length + nuls, facts.st_size)
    if not begun and appended[0] < appended[1]:
        plan = _extend(spool, file, plan, appended, journal)
        with open(journal, "rb", buffering=0) as longer:
            _apply(spool, longer.fileno(), plan, begun)
    else:
        _apply(spool, file, plan, begun)
    return True


def _between(gaps: Sequence[Range], length: int) -> Iterator[Range]:
    """What stays behind the first gap."""
    for (_, start), (end, _) in zip(gaps, (*gaps[1:], (length, length)), strict=True):
        if start < end:
            yield start, end


def _edited(edits: Sequence[Edit], length: int) -> Iterator[Piece]:
    """The spool from the first edit on."""
    for edit, following in zip(edits, (*[one.start for one in edits[1:]], length), strict=True):
        yield edit.octets
        yield edit.end, following


def _rewrite(
    spool: int,
    offset: int,
    pieces: Sequence[Piece],
    facts: os.stat_result,
    journal: bytes,
    promised: Callable[[], None] | None = None,
) -> None:
    octets = sum(len(one) if isinstance(one, bytes) else one[1] - one[0] for one in pieces)
    plan = Plan(
        facts.st_ino,
        offset,
        facts.st_size,
        offset + octets,
        0,
        _digest(spool, max(0, offset - _WITNESS), offset),
        _last(spool, offset, facts.st_size, offset + octets),
    )
    _write_journal(journal, plan, (chunk for piece in pieces for chunk in _octets(spool, piece)))
    if promised is not None:
        promised()
    file = os.open(journal, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        _apply(spool, file, plan)
    except _NoRoom:
        _forget(journal)
        raise
    finally:
        os.close(file)
    _forget(journal)


def _write_journal(path: bytes, plan: Plan, tail: Iterable[bytes]) -> Plan:
    """A journal is there whole or, by its length and checksum, not at all; its plan."""
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
            plan = attrs.evolve(plan, checksum=checksum)
            file.write(plan.pack())
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
        sync_directory(path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return plan


def _apply(spool: int, journal: int, plan: Plan, lengthened: bool = False) -> None:
    """
    Copy the tail to its place, and cut the rest off.

    @param lengthened: the spool has its new length, where that is longer
    @raise _NoRoom: when it cannot be made longer
    """
    if plan.new_length > plan.old_length and not lengthened:
        _lengthen(spool, plan)
    # What is behind the old length comes last: until then, NULs there tell that the rest is not copied.
    middle = min(plan.old_length, plan.new_length)
    for start, end in ((plan.offset, middle), (middle, plan.new_length)):
        for chunk in _chunks(journal, _HEAD.size + start - plan.offset, _HEAD.size + end - plan.offset):
            start += _write_all(spool, chunk, start)
        os.fsync(spool)
    if plan.new_length < plan.old_length:
        os.ftruncate(spool, plan.new_length)
        os.fsync(spool)


def _lengthen(spool: int, plan: Plan) -> None:
    try:
        _write_all(spool, bytes(plan.new_length - plan.old_length), plan.old_length)
        os.fsync(spool)
    except OSError as problem:
        os.ftruncate(spool, plan.old_length)
        raise _NoRoom(problem.errno, problem.strerror) from problem


def _extend(spool: int, file: int, plan: Plan, appended: Range, journal: bytes) -> Plan:
    """Replace a journal by one whose tail has what was appended to the spool since; its plan."""
    start, end = appended
    new_length = plan.new_length + end - start
    last = _last(spool, plan.offset, end, new_length)
    longer = attrs.evolve(plan, old_length=end, new_length=new_length, last=last)

    def tail() -> Iterator[bytes]:
        yield from _chunks(file, _HEAD.size, _HEAD.size + plan.new_length - plan.offset)
        yield from _chunks(spool, start, end)

    return _write_journal(journal, longer, tail())


def _is_old(spool: int, plan: Plan, facts: os.stat_result) -> bool:
    """Whether the spool has not been cut to its new length yet."""
    return (
        facts.st_ino == plan.inode
        and facts.st_size >= plan.old_length
        and _same_before(spool, plan)
        and _last(spool, plan.offset, plan.old_length, plan.new_length) == plan.last
    )


def _same_before(spool: int, plan: Plan) -> bool:
    return _digest(spool, max(0, plan.offset - _WITNESS), plan.offset) == plan.before


def _last(spool: int, offset: int, old_length: int, new_length: int) -> bytes:
    """Digest of the last octets of the old spool: of those that copying does not touch, or else touches last."""
    touched = new_length if new_length <= old_length else offset
    return _digest(spool, max(touched, old_length - _WITNESS), old_length)


def _nuls(spool: int, plan: Plan) -> int:
    """How many NULs the spool has got at its end so far."""
    seen = os.pread(spool, plan.new_length - plan.old_length, plan.old_length)
    return len(seen) - len(seen.lstrip(b"\0"))


def _copied(spool: int, file: int, plan: Plan) -> bool:
    """Whether all is copied but what is behind the old length."""
    if os.fstat(spool).st_size < plan.new_length:
        return False
    ours = _chunks(file, _HEAD.size, _HEAD.size + plan.old_length - plan.offset)
    there = _chunks(spool, plan.offset, plan.old_length)
    return all(one == other for one, other in zip(ours, there, strict=True))


def _is_new(spool: int, plan: Plan, facts: os.stat_result) -> bool:
    """Whether the spool has been rewritten already, and perhaps grown since."""
    if facts.st_ino != plan.inode or facts.st_size < plan.new_length:
        return False
    checksum = 0
    for chunk in _chunks(spool, plan.offset, plan.new_length):
        checksum = zlib.crc32(chunk, checksum)
    return checksum == plan.checksum


def _octets(spool: int, piece: Piece) -> Iterator[bytes]:
    if isinstance(piece, bytes):
        yield piece
    else:
        yield from _chunks(spool, *piece)


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
    sync_directory(journal)


def sync_directory(path: bytes) -> None:
    """Make the names in the directory of a file durable."""
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
