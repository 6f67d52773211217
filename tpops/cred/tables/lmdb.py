"""
LMDB: "lmdb:" of Postfix, one file without a directory around it.

Purpose: all entries of the state that was committed last.
Limits: format 1 of machines with 64 bits and this machine's order of octets; neither several values for one key nor
several databases in one file: postmap makes none of these.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from tpops.cred.tables.entries import Damaged, Pair, field, numbers

_MAGIC, _FORMAT = 0xBEEFC0DE, 1

#: Octets before the places of a page's nodes.
_PAGE_HEADER_OCTETS = 16

#: Kinds of pages.
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_KINDS = 0x7F & ~0x10

#: Flags of a node: the value has pages of its own; anything else is what postmap does not make.
_ELSEWHERE = 1

#: The root of an empty database.
_NO_PAGE = 2**64 - 1

#: More levels than a tree can have.
_DEEPEST = 32


@attrs.frozen(slots=True)
class _State:
    """
    A committed state.

    @ivar number: of the transaction that made it
    @ivar page_octets: length of a page
    @ivar flags: what kind of database it is
    @ivar entries: how many there are
    @ivar root: number of the first page
    """

    number: int
    page_octets: int
    flags: int
    entries: int
    root: int


def read(octets: bytes) -> Iterator[Pair]:
    """
    The entries of a table.

    @raise Damaged: when it is not whole, or nothing that postmap makes
    """
    first = _state(octets, 0)
    state = max(first, _state(octets, first.page_octets), key=lambda one: one.number)
    if state.flags:
        raise Damaged("it has several values for a key, or keys that are no text")
    found = 0
    if state.root != _NO_PAGE:
        for pair in _tree(octets, state, state.root, 0):
            yield pair
            found += 1
    if found != state.entries:
        raise Damaged(f"it has {found} entries where there should be {state.entries}")


def _state(octets: bytes, at: int) -> _State:
    """One of the two first pages, which take turns."""
    magic, form = numbers("=2L", octets, at + _PAGE_HEADER_OCTETS)
    if magic != _MAGIC:
        raise Damaged("it is no LMDB file of a machine like this")
    if form != _FORMAT:
        raise Damaged(f"its format {form} is not known; make it again with postmap")
    (page_octets,) = numbers("=L", octets, at + 40)
    flags, entries, root, _, number = numbers("=4xH26xQQQQ", octets, at + 88)
    if not 512 <= page_octets <= 65536 or page_octets & (page_octets - 1):
        raise Damaged("its first page is broken")
    return _State(number, page_octets, flags, entries, root)


def _tree(octets: bytes, state: _State, number: int, depth: int) -> Iterator[Pair]:
    """The entries of a page and of those below it."""
    page = field(octets, number * state.page_octets, state.page_octets)
    own, kind, lower = numbers("=Q2xHH", page, 0)
    if own != number or kind & _KINDS not in (_BRANCH, _LEAF) or lower < _PAGE_HEADER_OCTETS or depth > _DEEPEST:
        raise Damaged("a page is not what it should be")
    for at in numbers(f"={(lower - _PAGE_HEADER_OCTETS) // 2}H", page, _PAGE_HEADER_OCTETS):
        length, flags, key_octets = numbers("=LHH", page, at)
        if kind & _BRANCH:
            yield from _tree(octets, state, length | flags << 32, depth + 1)
            continue
        key, value = field(page, at + 8, key_octets), at + 8 + key_octets
        if flags & ~_ELSEWHERE:
            raise Damaged("a key has several values, or an entry is broken")
        yield key, _elsewhere(octets, state, page, value, length) if flags else field(page, value, length)


def _elsewhere(octets: bytes, state: _State, page: bytes, at: int, length: int) -> bytes:
    (number,) = numbers("=Q", page, at)
    place = number * state.page_octets
    own, kind = numbers("=Q2xH", octets, place)
    if own != number or kind & _KINDS != _OVERFLOW:
        raise Damaged("a page is not what it should be")
    return field(octets, place + _PAGE_HEADER_OCTETS, length)
