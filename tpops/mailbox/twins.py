"""
Files that share a base name: which of them is which message.

Purpose: a Maildir should not have two files with one base name, but a copied folder, a hard link or a broken delivery
agent makes them, and a unique-id must never pass from one message to another.  The first keeps the base name as its
unique-id; those of the others are made of inode and time, by which they are known whatever their names become.
Limits: what cannot be told for sure is a new message for a listing, and gone for a session.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from tpops.mailbox import unique_ids
from tpops.mailbox.entries import DIRECTORIES, Entry, Place
from tpops.mailbox.unique_ids import FileMark, base_name


def recognise(maildir: bytes, fresh: Sequence[Place], known: Sequence[Entry], kept: set[Place]) -> dict[Place, Entry]:
    """
    Which messages of the last listing files are that have a new name; all have the same base name.

    @param fresh: the files with a new name
    @param known: messages of the last listing
    @param kept: places of the last listing that still have their file
    """
    gone = [one for one in known if one.place not in kept]
    if len(known) == len(gone) == len(fresh) == 1:
        return {fresh[0]: gone[0]}
    found = {}
    for place in fresh:
        file = _mark(maildir, place)
        for one in known:
            if file is not None and unique_ids.is_twin(one.unique_id, base_name(one.name), file):
                found[place] = one
    left = [place for place in fresh if place not in found]
    first = [one for one in gone if not unique_ids.may_be_twin(one.unique_id, base_name(one.name))]
    if len(left) == len(first) == 1:
        found[left[0]] = first[0]
    return found


def tell_apart(maildir: bytes, entries: list[Entry]) -> list[Entry]:
    """Give messages that would share a unique-id different ones, and drop names that have just moved away."""
    times = Counter(entry.unique_id for entry in entries)
    if len(times) == len(entries):
        return entries
    apart = [entry for entry in entries if times[entry.unique_id] == 1]
    groups: dict[bytes, list[tuple[bool, int, int, Entry]]] = {}
    for entry in entries:
        if times[entry.unique_id] > 1:
            file = _mark(maildir, entry.place)
            if file is not None:
                inode, mtime = file
                groups.setdefault(entry.unique_id, []).append((not entry.known, mtime, inode, entry))
    for group in groups.values():
        # Who had the unique-id keeps it; among new ones the older message does.
        group.sort()
        apart.append(group[0][-1])
        for _, mtime, inode, entry in group[1:]:
            nth = 0
            while (unique_id := unique_ids.from_twin(base_name(entry.name), (inode, mtime), nth)) in times:
                nth += 1
            times[unique_id] = 1
            apart.append(entry._replace(unique_id=unique_id))
    return apart


def choose(maildir: bytes, unique_id: bytes, others: Mapping[bytes, Place], places: Collection[Place]) -> Place | None:
    """
    Which of the files with a message's base name is its own; None when that cannot be told for sure.

    @param others: where the other messages with the base name were at login, by unique-id
    @param places: the files that have it now
    """
    left = []
    taken = dict(others)
    for place in places:
        base = base_name(place[1])
        file = _mark(maildir, place)
        if file is None:
            continue
        if unique_ids.is_twin(unique_id, base, file):
            return place
        found = [other for other in others if unique_ids.is_twin(other, base, file)]
        if found:
            taken.pop(found[0], None)
        elif not unique_ids.may_be_twin(unique_id, base):
            left.append(place)
    left = [place for place in left if place not in taken.values()]
    return left[0] if len(left) == 1 else None


def _mark(maildir: bytes, place: Place) -> FileMark | None:
    try:
        found = os.lstat(maildir + DIRECTORIES[place[0]] + place[1])
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
