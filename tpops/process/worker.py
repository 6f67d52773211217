"""
One of several processes that serve clients: C{python -m tpops.process.worker NUMBER CHANNEL ORDERS}.

Purpose: started by L{tpops.process.supervisor}, with a channel to it (see L{tpops.process.packets}) and L{Orders}, the
text of the configuration.  It asks for the sockets that it is to serve, and gives up root's rights as one process
would.  What it logs goes over the channel, so that there is one log.

    to the supervisor     {"want": [a Listener's fields, ...]}
                          {"ready": true}, {"failed": [problem, ...]}
                          {"replace": true}    its broker is gone: another worker, which has one, is wanted
                          {"alive": seconds since the epoch}
                          {"log": [namespace, level, text]}
                          {"control": true} with a socket on which it wants to be answered (L{tpops.sight.control})
    to the worker         {"lent": true} with descriptors of the sockets, or {"refused": [problem, ...]}
                          {"leave": true}      let nobody in any more, end with the last session
                          {"drain": true}      stop as after TERM
                          {"stop": true}       stop at once
                          {"reopen": true}     open the logs anew
                          {"control": true}    with a socket on which questions come

Limits: when the supervisor is gone, however it went, a worker drains and ends: the ports are free for another one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from tpops.config.load import Loaded, load
from tpops.config.schema import Config
from tpops.errors import ConfigError
from tpops.generation import Separation
from tpops.policy.memory import AnyMemory
from tpops.policy.shared import SharedMemory, Table
from tpops.process import confinement, handoff
from tpops.process.broker_link import BrokerLink, start_broker
from tpops.process.packets import Packet, Packets
from tpops.process.privileges import Identity
from tpops.process.sockets import Sockets, places
from tpops.process.steady import steady
from tpops.server.listeners import AnyPort, Listener
from tpops.service import POP3Service
from tpops.sight.control import Answer, ControlFactory, Request, ask

_log = Logger()

#: Seconds between two signs of life.
ALIVE_SECONDS = 5.0

#: Longest text of a log entry.
_MOST_CHARACTERS = 16000


@attrs.frozen
class Orders:
    """
    What a worker is told at its start.

    @ivar path: the configuration's file, for messages and relative paths
    @ivar text: what was in it
    @ivar memory: descriptor of what the limits of all workers remember, see L{tpops.policy.shared}
    @ivar row: this worker's there
    @ivar secret: of all workers, in hexadecimal digits
    """

    path: str
    text: str = attrs.field(repr=False)
    memory: int
    row: int
    secret: str = attrs.field(repr=False)


class LentSockets(Sockets):
    """
    Sockets that the supervisor opens.

    @param channel: to it
    """

    def __init__(self, channel: Packets) -> None:
        super().__init__()
        self._channel = channel

    def prepare(self, wanted: Sequence[Listener], owner: Identity | None) -> dict[str, socket.socket]:
        """See L{Sockets.prepare}."""
        self._channel.send({"want": [attrs.astuple(listener) for listener in wanted]})
        packet, lent = self._channel.wait_for("lent", "refused", passing="reopen")
        if packet is None:
            # The supervisor is gone, or does not want this worker any more.
            raise SystemExit(0)
        if "refused" in packet:
            raise ConfigError(packet["refused"])
        return dict(zip(places(wanted), lent, strict=True))

    def close(self, opened: socket.socket) -> None:
        """What is in the file system is not ours."""
        opened.close()


class WorkerService(POP3Service):
    """The service of a worker: what its sockets and its program are is the supervisor's affair."""

    def __init__(
        self,
        config: Config,
        reactor: Any,
        memory: AnyMemory,
        channel: Packets,
        number: int,
        apart: Separation | None = None,
    ) -> None:
        super().__init__(config, reactor, memory=memory, sockets=LentSockets(channel), apart=apart)
        self.answers.number = number
        self.control = ControlFactory(self.answer, reactor)
        self._channel = channel

    def reload(self) -> list[str]:
        """The supervisor starts another worker."""
        return ["that is the supervisor's affair"]

    def upgrade(self) -> None:
        """The supervisor starts another worker."""

    def open_control(self, config: Config) -> None:
        """The supervisor has it."""

    async def answer(self, request: Request, who: str) -> Answer:
        """What the supervisor asks."""
        return self.answers.answer(request, who)

    async def whole(self, request: Request) -> Answer:
        """Only the supervisor knows the others."""
        return await ask(self._reactor, request, lambda theirs: self._channel.lend({"control": True}, [theirs]))

    def tell_ready(self, ports: Iterable[AnyPort]) -> None:
        """The supervisor tells, once for all workers."""


@implementer(ILogObserver)
class _Relay:
    """Sends log entries to the supervisor."""

    def __init__(self, channel: Packets) -> None:
        self._channel = channel

    def __call__(self, event: LogEvent) -> None:
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        if text:
            level = event.get("log_level") or LogLevel.info
            space = event.get("log_namespace") or "log_legacy"
            self._channel.send({"log": [space, level.name, text[:_MOST_CHARACTERS]]})


class Worker:
    """
    See the module.

    @param reactor: the reactor
    @param connected: the channel's socket
    @param number: which of the workers it is
    """

    def __init__(self, reactor: Any, connected: socket.socket, number: int) -> None:
        self._reactor = reactor
        self._channel = Packets(reactor, connected, self._received, self._abandoned)
        self._service: WorkerService | None = None
        self._number = number
        self._broker: subprocess.Popen[bytes] | None = None

    def begin(self, orders: Orders) -> bool:
        """Serve; False when that is not possible, and the supervisor knows why."""
        levels = LogLevelFilterPredicate()
        relay = FilteringLogObserver(_Relay(self._channel), [levels])
        globalLogBeginner.beginLoggingTo([relay], redirectStandardIO=False)
        try:
            loaded = load(orders.path, text=orders.text)
            config = loaded.config
            levels.defaultLogLevel = LogLevel.lookupByName(config.log.level)
            levels.clearLogLevels()
            memory = SharedMemory(Table(orders.memory), orders.row, bytes.fromhex(orders.secret))
            apart = self._separate(loaded) if config.sessions.apart else None
            service = WorkerService(config, self._reactor, memory, self._channel, self._number, apart)
            service.begin()
        except ConfigError as problem:
            self._channel.send({"failed": list(problem.problems)})
            return False
        self._service = service
        self._reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
        service.startService()
        self._channel.send({"ready": True})
        self._live()
        return True

    def _separate(self, loaded: Loaded) -> Separation:
        """Start the broker, as long as this process has root's rights."""
        version = confinement.version_of(loaded.config)
        self._broker, connected, proofs = start_broker(loaded)
        _log.emit(
            LogLevel.info if version else LogLevel.warn,
            "{confinement}",
            confinement=confinement.in_words(loaded.config, version),
            event="confinement",
        )
        link = BrokerLink(self._reactor, connected, loaded.config.sessions.program_greets, self._broker_lost)
        return Separation(link, proofs)

    def _broker_lost(self) -> None:
        """Root's rights are gone, too: somebody who still has them must start another one."""
        assert self._broker is not None
        _log.error(
            "broker-lost: process {pid} is gone; nobody can log in here any more",
            event="broker-lost",
            pid=self._broker.pid,
        )
        self._channel.send({"replace": True})
        # It is not left a zombie.
        self._reactor.callLater(1, self._broker.poll)

    def _live(self) -> None:
        self._channel.send({"alive": time.time()})
        self._reactor.callLater(ALIVE_SECONDS, self._live)

    def _received(self, packet: Packet) -> None:
        assert self._service is not None
        if "control" in packet:
            self._service.control.adopt(self._channel.brought.pop())
        elif "reopen" in packet:
            self._service.reopen_logs()
        elif "leave" in packet:
            Deferred.fromCoroutine(self._leave()).addErrback(_failed)
        elif "drain" in packet:
            self._stop()
        elif "stop" in packet:
            self._service.hurry()
            self._stop()

    async def _leave(self) -> None:
        assert self._service is not None
        await self._service.leave()
        self._stop()

    def _abandoned(self) -> None:
        """The supervisor is gone."""
        self._stop()

    def _stop(self) -> None:
        with contextlib.suppress(ReactorNotRunning):
            self._reactor.stop()


def _failed(failure: Failure) -> None:
    _log.failure("a worker that leaves could not wait for its sessions", failure)


def main(arguments: list[str]) -> int:
    """Serve until told otherwise; the exit status."""
    from twisted.internet import reactor

    number, channel, orders = (int(argument) for argument in arguments)
    given = Orders(**handoff.take(orders))
    for descriptor in (channel, given.memory):
        # They came over exec; no program that is started here gets them.
        os.set_inheritable(descriptor, False)
    running: Any = reactor
    steady(running)
    if not Worker(running, socket.socket(fileno=channel), number).begin(given):
        return 1
    running.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
