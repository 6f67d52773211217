"""
Signed tokens (JWS and JWT, RFC 7515, RFC 7519, RFC 8725).

Purpose: is the signature of one of our issuer's keys, and what does the token say?
Limits: public-key signatures of the algorithms that the operator allows; whatever else the token says of itself counts
for nothing.  Headers that would change the meaning of the signature ("crit", "b64") are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from tpops.cred.claims import TokenRefused
from tpops.cred.token_keys import Keys


class SignedTokens:
    """
    See the module and L{tpops.cred.claims.Verifier}.

    @param keys: finds the keys
    @param algorithms: those that are allowed
    """

    def __init__(self, keys: Keys, algorithms: Sequence[str]) -> None:
        self._keys = keys
        self._algorithms = frozenset(algorithms)
        self._jws = jwt.PyJWS()

    async def claims(self, token: str) -> Mapping[str, Any]:
        """See L{tpops.cred.claims.Verifier.claims}."""
        header = self._header(token)
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise TokenRefused("the token is signed with an algorithm that is not allowed")
        if "crit" in header or "b64" in header:
            raise TokenRefused("the token has a header that is not supported")
        keys = await self._keys.find(header.get("kid", ""), algorithm)
        if not keys:
            raise TokenRefused("the token is signed with an unknown key")
        for key in keys:
            try:
                return _object(self._jws.decode(token, key.public, [algorithm]))
            except jwt.InvalidSignatureError:
                continue
            except jwt.PyJWTError:
                break
        raise TokenRefused("the signature of the token is wrong")

    def stop(self) -> None:
        """See L{tpops.cred.claims.Verifier.stop}."""
        self._keys.stop()

    def _header(self, token: str) -> dict[str, Any]:
        try:
            return self._jws.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenRefused("the token is no signed token (JWT)") from None


def _object(payload: bytes) -> Mapping[str, Any]:
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise TokenRefused("the token holds no claims")
    return claims
