"""
POP before SMTP in the running server: the store, the sink that writes to it, and the services that read it.

Purpose: made from the configuration; the store is looked at when rights have been given up.  Every
L{PURGE_SECONDS} what has expired is removed.
Limits: the store may be out of order at the start and at any time: POP3 goes on, and nobody may relay.
"""

from __future__ import annotations

import grp
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from tpops.config.schema import Config
from tpops.db.relay import StoreFailed
from tpops.errors import ConfigError
from tpops.events.pop_before_smtp import PopBeforeSMTP
from tpops.postfix import stores
from tpops.postfix.answering import AnsweringFactory, Questions
from tpops.postfix.map_file import MapFailed, MapFile
from tpops.postfix.policy_server import PolicyQuestions
from tpops.postfix.relaying import Relaying
from tpops.postfix.tables import SocketmapQuestions, TCPTableQuestions
from tpops.server.listeners import Listener

_log = Logger()

#: Seconds between two looks for logins that have expired.
PURGE_SECONDS = 60.0

#: Connections that the kernel queues until they are accepted.
_BACKLOG = 128


class RelayService:
    """
    See the module.

    @ivar sink: what the event bus tells
    """

    def __init__(self, config: Config, reactor: Any) -> None:
        self._settings = config.pop_before_smtp
        self._served = stores.Served(config, reactor)
        self._store = self._served.store
        self.sink = PopBeforeSMTP(self._store, self._served.run_in_thread, self._settings.ipv6_prefix)
        self._relaying = Relaying(
            self._store,
            self._settings.match == "address",
            self._settings.ipv6_prefix,
            reactor.seconds,
            None if self._served.at_once else self._served.run_in_thread,
        )
        self._factories: list[AnsweringFactory[Any]] = []
        self._purging = LoopingCall(self._purge)
        self._purging.clock = reactor
        self._purged: Deferred[None] | None = None
        self._in_thread: Callable[..., Deferred[Any]] = partial(deferToThreadPool, reactor, reactor.getThreadPool())
        self._map = self._make_map(config) if self._settings.map else None
        self._mapping = LoopingCall(self._refresh_map)
        self._mapping.clock = reactor
        self._mapped: Deferred[None] | None = None
        self._map_problem = ""

    def listeners(self) -> Iterator[tuple[Listener, Factory[Any]]]:
        """
        Where other programs ask, and what answers there; new factories at each call.

        @raise ConfigError: when there is no such group
        """
        settings = self._settings

        def policy_questions() -> PolicyQuestions:
            return PolicyQuestions(self._relaying, settings.action, settings.action_on_error)

        table = (self._relaying, settings.action, settings.action_on_error)
        yield from self._listeners(settings.policy, policy_questions)
        yield from self._listeners(settings.socketmap, lambda: SocketmapQuestions(*table))
        yield from self._listeners(settings.tcp_table, lambda: TCPTableQuestions(*table))

    def start(self) -> None:
        """Begin; rights have been given up."""
        self._served.start()
        self._purging.start(PURGE_SECONDS)
        if self._map is not None:
            self._mapping.start(self._settings.map_seconds)

    def drain(self) -> None:
        """Let who asks come again, and find the next configuration; logins of sessions are still written down."""
        for factory in self._factories:
            factory.close()

    async def stop(self) -> None:
        """Close everything, when no session is there any more."""
        self.drain()
        if self._purging.running:
            self._purging.stop()
        if self._mapping.running:
            self._mapping.stop()
        if self._purged is not None:
            await self._purged
        if self._mapped is not None:
            await self._mapped
        if self._map is not None:
            await self._in_thread(self._map.close).addErrback(self._not_mapped)
        await self.sink.stop()
        self._served.stop()

    def _listeners(
        self, addresses: Sequence[str], questions: Callable[[], Questions[Any]]
    ) -> Iterator[tuple[Listener, Factory[Any]]]:
        mode, gid = int(self._settings.socket_mode, 8), _gid(self._settings.socket_group)
        for text in addresses:
            factory = AnsweringFactory(questions)
            self._factories.append(factory)
            if text.startswith("unix:"):
                yield Listener(text, 0, _BACKLOG, mode, gid=gid), factory
            else:
                address, _, port = text.rpartition(":")
                yield Listener(address.strip("[]"), int(port), _BACKLOG), factory

    def _make_map(self, config: Config) -> MapFile:
        settings = self._settings
        return MapFile(settings.map, lambda: stores.store(config), settings.match == "address", settings.action)

    def _refresh_map(self) -> Deferred[None]:
        assert self._map is not None
        mapped: Deferred[None] = self._in_thread(self._map.refresh).addCallbacks(
            lambda _: self._tell_map(""), self._not_mapped
        )
        self._mapped = mapped
        return mapped

    def _not_mapped(self, failure: Failure) -> None:
        if failure.check(MapFailed):
            self._tell_map(failure.getErrorMessage())
        else:
            _log.failure("the lookup table is not made", failure)

    def _tell_map(self, problem: str) -> None:
        """Say what is wrong with the table, once as long as it is the same."""
        if problem and problem != self._map_problem:
            _log.error("relaying-failed: {why}", event="relaying-failed", why=problem)
        self._map_problem = problem

    def _purge(self) -> Deferred[None]:
        purged: Deferred[None] = self._served.run_in_thread(self._store.purge).addCallbacks(lambda _: None, _not_purged)
        self._purged = purged
        return purged


def _gid(group: str) -> int:
    """The group's number, -1 where it is that of the server."""
    if not group:
        return -1
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError([f"pop_before_smtp.socket_group: there is no group {group}"]) from None


def _not_purged(failure: Failure) -> None:
    if failure.check(StoreFailed):
        _log.error(
            "relaying-failed: logins that have expired are not removed: {why}",
            event="relaying-failed",
            why=failure.getErrorMessage(),
        )
    else:
        _log.failure("logins that have expired are not removed", failure)
