"""
Reading the directories of a Maildir into a L{Snapshot}.

Purpose: learn what is in C{new} and C{cur}, doing work only for what the last snapshot does not know.
Order: the number at the beginning of the name, then the name (a name without a number comes last).
What counts as a message: every regular file whose name does not begin with a dot.  Links and directories do not.
Limits: blocking; runs in a thread.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import NamedTuple

from twisted.logger import Logger

from tpops.mailbox import sizes, unique_ids
from tpops.mailbox.entries import DIRECTORIES, Entry, Place, entries_of, name_of, number_of, place_of
from tpops.mailbox.index import DirectoryStamp, read_regular
from tpops.mailbox.snapshot import Snapshot
from tpops.mailbox.twins import recognise, tell_apart
from tpops.mailbox.unique_ids import base_name

_log = Logger()

#: The machine's trouble, not the file's: better no listing now than guessed sizes for good.
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

#: A larger C{tpops_uidl} is not taken for one.
_MOST_MAP_OCTETS = 1 << 26


class Settings(NamedTuple):
    """
    How a Maildir is read: how sizes are learnt, and whether C{tpops_uidl} counts.

    @ivar tpop3d: unique-ids are those of tpop3d
    @ivar folder: for these: the folder's directory, from the Maildir on; b"" for the Maildir itself
    """

    sizes: str
    uidl_map: bool
    tpop3d: bool = False
    folder: bytes = b""

    def unique_id(self, base: bytes, directory: bytes) -> bytes:
        """That of a message with this base name; directory is b"n" or b"c"."""
        if self.tpop3d:
            return unique_ids.as_tpop3d(base, DIRECTORIES[directory], self.folder)
        return unique_ids.from_base(base)


def stamp(path: bytes) -> DirectoryStamp:
    """What changes whenever the directory or file does; zeros where it is missing."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


def names(path: bytes) -> list[bytes]:
    """The file names in a directory that are messages; none when it is missing."""
    try:
        with os.scandir(path) as found:
            return [one.name for one in found if one.name[:1] != b"." and one.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def scan(maildir: bytes, old: Snapshot | None, changed: Iterable[bytes], settings: Settings) -> Snapshot:
    """
    The snapshot of a Maildir as it is now.

    @param maildir: its path, ending in '/'
    @param old: the last snapshot, whose sizes and unique-ids stay as they are
    @param changed: the directories (b"n", b"c") that have to be read; the others are as the last snapshot has them
    @raise OSError: when a directory cannot be read
    """
    # new first: a message that moves to cur meanwhile is seen twice, never missed.
    found = {directory: names(maildir + DIRECTORIES[directory]) for directory in (b"n", b"c") if directory in changed}
    mapped = _read_map(maildir) if settings.uidl_map else {}
    if old is not None and old.count and not mapped and set(found) == {b"n"}:
        longer = _append(maildir, old, found[b"n"], settings)
        if longer is not None:
            return longer
    kept = entries_of(old) if old is not None else []
    entries = _merge(maildir, kept, found, mapped, settings)
    entries.sort()
    return Snapshot.of(
        [entry.octets for entry in entries],
        [entry.unique_id for entry in entries],
        [place_of(entry.directory, entry.name, entry.unique_id) for entry in entries],
    )


def _append(maildir: bytes, old: Snapshot, listed: list[bytes], settings: Settings) -> Snapshot | None:
    """The common case, new mail behind all other: costs the new messages only.  None when it is not that case."""
    # Places of messages in new begin with n or N and follow a '/'.
    places = b"/" + old.places
    if b"/n" in places or b"/N" in places:
        return None
    last = name_of(old.place(old.count), old.unique_id(old.count))[1]
    behind = (number_of(last), last)
    order = sorted((number_of(name), name) for name in listed)
    if order and order[0] <= behind:
        return None
    bases = [base_name(name) for _, name in order]
    if len(set(bases)) != len(bases):
        return None
    identities = [settings.unique_id(base, b"n") for base in bases]
    if len(set(identities)) != len(identities) or old.has_any(identities):
        return None
    octets = _sizes(maildir, b"n", [name for _, name in order], settings)
    rows = [
        (octets[name], identity, place_of(b"n", name, identity))
        for (_, name), identity in zip(order, identities, strict=True)
        if name in octets
    ]
    return old.extended(*(list(column) for column in zip(*rows, strict=True))) if rows else old


def _merge(
    maildir: bytes,
    old: list[Entry],
    found: dict[bytes, list[bytes]],
    mapped: dict[bytes, bytes],
    settings: Settings,
) -> list[Entry]:
    """Entries of everything that was found, and of what was known in the directories that did not change."""
    listed = {(directory, name) for directory, there in found.items() for name in there} if old else set()
    entries = [one for one in old if one.directory not in found or one.place in listed]
    kept = {one.place for one in entries}
    fresh = {directory: [name for name in there if (directory, name) not in kept] for directory, there in found.items()}
    renamed = _renamed(maildir, fresh, old, kept)
    for directory, there in fresh.items():
        octets = _sizes(maildir, directory, [name for name in there if (directory, name) not in renamed], settings)
        for name in there:
            before = renamed.get((directory, name))
            if before is not None:
                entries.append(before._replace(name=name, directory=directory))
            elif name in octets:
                unique_id = settings.unique_id(base_name(name), directory)
                entries.append(Entry(number_of(name), name, directory, octets[name], unique_id, known=False))
    if settings.uidl_map:
        entries = [_mapped(entry, mapped) for entry in entries]
    return tell_apart(maildir, entries)


def _renamed(maildir: bytes, fresh: dict[bytes, list[bytes]], old: list[Entry], kept: set[Place]) -> dict[Place, Entry]:
    """Which messages of the last listing the files with a new name are."""
    if not old:
        return {}
    by_base: dict[bytes, tuple[list[Place], list[Entry]]] = {}
    for directory, there in fresh.items():
        for name in there:
            by_base.setdefault(base_name(name), ([], []))[0].append((directory, name))
    for entry in old:
        pair = by_base.get(base_name(entry.name))
        if pair is not None:
            pair[1].append(entry)
    found = {}
    for places, known in by_base.values():
        if known:
            found.update(recognise(maildir, places, known, kept))
    return found


def _mapped(entry: Entry, mapped: dict[bytes, bytes]) -> Entry:
    """The entry with the unique-id that C{tpops_uidl} gives it now."""
    base = base_name(entry.name)
    unique_id = mapped.get(base)
    if unique_id is None:
        if unique_ids.may_be_twin(entry.unique_id, base):
            return entry
        unique_id = unique_ids.from_base(base)
    return entry._replace(unique_id=unique_id, known=entry.known and unique_id == entry.unique_id)


def _sizes(maildir: bytes, directory: bytes, listed: list[bytes], settings: Settings) -> dict[bytes, int]:
    """Octets by name; a file that has gone meanwhile is left out, one that cannot be read has its stored size."""
    if not listed:
        return {}
    found = {}
    descriptor = os.open(maildir + DIRECTORIES[directory], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in listed:
            try:
                found[name] = sizes.size(name, settings.sizes, descriptor)
            except FileNotFoundError:
                continue
            except OSError as problem:
                if problem.errno in _PASSING:
                    raise
                _log.warn(
                    "cannot read {path!r}: {problem}; its size is a guess until it can be read",
                    path=maildir + DIRECTORIES[directory] + name,
                    problem=str(problem),
                )
                found[name] = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_size
    finally:
        os.close(descriptor)
    return found


def _read_map(maildir: bytes) -> dict[bytes, bytes]:
    try:
        return unique_ids.parse_map(read_regular(maildir + unique_ids.MAP_FILE, _MOST_MAP_OCTETS) or b"")
    except FileNotFoundError:
        return {}
