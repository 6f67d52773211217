"""
Maildrops in stores of other packages: locations C{plugin:NAME:PLACE}.

Purpose: hands each maildrop to the store of that name; a store is what L{tpops.mailbox.locations.Store} says.
Limits: they have no folders of their own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from tpops.errors import MaildropBroken
from tpops.interfaces import IIncomingMessage, IMaildrop
from tpops.mailbox.locations import AppendAt, Store
from tpops.model import Account, Envelope


class PluginStores:
    """
    See the module.

    @param stores: by name
    """

    def __init__(self, stores: Mapping[str, Store]) -> None:
        self._stores = stores

    def start(self) -> None:
        """Start those that need it.  @raise ConfigError: when something cannot be used as it is configured"""
        for store in self._stores.values():
            start: Callable[[], None] | None = getattr(store, "start", None)
            if start is not None:
                start()

    async def stop(self) -> None:
        """Stop them."""
        for store in self._stores.values():
            stop: Callable[[], Awaitable[None]] | None = getattr(store, "stop", None)
            if stop is not None:
                await stop()

    async def open_at(self, account: Account, place: bytes) -> IMaildrop:
        """See L{Store.open_at}."""
        store, there = self._store(account, place)
        return await store.open_at(account, there)

    async def append_at(self, account: Account, place: bytes, message: IIncomingMessage, envelope: Envelope) -> bytes:
        """See L{tpops.interfaces.IAppendable.append}."""
        store, there = self._store(account, place)
        append_at: AppendAt | None = getattr(store, "append_at", None)
        if append_at is None:
            raise MaildropBroken(f"{account.name!r} has his mail in a store that takes no new mail")
        return await append_at(account, there, message, envelope)

    def _store(self, account: Account, place: bytes) -> tuple[Store, bytes]:
        """The store that a place begins with, and the rest."""
        name, _, rest = place.partition(b":")
        store = self._stores.get(name.decode("utf-8", "backslashreplace"))
        if store is None:
            raise MaildropBroken(f"{account.name!r} has his mail in the store {name!r}, and [[store]] does not name it")
        return store, rest
