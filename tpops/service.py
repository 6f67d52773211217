"""
The service: sockets, signals, and what serves there.

Purpose: keeps the listening sockets and lets the present L{Generation} serve them.
Order of start: bind every listener (as root, where started so), give up rights, open logs, serve.
Order of stop: close the listeners, let sessions come to their end for C{server.drain_seconds}, then close the others
without deleting anything; those in UPDATE are waited for.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from tpops.config.schema import Config
from tpops.errors import ConfigError
from tpops.generation import Generation
from tpops.process import privileges
from tpops.process.output import Output
from tpops.process.signals import Orders, Signals
from tpops.process.sockets import Sockets
from tpops.server.listeners import AnyPort, serve, where

_log = Logger()

#: New objects after which the garbage collector runs: hardly anything of a session is garbage for it.
_COLLECT_AFTER = 10000

#: Seconds between two looks at whether the last session has ended.
_LOOK_SECONDS = 0.05


class POP3Service(Service):
    """
    The POP3 service of one configuration.

    @ivar ports: the open listeners, by their places, in the order of the configuration
    """

    name = "tpops"

    def __init__(self, config: Config, reactor: Any, output: Output | None = None) -> None:
        """
        @param output: where the log of the process goes, None where that is not our affair
        """
        self.config = config
        self.ports: dict[str, AnyPort] = {}
        self._reactor = reactor
        self._output = output
        self._identity = privileges.identity(config.server.user, config.server.group)
        self._sockets = Sockets()
        self._generation = Generation(config, reactor)
        self._hurry = False

    def setServiceParent(self, parent: Any) -> None:
        """Become part of an application."""
        if self._output is not None:
            self._output.attach(parent)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Bind every listener, then give up rights; ends the process with a clear message when that fails."""
        try:
            self._open_ports()
            self._generation.start()
            if self._identity is not None:
                privileges.become(self._identity)
            self._generation.open()
        except ConfigError as problem:
            stop_now(problem)
        super().privilegedStartService()

    def startService(self) -> None:
        """Serve."""
        super().startService()
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER, 20, 20)
        orders = Orders(hurry=self.hurry, reload=self.reopen_logs, reopen=self.reopen_logs, upgrade=self.upgrade)
        Signals(self._reactor, orders)
        for port in self.ports.values():
            _log.info("ready on {where}", event="ready", where=where(port.getHost()))

    def stopService(self) -> Deferred[Any]:
        """Stop without removing anything that no QUIT asked for."""
        super().stopService()
        stopping = [maybeDeferred(port.stopListening).addErrback(_not_closed) for port in self.ports.values()]
        self.ports = {}
        self._sockets.keep({})
        return DeferredList(stopping).addCallback(lambda _: Deferred.fromCoroutine(self._end()))

    def hurry(self) -> None:
        """The stop that is under way or that follows waits for nobody."""
        self._hurry = True

    def reopen_logs(self) -> None:
        """The log files have been moved away."""
        self._generation.reopen_logs()
        if self._output is not None:
            self._output.reopen()

    def upgrade(self) -> None:
        """Only a process that serves nobody itself can be replaced by another program."""
        _log.error("upgrade-refused: one process cannot replace itself; restart it, or set server.workers to 2 or more")

    def _open_ports(self) -> None:
        wanted = list(self._generation.listeners())
        prepared = self._sockets.prepare([listener for listener, _ in wanted], self._identity)
        self._sockets.keep(prepared)
        for (place, opened), (listener, factory) in zip(prepared.items(), wanted, strict=True):
            self.ports[place] = serve(listener, opened, factory, self._reactor)

    async def _end(self) -> None:
        """Sessions may go on for a while; then they end."""
        began = self._reactor.seconds()
        while (
            self._generation.busy
            and not self._hurry
            and self._reactor.seconds() - began < self.config.server.drain_seconds
        ):
            await deferLater(self._reactor, _LOOK_SECONDS, lambda: None)
        await self._generation.end_sessions()
        await self._generation.stop()


def _not_closed(failure: Failure) -> None:
    _log.failure("a listener could not be closed", failure)


def stop_now(problem: ConfigError) -> None:
    """The service cannot start: say why where the operator looks, and end."""
    for line in problem.problems:
        _log.critical("{problem}", problem=line)
    # sys.stderr is the log by now, which may be a file that nobody looks at.
    terminal = sys.__stderr__
    if terminal is None or os.fstat(terminal.fileno()).st_rdev == os.stat(os.devnull).st_rdev:
        # In the background: twistd tells an error, and only an error, to whoever started it.
        raise problem
    terminal.write("".join(f"tpops: {line}\n" for line in problem.problems))
    terminal.flush()
    raise SystemExit(1)
