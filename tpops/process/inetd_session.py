"""
One session on a connection that is there already.

Purpose: the same L{Generation} as in a server that runs all the time, for one client; then the process ends.
Order: start, give up rights, open logs, greet.  TERM lets the session come to its end for C{server.drain_seconds}.
Limits: what limits remember begins empty, so none that counts clients or logins has an effect.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tpops.config.listen import Listen
from tpops.config.schema import Config
from tpops.coroutines import run
from tpops.events.counters import Counters
from tpops.generation import Generation
from tpops.policy.memory import Memory
from tpops.process import privileges
from tpops.process.inherited import End
from tpops.process.signals import Orders, Signals
from tpops.server.factory import POP3Factory
from tpops.server.transport import SendsAtOnce, TCPServer, UNIXServer

_log = Logger()

#: Seconds between two looks at whether the session has ended.
_LOOK_SECONDS = 0.02


class OneSession:
    """
    See the module.

    @param listen: the listener whose settings hold
    @raise ConfigError: when something cannot be used as it is configured
    """

    def __init__(self, config: Config, listen: Listen, reactor: Any) -> None:
        self._config = config.model_copy(update={"listen": (listen,)})
        self._reactor = reactor
        self._identity = privileges.identity(config.server.user, config.server.group)
        self._generation = Generation(self._config, reactor, Memory(), Counters())
        self._connection: SendsAtOnce | None = None
        self._hurry = False

    def begin(self, connected: socket.socket, peer: End, local: End) -> None:
        """
        Give up rights, and serve as soon as the reactor runs.

        @raise ConfigError: when something cannot be used as it is configured
        """
        if self._identity is not None:
            self._generation.load()
        self._generation.start()
        if self._identity is not None:
            privileges.become(self._identity)
        self._generation.open()
        orders = Orders(
            hurry=self._stop_now,
            reload=self._generation.reopen_logs,
            reopen=self._generation.reopen_logs,
            upgrade=self._no_upgrade,
        )
        Signals(self._reactor, orders)
        self._reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(self._end()))
        self._reactor.callWhenRunning(self._serve, connected, peer, local)

    def _serve(self, connected: socket.socket, peer: End, local: End) -> None:
        _, factory = next(iter(self._generation.listeners()))
        assert isinstance(factory, POP3Factory)
        factory.local = local if local[1] else ("", 0)
        kind = IPv6Address if ":" in peer[0] else IPv4Address
        protocol = factory.buildProtocol(kind("TCP", *peer) if peer[0] != "unix" else None)
        assert protocol is not None
        port: Any = None
        if connected.family == socket.AF_UNIX:
            self._connection = UNIXServer(connected, protocol, None, port, 1, self._reactor)
            self._connection.repstr = "<POP3 connection>"
        else:
            self._connection = TCPServer(connected, protocol, connected.getpeername(), port, 1, self._reactor)
        protocol.makeConnection(self._connection)
        run(self._wait()).addErrback(lambda failure: _log.failure("the session cannot be waited for", failure))

    @property
    def _busy(self) -> bool:
        return (self._connection is not None and bool(self._connection.connected)) or self._generation.busy

    async def _wait(self) -> None:
        """The process ends with the session."""
        while self._busy:
            await deferLater(self._reactor, _LOOK_SECONDS, lambda: None)
        with contextlib.suppress(ReactorNotRunning):  # TERM has come
            self._reactor.stop()

    async def _end(self) -> None:
        began = self._reactor.seconds()
        while self._busy and not self._hurry:
            if self._reactor.seconds() - began >= self._config.server.drain_seconds:
                break
            await deferLater(self._reactor, _LOOK_SECONDS, lambda: None)
        await self._generation.end_sessions()
        await self._generation.stop()

    def _stop_now(self) -> None:
        self._hurry = True

    def _no_upgrade(self) -> None:
        """The next client gets the program that is installed now anyway."""
