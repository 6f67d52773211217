"""
Who may see the status page.

Purpose: a token, or a cookie that is made from it when somebody has given it: C{EXPIRES.MAC}, in hexadecimal digits.
Every process that knows the token accepts the cookies of the others, and another token makes all of them void.
Limits: whoever has tried L{MOST_TRIES} wrong ones (an address, or an IPv6 network of 64 bits) gets one more in
L{TRY_SECONDS}; that is so in each process, and L{MOST_CLIENTS} of them are remembered.  Cookies that are right stay so
meanwhile.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import ipaddress
import re
from collections import OrderedDict
from collections.abc import Callable

#: Seconds that a cookie holds.
COOKIE_SECONDS = 12 * 3600

#: Wrong tries at once, and seconds after which there is one more.
MOST_TRIES = 10
TRY_SECONDS = 6.0

#: Clients whose wrong tries are remembered.
MOST_CLIENTS = 1000

_COOKIE = re.compile(rb"([0-9a-f]{1,12})\.([0-9a-f]{64})")


class Verdict(enum.Enum):
    """What is said to who wants in."""

    RIGHT = "right"
    NOTHING = "nothing given"
    WRONG = "wrong"
    WAIT = "too many wrong tries"


class Gate:
    """
    See the module.

    @param token: who knows it may see
    @param epoch: the time since the epoch, for cookies
    @param seconds: a clock that never goes back, for tries
    """

    def __init__(self, token: str, epoch: Callable[[], float], seconds: Callable[[], float]) -> None:
        self._digest = _digest(token.encode())
        self._key = hashlib.blake2b(token.encode(), person=b"tpops status", digest_size=32).digest()
        self._epoch = epoch
        self._seconds = seconds
        #: Wrong tries of a client that count, and when that was so; the oldest first.
        self._tries: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def token(self, given: bytes, host: str) -> Verdict:
        """
        Whether a token is right.

        @param host: the client's address, "" for a UNIX socket
        """
        if not self._may_try(host):
            return Verdict.WAIT
        return self._said(hmac.compare_digest(_digest(given), self._digest), host)

    def cookie(self) -> bytes:
        """A cookie for who has given the token."""
        expires = b"%x" % int(self._epoch() + COOKIE_SECONDS)
        return expires + b"." + self._mac(expires)

    def knows(self, cookie: bytes, host: str) -> Verdict:
        """Whether a cookie is one of ours; one that has expired is no try."""
        found = _COOKIE.fullmatch(cookie)
        if found is None or not 0 <= int(found[1], 16) - self._epoch() <= COOKIE_SECONDS:
            return Verdict.NOTHING
        if hmac.compare_digest(found[2], self._mac(found[1])):
            return Verdict.RIGHT
        if not self._may_try(host):
            return Verdict.WAIT
        return self._said(False, host)

    def _mac(self, expires: bytes) -> bytes:
        return hmac.new(self._key, expires, hashlib.sha256).hexdigest().encode()

    def _said(self, right: bool, host: str) -> Verdict:
        if right:
            return Verdict.RIGHT
        client = _client(host)
        self._tries[client] = (self._count(client) + 1, self._seconds())
        self._tries.move_to_end(client)
        if len(self._tries) > MOST_CLIENTS:
            self._tries.popitem(last=False)
        return Verdict.WRONG

    def _may_try(self, host: str) -> bool:
        return self._count(_client(host)) <= MOST_TRIES - 1

    def _count(self, client: str) -> float:
        count, at = self._tries.get(client, (0.0, 0.0))
        return max(0.0, count - (self._seconds() - at) / TRY_SECONDS)


def _digest(token: bytes) -> bytes:
    """Of the same length whatever the token."""
    return hashlib.blake2b(token).digest()


def _client(host: str) -> str:
    """What tries are counted under."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
