"""
The pages of ndbm and sdbm: "sdbm:" of Postfix, and "dbm:" where that is the ndbm of 4.3BSD or Solaris.

Purpose: all entries of the file that ends in ".pag".  The other one, ".dir", says on which page to look for a key and
is not needed to read them all.
Limits: pages of 1024 octets, as these libraries have them; numbers in either order of octets.
"""

from __future__ import annotations

from collections.abc import Iterator

from tpops.cred.tables.entries import Damaged, Pair, numbers

_PAGE_OCTETS = 1024


def read(octets: bytes) -> Iterator[Pair]:
    """
    The entries of a table.

    @raise Damaged: when it is not whole
    """
    if len(octets) % _PAGE_OCTETS:
        raise Damaged("it does not consist of whole pages")
    try:
        pairs = _all(octets, "<")
    except Damaged:
        pairs = _all(octets, ">")
    return iter(pairs)


def _all(octets: bytes, order: str) -> list[Pair]:
    starts = range(0, len(octets), _PAGE_OCTETS)
    return [pair for start in starts for pair in _page(octets[start : start + _PAGE_OCTETS], order)]


def _page(page: bytes, order: str) -> Iterator[Pair]:
    """A page has the number of its items, where each begins, and the items themselves from its end downwards."""
    (count,) = numbers(f"{order}H", page, 0)
    if count % 2 or 2 + 2 * count > _PAGE_OCTETS:
        raise Damaged("a page has an impossible number of entries")
    places = (_PAGE_OCTETS, *numbers(f"{order}{count}H", page, 2))
    if list(places) != sorted(places, reverse=True) or places[-1] < 2 + 2 * count:
        raise Damaged("a page has an entry at an impossible place")
    for item in range(1, count, 2):
        yield page[places[item] : places[item - 1]], page[places[item + 1] : places[item]]
