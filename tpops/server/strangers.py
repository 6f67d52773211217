"""
Those who have not logged in: there are only so many, and the oldest goes first.

Purpose: whoever opens connections and does not log in, however slowly he speaks, keeps nobody out: a new client takes
the place of the one that has had most time.
Limits: those of one process.
"""

from __future__ import annotations

from typing import Protocol


class Stranger(Protocol):
    """A connection without a login."""

    def make_room(self, most: int) -> None:
        """Go, since there are more than so many."""


class Strangers:
    """
    See the module.

    @param most: at the same time, 0 for any number
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[Stranger, None] = {}

    def come(self, stranger: Stranger) -> None:
        """One more; the oldest goes when they are too many."""
        if self._most:
            self._waiting[stranger] = None
            if len(self._waiting) > self._most:
                oldest = next(iter(self._waiting))
                del self._waiting[oldest]
                oldest.make_room(self._most)

    def leave(self, stranger: Stranger) -> None:
        """It has logged in, or is gone.  Idempotent."""
        self._waiting.pop(stranger, None)
