"""
An open Maildir with all its folders, of one session.

Each message is opened, removed and flagged where it was at login: in its folder, by the rules of
L{tpops.mailbox.maildir_session}.  One that another program has moved to another folder meanwhile is gone from there,
and is not looked for: whoever moved it wants to keep it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from zope.interface import implementer

from tpops.errors import RemoveFailed
from tpops.interfaces import IMaildrop, INotesRetrieval, IStoredMessage
from tpops.mailbox.locks import MaildirLock
from tpops.mailbox.maildir_session import MaildirSession
from tpops.mailbox.maildir_tree import Part, Tree


@implementer(IMaildrop, INotesRetrieval)
class TreeSession:
    """
    See L{IMaildrop}.

    @ivar messages: the listing
    @param lock: of the Maildir, None where there is none
    @param open_part: opens the session of a folder
    @param changed: called when the listing that is kept in memory is no longer true
    """

    __slots__ = ("_changed", "_corrected", "_lock", "_open_part", "_parts", "_tree", "messages")

    def __init__(
        self,
        tree: Tree,
        lock: MaildirLock | None,
        open_part: Callable[[Part], MaildirSession],
        changed: Callable[[], None],
    ) -> None:
        self.messages = tree.messages
        self._tree = tree
        self._lock = lock
        self._open_part = open_part
        self._changed = changed
        self._corrected = False
        self._parts: dict[int, MaildirSession] = {}

    async def open(self, number: int) -> IStoredMessage:
        """See L{IMaildrop.open}."""
        part, number = self._tree.where(number)
        return await self._part(part).open(number)

    async def remove(self, numbers: Collection[int]) -> None:
        """See L{IMaildrop.remove}; what failed in one folder does not keep the others."""
        kept: list[int] = []
        reasons = []
        for part, there in self._by_part(numbers).items():
            try:
                await self._part(part).remove(there)
            except RemoveFailed as failed:
                kept += [there[number] for number in failed.kept]
                reasons.append(str(failed))
        if kept:
            raise RemoveFailed(sorted(kept), "; ".join(reasons))

    def sent(self, number: int, octets: int) -> None:
        """See L{INotesRetrieval.sent}."""
        part, number = self._tree.where(number)
        self._corrected = True
        self._part(part).sent(number, octets)

    async def mark_seen(self, numbers: Collection[int]) -> None:
        """See L{INotesRetrieval.mark_seen}."""
        for part, there in self._by_part(numbers).items():
            await self._part(part).mark_seen(there)

    async def close(self) -> None:
        """See L{IMaildrop.close}."""
        try:
            if self._corrected:
                self._corrected = False
                self._changed()
            while self._parts:
                await self._parts.popitem()[1].close()
        finally:
            lock, self._lock = self._lock, None
            if lock is not None:
                lock.release()

    def _part(self, part: int) -> MaildirSession:
        session = self._parts.get(part)
        if session is None:
            session = self._parts[part] = self._open_part(self._tree.parts[part])
        return session

    def _by_part(self, numbers: Collection[int]) -> dict[int, dict[int, int]]:
        """For each folder: numbers there, each with that in the maildrop."""
        found: dict[int, dict[int, int]] = {}
        for number in numbers:
            part, there = self._tree.where(number)
            found.setdefault(part, {})[there] = number
        return found
