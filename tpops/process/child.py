"""
A worker, as the process sees it that has started it.

Purpose: starts one, hands it sockets and orders, passes on what it logs, notices its end however that comes, and ends
it when it gives no sign of life.
Limits: the channel tells when a worker is gone; its exit status is there a moment later.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from twisted.logger import Logger, LogLevel

import tpops
from tpops.errors import ConfigError
from tpops.process import handoff
from tpops.process.packets import Lines, Packet, Packets
from tpops.process.worker import ALIVE_SECONDS
from tpops.server.listeners import Listener

_log = Logger()

#: Signs of life that may be missing, one after the other.
_MOST_MISSING = 12

#: Seconds between two looks at whether a process that has closed its channel has ended, and how many looks.
_REAP_SECONDS = 0.02
_MOST_LOOKS = 250

#: The directory that the package is in.
_ROOT = str(Path(tpops.__file__).resolve().parents[1])


#: Opens the sockets that a worker asks for; raises ConfigError.
Lend = Callable[[list[Listener]], list[socket.socket]]


class Process(Protocol):
    """How a process is waited for; L{subprocess.Popen} is one."""

    pid: int

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""


class Adopted:
    """A child of this process that another program, in this process before, has started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        """See L{Process}."""
        if self._status is None:
            try:
                found, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self._status = 0
            else:
                self._status = os.waitstatus_to_exitcode(status) if found else None
        return self._status


class Child:
    """
    See the module.

    @ivar number: which of the workers it is
    @ivar row: where it counts, see L{tpops.policy.shared}
    @ivar ready: whether it serves
    @ivar spent: it serves who is there, and can let nobody in any more
    @ivar problems: why it cannot, from its own mouth
    @ivar told: called with the child when it is ready, and when it is gone
    @ivar lend: opens the sockets that it asks for
    @ivar asks: called with a socket on which it wants to be answered, see L{tpops.sight.overseer}
    """

    def __init__(
        self,
        reactor: Any,
        number: int,
        row: int,
        process: Process,
        channel: socket.socket,
        output: int,
        told: Callable[[Child], None],
        lend: Lend,
    ) -> None:
        """
        @param channel: our end
        @param output: what it writes can be read here
        """
        self.number = number
        self.row = row
        self.ready = False
        self.spent = False
        self.problems: list[str] = []
        self.status: int | None = None
        self.told = told
        self.lend = lend
        self.asks: Callable[[socket.socket], None] = socket.socket.close
        self.started = reactor.seconds()
        self.channel = Packets(reactor, channel, self._received, self._lost)
        self.output = Lines(reactor, output, self._said)
        self._reactor = reactor
        self._process = process
        self._descriptors = {"channel": channel.fileno(), "output": output}
        self._missing = 0
        self._looks = 0
        self._watch = reactor.callLater(ALIVE_SECONDS, self._look_for_life)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self.status is not None

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.pid})"

    def state(self) -> dict[str, int]:
        """What another program in this process must know of it; see L{adopt}."""
        return {"number": self.number, "row": self.row, "pid": self.pid, **self._descriptors}

    def tell(self, order: str) -> None:
        """Give it an order, see L{tpops.process.worker}."""
        self.channel.send({order: True})

    def descriptors(self) -> list[int]:
        """Those that are named there."""
        return list(self._descriptors.values())

    def kill(self) -> None:
        """End it at once."""
        if not self.gone:
            os.kill(self.pid, signal.SIGKILL)

    def look(self) -> bool:
        """Without a reactor: read what it has sent; whether it is still there."""
        self.channel.doRead()
        self.output.doRead()
        if self.status is None:
            self.status = self._process.poll()
        return self.status is None and not self.problems

    def _received(self, packet: Packet) -> None:
        self._missing = 0
        if "log" in packet:
            self._log(*packet["log"])
        elif "want" in packet:
            self._lend([Listener(*fields) for fields in packet["want"]])
        elif "ready" in packet:
            self.ready = True
            self.told(self)
        elif "control" in packet:
            self.asks(self.channel.brought.pop())
        elif "replace" in packet:
            self.spent = True
            self.told(self)
        elif "failed" in packet:
            self.problems = list(packet["failed"])

    def _lend(self, wanted: list[Listener]) -> None:
        try:
            lent = self.lend(wanted)
        except ConfigError as problem:
            self.channel.send({"refused": list(problem.problems)})
        else:
            self.channel.lend({"lent": True}, lent)

    def _log(self, space: str, level: str, text: str) -> None:
        system = f"worker {self.number}: {space}#{level}"
        Logger(space).emit(LogLevel.lookupByName(level), "{text}", text=text, log_system=system)

    def _said(self, line: str) -> None:
        _log.warn("{line}", line=line, log_system=f"worker {self.number}: output")

    def _look_for_life(self) -> None:
        self._missing += 1
        if self._missing > _MOST_MISSING:
            _log.error("{child} gives no sign of life, ending it", event="worker-hangs", child=str(self))
            self.kill()
        self._watch = self._reactor.callLater(ALIVE_SECONDS, self._look_for_life)

    def _lost(self) -> None:
        """It has closed its channel."""
        self.status = self._process.poll()
        self._looks += 1
        if self.status is None:
            if self._looks == _MOST_LOOKS:
                self.kill()
            self._reactor.callLater(_REAP_SECONDS, self._lost)
            return
        if self._watch.active():
            self._watch.cancel()
        self.output.close()
        self.told(self)


def adopt(reactor: Any, state: Mapping[str, int], told: Callable[[Child], None], lend: Lend) -> Child:
    """Take over a worker that another program in this process has started."""
    channel, output = socket.socket(fileno=state["channel"]), state["output"]
    channel.set_inheritable(False)
    os.set_inheritable(output, False)
    adopted = Child(reactor, state["number"], state["row"], Adopted(state["pid"]), channel, output, told, lend)
    adopted.ready = True
    return adopted


def start(
    reactor: Any,
    number: int,
    orders: Mapping[str, Any],
    told: Callable[[Child], None],
    lend: Lend,
) -> Child:
    """
    Start a worker.

    @param orders: see L{tpops.process.worker.Orders}
    @raise OSError: when there is no room for another process
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    output, its_output = os.pipe()
    put = handoff.put(orders)
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tpops.process.worker", str(number), str(its.fileno()), str(put)],
            stdin=subprocess.DEVNULL,
            stdout=its_output,
            stderr=its_output,
            pass_fds=[its.fileno(), put, orders["memory"]],
            env=environment(),
            # Signals from a terminal are for the process that the operator has started.
            start_new_session=True,
        )
    except OSError:
        ours.close()
        os.close(output)
        raise
    finally:
        its.close()
        os.close(its_output)
        os.close(put)
    return Child(reactor, number, orders["row"], process, ours, output, told, lend)


def environment() -> dict[str, str]:
    """Ours, and the program is found where this one was, also where that is the working directory."""
    environment = dict(os.environ)
    paths = [os.path.abspath(path) for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    if _ROOT not in paths and not any(part in ("site-packages", "dist-packages") for part in Path(_ROOT).parts):
        paths.append(_ROOT)
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment
