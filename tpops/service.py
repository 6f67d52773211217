"""
The service: sockets, signals, and what serves there.

Purpose: keeps the listening sockets and lets the present L{Generation} serve them.
A reload puts another generation in its place: connections that are open keep the one that they began with.
Order of start: bind every listener (as root, where started so), give up rights, open logs, serve.
Order of stop: close the listeners, let sessions come to their end for C{server.drain_seconds}, then close the others
without deleting anything; those in UPDATE are waited for.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable
from socket import socket
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from tpops.config.load import load
from tpops.config.schema import Config
from tpops.coroutines import run
from tpops.errors import ConfigError
from tpops.generation import Generation, Separation
from tpops.policy.memory import AnyMemory, Memory
from tpops.process import descriptors, privileges
from tpops.process.garbage import collect_seldom
from tpops.process.notify import Notify
from tpops.process.output import Output
from tpops.process.signals import Orders, Signals, stop_soon
from tpops.process.sockets import Sockets
from tpops.server.listeners import AnyPort, Listener, change, serve, where
from tpops.sight import place
from tpops.sight.answers import Answers
from tpops.sight.control import Answer, Request, Socket

_log = Logger()

#: Seconds between two looks at whether the last session has ended: in a stop, and after a reload.
_LOOK_SECONDS = 0.05
_RETIRE_SECONDS = 0.25

_NEEDS_RIGHTS = (
    "needs rights that were given up at the start: restart tpops, or set server.workers to 2 or more, then a process "
    "of its own keeps them"
)


class POP3Service(Service):
    """
    The POP3 service.

    @ivar config: the configuration in force
    @ivar ports: the open listeners, by their sockets, in the order of the configuration
    """

    name = "tpops"

    def __init__(
        self,
        config: Config,
        reactor: Any,
        *,
        path: str = "",
        output: Output | None = None,
        memory: AnyMemory | None = None,
        sockets: Sockets | None = None,
        notify: Notify | None = None,
        apart: Separation | None = None,
    ) -> None:
        """
        @param path: where the configuration is read again from, "" for nowhere
        @param output: where the log of the process goes, None where that is not our affair
        @param memory: what the limits remember
        @param sockets: listening sockets that are open already
        @param notify: whom to tell how things are
        @param apart: see L{Generation}
        """
        self.config = config
        self.ports: dict[socket, AnyPort] = {}
        self._reactor = reactor
        self._path = path
        self._output = output
        self._memory = memory or Memory()
        self._sockets = sockets or Sockets()
        self._notify = notify or Notify(reactor)
        self._identity = privileges.identity(config.server.user, config.server.group)
        self._gave_up_rights = False
        self._former: list[Generation] = []
        self.answers = Answers(reactor, self._memory, lambda: [self._generation, *self._former])
        self._control = Socket(reactor, self.answer)
        counters = self.answers.counters
        self._generation = Generation(config, reactor, self._memory, counters, whole=self.whole, apart=apart)
        self._hurry = False

    def setServiceParent(self, parent: Any) -> None:
        """Become part of an application."""
        if self._output is not None:
            self._output.attach(parent)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Begin; ends the process with a clear message when that fails."""
        try:
            self.begin()
        except ConfigError as problem:
            stop_now(problem)
        super().privilegedStartService()

    def begin(self) -> None:
        """
        Bind every listener, then give up rights.

        @raise ConfigError: when something cannot be used as it is configured
        """
        descriptors.make_room(self.config.limits.connections)
        wanted, prepared = self._prepare(self._generation)
        self._serve(wanted, prepared)
        self._generation.load()
        self._generation.start()
        self.open_control(self.config)
        if self._identity is not None:
            started_as = os.geteuid()
            privileges.become(self._identity)
            self._gave_up_rights = os.geteuid() != started_as
        self._generation.open()

    def startService(self) -> None:
        """Serve."""
        super().startService()
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        collect_seldom()
        orders = Orders(hurry=self.hurry, reload=self.reload, reopen=self.reopen_logs, upgrade=self.upgrade)
        Signals(self._reactor, orders)
        self.tell_ready(self.ports.values())
        self._reactor.callWhenRunning(self._notify_ready)

    def _notify_ready(self, problems: Iterable[str] = ()) -> None:
        self._notify.ready([where(port.getHost()) for port in self.ports.values()], problems)

    def stopService(self) -> Deferred[Any]:
        """Stop without removing anything that no QUIT asked for."""
        self._notify.stopping()
        super().stopService()
        return self._listen_no_more().addCallback(lambda _: Deferred.fromCoroutine(self._end()))

    @property
    def busy(self) -> bool:
        """Whether there are sessions."""
        return any(one.busy for one in (self._generation, *self._former))

    async def leave(self) -> None:
        """Let nobody in any more, and wait until the last session has ended by itself, or the service is stopped."""
        await self._listen_no_more()
        generations = [self._generation, *self._former]
        for one in generations:
            one.drain()
        while self.running and any(one.busy for one in generations):
            await deferLater(self._reactor, _LOOK_SECONDS, lambda: None)

    def _listen_no_more(self) -> Deferred[Any]:
        stopping = [_stop_port(port) for port in self.ports.values()]
        self.ports = {}
        self._sockets.keep({})
        return DeferredList(stopping)

    # What signals ask for.

    def hurry(self) -> None:
        """The stop that is under way or that follows waits for nobody."""
        self._hurry = True

    def reopen_logs(self) -> None:
        """The log files have been moved away."""
        for generation in (self._generation, *self._former):
            generation.reopen_logs()
        if self._output is not None:
            self._output.reopen()

    def upgrade(self) -> None:
        """Only a process that serves nobody itself can be replaced by another program."""
        _log.error("upgrade-refused: one process cannot replace itself; restart it, or set server.workers to 2 or more")

    def reload(self) -> list[str]:
        """
        Read the configuration again: what is new holds for new connections; when it is wrong, nothing changes.

        @return: what is wrong
        """
        self.reopen_logs()
        if not self.running:
            return ["the server is about to stop"]
        self._notify.reloading()
        try:
            loaded = load(self._path)
            former = self._replace(loaded.config)
        except ConfigError as problem:
            for line in problem.problems:
                _log.error("reload-failed: {problem}", event="reload-failed", problem=line)
            _log.error("reload-failed: the configuration stays as it was", event="reload-failed")
            self._notify_ready(problem.problems)
            return list(problem.problems)
        except Exception:
            _log.failure("reload-failed: internal error; the configuration stays as it was", event="reload-failed")
            self._notify_ready(["internal error"])
            return ["internal error; the log has more"]
        for warning in loaded.warnings:
            _log.warn("{warning}", event="config-warning", warning=warning)
        _log.info("reloaded {path}", event="reloaded", path=self._path)
        self._notify_ready()
        run(self._retire(former)).addErrback(_failed)
        return []

    # What the control socket asks for.

    def open_control(self, config: Config) -> None:
        """@raise ConfigError: when the control socket cannot be where the configuration wants it"""
        place.open_socket(self._control, config)

    async def answer(self, request: Request, who: str) -> Answer:
        """See L{tpops.sight.control}."""
        if request["do"] == "reload":
            problems = self.reload()
            return {"reloaded": not problems, "problems": problems}
        if request["do"] == "drain":
            stop_soon(self._reactor)
            return {"draining": len(self.answers.sessions())}
        return self.answers.answer(request, who)

    async def whole(self, request: Request) -> Answer:
        """What all processes together answer."""
        return await self.answer(request, "")

    def _replace(self, config: Config) -> Generation:
        """
        Let a new generation take the place of the present one, which is returned.

        @raise ConfigError: when the configuration cannot be used; then nothing has changed
        """
        self._check_possible(config)
        generation = Generation(
            config, self._reactor, self._memory, self.answers.counters, self._generation, self.whole
        )
        self._check_rights(generation)
        descriptors.make_room(config.limits.connections)
        prepared: dict[str, socket] = {}
        try:
            wanted, prepared = self._prepare(generation)
            generation.start()
            generation.open()
            self.open_control(config)
        except BaseException:
            self._sockets.discard(prepared)
            run(generation.stop()).addErrback(_failed)
            raise
        former, self._generation = self._generation, generation
        self.config = config
        self.tell_ready(self._serve(wanted, prepared))
        if self._output is not None:
            self._output.set_level(config.log.level)
        return former

    def _check_possible(self, config: Config) -> None:
        """@raise ConfigError: when it needs another process"""
        before, after = self.config.server, config.server
        changed = [key for key in ("user", "group") if getattr(before, key) != getattr(after, key)]
        if after.processes != 1:
            changed.append("workers")
        keys = [f"server.{key}" for key in changed]
        if config.sessions.apart:
            keys.append("sessions.run_as")
        if keys:
            raise ConfigError([f"{key} has changed, which needs a restart" for key in keys])

    def _check_rights(self, generation: Generation) -> None:
        """@raise ConfigError: when it needs rights that this process has no more"""
        names = generation.needing_rights() if self._gave_up_rights else []
        if names:
            raise ConfigError([f"the accounts source {name} {_NEEDS_RIGHTS}" for name in names])

    def wanted(self, generation: Generation) -> list[tuple[Listener, Factory[Any]]]:
        """Where a generation is to be served by this process."""
        return list(generation.listeners())

    def _prepare(self, generation: Generation) -> tuple[list[tuple[Listener, Factory[Any]]], dict[str, socket]]:
        """Where a generation listens, and sockets for it."""
        wanted = self.wanted(generation)
        try:
            return wanted, self._sockets.prepare([listener for listener, _ in wanted], self._identity)
        except ConfigError as problem:
            if self._gave_up_rights:
                raise ConfigError([*problem.problems, f"a port below 1024 {_NEEDS_RIGHTS}"]) from problem
            raise

    def _serve(self, wanted: list[tuple[Listener, Factory[Any]]], prepared: dict[str, socket]) -> list[AnyPort]:
        """Listen at these places, and at no others; the ports that are new."""
        before, self.ports = self.ports, {}
        new = []
        for opened, (listener, factory) in zip(prepared.values(), wanted, strict=True):
            port = before.pop(opened, None)
            if port is None:
                port = serve(listener, opened, factory, self._reactor)
                new.append(port)
            else:
                change(port, listener, factory)
            self.ports[opened] = port
        for port in before.values():
            _stop_port(port)
        self._sockets.keep(prepared)
        return new

    def tell_ready(self, ports: Iterable[AnyPort]) -> None:
        """Say where clients can come from now on."""
        for port in ports:
            _log.info("ready on {where}", event="ready", where=where(port.getHost()))

    async def _retire(self, former: Generation) -> None:
        """Stop it when its last session has ended."""
        self._former.append(former)
        former.drain()
        while former.busy:
            await deferLater(self._reactor, _RETIRE_SECONDS, lambda: None)
            if former not in self._former:
                return
        self._former.remove(former)
        self.answers.past(former)
        await former.stop()

    async def _end(self) -> None:
        """Sessions may go on for a while; then they end."""
        generations = [self._generation, *self._former]
        self._former = []
        began = self._reactor.seconds()
        for one in generations:
            one.drain()
        while any(one.busy for one in generations) and not self._hurry:
            if self._reactor.seconds() - began >= self.config.server.drain_seconds:
                break
            await deferLater(self._reactor, _LOOK_SECONDS, lambda: None)
        for generation in generations:
            await generation.end_sessions()
            await generation.stop()
        self._control.hang_up()


def _stop_port(port: AnyPort) -> Deferred[Any]:
    return maybeDeferred(port.stopListening).addErrback(_not_closed)


def _failed(failure: Failure) -> None:
    _log.failure("what is no longer needed could not be stopped", failure)


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
