"""
Berkeley DB: "hash:" and "btree:" of Postfix.

Purpose: all entries of a file that was written with versions 4.1 to 18 of that library (formats 8 to 10), in either
order of octets; which of the two kinds it is stands in the file.
Limits: neither encryption, nor checksums, nor compression, nor several values for one key, nor several databases in
one file: postmap makes none of these.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from tpops.cred.tables.entries import Damaged, Pair, field, numbers

_HASH_MAGIC, _BTREE_MAGIC = 0x061561, 0x053162
_VERSIONS = range(8, 11)

#: Octets before the places of a page's items.
_PAGE_HEADER_OCTETS = 26

#: Kinds of pages.
_HASH_UNSORTED, _BTREE_INTERNAL, _BTREE_LEAF, _OVERFLOW, _HASH = 2, 3, 5, 7, 13
_HASH_PAGES = (_HASH_UNSORTED, _HASH)

#: Kinds of items, in hash pages and in btree pages.
_HASH_DATA, _HASH_ELSEWHERE = 1, 3
_BTREE_DATA, _BTREE_ELSEWHERE, _BTREE_DELETED = 1, 3, 0x80

#: Flags of the first page: of all databases, and those of a btree that change how it is read.
_CHECKSUM = 0x01
_BTREE_UNREADABLE = 0x01 | 0x02 | 0x20 | 0x80


@attrs.frozen(slots=True)
class _Page:
    """
    A page.

    @ivar following: the next page of a chain, 0 where there is none
    @ivar kind: what the page holds
    @ivar used: octets of an overflow page
    @ivar places: where its items begin
    """

    octets: bytes
    following: int
    kind: int
    used: int
    places: tuple[int, ...]


class _Pages:
    """The pages of a file, by number."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.order = "<" if numbers("<L", octets, 12)[0] in (_HASH_MAGIC, _BTREE_MAGIC) else ">"
        self.magic, self.version, self.size, encrypted, _, flags = numbers(f"{self.order}3L3B", octets, 12)
        if self.magic not in (_HASH_MAGIC, _BTREE_MAGIC):
            raise Damaged("it is no hash or btree of Berkeley DB")
        if self.version not in _VERSIONS:
            raise Damaged(f"its format {self.version} is not one of 8 to 10; make it again with today's postmap")
        if encrypted or flags & _CHECKSUM:
            raise Damaged("it is encrypted or has checksums")
        if not 512 <= self.size <= 65536 or self.size & (self.size - 1):
            raise Damaged("its first page is broken")
        self.count = len(octets) // self.size

    def first(self, form: str, at: int) -> tuple[int, ...]:
        """Numbers of the first page."""
        return numbers(self.order + form, self._octets, at)

    def page(self, number: int, *kinds: int) -> _Page:
        """A page that must be of one of these kinds."""
        octets = field(self._octets, number * self.size, self.size)
        own, _, following, entries, used, _, kind = numbers(f"{self.order}3L2H2B", octets, 8)
        if own != number or kind not in kinds:
            raise Damaged("a page is not what it should be")
        places = () if kind == _OVERFLOW else numbers(f"{self.order}{entries}H", octets, _PAGE_HEADER_OCTETS)
        return _Page(octets, following, kind, used, places)

    def chain(self, number: int, *kinds: int) -> Iterator[_Page]:
        """A page and those that follow it."""
        for _ in range(self.count):
            page = self.page(number, *kinds)
            yield page
            number = page.following
            if not number:
                return
        raise Damaged("its pages go in a circle")

    def elsewhere(self, octets: bytes, at: int) -> bytes:
        """An item that has pages of its own, from its number and length."""
        number, length = numbers(f"{self.order}2L", octets, at)
        pieces = (field(page.octets, _PAGE_HEADER_OCTETS, page.used) for page in self.chain(number, _OVERFLOW))
        item = b"".join(pieces)
        if len(item) != length:
            raise Damaged("a long entry is not whole")
        return item


def read(octets: bytes) -> Iterator[Pair]:
    """
    The entries of a table.

    @raise Damaged: when it is not whole, or nothing that postmap makes
    """
    pages = _Pages(octets)
    items = _hash_items(pages) if pages.magic == _HASH_MAGIC else _btree_items(pages)
    for key in items:
        yield key, next(items)


def _hash_items(pages: _Pages) -> Iterator[bytes]:
    """Keys and values in turn: a chain of pages for each bucket."""
    (buckets,) = pages.first("L", 72)
    if buckets >= pages.count:
        raise Damaged("it ends before its last entry")
    groups = pages.first("32L", 96)
    for bucket in range(buckets + 1):
        # Buckets lie in groups that double; the first page tells where each begins.
        number = bucket + groups[bucket.bit_length()]
        for page in pages.chain(number, *_HASH_PAGES):
            if len(page.places) % 2:
                raise Damaged("a key has no value")
            ends = (pages.size, *page.places)
            for end, start in zip(ends, page.places, strict=False):
                yield _hash_item(pages, page.octets, start, end)


def _hash_item(pages: _Pages, octets: bytes, start: int, end: int) -> bytes:
    item = field(octets, start, end - start)
    if item[:1] == bytes((_HASH_DATA,)):
        return item[1:]
    if item[:1] == bytes((_HASH_ELSEWHERE,)):
        return pages.elsewhere(item, 4)
    raise Damaged("a key has several values, or an entry is broken")


def _btree_items(pages: _Pages) -> Iterator[bytes]:
    """Keys and values in turn: down to the first leaf, then from leaf to leaf."""
    if pages.first("L", 48)[0] & _BTREE_UNREADABLE:
        raise Damaged("it has several values for a key, several databases, or compression")
    (number,) = pages.first("L", 88)
    for _ in range(pages.count):
        page = pages.page(number, _BTREE_INTERNAL, _BTREE_LEAF)
        if page.kind == _BTREE_LEAF:
            break
        if not page.places:
            raise Damaged("a page is not what it should be")
        (number,) = numbers(f"{pages.order}L", page.octets, page.places[0] + 4)
    else:
        raise Damaged("its pages go in a circle")
    for page in pages.chain(number, _BTREE_LEAF):
        if len(page.places) % 2:
            raise Damaged("a key has no value")
        for key, value in zip(page.places[0::2], page.places[1::2], strict=True):
            if not field(page.octets, value + 2, 1)[0] & _BTREE_DELETED:
                yield _btree_item(pages, page.octets, key)
                yield _btree_item(pages, page.octets, value)


def _btree_item(pages: _Pages, octets: bytes, at: int) -> bytes:
    length, kind = numbers(f"{pages.order}HB", octets, at)
    kind &= ~_BTREE_DELETED
    if kind == _BTREE_DATA:
        return field(octets, at + 3, length)
    if kind == _BTREE_ELSEWHERE:
        return pages.elsewhere(octets, at + 4)
    raise Damaged("a key has several values, or an entry is broken")
