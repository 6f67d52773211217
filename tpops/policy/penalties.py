"""
Penalties for failed logins: who guesses waits longer and longer.

Purpose: each failure from one client, or for one name from anywhere, doubles the time until the answer, from
C{first_seconds} up to C{most_seconds}.  The same wrong password for the same name again does not: that is a mail
program with an old password, and not somebody who guesses.
A right password is never delayed, so nobody can lock another one out.
Limits: passwords are not kept, only keyed hashes of them, with a key of this process.  At most L{MOST_ENTRIES} clients
and as many names are remembered; the oldest is forgotten first, and each L{FORGET_SECONDS} after its last failure.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Hashable

import attrs

#: Clients, and names, that are remembered.
MOST_ENTRIES = 50_000

#: Seconds without a failure after which all is forgotten.
FORGET_SECONDS = 300.0

#: Wrong passwords that are recognised when they come again.
_KNOWN = 8


@attrs.define(slots=True)
class _Entry:
    count: int = 0
    last: float = 0.0
    known: tuple[bytes, ...] = ()


class Penalties:
    """
    See the module.

    @ivar first_seconds: for the first failure, and for one that does not count
    @param most_seconds: never more than this
    @param seconds: a clock that never goes back
    """

    def __init__(self, first_seconds: float, most_seconds: float, seconds: Callable[[], float]) -> None:
        self.first_seconds = first_seconds
        self._most_seconds = max(first_seconds, most_seconds)
        self._seconds = seconds
        self._key = secrets.token_bytes(32)
        self._clients: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._names: OrderedDict[Hashable, _Entry] = OrderedDict()

    def failed(self, client: str, name: bytes, proof: bytes) -> float:
        """
        A login failed: how many seconds it should last.

        @param client: what counts as one client
        @param name: the name that was tried
        @param proof: the wrong password
        """
        mark = hashlib.blake2b(name + b"\0" + proof, key=self._key, digest_size=16).digest()
        count = max(self._count(self._clients, client, mark), self._count(self._names, name, mark))
        # 2 to the 30th is more than any limit; beyond that the number would only grow.
        return min(self._most_seconds, self.first_seconds * 2.0 ** min(count - 1, 30))

    def _count(self, table: OrderedDict[Hashable, _Entry], key: Hashable, mark: bytes) -> int:
        now = self._seconds()
        while table and now - next(iter(table.values())).last > FORGET_SECONDS:
            table.popitem(last=False)
        entry = table.pop(key, None) or _Entry()
        table[key] = entry
        entry.last = now
        if mark not in entry.known:
            entry.count += 1
            entry.known = (*entry.known[1 - _KNOWN :], mark)
        if len(table) > MOST_ENTRIES:
            table.popitem(last=False)
        return entry.count
