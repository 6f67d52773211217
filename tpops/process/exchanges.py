"""
SASL exchanges that the judge conducts: SCRAM, OAUTHBEARER and XOAUTH2.

Purpose: the front passes on what the client says (L{tpops.protocol.relayed}); keys, proofs and tokens are looked at
here, by the same mechanisms as everywhere.  Between two messages an exchange waits under a ticket, which nobody can
guess and which is good once; so is the ticket for the login at the end.
Limits: so many exchanges at a time, the oldest go first; each waits for a limited time.
"""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from tpops import serving
from tpops.backend import Backend
from tpops.config.schema import Config
from tpops.cred import drivers
from tpops.cred.keys import Keyring
from tpops.errors import BadCredentials, CommandError
from tpops.process.records import BadRecord, LoginRecord, based, octets
from tpops.protocol.actions import LoginProven, LoginRejected
from tpops.protocol.oauth import Advice, OAuthBearer, TokenQuestion, XOAuth2
from tpops.protocol.sasl import Ask, Challenge, Exchange, Outcome
from tpops.protocol.scram import DIGESTS, Bindings, KeysOf, Scram
from tpops.server import channel

#: Exchanges and logins that wait, and how long.
MOST_WAITING = 1024
WAIT_SECONDS = 120.0

_TICKET_OCTETS = 18

#: Makes an exchange from the channel bindings of a connection.
_Begin = Callable[[Bindings], Exchange]


class Exchanges:
    """
    See the module.

    @param proofs: what the accounts can prove, see L{Backend.proofs}
    @param taken: takes from a name what is not the account's
    """

    def __init__(
        self, config: Config, backend: Backend, reactor: Any, proofs: frozenset[str], taken: Callable[[bytes], bytes]
    ) -> None:
        self._reactor = reactor
        self._taken = taken
        self._waiting: OrderedDict[bytes, tuple[float, Exchange | LoginProven]] = OrderedDict()
        self._mechanisms: dict[bytes, _Begin] = {}
        self._keyring: Keyring | None = None
        self._oauth: Any = None
        if channel.scram(proofs, {}):
            self._offer_scram(config, backend, proofs)
        if config.oauth.used:
            self._offer_tokens(config, backend, reactor)

    def stop(self) -> None:
        """Let go of everything."""
        if self._oauth is not None:
            self._oauth.stop()

    async def step(self, said: LoginRecord) -> dict[str, object]:
        """
        What becomes of a client's message.

        @raise LookupUnavailable: when that cannot be found out now
        @raise BadRecord: when no front says such a thing
        """
        if said.challenge:
            exchange = self._redeemed(said.challenge)
            if exchange is None:
                return {"malformed": "the exchange has taken too long"}
        else:
            begin = self._mechanisms.get(said.name)
            if begin is None:
                raise BadRecord("it has an unknown mechanism")
            exchange = begin(_bindings(said.target))
        if isinstance(exchange, LoginProven):
            raise BadRecord("it goes on where it has ended")
        try:
            outcome = exchange.respond(said.proof)
            while isinstance(outcome, Ask):
                outcome = outcome.consulted(await self._answer(outcome.question))
        except CommandError as problem:
            return {"malformed": str(problem)}
        return self._told(exchange, outcome)

    def proven(self, ticket: bytes) -> LoginProven:
        """
        Who has proven himself.

        @raise BadCredentials: when nobody has that ticket, or does not have it any more
        """
        found = self._redeemed(ticket)
        if not isinstance(found, LoginProven):
            raise BadCredentials("no such ticket, or it is too old")
        return found

    def _told(self, exchange: Exchange, outcome: Outcome) -> dict[str, object]:
        if isinstance(outcome, Challenge):
            return {"challenge": based(outcome.data), "ticket": based(self._keep(exchange))}
        if isinstance(outcome, LoginProven):
            return {"proven": based(outcome.name), "ticket": based(self._keep(outcome))}
        assert isinstance(outcome, LoginRejected)
        challenge = outcome.challenge
        return {
            "rejected": based(outcome.name),
            "proof": based(outcome.proof[:1024]),
            "why": outcome.why,
            "challenge": None if challenge is None else based(challenge),
        }

    async def _answer(self, question: object) -> object:
        if isinstance(question, KeysOf) and self._keyring is not None:
            return await self._keyring.keys(replace(question, name=self._taken(question.name)))
        assert isinstance(question, TokenQuestion)
        assert self._oauth is not None
        return await self._oauth.answer(replace(question, name=self._taken(question.name) if question.name else b""))

    # Tickets.

    def _keep(self, what: Exchange | LoginProven) -> bytes:
        ticket = secrets.token_bytes(_TICKET_OCTETS)
        self._waiting[ticket] = self._reactor.seconds() + WAIT_SECONDS, what
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popitem(last=False)
        return ticket

    def _redeemed(self, ticket: bytes) -> Exchange | LoginProven | None:
        until, what = self._waiting.pop(ticket, (0.0, None))
        return what if until >= self._reactor.seconds() else None

    # What is offered.

    def _offer_scram(self, config: Config, backend: Backend, proofs: frozenset[str]) -> None:
        secret = serving.scram_secret(config)
        self._keyring = Keyring(backend.sources, backend.names, backend.run_in_thread, secret, backend.app_passwords)
        self._keyring.learn()
        for name, digest in DIGESTS.items():
            if name.decode("ascii") in proofs:
                for plus in (False, True):
                    begin = partial(_scram, digest, plus)
                    self._mechanisms[name + (b"-PLUS" if plus else b"")] = begin

    def _offer_tokens(self, config: Config, backend: Backend, reactor: Any) -> None:
        make = drivers.load("tpops.cred.oauth", "OAuth", "oauth", "[oauth]")
        self._oauth = make(backend.names, reactor, backend.run_in_thread, **config.oauth.settings())
        advice = Advice(" ".join(config.oauth.scopes), config.oauth.openid_configuration)
        self._mechanisms[b"OAUTHBEARER"] = lambda _: OAuthBearer(advice)
        self._mechanisms[b"XOAUTH2"] = lambda _: XOAuth2(advice)


def _scram(digest: str, plus: bool, bindings: Bindings) -> Exchange:
    return Scram(digest, plus, bindings, channel.nonce)


def packed(bindings: Bindings) -> bytes:
    """Channel bindings for a record."""
    return json.dumps({kind.decode("ascii"): based(value) for kind, value in bindings.items()}).encode("ascii")


def _bindings(text: bytes) -> Bindings:
    """The same the other way round; raises BadRecord."""
    try:
        found = json.loads(text or b"{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadRecord("its channel bindings are none")
    return {kind.encode("utf-8", "replace"): octets(value) for kind, value in found.items()}
