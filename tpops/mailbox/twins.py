"""
Files that share a base name: which of them is which message.

Purpose: a Maildir should not have two files with one base name, but a copied folder, a hard link or a broken delivery
agent makes them, and a unique-id must never pass from one message to another.  The first keeps the base name as its
unique-id; the unique-ids of the others hold their inode, by which they are known whatever their names become.
Limits: what cannot be told for sure is a new message for a listing, and gone for a session.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence

from tpops.mailbox import unique_ids
from tpops.mailbox.entries import DIRECTORIES, Entry, Place
from tpops.mailbox.unique_ids import base_name


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
        inode = _inode(maildir, place)
        for one in known:
            if inode is not None and unique_ids.is_twin(one.unique_id, base_name(one.name), inode):
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
            try:
                found = os.lstat(_path(maildir, entry.place))
            except FileNotFoundError:
                continue
            groups.setdefault(entry.unique_id, []).append((not entry.known, found.st_mtime_ns, found.st_ino, entry))
    for group in groups.values():
        # Who had the unique-id keeps it; among new ones the older message does.
        group.sort()
        apart.append(group[0][-1])
        for _, _, inode, entry in group[1:]:
            nth = 0
            while (unique_id := unique_ids.from_twin(base_name(entry.name), inode, nth)) in times:
                nth += 1
            times[unique_id] = 1
            apart.append(entry._replace(unique_id=unique_id))
    return apart


def choose(
    maildir: bytes, unique_id: bytes, others: Collection[bytes], places: Collection[Place], taken: Collection[Place]
) -> Place | None:
    """
    Which of the files with a message's base name is its own; None when that cannot be told for sure.

    @param others: unique-ids of the other messages that have the base name at login
    @param places: the files that have it now
    @param taken: where the others were at login
    """
    left = []
    for place in places:
        base = base_name(place[1])
        inode = _inode(maildir, place)
        if inode is None or any(unique_ids.is_twin(other, base, inode) for other in others):
            continue
        if unique_ids.is_twin(unique_id, base, inode):
            return place
        if place not in taken and not unique_ids.may_be_twin(unique_id, base):
            left.append(place)
    return left[0] if len(left) == 1 else None


def _inode(maildir: bytes, place: Place) -> int | None:
    try:
        return os.lstat(_path(maildir, place)).st_ino
    except FileNotFoundError:
        return None


def _path(maildir: bytes, place: Place) -> bytes:
    return maildir + DIRECTORIES[place[0]] + place[1]
