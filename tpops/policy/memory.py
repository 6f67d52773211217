"""
What the limits remember, for one process.

Purpose: who is connected, who has logged in when, and who has failed to; apart from the limits themselves, so that it
outlives them when the configuration is read again.  L{tpops.policy.shared} does the same for several processes.
Limits: at most L{MOST_NAMES} logins, and L{MOST_ENTRIES} clients and as many names that have failed, are remembered;
beyond that the oldest is forgotten.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from typing import NamedTuple, Protocol

import attrs
from zope.interface import implementer

from tpops.errors import LimitReached
from tpops.interfaces import ITicket

#: Users whose last login is remembered.
MOST_NAMES = 100_000

#: Clients, and names, whose failures are remembered.
MOST_ENTRIES = 50_000

#: Seconds without a failure after which all is forgotten.
FORGET_SECONDS = 300.0

#: What a user is told who has too many sessions.
PER_USER = "too many connections of this user, close others or try again later"

#: Wrong passwords that are recognised when they come again.
KNOWN = 8


class AnyMemory(Protocol):
    """What limits need."""

    @property
    def open_connections(self) -> int:
        """Places that are taken."""

    def enter(self, key: str | None, most: int, most_of_key: int) -> ITicket:
        """
        Give a connection a place.

        @param key: what it is counted under beside all together, None for nothing
        @param most: connections together, 0 for any
        @param most_of_key: those of this key
        @raise LimitReached: when there is none
        """

    def enter_user(self, user: str, client: str | None, most: int, most_of_client: int) -> ITicket:
        """
        Give a session of a user a place.

        @param client: what it is counted under beside the user, None for nothing
        @param most: sessions of the user, 0 for any
        @param most_of_client: those of the user and this client
        @raise LimitReached: when there is none
        """

    def login(self, name: str, now: float, delay: float) -> float | None:
        """Remember a login, unless the last one was less than C{delay} seconds ago: how long ago it was."""

    def failed(self, client: str, name: bytes, proof: bytes, now: float) -> int:
        """Remember a failure: how many of this client, or of this name, there have been; the greater number."""

    def penalties(self, now: float) -> list[Penalty]:
        """Who has failed to log in, as far as this process knows him by name."""

    def forgive(self, key: str) -> bool:
        """Forget the failures of a client or of a name; whether there were any."""


class Penalty(NamedTuple):
    """
    Somebody who has failed to log in.

    @ivar kind: "client" or "name"
    @ivar key: an address, a prefix or a name
    @ivar failures: how many count
    @ivar seconds: how long ago the last one was
    """

    kind: str
    key: str
    failures: int
    seconds: float


@implementer(ITicket)
class _Ticket:
    """The place of one connection."""

    __slots__ = ("_key", "_memory")

    def __init__(self, memory: Memory, key: str | None) -> None:
        self._memory: Memory | None = memory
        self._key = key

    def release(self) -> None:
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.leave(self._key)


@implementer(ITicket)
class _UserTicket:
    """The place of one session of a user."""

    __slots__ = ("_keys", "_memory")

    def __init__(self, memory: Memory, keys: tuple[tuple[str, str], ...]) -> None:
        self._memory: Memory | None = memory
        self._keys = keys

    def release(self) -> None:
        memory, self._memory = self._memory, None
        if memory is not None:
            for key in self._keys:
                memory.leave_user(key)


@attrs.define(slots=True)
class _Failures:
    count: int = 0
    last: float = 0.0
    known: tuple[bytes, ...] = ()


class Memory:
    """
    See the module, and L{AnyMemory}.

    @ivar by_key: connections of each key
    @ivar by_user: sessions of each user, under ("", user); and of each user at each client, under (client, user)
    @ivar last_logins: when each user has logged in last, the oldest first
    @ivar clients: failures of each client, the oldest first
    @ivar names: failures of each name, the oldest first
    """

    def __init__(self) -> None:
        self.open_connections = 0
        self.by_key: dict[str, int] = {}
        self.by_user: dict[tuple[str, str], int] = {}
        self.last_logins: dict[str, float] = {}
        self.clients: OrderedDict[str | bytes, _Failures] = OrderedDict()
        self.names: OrderedDict[str | bytes, _Failures] = OrderedDict()
        self._secret = secrets.token_bytes(32)

    def enter(self, key: str | None, most: int, most_of_key: int) -> ITicket:
        if 0 < most <= self.open_connections:
            raise all_taken(self.open_connections, most)
        if key is not None:
            count = self.by_key.get(key, 0)
            if count >= most_of_key:
                raise taken_by(key, count, most_of_key)
            self.by_key[key] = count + 1
        self.open_connections += 1
        return _Ticket(self, key)

    def leave(self, key: str | None) -> None:
        """A connection has ended."""
        self.open_connections -= 1
        if key is not None:
            count = self.by_key[key] - 1
            if count:
                self.by_key[key] = count
            else:
                del self.by_key[key]

    def enter_user(self, user: str, client: str | None, most: int, most_of_client: int) -> ITicket:
        keys = (("", user),) if client is None else (("", user), (client, user))
        for limit, key in zip((most, most_of_client), keys, strict=False):
            count = self.by_user.get(key, 0)
            if 0 < limit <= count:
                raise taken_by_user(user, key[0], count, limit)
        for key in keys:
            self.by_user[key] = self.by_user.get(key, 0) + 1
        return _UserTicket(self, keys)

    def leave_user(self, key: tuple[str, str]) -> None:
        """A session of a user has ended."""
        count = self.by_user[key] - 1
        if count:
            self.by_user[key] = count
        else:
            del self.by_user[key]

    def login(self, name: str, now: float, delay: float) -> float | None:
        logins = self.last_logins
        last = logins.get(name)
        if last is not None and 0 <= now - last < delay:
            return now - last
        logins.pop(name, None)
        logins[name] = now
        # The login that was just let through is in there and stays.
        while logins[oldest := next(iter(logins))] <= now - delay or len(logins) > MOST_NAMES:
            del logins[oldest]
        return None

    def failed(self, client: str, name: bytes, proof: bytes, now: float) -> int:
        mark = mark_of(self._secret, name, proof)
        return max(self._count(self.clients, client, mark, now), self._count(self.names, name, mark, now))

    def penalties(self, now: float) -> list[Penalty]:
        return [
            Penalty(kind, text_of(key), entry.count, now - entry.last)
            for kind, table in (("client", self.clients), ("name", self.names))
            for key, entry in table.items()
            if now - entry.last <= FORGET_SECONDS
        ]

    def forgive(self, key: str) -> bool:
        client = self.clients.pop(key, None)
        name = self.names.pop(octets_of(key), None)
        return not client is name is None

    def _count(self, table: OrderedDict[str | bytes, _Failures], key: str | bytes, mark: bytes, now: float) -> int:
        while table and now - next(iter(table.values())).last > FORGET_SECONDS:
            table.popitem(last=False)
        entry = table.pop(key, None) or _Failures()
        table[key] = entry
        entry.last = now
        if mark not in entry.known:
            entry.count += 1
            entry.known = (*entry.known[1 - KNOWN :], mark)
        if len(table) > MOST_ENTRIES:
            table.popitem(last=False)
        return entry.count


def mark_of(secret: bytes, name: bytes, proof: bytes) -> bytes:
    """By what a wrong password of a name is recognised; it is not kept itself."""
    return hashlib.blake2b(name + b"\0" + proof, key=secret, digest_size=16).digest()


def text_of(key: str | bytes) -> str:
    """A client's or a name's key as text; L{octets_of} is the way back."""
    return key if isinstance(key, str) else key.decode("utf-8", "surrogateescape")


def octets_of(text: str) -> bytes:
    """A name as it is counted."""
    return text.encode("utf-8", "surrogateescape")


def all_taken(count: int, most: int) -> LimitReached:
    """There is no place for anybody."""
    return LimitReached("connections", f"{count} connections, at most {most}")


def taken_by(key: str, count: int, most: int) -> LimitReached:
    """There is no further place for this client."""
    return LimitReached("connections_per_address", f"{count} connections from {key}, at most {most}")


def taken_by_user(user: str, client: str, count: int, most: int) -> LimitReached:
    """There is no further place for this user; or for him at this client, where that is not ""."""
    if client:
        why = f"{count} connections of {user} from {client}, at most {most}"
        return LimitReached("connections_per_user_and_address", why, PER_USER)
    return LimitReached("connections_per_user", f"{count} connections of {user}, at most {most}", PER_USER)
