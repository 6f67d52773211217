"""
Maildrops in memory: for tests of what lies above, and for programs that need a POP3 server with given messages.

Purpose: the smallest complete L{IMaildropDriver}.  Messages vanish with the process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection
from itertools import count

from zope.interface import implementer

from tpops.errors import MaildropBusy, MessageVanished, StorageUnavailable
from tpops.interfaces import IAppendable, IIncomingMessage, IMaildrop, IMaildropDriver, IStoredMessage
from tpops.mailbox.quota import quota_of
from tpops.mailbox.snapshot import Snapshot
from tpops.model import Account, Envelope
from tpops.protocol.transparency import Octets


def wire_octets(message: bytes) -> int:
    """What LIST announces for a message."""
    octets = Octets()
    octets.feed(message)
    return octets.total()


@implementer(IStoredMessage)
class MemoryMessage:
    """See L{IStoredMessage}."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._offset = 0

    def read(self, octets: int) -> bytes | Awaitable[bytes]:
        """See L{IStoredMessage.read}."""
        chunk = self._message[self._offset : self._offset + octets]
        self._offset += len(chunk)
        return chunk

    def close(self) -> None:
        """See L{IStoredMessage.close}."""
        self._message = b""


@implementer(IMaildrop)
class MemoryMaildrop:
    """See L{IMaildrop}."""

    def __init__(self, driver: MemoryDriver, name: str) -> None:
        self._driver: MemoryDriver | None = driver
        self._name = name
        stored = driver.stored.get(name, {})
        self._unique_ids = list(stored)
        self.messages = Snapshot.of(
            [wire_octets(message) for message in stored.values()], self._unique_ids, [b""] * len(stored)
        )

    async def open(self, number: int) -> IStoredMessage:
        """See L{IMaildrop.open}."""
        message = self._stored().get(self._unique_ids[number - 1])
        if message is None:
            raise MessageVanished(f"message {number} of {self._name} is gone")
        return MemoryMessage(message)

    async def remove(self, numbers: Collection[int]) -> None:
        """See L{IMaildrop.remove}."""
        for number in numbers:
            self._stored().pop(self._unique_ids[number - 1], None)

    async def close(self) -> None:
        """See L{IMaildrop.close}."""
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.locked.discard(self._name)

    def _stored(self) -> dict[bytes, bytes]:
        return self._driver.stored.get(self._name, {}) if self._driver is not None else {}


@implementer(IMaildropDriver, IAppendable)
class MemoryDriver:
    """
    See L{IMaildropDriver}.

    @ivar stored: messages by unique-id, by account name; may be changed at any time
    @ivar locked: names whose maildrop is open
    """

    def __init__(self, stored: dict[str, dict[bytes, bytes]] | None = None) -> None:
        self.stored = stored if stored is not None else {}
        self.locked: set[str] = set()
        self._numbers = count(1)

    async def open_maildrop(self, account: Account) -> IMaildrop:
        """See L{IMaildropDriver.open_maildrop}."""
        if account.name in self.locked:
            raise MaildropBusy(f"{account.name} is open already")
        self.locked.add(account.name)
        return MemoryMaildrop(self, account.name)

    async def append(self, account: Account, message: IIncomingMessage, envelope: Envelope) -> bytes:
        """See L{IAppendable.append}."""
        stored = self.stored.setdefault(account.name, {})
        quota = quota_of(account)
        if quota:
            quota.admit(account.name, sum(map(len, stored.values())), len(stored), message.octets)
        try:
            octets = b"".join(message.chunks())
        except OSError as problem:
            raise StorageUnavailable(str(problem)) from problem
        unique_id = b"%d" % next(self._numbers)
        stored[unique_id] = octets
        return unique_id
