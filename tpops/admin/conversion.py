"""
The mail of an account, copied into another store, with the unique-ids that its clients know.

Order: both maildrops are locked as by POP3 sessions; what the target does not have is copied, in the source's order;
then the target is opened anew and every message is read there and compared, octet by octet as clients get it; only
then, and only where that is wanted, what was compared is removed from the source.
Cut off anywhere: the source is whole, and the next run goes on, since unique-ids tell what is there already.
Limits: one message is in memory or, where it is big, in a file without a name.  Flags are not copied: POP3 has none.
Errors: StorageError of either store; L{Differs}.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import attrs

from tpops.admin import mailbox_header
from tpops.admin.mailbox_open import read
from tpops.delivery.incoming import Message
from tpops.errors import MessageVanished, StorageError
from tpops.interfaces import IMaildrop
from tpops.mailbox.locations import Maildrops
from tpops.model import Account
from tpops.protocol.transparency import Encoder


class Differs(StorageError):
    """A message is not the same in both stores."""


@attrs.frozen
class Copied:
    """
    What was done for an account.

    @ivar copied: messages that were copied
    @ivar there: messages that the target had already
    @ivar octets: wire octets of those that were copied
    @ivar removed: messages that were removed from the source
    """

    copied: int
    there: int
    octets: int
    removed: int = 0


@attrs.define
class Conversion:
    """
    From one store to another.

    @param source: where the mail is
    @param target: where it comes to
    @param removing: remove from the source what is the same in the target
    @param advance: told of octets that have been read
    """

    _source: Maildrops
    _target: Maildrops
    _removing: bool
    _advance: Callable[[int], None]
    _seen: dict[int, bytes] = attrs.field(init=False, factory=dict)
    _last: float = attrs.field(init=False, default=0.0)

    async def convert(self, there: Account, here: Account, begin: Callable[[int], None]) -> Copied:
        """
        Copy all messages of an account.

        @param there: the account with its mail in the source
        @param here: the same with its mail in the target
        @param begin: told how many octets will be read
        """
        self._seen, self._last = {}, 0.0
        source = await self._source.open_maildrop(there)
        try:
            numbers = range(1, source.messages.count + 1)
            begin(2 * source.messages.octets)
            target = await self._target.open_maildrop(here)
            try:
                known = _numbers(target)
                missing = [number for number in numbers if source.messages.unique_id(number) not in known]
                for number in missing:
                    await self._copy(source, number, here)
            finally:
                await target.close()
            target = await self._target.open_maildrop(here)
            try:
                same = await self._compare(source, target, numbers)
            finally:
                await target.close()
            octets = sum(source.messages.sizes[number - 1] for number in missing)
            if self._removing:
                await source.remove(same)
            removed = len(same) if self._removing else 0
            return Copied(len(missing), len(numbers) - len(missing), octets, removed)
        finally:
            await source.close()

    async def _copy(self, source: IMaildrop, number: int, here: Account) -> None:
        message = Message(separator=False)
        try:
            digest = _Digest()
            try:
                stored = await source.open(number)
            except MessageVanished:
                return
            try:
                chunk = await mailbox_header.beginning(stored)
                arrived = mailbox_header.parse(chunk).arrived
                while chunk:
                    digest.feed(chunk)
                    message.feed(chunk)
                    self._advance(len(chunk))
                    chunk = await read(stored)
            finally:
                stored.close()
            message.finish()
            # Later ones of the same maildrop stay behind it.
            self._last = max(self._last, min(time.time() if arrived is None else arrived, time.time()))
            await self._target.restore(here, message, source.messages.unique_id(number), self._last)
            self._seen[number] = digest.finish()
        finally:
            message.close()

    async def _compare(self, source: IMaildrop, target: IMaildrop, numbers: range) -> list[int]:
        """The messages that are the same in both; those that have vanished from the source meanwhile are left out."""
        known = _numbers(target)
        same = []
        for number in numbers:
            unique_id = source.messages.unique_id(number)
            expected = self._seen.get(number)
            if expected is None:
                try:
                    expected = await self._digest(source, number)
                except MessageVanished:
                    continue
            found = known.get(unique_id)
            if found is None:
                raise Differs(f"message {unique_id.decode('ascii')} was copied and is not there; nothing is removed")
            if await self._digest(target, found) != expected:
                raise Differs(
                    f"message {unique_id.decode('ascii')} is not the same in both stores; nothing is removed; look at "
                    "both, remove the wrong one and run this again"
                )
            same.append(number)
        return same

    async def _digest(self, maildrop: IMaildrop, number: int) -> bytes:
        digest = _Digest()
        stored = await maildrop.open(number)
        try:
            while chunk := await read(stored):
                digest.feed(chunk)
                self._advance(len(chunk))
        finally:
            stored.close()
        return digest.finish()


class _Digest:
    """Of a message as clients get it."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._digest = hashlib.sha256()

    def feed(self, octets: bytes) -> None:
        self._digest.update(self._encoder.feed(octets))

    def finish(self) -> bytes:
        self._digest.update(self._encoder.finish())
        return self._digest.digest()


def _numbers(maildrop: IMaildrop) -> dict[bytes, int]:
    """Numbers by unique-id."""
    messages = maildrop.messages
    return {messages.unique_id(number): number for number in range(1, messages.count + 1)}
