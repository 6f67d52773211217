"""
What a bearer token says, and whether that is enough to log in.

Purpose: one set of rules for the claims of a signed token (RFC 7519) and for the answer of an introspection server
(RFC 7662), which uses the same names.
Limits: the claims must come from somebody who is trusted: signatures are for L{tpops.cred.signed_tokens}.
Errors: L{TokenRefused}, whose text is for the log and has nothing of the token but names that were verified.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import attrs

#: Seconds since the epoch that are as good as never.
_END_OF_TIME = 1e15


class TokenRefused(Exception):
    """The token is not good; the text says why."""


class Verifier(Protocol):
    """Somebody who can tell what a token says."""

    async def claims(self, token: str) -> Mapping[str, Any]:
        """
        The claims of a token that is genuine.

        @raise TokenRefused: when it is not
        @raise LookupUnavailable: when that cannot be said now
        """

    def stop(self) -> None:
        """The server ends."""


@attrs.frozen(kw_only=True)
class Rules:
    """
    What must be true of the claims.

    @ivar issuer: who must have issued the token, "" for anybody that is trusted
    @ivar audience: for whom it must have been issued, one of these is enough; empty for anybody
    @ivar scopes: all of these it must have
    @ivar name_claim: the claim with the login name of its owner
    @ivar must_expire: refuse a token that has no end
    @ivar leeway_seconds: how far the clocks may differ
    """

    issuer: str
    audience: tuple[str, ...]
    scopes: tuple[str, ...]
    name_claim: str
    must_expire: bool
    leeway_seconds: float

    def owner(self, claims: Mapping[str, Any], now: float) -> str:
        """
        The login name of the token's owner.

        @param now: seconds since the epoch
        @raise TokenRefused: when a rule is broken
        """
        self._check_times(claims, now)
        if self.issuer and claims.get("iss") != self.issuer:
            raise TokenRefused("the token is of another issuer")
        if self.audience and not _texts(claims.get("aud"), "aud") & set(self.audience):
            raise TokenRefused("the token is for another audience")
        missing = [scope for scope in self.scopes if scope not in _scopes(claims)]
        if missing:
            raise TokenRefused(f"the token has not the scope {missing[0]}")
        name = claims.get(self.name_claim)
        if not isinstance(name, str) or not name:
            raise TokenRefused(f"the token has no claim {self.name_claim} with a name")
        if self.name_claim == "email" and claims.get("email_verified", True) not in (True, "true"):
            raise TokenRefused("the address in the token is not verified")
        return name

    def _check_times(self, claims: Mapping[str, Any], now: float) -> None:
        ends, begins = moment(claims, "exp"), moment(claims, "nbf")
        if ends is None and self.must_expire:
            raise TokenRefused("the token has no end (exp)")
        if ends is not None and ends + self.leeway_seconds <= now:
            raise TokenRefused("the token has expired")
        if begins is not None and begins - self.leeway_seconds > now:
            raise TokenRefused("the token is not valid yet")


def moment(claims: Mapping[str, Any], name: str) -> float | None:
    """
    A time in seconds since the epoch, None where the claim is not there.

    @raise TokenRefused: when it is no number
    """
    value = claims.get(name)
    if value is None:
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (isinstance(value, float) and math.isfinite(value)):
        raise TokenRefused(f"the claim {name} is no number")
    return float(max(-_END_OF_TIME, min(_END_OF_TIME, value)))


def _texts(value: object, name: str) -> set[str]:
    """A claim that is a text or a list of them."""
    if value is None:
        return set()
    several = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in several):
        raise TokenRefused(f"the claim {name} is neither text nor a list of texts")
    return set(several)


def _scopes(claims: Mapping[str, Any]) -> set[str]:
    """RFC 8693 section 4.2 has one text with spaces; others have a list, or call it "scp"."""
    name = "scope" if "scope" in claims else "scp"
    return {word for text in _texts(claims.get(name), name) for word in text.split()}
