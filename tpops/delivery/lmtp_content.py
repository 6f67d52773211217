"""
A message while it is received by LMTP.

Purpose: bounded memory for a message of any size.  What came is counted, gets the line ends of stored mail and is
collected; whenever there are L{PIECE_OCTETS} of it, they go to L{tpops.delivery.incoming.Message}, in a thread, since
that may write a file, and whoever writes waits for that.
Limits: a message that is too big, or for which there is no room, is thrown away at once, and the rest of it is counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tpops.delivery import lmtp_replies as replies
from tpops.delivery.incoming import Message
from tpops.delivery.lmtp_data import StoredLines

_log = Logger()

#: Octets that are collected before they are handed on.
PIECE_OCTETS = 131072


class Content:
    """
    See the module.

    @ivar octets: how many have come, with the line ends that they came with
    @ivar refusal: why the message cannot be taken, b"" as long as it can
    """

    def __init__(self, message: Message, run_in_thread: Callable[..., Deferred[None]], most_octets: int) -> None:
        """
        @param message: an empty one
        @param most_octets: most octets, 0 for any
        """
        self.octets = 0
        self.refusal = b""
        self._message = message
        self._run_in_thread = run_in_thread
        self._most_octets = most_octets
        self._lines = StoredLines()
        self._digest = hashlib.blake2b(digest_size=32)
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._big = False

    def write(self, octets: bytes) -> Awaitable[None] | None:
        """Add octets; what it gives must be waited for before anything else is called."""
        self.octets += len(octets)
        if self._most_octets and self.octets > self._most_octets and not self.refusal:
            self.refusal = replies.TOO_BIG
            return self.close()
        if self.refusal:
            return None
        stored = self._lines.feed(octets)
        self._digest.update(stored)
        self._pieces.append(stored)
        self._waiting += len(stored)
        if self._waiting <= PIECE_OCTETS:
            return None
        self._big = True
        return self._in_thread(self._hand_on)

    def digest(self) -> bytes:
        """By which a message is known again."""
        return self._digest.digest()

    async def complete(self) -> Message | None:
        """All has come: the message, which lives until L{close}; None when it cannot be taken, for L{refusal}."""
        if not self.refusal:
            self._pieces.append(self._lines.finish())
            self._digest.update(self._pieces[-1])
            if self._big:
                await self._in_thread(self._finish)
            else:
                # A small one is in memory: nothing blocks.
                self._finish()
        return None if self.refusal else self._message

    async def close(self) -> None:
        """Throw everything away.  Idempotent; not while something is written."""
        self._pieces = []
        if self._big:
            await self._run_in_thread(self._message.close)
        else:
            self._message.close()

    async def _in_thread(self, work: Callable[[], None]) -> None:
        try:
            await self._run_in_thread(work)
        except OSError as problem:
            self.refusal = replies.from_error(problem, quota_defers=False) or replies.UNAVAILABLE
            _log.error("spool-failed: {why}; the message is refused for now", event="spool-failed", why=str(problem))
            await self.close()

    def _hand_on(self) -> None:
        """What has been collected becomes part of the message.  Blocks."""
        pieces, self._pieces = self._pieces, []
        self._waiting = 0
        self._message.feed(b"".join(pieces))

    def _finish(self) -> None:
        self._hand_on()
        self._message.finish()
