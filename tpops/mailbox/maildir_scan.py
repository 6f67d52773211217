"""
Reading the directories of a Maildir into a L{Snapshot}.

Purpose: learn what is in C{new} and C{cur}, doing work only for what the last snapshot does not know.
Order: the number at the beginning of the name, then the name (a name without a number comes last).
What counts as a message: every regular file whose name does not begin with a dot.  Links and directories do not.
A place (see L{Snapshot}) is 'n' or 'c' for the directory, then what the name has behind the unique-id; where the
unique-id is not the name's beginning, 'N' or 'C' and the whole name.
Limits: blocking; runs in a thread.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from twisted.logger import Logger

from tpops.mailbox import sizes, unique_ids
from tpops.mailbox.index import DirectoryStamp
from tpops.mailbox.snapshot import Snapshot
from tpops.mailbox.unique_ids import base_name

_log = Logger()

_NUMBER = re.compile(rb"[0-9]+")
_NO_NUMBER = 1 << 80


class Entry(NamedTuple):
    """One message, in the order of the maildrop."""

    number: int
    name: bytes
    directory: bytes
    octets: int
    unique_id: bytes
    known: bool = True


class Settings(NamedTuple):
    """How a Maildir is read: how sizes are learnt, and whether C{tpops_uidl} counts."""

    sizes: str
    uidl_map: bool


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


def place_of(directory: bytes, name: bytes, unique_id: bytes) -> bytes:
    """How a snapshot says where a message lies; directory is b"n" or b"c"."""
    if name.startswith(unique_id):
        return directory + name[len(unique_id) :]
    return directory.upper() + name


def name_of(place: bytes, unique_id: bytes) -> tuple[bytes, bytes]:
    """Directory (b"n" or b"c") and file name of a message."""
    mark = place[:1]
    if mark in (b"n", b"c"):
        return mark, unique_id + place[1:]
    return mark.lower(), place[1:]


def entries_of(snapshot: Snapshot) -> list[Entry]:
    """A snapshot's messages as entries."""
    found = []
    for octets, unique_id, place in zip(snapshot.sizes, snapshot.unique_ids(), snapshot.all_places(), strict=True):
        directory, name = name_of(place, unique_id)
        found.append(Entry(_number(name), name, directory, octets, unique_id))
    return found


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


#: The two directories by the letter that a place begins with.
DIRECTORIES = {b"n": b"new/", b"c": b"cur/"}


def _append(maildir: bytes, old: Snapshot, listed: list[bytes], settings: Settings) -> Snapshot | None:
    """The common case, new mail behind all other: costs the new messages only.  None when it is not that case."""
    # Places of messages in new begin with n or N and follow a '/'.
    places = b"/" + old.places
    if places.count(b"/n") + places.count(b"/N"):
        return None
    last = name_of(old.place(old.count), old.unique_id(old.count))[1]
    behind = (_number(last), last)
    order = sorted((_number(name), name) for name in listed)
    if order and order[0] <= behind:
        return None
    bases = [base_name(name) for _, name in order]
    if len(set(bases)) != len(bases):
        return None
    identities = [unique_ids.from_base(base) for base in bases]
    if any(old.has_unique_id(one) for one in identities) or len(set(identities)) != len(identities):
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
    kept: list[Entry],
    found: dict[bytes, list[bytes]],
    mapped: dict[bytes, bytes],
    settings: Settings,
) -> list[Entry]:
    """Entries of everything that was found, and of what was kept in the directories that did not change."""
    known = {base_name(entry.name): entry for entry in kept}
    exact = {(entry.directory, entry.name): entry for entry in kept}
    twins = {base for base, times in Counter(base_name(entry.name) for entry in kept).items() if times > 1}
    entries = [entry for entry in kept if entry.directory not in found]
    for directory, listed in found.items():
        fresh = []
        for name in listed:
            base = base_name(name)
            entry = exact.get((directory, name)) or (known.get(base) if base not in twins else None)
            if entry is None:
                fresh.append(name)
            else:
                entries.append(Entry(entry.number, name, directory, entry.octets, entry.unique_id))
        octets = _sizes(maildir, directory, fresh, settings)
        for name in fresh:
            if name in octets:
                base = base_name(name)
                entries.append(
                    Entry(_number(name), name, directory, octets[name], unique_ids.from_base(base), known=False)
                )
    if mapped:
        entries = [entry._replace(unique_id=mapped.get(base_name(entry.name), entry.unique_id)) for entry in entries]
    return _tell_apart(maildir, entries)


def _tell_apart(maildir: bytes, entries: list[Entry]) -> list[Entry]:
    """Give messages that would share a unique-id different ones, and drop names that have just moved away."""
    times = Counter(entry.unique_id for entry in entries)
    if len(times) == len(entries):
        return entries
    apart = [entry for entry in entries if times[entry.unique_id] == 1]
    groups: dict[bytes, list[tuple[bool, int, int, Entry]]] = {}
    for entry in entries:
        if times[entry.unique_id] > 1:
            try:
                found = os.lstat(maildir + DIRECTORIES[entry.directory] + entry.name)
            except FileNotFoundError:
                continue
            groups.setdefault(entry.unique_id, []).append((not entry.known, found.st_mtime_ns, found.st_ino, entry))
    for group in groups.values():
        # Who had the unique-id keeps it; among new ones the older message does.
        group.sort()
        apart.append(group[0][-1])
        inodes = [inode for _, _, inode, _ in group]
        for at, (_, _, inode, entry) in enumerate(group[1:], 1):
            twin = unique_ids.from_twin(base_name(entry.name), inode, inodes[:at].count(inode))
            apart.append(entry._replace(unique_id=twin))
    return apart


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
        with open(maildir + unique_ids.MAP_FILE, "rb") as file:
            return unique_ids.parse_map(file.read())
    except FileNotFoundError:
        return {}


def _number(name: bytes) -> int:
    digits = _NUMBER.match(name)
    return int(digits[0][:24]) if digits else _NO_NUMBER
