"""Hypothesis strategies that several folders share."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

_PIECES = (
    b"\n",
    b"\r\n",
    b"\r",
    b".",
    b"..",
    b"\n.",
    b"\r\n.",
    b"\0",
    b"\xff",
    "ü".encode(),
    b"Subject: x",
    b"body",
    b" ",
)


def messages() -> st.SearchStrategy[bytes]:
    """Messages as stores have them: any mix of line ends, dots, NUL and 8-bit octets; empty, without final newline."""
    lively = st.lists(st.sampled_from(_PIECES), max_size=40).map(b"".join)
    return st.one_of(lively, st.binary(max_size=200), st.just(b""))


def chunkings(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """All ways to cut octets into pieces, some of them empty."""

    def cut(places: list[int]) -> list[bytes]:
        ends = [0, *sorted(places), len(data)]
        return [data[start:end] for start, end in pairwise(ends)]

    return st.lists(st.integers(0, len(data)), max_size=8).map(cut)
