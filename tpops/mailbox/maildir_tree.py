"""
A Maildir and all its folders as one maildrop.

Purpose: lists each folder as a Maildir of its own, with its own index, and puts the listings together.
Order: by the number that the file name begins with, then the name, as in one Maildir.
Unique-ids: the messages of the Maildir itself keep theirs; those of a folder have a hash of the folder's directory and
the one that they have there, so that two with the same name in two folders differ, and neither depends on the other.
In the style of tpop3d, which has the folder in it already, they are as in the folder.
What it costs: an unchanged maildrop that was seen before, three C{stat} calls for the Maildir and each folder; new
mail behind all other, the scan of its folder and a copy of the listing; anything else, a merge of all.
Limits: L{Trees.refresh} blocks and is for threads; its caller holds the Maildir's lock, which nobody in a folder
shares.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tpops.mailbox import maildir_folders, unique_ids
from tpops.mailbox.entries import name_of, number_of
from tpops.mailbox.index import DirectoryStamp, Stamp
from tpops.mailbox.listings import Listings, SnapshotCache
from tpops.mailbox.locks import MaildirLock
from tpops.mailbox.maildir_scan import stamp
from tpops.mailbox.snapshot import Snapshot

#: With more directories to look at, that is done in a thread.
MANY_DIRECTORIES = 200


class Part(NamedTuple):
    """
    A folder's share in the maildrop.

    @ivar directory: from the Maildir on, b"" for the Maildir itself
    """

    directory: bytes
    stamp: Stamp
    messages: Snapshot


#: A message: number and name that it is sorted by, its part, its number there.  A plain tuple: there may be very many.
_Row = tuple[int, bytes, int, int]


class Tree:
    """
    All messages, and where each of them is.

    @ivar looked: the directories that were searched for folders, each with the stamp that it had
    @ivar parts: the Maildir itself comes first, the folders follow in order
    @ivar messages: the listing
    @ivar owners: for each message the part that it is in
    @ivar numbers: for each message its number there
    """

    __slots__ = ("_last", "looked", "messages", "numbers", "owners", "parts")

    def __init__(
        self, looked: Sequence[tuple[bytes, DirectoryStamp]], parts: Sequence[Part], tpop3d: bool, old: Tree | None
    ) -> None:
        self.looked = tuple(looked)
        self.parts = tuple(parts)
        if old is None or not self._take_over(old, tpop3d):
            self._merge(tpop3d)

    def memory(self) -> int:
        """Octets that it keeps in memory, roughly."""
        return self.messages.memory() + 6 * len(self.numbers) + sum(one.messages.memory() for one in self.parts)

    def where(self, number: int) -> tuple[int, int]:
        """Of a message: which part it is in, and its number there."""
        return self.owners[number - 1], self.numbers[number - 1]

    def _merge(self, tpop3d: bool) -> None:
        rows: list[_Row] = []
        for part in range(len(self.parts)):
            rows += self._rows(part, 0)
        # Each part is in order already, which makes this fast.
        rows.sort()
        identities = self._identities(tpop3d)
        sizes = [one.messages.sizes for one in self.parts]
        self.owners = array("H", [part for _, _, part, _ in rows])
        self.numbers = array("I", [number for _, _, _, number in rows])
        self.messages = Snapshot.of(
            [sizes[part][number - 1] for _, _, part, number in rows],
            [identities[part][number - 1] for _, _, part, number in rows],
            [b""] * len(rows),
        )
        self._last = rows[-1][:2] if rows else (-1, b"")

    def _take_over(self, old: Tree, tpop3d: bool) -> bool:
        """The common cases: nothing is new, or new mail is behind all other.  False when it is not one of these."""
        if [one.directory for one in self.parts] != [one.directory for one in old.parts]:
            return False
        rows: list[_Row] = []
        for part, (now, before) in enumerate(zip(self.parts, old.parts, strict=True)):
            if now.messages is before.messages:
                continue
            if not _longer(now.messages, before.messages):
                return False
            rows += self._rows(part, before.messages.count)
        rows.sort()
        if rows and rows[0][:2] <= old._last:
            return False
        fresh = [(part, number) for _, _, part, number in rows]
        own = [self.parts[part].messages.unique_id(number) for part, number in fresh]
        identities = [self._identity(part, one, tpop3d) for (part, _), one in zip(fresh, own, strict=True)]
        if len(set(identities)) < len(rows) or old.messages.has_any(identities):
            return False
        self.owners = old.owners + array("H", [part for part, _ in fresh])
        self.numbers = old.numbers + array("I", [number for _, number in fresh])
        octets = [self.parts[part].messages.sizes[number - 1] for part, number in fresh]
        self.messages = old.messages.extended(octets, identities, [b""] * len(rows)) if rows else old.messages
        self._last = rows[-1][:2] if rows else old._last
        return True

    def _rows(self, part: int, behind: int) -> list[_Row]:
        """The messages of a part from one on."""
        messages = self.parts[part].messages
        if behind:
            several = range(behind + 1, messages.count + 1)
            pairs = [(messages.place(number), messages.unique_id(number)) for number in several]
        else:
            pairs = list(zip(messages.all_places(), messages.unique_ids(), strict=True))
        names = [name_of(place, unique_id)[1] for place, unique_id in pairs]
        return [(number_of(name), name, part, number) for number, name in enumerate(names, behind + 1)]

    def _identity(self, part: int, own: bytes, tpop3d: bool) -> bytes:
        directory = self.parts[part].directory
        return unique_ids.in_folder(own, directory) if directory and not tpop3d else own

    def _identities(self, tpop3d: bool) -> list[list[bytes]]:
        """The unique-ids of all messages, by part; of those that would be the same, the first one has it."""
        made = [
            [self._identity(part, own, tpop3d) for own in one.messages.unique_ids()]
            for part, one in enumerate(self.parts)
        ]
        known: set[bytes] = set()
        known.update(*made)
        if len(known) < sum(map(len, made)):
            taken: set[bytes] = set()
            for one, some in zip(self.parts, made, strict=True):
                for at, identity in enumerate(some):
                    nth = 0
                    while identity in taken or (nth and identity in known):
                        nth += 1
                        identity = unique_ids.in_folder(some[at], one.directory, nth)
                    taken.add(identity)
                    some[at] = identity
        return made


def _longer(now: Snapshot, before: Snapshot) -> bool:
    """Whether it is the same with more messages behind the last one."""
    return (
        now.count >= before.count
        and now.uidl_body.startswith(before.uidl_body)
        and now.places.startswith(before.places)
        and now.list_body.startswith(before.list_body)
    )


class Trees:
    """
    See the module.

    @ivar listings: of the single folders
    @param ignored: whether a folder is left out
    @param tpop3d: unique-ids are those of tpop3d
    @param cache_octets: memory for listings
    """

    def __init__(self, listings: Listings, ignored: Callable[[bytes], bool], tpop3d: bool, cache_octets: int) -> None:
        self.listings = listings
        self.cache: SnapshotCache[None, Tree] = SnapshotCache(cache_octets)
        self._ignored = ignored
        self._tpop3d = tpop3d

    def current(self, maildir: bytes, tree: Tree) -> bool:
        """
        Whether a listing is still true.

        @param maildir: path ending in '/'
        @raise OSError: when a directory cannot be looked at
        """
        return all(stamp(maildir + directory) == was for directory, was in tree.looked) and all(
            self.listings.stamp(_path(maildir, part.directory)) == part.stamp for part in tree.parts
        )

    def refresh(self, maildir: bytes, lock: MaildirLock | None, old: Tree | None) -> Tree:
        """
        The listing as it is now.

        @param old: what the cache has
        @raise OSError: when a directory cannot be read
        """
        clock = self.listings.clock(lock)
        directories, looked = maildir_folders.find(maildir, self._ignored)
        if self.listings.racy([one for _, one in looked], clock):
            looked = ((b"", (-1, -1, -1)),)
        known = {part.directory: (part.stamp, part.messages) for part in old.parts} if old is not None else {}
        parts = []
        for directory in (b"", *directories):
            path = _path(maildir, directory)
            kept = known.get(directory) or self.listings.cache.get(path)
            parts.append(Part(directory, *self.listings.refresh(path, lock, kept, directory)))
        return Tree(looked, parts, self._tpop3d, old)


def _path(maildir: bytes, directory: bytes) -> bytes:
    return maildir + directory + b"/" if directory else maildir
