"""
Taking back what "mboxrd" does to a message: a line of ">" signs and "From " loses one sign.

Purpose: chunk by chunk, with the same result for every way of cutting.
"""

from __future__ import annotations

import re

_QUOTED = re.compile(rb"\n>(>*From )")

#: The beginning of a line that may still turn out to be quoted.
_UNDECIDED = re.compile(rb">*(?:>F|>Fr|>Fro|>From)?")

#: So many signs nobody writes; a longer line is what it is.
_MOST_SIGNS = 4096


class Unquoting:
    """See the module."""

    __slots__ = ("_begun", "_waiting")

    def __init__(self) -> None:
        # A line end before the first line makes it like all others; it is taken off again.
        self._waiting = b"\n"
        self._begun = False

    def feed(self, chunk: bytes) -> bytes:
        """The next octets without quoting; what cannot be decided yet waits."""
        text = self._waiting + chunk
        at = text.rfind(b"\n", max(0, len(text) - _MOST_SIGNS))
        if at >= 0 and _UNDECIDED.fullmatch(text, at + 1):
            text, self._waiting = text[:at], text[at:]
        else:
            self._waiting = b""
        return self._without_first(_QUOTED.sub(rb"\n\1", text))

    def finish(self) -> bytes:
        """What still waits when the message is over."""
        waiting, self._waiting = self._waiting, b""
        return self._without_first(waiting)

    def _without_first(self, text: bytes) -> bytes:
        if self._begun or not text:
            return text
        self._begun = True
        return text[1:]
