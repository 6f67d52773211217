"""
Asking an authorization server what a token says (RFC 7662).

Purpose: for tokens that say nothing by themselves, or that may be withdrawn.
Limits: what a good token says is remembered for C{cache_ttl_seconds} at most, and never beyond its end; of the token
only a digest with a key of this process is kept.  A withdrawn token may be accepted that long.
Errors: LookupUnavailable when the server does not answer as the RFC says; "not active" comes from the server alone.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tpops.cred.claims import TokenRefused, moment
from tpops.errors import LookupUnavailable

#: Tokens that are remembered.
MOST_TOKENS = 10_000


class Introspection:
    """
    See the module and L{tpops.cred.claims.Verifier}.

    @param ask: sends the form, gives the document
    @param epoch: seconds since the epoch
    """

    def __init__(
        self,
        ask: Callable[[Mapping[str, str]], Awaitable[object]],
        epoch: Callable[[], float],
        cache_ttl_seconds: float,
    ) -> None:
        self._ask = ask
        self._epoch = epoch
        self._cache_ttl_seconds = cache_ttl_seconds
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, tuple[float, Mapping[str, Any]]] = OrderedDict()

    async def claims(self, token: str) -> Mapping[str, Any]:
        """See L{tpops.cred.claims.Verifier.claims}."""
        mark = hashlib.blake2b(token.encode("ascii"), key=self._key, digest_size=32).digest()
        now = self._epoch()
        until, claims = self._known.get(mark, (0.0, {}))
        # A clock that was set back must not make it longer.
        if now < until <= now + self._cache_ttl_seconds:
            return claims
        self._known.pop(mark, None)
        document = await self._ask({"token": token, "token_type_hint": "access_token"})
        if not isinstance(document, dict) or not isinstance(document.get("active"), bool):
            raise LookupUnavailable('the introspection server\'s answer has no "active" (RFC 7662)')
        if not document["active"]:
            raise TokenRefused("the token is not active")
        self._remember(mark, document, now)
        return document

    def stop(self) -> None:
        """The server ends."""

    def _remember(self, mark: bytes, claims: Mapping[str, Any], now: float) -> None:
        ends = moment(claims, "exp")
        until = now + self._cache_ttl_seconds
        self._known[mark] = (until if ends is None else min(until, ends), claims)
        if len(self._known) > MOST_TOKENS:
            self._known.popitem(last=False)
