"""
Where a user's mail lies: templates such as C{maildir:/var/mail/$(domain)/$(local_part)/Maildir}.

Purpose: one syntax for all drivers: C{$(user) $(local_part) $(domain) $(home)} as tpop3d has them, C{$(user[0])} for
one character of a value (C{[-1]} is the last), and a C{~} at the beginning for the home directory.  C{mysql:} and the
name of an owner is mail in a database; the name may be left out where it is the login name.  C{plugin:}, the name of a
store of another package, a colon and a place is mail there.  Several places may be
written one behind the other, parted by spaces; the first where there is something is the user's.  An account that
has a location of its own does not use the configured one.
Folders: C{$(folder)} is the folder that the user asks for; a location with it is for users who ask for one, and must be
there, the others are for those who do not.  Where no location has it, the folders of a Maildir are those in it, and
other kinds have none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Protocol

import attrs
from zope.interface import implementer

from tpops.errors import MaildropBroken, NoSuchFolder
from tpops.interfaces import IAppendable, IIncomingMessage, IMaildrop, IMaildropDriver, IOpensForCaller, IRestorable
from tpops.mailbox.folder_names import is_inbox, path_of
from tpops.mailbox.quota import Quota
from tpops.model import Account, Caller, Envelope

#: Parts a login name into local part and domain.
Split = Callable[[str], tuple[str, str]]

#: See L{IAppendable.append}; the second argument is as in L{Store.open_at}.
AppendAt = Callable[[Account, bytes, IIncomingMessage, Envelope], Awaitable[bytes]]

#: See L{IRestorable.restore}; the second argument is as in L{Store.open_at}.
RestoreAt = Callable[[Account, bytes, IIncomingMessage, bytes, float], Awaitable[None]]

#: See L{IOpensForCaller.open_for}; the second argument is as in L{Store.open_at}.
OpenFor = Callable[[Account, bytes, Caller], Awaitable[IMaildrop]]

#: Kinds of maildrops that are files.
FILES = ("maildir", "mbox")

#: All kinds.
KINDS = (*FILES, "mysql", "proxy", "plugin")

VARIABLES = ("user", "local_part", "domain", "home", "folder")

_VARIABLE = re.compile(r"\$\(([^)\[]*)(?:\[(-?\d{1,3})\])?\)")
_BETWEEN = re.compile(rf"\s+(?=(?:{'|'.join(KINDS)}):)")


@attrs.frozen(slots=True)
class Location:
    """
    A place for mail.

    @ivar kind: one of L{KINDS}
    @ivar path: of the maildrop, or what else stands behind the colon
    """

    kind: str
    path: str


def problem_with(templates: str) -> str | None:
    """What is wrong with a list of templates, for the operator; None when it is good."""
    for template in _BETWEEN.split(templates):
        kind, colon, path = template.partition(":")
        if not colon or kind not in KINDS:
            return "must begin with " + " or ".join(f"'{one}:'" for one in KINDS)
        if kind in FILES and not path.startswith(("/", "~/", "$(home)/")):
            return f"needs an absolute path, '~/...' or '$(home)/...' behind '{kind}:'"
        for name, _ in _VARIABLE.findall(path):
            if name not in VARIABLES:
                return f"knows no variable $({name}); there are " + " ".join(f"$({one})" for one in VARIABLES)
    return None


def expand(templates: str, account: Account, split: Split) -> tuple[Location, ...]:
    """
    Where an account's mail may lie, or the folder that he asks for, in order.

    @param split: parts a name into local part and domain
    @raise MaildropBroken: when the account has no home, or no domain, and a template needs one
    @raise NoSuchFolder: when it cannot be a folder's name
    """
    templates = account.maildrop or templates
    wrong = problem_with(templates)
    if wrong is not None:
        raise MaildropBroken(f"location {templates!r} of {account.name!r} {wrong}")
    return tuple(_expand(template, account, split) for template in _fitting(templates, account))


def has_folders(template: str) -> bool:
    """Whether a template is for those who ask for a folder."""
    return any(name == "folder" for name, _ in _VARIABLE.findall(template))


def in_folder(account: Account) -> bool:
    """Whether he asks for another folder than the maildrop itself."""
    return bool(account.folder) and not is_inbox(account.folder)


def _fitting(templates: str, account: Account) -> list[str]:
    """The templates that are for this account, with a folder or without."""
    every = _BETWEEN.split(templates)
    some = [one for one in every if has_folders(one)]
    if in_folder(account):
        return some or every
    rest = [one for one in every if one not in some]
    if not rest:
        raise MaildropBroken(f"location {templates!r} is for folders, and {account.name!r} has named none")
    return rest


def _expand(template: str, account: Account, split: Split) -> Location:
    kind, _, path = template.partition(":")
    if kind == "mysql" and not path:
        path = "$(user)"
    if path.startswith("~/"):
        path = "$(home)" + path[1:]
    return Location(kind, _VARIABLE.sub(lambda found: _value(found[1], found[2], account, split, template), path))


def _value(name: str, index: str | None, account: Account, split: Split, template: str) -> str:
    local_part, domain = split(account.name)
    values = {"user": account.name, "local_part": local_part, "domain": domain, "home": account.home or ""}
    value = path_of(account.folder) if name == "folder" else values[name]
    if not value:
        raise MaildropBroken(f"location {template!r} needs $({name}), and {account.name!r} has none")
    if index is None:
        return value
    try:
        return value[int(index)]
    except IndexError:
        raise MaildropBroken(f"location {template!r} needs $({name}[{index}]), and {value!r} is too short") from None


class Store(Protocol):
    """
    Where maildrops of one kind are.

    One that has to be started and stopped has C{start()} and C{async stop()} as well.
    One that looks at the folder of an account itself has C{has_folders}.
    One that takes new mail has C{append_at(account, place, message, envelope)} as well; see L{IAppendable.append}.
    One that can use what a login brings along has C{open_for(account, place, caller)}; see L{IOpensForCaller.open_for}.
    """

    async def open_at(self, account: Account, place: bytes) -> IMaildrop:
        """See L{IMaildropDriver.open_maildrop}; C{place} is what the location has behind the colon, expanded."""


@implementer(IMaildropDriver, IAppendable, IOpensForCaller, IRestorable)
class Maildrops:
    """
    The maildrops of all kinds, each where its account's location says.

    @param templates: the configured location
    @param stores: by kind
    @param quota: of accounts that have none of their own, and no word that they have none
    @param makers: make stores of other kinds when somebody has his mail there; such a store needs no start
    """

    def __init__(
        self,
        templates: str,
        split: Split,
        stores: Mapping[str, Store],
        quota: Quota | None = None,
        makers: Mapping[str, Callable[[], Store]] | None = None,
    ) -> None:
        self._templates = templates
        self._split = split
        self._stores = dict(stores)
        self._quota = quota
        self._makers = dict(makers or {})
        self.places = lru_cache(maxsize=4096)(self._places)

    def load(self) -> None:
        """Make the stores that are not made yet."""
        while self._makers:
            kind, make = self._makers.popitem()
            self._stores[kind] = make()

    def start(self) -> None:
        """
        Start the stores that need it.

        @raise ConfigError: when something cannot be used as it is configured
        """
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

    async def open_maildrop(self, account: Account) -> IMaildrop:
        """See L{IMaildropDriver.open_maildrop}."""
        account, kind, place = self.where(account)
        return await self._store(kind, account).open_at(account, place)

    async def open_for(self, account: Account, caller: Caller) -> IMaildrop:
        """See L{IOpensForCaller.open_for}."""
        account, kind, place = self.where(account)
        store = self._store(kind, account)
        open_for: OpenFor | None = getattr(store, "open_for", None)
        if open_for is None:
            return await store.open_at(account, place)
        return await open_for(account, place, caller)

    def where(self, account: Account) -> tuple[Account, str, bytes]:
        """
        The first location where there is something; its kind looks at the folder that is in the account then.

        @raise NoSuchFolder: when there is no folder that is asked for
        """
        if not in_folder(account):
            return account, *self.first(account)
        if has_folders(account.maildrop or self._templates):
            for kind, place in self.places(account):
                if kind not in FILES or os.path.lexists(place):
                    return attrs.evolve(account, folder=""), kind, place
            raise NoSuchFolder(f"{account.name!r} has no folder {account.folder!r}")
        kind, place = self.first(account)
        if not getattr(self._store(kind, account), "has_folders", False):
            raise NoSuchFolder(f"{account.name!r} has his mail in a '{kind}:' location, which has no folders")
        return account, kind, place

    async def append(self, account: Account, message: IIncomingMessage, envelope: Envelope) -> bytes:
        """See L{IAppendable.append}."""
        if in_folder(account):
            raise NoSuchFolder(f"new mail of {account.name!r} cannot go to the folder {account.folder!r}")
        kind, place = self.first(account)
        append_at: AppendAt | None = getattr(self._store(kind, account), "append_at", None)
        if append_at is None:
            raise MaildropBroken(f"{account.name!r} has his mail in a '{kind}:' location, which takes no new mail")
        if self._quota:
            octets, messages = account.quota_octets, account.quota_messages
            account = attrs.evolve(
                account,
                quota_octets=self._quota.octets if octets is None else octets,
                quota_messages=self._quota.messages if messages is None else messages,
            )
        return await append_at(account, place, message, envelope)

    def remembered(self, kind: str, place: bytes) -> bytes:
        """A file of ours about a place; C{""} of a kind that has none beside the mail."""
        remembered: Callable[[bytes], bytes] | None = getattr(self._stores.get(kind), "remembered", None)
        return remembered(place) if remembered is not None else b""

    def _store(self, kind: str, account: Account) -> Store:
        if kind in self._makers:
            self._stores[kind] = self._makers.pop(kind)()
        store = self._stores.get(kind)
        if store is None:
            raise MaildropBroken(
                f"{account.name!r} has his mail in a '{kind}:' location, and [{kind}] is not configured"
            )
        return store

    async def restore(self, account: Account, message: IIncomingMessage, unique_id: bytes, at: float) -> None:
        """See L{IRestorable.restore}."""
        kind, place = self.first(account)
        restore_at: RestoreAt | None = getattr(self._store(kind, account), "restore_at", None)
        if restore_at is None:
            raise MaildropBroken(f"{account.name!r} has his mail in a '{kind}:' location, which keeps no unique-ids")
        await restore_at(account, place, message, unique_id, at)

    def first(self, account: Account) -> tuple[str, bytes]:
        """Kind and place of the first location where there is something; where there is nothing, the first of all."""
        places = self.places(account)
        if len(places) > 1:
            for kind, place in places:
                if kind not in FILES or os.path.lexists(place):
                    return kind, place
        return places[0]

    def _places(self, account: Account) -> tuple[tuple[str, bytes], ...]:
        return tuple((one.kind, os.fsencode(one.path)) for one in expand(self._templates, account, self._split))
