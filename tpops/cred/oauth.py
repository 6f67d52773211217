"""
Bearer tokens as a means to log in: the server's side of OAUTHBEARER (RFC 7628) and XOAUTH2.

Purpose: answers the one question of these mechanisms, whether a token is good and whose it is.  Signed tokens are
verified with the issuer's public keys; about others an introspection server is asked.
Limits: the name that the client gives must be that of the token's owner; both are made canonical as any login name.
A folder may stand in the name that the client gives; an owner with one in his name is nobody.
Errors: a token that is not good is an answer; LookupUnavailable is raised where that cannot be said.
Nothing of a token is logged.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import attrs

from tpops.cred.claims import Rules, TokenRefused, Verifier
from tpops.cred.hashes import RunInThread
from tpops.cred.introspection import Introspection
from tpops.cred.names import LoginNames
from tpops.cred.password_file import read_secret
from tpops.cred.signed_tokens import SignedTokens
from tpops.cred.token_keys import Keys, KeysAtAddress, KeysInFile, parse_octets
from tpops.cred.web import Web, credentials
from tpops.errors import BadCredentials, ConfigError, LookupUnavailable
from tpops.protocol.oauth import TokenAnswer, TokenQuestion
from tpops.web import trust


@attrs.frozen(kw_only=True)
class Settings:
    """The keys of [oauth] that are about tokens."""

    jwks_file: str
    jwks_url: str
    introspection_url: str
    client_id: str
    client_secret: str = attrs.field(repr=False)
    client_secret_file: str
    ca_file: str
    issuer: str
    audience: tuple[str, ...]
    algorithms: tuple[str, ...]
    scopes: tuple[str, ...]
    name_claim: str
    timeout_seconds: float
    leeway_seconds: float
    refetch_seconds: float
    cache_ttl_seconds: float


class OAuth:
    """
    See the module.

    @param names: makes names canonical
    @param reactor: for requests
    @param run_in_thread: for big files
    @param keys: L{Settings}, by name
    @raise ConfigError: when a file that is named cannot be used
    """

    def __init__(self, names: LoginNames, reactor: Any, run_in_thread: RunInThread, **keys: Any) -> None:
        settings = Settings(**keys)
        self._names = names
        self._verifier = _verifier(settings, reactor, run_in_thread)
        self._rules = Rules(
            issuer=settings.issuer,
            audience=settings.audience,
            scopes=settings.scopes,
            name_claim=settings.name_claim,
            must_expire=not settings.introspection_url,
            leeway_seconds=settings.leeway_seconds,
        )

    async def answer(self, question: TokenQuestion) -> TokenAnswer:
        """
        Whether the token is good, and whose it is.

        @raise LookupUnavailable: when that cannot be said now
        """
        try:
            claims = await self._verifier.claims(question.token.decode("ascii"))
            name = self._rules.owner(claims, time.time())
            # JSON may have half a character; that is nobody's name.
            owner = self._names.whole(name.encode("utf-8", "surrogatepass"))
            wanted, folder = self._names.parted(question.name) if question.name else (owner, "")
            if wanted != owner:
                raise TokenRefused(f"the token is of {owner}")
        except (TokenRefused, BadCredentials) as refused:
            return TokenAnswer(b"", str(refused))
        return TokenAnswer(question.name if folder else owner.encode())

    def stop(self) -> None:
        """The server ends."""
        self._verifier.stop()


def _verifier(settings: Settings, reactor: Any, run_in_thread: RunInThread) -> Verifier:
    """Who tells what a token says."""
    web = Web(reactor, settings.ca_file, settings.timeout_seconds)
    if settings.introspection_url:
        secret = _secret(settings.client_secret_file) if settings.client_secret_file else settings.client_secret
        authorization = credentials(settings.client_id, secret) if settings.client_id else ""
        ask = partial(web.json, settings.introspection_url, authorization=authorization)
        return Introspection(ask, time.time, settings.cache_ttl_seconds)
    if settings.jwks_url:
        fetch = partial(web.json, settings.jwks_url)
        found: Keys = KeysAtAddress(fetch, reactor.seconds, settings.refetch_seconds)
    else:
        found = KeysInFile(settings.jwks_file, run_in_thread, reactor.seconds)
    return SignedTokens(found, settings.algorithms)


def problems(jwks_file: str, client_secret_file: str, ca_file: str) -> list[str]:
    """What is wrong with the files of [oauth], one line each, for the operator.  Blocks."""
    found: list[str] = []
    try:
        trust(ca_file)
        if client_secret_file:
            _secret(client_secret_file)
    except ConfigError as problem:
        found += problem.problems
    if jwks_file:
        try:
            with open(jwks_file, "rb") as file:
                parse_octets(jwks_file, file.read())
        except OSError as problem:
            found.append(f"cannot read {jwks_file}: {problem.strerror}")
        except LookupUnavailable as problem:
            found.append(str(problem))
    return found


def _secret(path: str) -> str:
    """Our password at the introspection server."""
    secret = read_secret(path, "oauth.client_secret_file")
    if not secret.isascii() or not secret.isprintable():
        raise ConfigError([f"oauth.client_secret_file: {path} must have ASCII characters in its first line"])
    return secret
