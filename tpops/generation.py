"""
What is made from one configuration, and serves until another one takes its place.

Purpose: drivers, checkers, limits, sinks and factories meet here; each gets plain arguments.  L{tpops.service} gives it
sockets and tells it when to begin and to end.
Order: C{start} with the rights that the process was started with, C{open} with those that it keeps, C{drain},
C{end_sessions}, C{stop}.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from tpops import file_assembly, serving, sinks
from tpops.backend import Backend
from tpops.config.app_passwords import AppPasswords
from tpops.config.schema import Config
from tpops.cred import drivers
from tpops.cred.keys import Keyring
from tpops.cred.masters import Masters
from tpops.cred.realm import Realm
from tpops.delivery.lmtp_service import LMTPService
from tpops.errors import ConfigError
from tpops.events.bus import EventBus
from tpops.events.counters import Counters
from tpops.policy.memory import AnyMemory, octets_of, text_of
from tpops.protocol.capabilities import Offer
from tpops.protocol.oauth import Advice, OAuthBearer, TokenQuestion, XOAuth2
from tpops.protocol.relayed import Relayed, Step
from tpops.protocol.sasl import CramMD5, LoginExchange, Mechanisms, Plain
from tpops.protocol.scram import KeysOf
from tpops.server import channel
from tpops.server.apart import Apart
from tpops.server.certificates import Certificates
from tpops.server.client_certificates import ClientCertificates
from tpops.server.factory import POP3Factory
from tpops.server.listeners import Listener
from tpops.server.offers import Offers
from tpops.server.shared import Shared, no_answers
from tpops.server.strangers import Strangers
from tpops.sight.listeners import SightListeners
from tpops.sight.logs import Logs

if TYPE_CHECKING:
    from tpops.postfix.service import RelayService


@attrs.frozen
class Separation:
    """
    Sessions in processes of their own.

    @ivar link: starts them
    @ivar proofs: what proves a password to it without sending it
    """

    link: Apart
    proofs: frozenset[str]


def without_accounts(config: Config) -> Config:
    """The same configuration for a process that asks another one about accounts."""
    return config.model_copy(update={"accounts": (), "app_passwords": AppPasswords()})


def _relay_service(config: Config, reactor: Any) -> RelayService:
    from tpops.postfix.service import RelayService

    return RelayService(config, reactor)


#: Seconds that a stop waits for sessions that are removing mail.
_STOP_SECONDS = 30.0

#: Seconds that a stop waits for the others, which may be waiting for a lock that somebody else holds.
_STOP_WAITING_SECONDS = 1.0


class Generation:
    """
    See the module.

    @ivar config: the configuration
    @ivar sinks: who is told of logins outside, with the figures of each
    @ivar shared: what its connections have in common
    @ivar logs: its logs
    @param counters: count what happens
    @param memory: what the limits remember
    @param whole: answers for all processes, see L{tpops.sight.site}; None where there is nobody to ask
    @param apart: who starts sessions in processes of their own, None where they are served here
    @param before: the generation whose place it takes; what this process could no longer read stays as it was there
    @raise ConfigError: when something cannot be used as it is configured
    """

    def __init__(
        self,
        config: Config,
        reactor: Any,
        memory: AnyMemory,
        counters: Counters,
        before: Generation | None = None,
        whole: Any = None,
        apart: Separation | None = None,
    ) -> None:
        if config.sessions.apart and apart is None:
            raise ConfigError(['sessions.run_as = "owner" needs twistd, which starts the processes for it'])
        self.config = config
        self._counters = counters
        self._sight = SightListeners(config, whole, reactor)
        self._memory = memory
        self._reactor = reactor
        self._apart = apart
        # Who has no part in verifying passwords has no accounts either.
        self._backend = Backend(config if apart is None else without_accounts(config), reactor)
        self._bus = EventBus((), time.time, reactor, config.pop_before_smtp.ok_wait_seconds)
        self._relay = _relay_service(config, reactor) if config.pop_before_smtp.store else None
        self.logs = Logs()
        self.sinks = sinks.made(config, reactor, self._backend.names.split)
        self._last_login = sinks.last_login(config, reactor)
        self._keyring: Keyring | None = None
        # Keys are often for root alone, whose rights have been given up.
        same = before if before is not None and before.config.tls == config.tls else None
        self._clients: ClientCertificates | None = same._clients if same else serving.client_certificates(config)
        self._certificates: Certificates | None = same._certificates if same else self._make_certificates()
        self.shared = self._make_shared()
        self._lmtp = LMTPService(config, self._backend, reactor, self._tell_delivery)

    def listeners(self) -> Iterator[tuple[Listener, Factory[Any]]]:
        """Where this configuration listens, and what serves there; new factories at each call."""
        for one in self.config.listen:
            factory = POP3Factory(self.shared)
            factory.tls = self.config.tls_mode(one)
            if one.proxy_protocol:
                factory.balancers = [ipaddress.ip_network(network) for network in one.proxy_networks]
            place = Listener(one.address, one.port, one.backlog, int(one.mode, 8), systemd_name=one.systemd_name)
            yield place, factory
        yield from self._lmtp.listeners()
        yield from self._sight.listeners()
        if self._relay is not None:
            yield from self._relay.listeners()

    def load(self) -> None:
        """Load what sessions may need; before rights are given up, for the server's user need not be able to."""
        self._backend.load()

    def start(self) -> None:
        """
        Start what needs the rights that the process was started with.

        @raise ConfigError: when something cannot be used as it is configured
        """
        self._backend.start()

    def open(self) -> None:
        """
        Open the logs, and all else that needs no rights.

        @raise ConfigError: when something cannot be used as it is configured
        """
        self.logs.open(self.config.log, self.config.server.hostname, self._bus, self._reactor)
        self.shared.transcript = self.logs.transcripts
        self._bus.add(self._counters)
        if self._relay is not None:
            self._relay.start()
            self._bus.add(self._relay.sink)
        for sink in self.sinks:
            sink.start()
            self._bus.add(sink)
        if self._last_login is not None:
            self._bus.add(self._last_login)
        self._offer_proofs()
        self._lmtp.start()

    def needing_rights(self) -> list[str]:
        """The accounts sources that need the rights that the process was started with."""
        return [source.name for source in self._backend.sources if source.needs_rights]

    @property
    def busy(self) -> bool:
        """Whether there are sessions, or messages on their way in."""
        return bool(self.shared.connections) or self._lmtp.busy

    def known_as(self, who: str) -> set[str]:
        """Under what failures of a client, or of a name, are counted."""
        return {self._limiter.client(who), text_of(self.shared.whose(octets_of(who)))}

    def queues(self) -> dict[str, int]:
        """What waits."""
        found = {"deliveries": self._lmtp.shared.deliveries.under_way, "events": self._bus.pending()}
        if self.logs.sender is not None:
            found["syslog"] = self.logs.sender.waiting
        return found

    def sink_failures(self) -> dict[str, int]:
        """How often each receiver of events has failed, by name."""
        return dict(self._bus.failures)

    def told(self) -> dict[str, dict[str, int]]:
        """How often each receiver outside was told, and how many notices wait for it, by its name."""
        return {one.name: {**attrs.asdict(one.figures), "waiting": one.waiting} for one in self.sinks}

    def drain(self) -> None:
        """No mail comes in any more, but for what is on its way, and nobody is asked about relaying; sessions go on."""
        self._lmtp.drain()
        if self._relay is not None:
            self._relay.drain()

    def reopen_logs(self) -> None:
        """The log files have been moved away."""
        self.logs.reopen()

    async def end_sessions(self) -> None:
        """End every session without deleting anything; those in UPDATE, and deliveries, come to their end."""
        mail_ends = Deferred.fromCoroutine(self._lmtp.end_sessions())
        connections = self.shared.connections
        for connection in list(connections):
            if not connection.busy or connection.apart is not None:
                connection.close("server shutdown")
        began = self._reactor.seconds()
        patience = _STOP_SECONDS
        while connections and self._reactor.seconds() - began < patience:
            await deferLater(self._reactor, 0.02, lambda: None)
            for connection in list(connections):
                if not connection.busy or connection.interruptible():
                    connection.abort("server shutdown")
            removing = any(not connection.interruptible() for connection in connections)
            patience = _STOP_SECONDS if removing else _STOP_WAITING_SECONDS
        await mail_ends

    async def stop(self) -> None:
        """Let go of everything."""
        if self._oauth is not None:
            self._oauth.stop()
        self._lmtp.stop()
        await sinks.stop([*self.sinks, *([self._last_login] if self._last_login else [])])
        if self._relay is not None:
            await self._relay.stop()
        await self._backend.stop()
        self._bus.close()
        self.logs.close()

    # Parts.

    def _make_shared(self) -> Shared:
        config, backend = self.config, self._backend
        acting = Masters(backend.checker.requestAvatarId, backend.names, **config.masters.settings())
        self._oauth = self._bearer_tokens()
        self._limiter = limiter = serving.limiter(config, self._memory, self._reactor.seconds)
        portal = Portal(
            Realm(backend.checker, backend.maildrops, limiter.login_delay, limiter.admit_user),
            [backend.checker, acting],
        )
        return Shared(
            portal=portal,
            limiter=limiter,
            events=self._bus,
            clock=self._reactor,
            epoch=time.time,
            offers=self._offers(),
            tls_context=self._certificates,
            options=file_assembly.server_options(config),
            bandwidth=file_assembly.bandwidth(config, self._reactor.seconds),
            strangers=Strangers(
                file_assembly.share(config.limits.unauthenticated_connections, config.server.processes)
            ),
            hostname=config.server.hostname,
            consult=self._consult,
            whose=self._backend.names.guessed,
            apart=self._apart.link if self._apart is not None else None,
        )

    def _bearer_tokens(self) -> Any:
        """Who answers the questions of OAUTHBEARER and XOAUTH2, None where they are not wanted."""
        if not self.config.oauth.used or self._apart is not None:
            return None
        oauth = drivers.load("tpops.cred.oauth", "OAuth", "oauth", "[oauth]")
        return oauth(self._backend.names, self._reactor, self._backend.run_in_thread, **self.config.oauth.settings())

    async def _consult(self, question: object) -> object:
        """See L{Shared.consult}."""
        if isinstance(question, Step) and self._apart is not None:
            return await self._apart.link.step(question)
        if isinstance(question, TokenQuestion) and self._oauth is not None:
            return await self._oauth.answer(question)
        if isinstance(question, KeysOf) and self._keyring is not None:
            return await self._keyring.keys(question)
        return await no_answers(question)

    def _offers(self, proven: frozenset[str] = frozenset()) -> Offers:
        """
        What is offered to whom.

        @param proven: "APOP" and the SASL mechanisms that the accounts can use beside their passwords
        """
        protocol, relayed = self.config.protocol, self._apart is not None
        mechanisms: Mechanisms = {b"PLAIN": Plain, b"LOGIN": LoginExchange}
        if "CRAM-MD5" in proven:
            mechanisms[b"CRAM-MD5"] = lambda: CramMD5(self.shared.stamp())
        if self.config.oauth.used:
            advice = Advice(" ".join(self.config.oauth.scopes), self.config.oauth.openid_configuration)
            mechanisms |= {b"OAUTHBEARER": partial(OAuthBearer, advice), b"XOAUTH2": partial(XOAuth2, advice)}
            if relayed:
                mechanisms |= {name: partial(Relayed, name, {}) for name in (b"OAUTHBEARER", b"XOAUTH2")}
        mechanisms.update(channel.scram(proven, {}, relayed))
        base = Offer(
            apop="APOP" in proven,
            greeting=protocol.greeting,
            mechanisms=mechanisms,
            last=protocol.last,
            login_delay=round(self.config.limits.login_delay_seconds),
            implementation=file_assembly.implementation(),
        )
        over_tls = channel.OverTLS(proven, self._clients, self._backend.names.same, relayed)
        return Offers(base, protocol.plaintext, protocol.plaintext_networks, over_tls, apop_only=protocol.apop_only)

    def _make_certificates(self) -> Certificates | None:
        tls = self.config.tls
        return (
            Certificates(tls.certificate, tls.private_key, tls.minimum, self._reactor.seconds, self._clients)
            if tls.certificate
            else None
        )

    def _offer_proofs(self) -> None:
        """What proves a password without sending it; who cannot use such a mechanism had better not see it."""
        proven = self._backend.proofs() if self._apart is None else self._apart.proofs
        if not proven:
            return
        if channel.scram(proven, {}) and self._apart is None:
            self._keyring = Keyring(
                self._backend.sources,
                self._backend.names,
                self._backend.run_in_thread,
                serving.scram_secret(self.config),
                self._backend.app_passwords,
            )
            self._keyring.learn()
        self.shared.offers = self._offers(proven)

    def _tell_delivery(self, event: str, facts: Mapping[str, str | int | float]) -> None:
        if self.logs.events is not None:
            self.logs.events.delivery(event, time.time(), facts)
