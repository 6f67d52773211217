"""
The process that keeps the listening sockets and looks after the workers that serve them.

Purpose: binds every listener, starts C{server.workers} processes (L{tpops.process.worker}), which give up root's
rights, and starts another one where one ends, after longer and longer pauses where that happens again and again.  On
HUP new workers with the new configuration, and with the program as it is installed then, are started first; when all of
them serve, the old ones let nobody in any more and end with their last sessions.  The sockets are open all the time:
nobody is refused.
Limits: it serves nobody itself, and reads nothing that clients send.  A worker that replaces another one gets the
configuration that its crew was started with, whatever is in the file meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import select
import sys
import time
from collections.abc import Mapping
from functools import partial
from socket import socket
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import Logger

from tpops.config.load import Loaded, load
from tpops.errors import ConfigError
from tpops.policy import shared
from tpops.policy.shared import Table
from tpops.process import activation, notify, privileges, upgrade
from tpops.process import child as workers
from tpops.process.child import Child
from tpops.process.crew import LONGEST_PAUSE_SECONDS, Crew, how_it_ended, not_upgraded, refuse
from tpops.process.output import Output
from tpops.process.signals import Orders, Signals
from tpops.process.sockets import Sockets, places
from tpops.server.listeners import Listener, place_of
from tpops.service import stop_now
from tpops.sight.overseer import Overseer
from tpops.sight.place import open_socket, reopen

_log = Logger()

#: Seconds until every worker must serve.
_START_SECONDS = 60.0


class Supervisor(Service):
    """
    See the module.

    @param loaded: the configuration
    @param output: where the log of the process goes, None where that is not our affair
    """

    name = "tpops"

    def __init__(self, loaded: Loaded, reactor: Any, output: Output | None = None) -> None:
        self._reactor = reactor
        self._output = output
        self._rows: set[int] = set()
        self._crew = Crew(loaded)
        self._next: Crew | None = None
        self._again = False
        self._leaving: set[Child] = set()
        self._hurry = False
        self._stopped: Deferred[None] | None = None
        self._trying = False
        self._sight = Overseer(reactor, self._everybody, self.reload, lambda: self._next is not None)
        state = upgrade.handed_over()
        self._sockets = Sockets(activation.take() if state is None else None)
        self._notify = notify.take(reactor, kept=None if state is None else state.get("notify"))
        self._memory = Table(shared.make() if state is None else state["memory"])
        self._secret = secrets.token_hex(32) if state is None else state["secret"]
        self._adopted = state is not None
        if state is not None:
            self._adopt(state)

    def setServiceParent(self, parent: Any) -> None:
        """Become part of an application."""
        if self._output is not None:
            self._output.attach(parent)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Bind every listener and start the workers; ends the process with a clear message when that fails."""
        if self._adopted:
            open_socket(self._sight.socket, self._crew.loaded.config)
            super().privilegedStartService()
            return
        try:
            server = self._crew.loaded.config.server
            privileges.identity(server.user, server.group)
            self._start(self._crew)
            self._wait_for_first()
            open_socket(self._sight.socket, self._crew.loaded.config)
        except ConfigError as problem:
            for child in self._crew.children.values():
                child.kill()
            self._sockets.discard(self._crew.sockets)
            stop_now(problem)
        super().privilegedStartService()

    def startService(self) -> None:
        """Look after them."""
        super().startService()
        orders = Orders(hurry=self.hurry, reload=self.reload, reopen=self.reopen_logs, upgrade=self.upgrade)
        Signals(self._reactor, orders)
        if self._adopted:
            _log.info("upgraded: {count} workers go on until new ones serve", event="upgraded", count=len(self._rows))
            self._reactor.callWhenRunning(self.reload)
        else:
            self._tell_ready(self._crew, {})
            self._reactor.callWhenRunning(self._notify_ready)

    def stopService(self) -> Deferred[None]:
        """Stop the workers, and wait for the last one."""
        self._notify.stopping()
        super().stopService()
        self._sockets.keep({})
        for child in self._everybody():
            child.tell("stop" if self._hurry else "drain")
        self._stopped = Deferred()
        return (self._stopped if self._everybody() else succeed(None)).addBoth(self._sight.stop)

    # What signals ask for.

    def hurry(self) -> None:
        """The stop that is under way or that follows waits for nobody."""
        self._hurry = True
        if self._stopped is not None:
            for child in self._everybody():
                child.tell("stop")

    def reopen_logs(self) -> None:
        """The log files have been moved away."""
        for child in self._everybody():
            child.tell("reopen")
        if self._output is not None:
            self._output.reopen()

    def upgrade(self) -> None:
        """Go on with the program that is installed now."""
        if self.running and not self._trying:
            self._trying = True
            Deferred.fromCoroutine(self._upgrade()).addErrback(not_upgraded)

    def reload(self) -> None:
        """Start new workers, with the configuration and the program as they are now."""
        self.reopen_logs()
        if not self.running:
            return
        if self._next is not None:
            self._again = True
            return
        self._notify.reloading()
        try:
            crew = Crew(load(self._crew.loaded.path))
        except ConfigError as problem:
            self._refuse(list(problem.problems))
            return
        self._next = crew
        try:
            self._start(crew)
        except OSError as problem:
            self._give_up([f"no worker can be started: {problem.strerror}"])

    # Crews.

    def _lend(self, crew: Crew, wanted: list[Listener]) -> list[socket]:
        """
        The sockets that a worker of this crew is to serve.

        @raise ConfigError: when they cannot be had
        """
        if not crew.sockets:
            server = crew.loaded.config.server
            crew.sockets = self._sockets.prepare(wanted, privileges.identity(server.user, server.group))
        elif list(crew.sockets) != places(wanted):
            raise ConfigError(["the program listens elsewhere than the one that runs: send HUP"])
        return list(crew.sockets.values())

    def _start(self, crew: Crew) -> None:
        for number in range(1, crew.loaded.config.server.processes + 1):
            self._start_one(crew, number)

    def _start_one(self, crew: Crew, number: int) -> None:
        row = next((row for row in range(shared.ROWS) if row not in self._rows), None)
        if row is None:
            raise OSError(errno.EAGAIN, f"{shared.ROWS} workers, most of which wait for their last sessions to end")
        self._memory.clear(row)
        orders = {
            "path": crew.loaded.path,
            "text": crew.loaded.text,
            "memory": self._memory.descriptor,
            "row": row,
            "secret": self._secret,
        }
        lend = partial(self._lend, crew)
        crew.children[number] = workers.start(self._reactor, number, orders, self._told, lend)
        self._sight.adopt_all()
        self._rows.add(row)

    def _wait_for_first(self) -> None:
        """
        Wait until every worker serves; the reactor does not run yet.

        @raise ConfigError: when one cannot
        """
        crew = self._crew
        until = time.monotonic() + _START_SECONDS
        poll = select.poll()
        for child in crew.children.values():
            poll.register(child.channel, select.POLLIN)
        while not crew.ready:
            poll.poll(100)
            for child in crew.children.values():
                if not child.look():
                    raise ConfigError(
                        child.problems or [f"{child} has ended, {how_it_ended(child.status)}; see its output"]
                    )
            if time.monotonic() > until:
                raise ConfigError([f"the workers are not ready after {_START_SECONDS:g} seconds"])
        self._sockets.keep(crew.sockets)

    def _told(self, child: Child) -> None:
        """A worker is ready, or gone."""
        if child.gone:
            self._has_ended(child)
        elif child.spent:
            self._is_spent(child)
        elif self._next is not None and self._next.ready:
            self._take_over(self._next)

    def _take_over(self, crew: Crew) -> None:
        """The new workers serve: the others may go."""
        former, self._crew, self._next = self._crew, crew, None
        for child in former.children.values():
            self._leaving.add(child)
            child.tell("leave")
        self._sockets.keep(crew.sockets)
        if self._output is not None:
            self._output.set_level(crew.loaded.config.log.level)
        for warning in crew.loaded.warnings:
            _log.warn("{warning}", event="config-warning", warning=warning)
        self._tell_ready(crew, former.sockets)
        _log.info("reloaded {path}", event="reloaded", path=crew.loaded.path)
        self._notify_ready()
        reopen(self._sight.socket, crew.loaded.config)
        self._sight.reloaded([])
        self._once_more()

    def _give_up(self, problems: list[str]) -> None:
        """The new workers do not serve."""
        crew, self._next = self._next, None
        assert crew is not None
        for child in crew.children.values():
            self._leaving.add(child)
            child.kill()
        self._sockets.discard(crew.sockets)
        self._refuse(problems)
        self._once_more()

    def _once_more(self) -> None:
        """Another HUP has come meanwhile."""
        again, self._again = self._again, False
        if again:
            self._reactor.callLater(0, self.reload)

    def _refuse(self, problems: list[str]) -> None:
        refuse(problems)
        self._notify_ready(problems)
        self._sight.reloaded(problems)

    def _notify_ready(self, problems: list[str] | None = None) -> None:
        self._notify.ready(map(place_of, self._crew.sockets.values()), problems or ())

    def _tell_ready(self, crew: Crew, before: dict[str, socket]) -> None:
        for opened in crew.sockets.values():
            if opened not in before.values():
                _log.info("ready on {where}", event="ready", where=place_of(opened))

    # Another program.

    async def _upgrade(self) -> None:
        """Try it; when it is content, this one is over."""
        try:
            arguments = ["-P", "-m", "tpops.process.upgrade", self._crew.loaded.path]
            said, complained, status = await getProcessOutputAndValue(
                sys.executable, arguments, workers.environment(), reactor=self._reactor
            )
        finally:
            self._trying = False
        if status != 0:
            for line in (said + complained).decode("utf-8", "backslashreplace").splitlines():
                _log.error("upgrade-refused: {problem}", event="upgrade-refused", problem=line)
            _log.error("upgrade-refused: the program stays as it was", event="upgrade-refused")
        elif not self.running:
            return
        elif self._next is not None:
            _log.error("upgrade-refused: a reload is under way, try again", event="upgrade-refused")
        else:
            self._become_the_new_one()

    def _become_the_new_one(self) -> None:
        everybody, crew = self._everybody(), self._crew
        _log.info("upgrading: this program hands over to the one that is installed now", event="upgrading")
        sockets = {place: opened.fileno() for place, opened in crew.sockets.items()}
        given = {opened.fileno(): name for opened, name in self._sockets.given.items()}
        state = {
            "sockets": sockets,
            "memory": self._memory.descriptor,
            "secret": self._secret,
            "notify": self._notify.state(),
            "given": given,
            "text": crew.loaded.text,
            "crew": [child.state() for child in crew.children.values()],
            "leaving": [child.state() for child in self._leaving],
        }
        descriptors = [
            self._memory.descriptor,
            *sockets.values(),
            *(descriptor for child in everybody for descriptor in child.descriptors()),
        ]
        try:
            upgrade.replace(state, descriptors, self._output.path if self._output is not None else "")
        except OSError as problem:
            _log.error("upgrade-refused: {why}", event="upgrade-refused", why=problem.strerror)

    def _adopt(self, state: Mapping[str, Any]) -> None:
        """Take over what the program before has left."""
        os.set_inheritable(self._memory.descriptor, False)
        for place, descriptor in state["sockets"].items():
            self._crew.sockets[place] = opened = socket(fileno=descriptor)
            opened.set_inheritable(False)
        self._sockets.keep(self._crew.sockets)
        served = {opened.fileno(): opened for opened in self._sockets.opened.values()}
        self._sockets.given = {served[int(number)]: name for number, name in state.get("given", {}).items()}
        with contextlib.suppress(ConfigError):  # what is in the file now will do, then
            self._crew.loaded = load(self._crew.loaded.path, text=state["text"])
        lend = partial(self._lend, self._crew)
        for one in state["crew"]:
            self._crew.children[one["number"]] = workers.adopt(self._reactor, one, self._told, lend)
        self._leaving = {workers.adopt(self._reactor, one, self._told, lend) for one in state["leaving"]}
        self._rows = {child.row for child in self._everybody()}
        self._sight.adopt_all()

    def _has_ended(self, child: Child) -> None:
        self._memory.clear(child.row)
        self._rows.discard(child.row)
        if self._next is not None and self._next.children.get(child.number) is child:
            del self._next.children[child.number]
            self._give_up(child.problems or [f"{child}, a new one, has ended, {how_it_ended(child.status)}"])
        elif self._crew.children.get(child.number) is child:
            del self._crew.children[child.number]
            if self.running:
                self._replace(child)
        else:
            self._leaving.discard(child)
            _log.info(
                "{child} has ended, {how}", event="worker-ended", child=str(child), how=how_it_ended(child.status)
            )
        if self._stopped is not None and not self._everybody():
            self._stopped.callback(None)

    def _is_spent(self, child: Child) -> None:
        """It can let nobody in any more: another one takes its place, and it goes with its last session."""
        if self._next is not None and child in self._next.children.values():
            child.kill()
        elif self.running and self._crew.children.get(child.number) is child:
            self._leaving.add(self._crew.children.pop(child.number))
            child.tell("leave")
            self._replace(child)

    def _replace(self, child: Child) -> None:
        """Start another one in its place, after a pause where it has not served for long."""
        self._sight.restarts += 1
        pause = self._crew.replaces(child, self._reactor.seconds() - child.started)
        self._reactor.callLater(pause, self._start_again, self._crew, child.number)

    def _start_again(self, crew: Crew, number: int) -> None:
        if not self.running or crew is not self._crew:
            return
        try:
            self._start_one(crew, number)
        except OSError as problem:
            _log.error("no worker can be started: {why}", event="worker-failed", why=problem.strerror)
            self._reactor.callLater(LONGEST_PAUSE_SECONDS, self._start_again, crew, number)

    def _everybody(self) -> list[Child]:
        """Every worker that has not ended."""
        crews = [self._crew] if self._next is None else [self._crew, self._next]
        return [*(child for crew in crews for child in crew.children.values()), *self._leaving]
