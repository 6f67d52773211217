"""
Programs that the server talks with, started by a keeper (L{tpops.cred.keeper}).

Purpose: pipes to and from a running program in the reactor, its messages line by line in the log, its end, and the
keeper itself.
Limits: what is written must fit into the pipe at once, 64 KiB where it is empty.  When the keeper dies, it is started
again only by a server that still has the rights it was started with: with fewer, right passwords would look wrong.
Security: messages are escaped and cut, and a password that a program repeats is left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.task import deferLater
from twisted.logger import Logger

from tpops.cred.keeper import MOST_OCTETS, Settings
from tpops.errors import LookupUnavailable
from tpops.pipes import PATH, Watched

_log = Logger()

_KEEPER = str(Path(__file__).with_name("keeper.py"))

#: What the keeper is run with; programs get an environment of their own.
_ENVIRONMENT = {"PATH": PATH, "LC_ALL": "C.UTF-8"}

#: Octets of a message that are logged.
_LINE_OCTETS = 500

#: Octets of a message that are kept until its line is complete.
_HELD_OCTETS = 8192

#: How often a pipe is read when its program has ended: others may still write to it.
_LAST_READS = 16

#: Seconds between TERM and KILL, and until a keeper that has died is started again.
_GRACE_SECONDS = 1.0


def printable(octets: bytes, secrets: Collection[bytes] = ()) -> str:
    """Text of a program, fit for one line of the log: without these secrets, escaped and cut."""
    for secret in secrets:
        if secret:
            octets = octets.replace(secret, b"(left out)")
    text = octets[:_LINE_OCTETS].decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def program_problem(path: str) -> str:
    """Why this cannot be run, "" where it can."""
    if not os.path.isfile(path):
        return f"there is no program {path}"
    return "" if os.access(path, os.X_OK) else f"{path} is not executable; chmod +x {path}"


class Receiver(Protocol):
    """Whoever started a program."""

    def received(self, octets: bytes) -> None:
        """The program has written these."""

    def ended(self, status: int | None) -> None:
        """
        The program has ended; called once, after everything that it wrote.

        @param status: its exit status, negative for a signal, None where nobody can say
        """


class _Reading(Watched):
    """Reads a descriptor until its end."""

    def __init__(
        self, reactor: Any, descriptor: int, received: Callable[[bytes], None], over: Callable[[], None]
    ) -> None:
        os.set_blocking(descriptor, False)
        self._received = received
        self._over = over
        super().__init__(reactor, descriptor, self._read)

    def drain(self) -> None:
        """Read what is there, then close."""
        for _ in range(_LAST_READS):
            if not self._read():
                break
        self.close()

    def _read(self) -> bool:
        """Whether there was something."""
        if self._descriptor < 0:
            return False
        try:
            octets = os.read(self._descriptor, MOST_OCTETS)
        except BlockingIOError:
            return False
        except OSError:
            octets = b""
        if octets:
            self._received(octets)
        else:
            self.close()
            self._over()
        return bool(octets)


class Program:
    """
    A program that was asked for.

    @ivar secrets: what its messages must not show in the log
    """

    def __init__(self, programs: Programs, number: int, receiver: Receiver, pipes: Mapping[str, int]) -> None:
        self.secrets: Collection[bytes] = ()
        self._programs = programs
        self._number = number
        self._receiver = receiver
        self._input = pipes["input"]
        os.set_blocking(self._input, False)
        self._line = b""
        reactor = programs.reactor
        self._output = _Reading(reactor, pipes["output"], receiver.received, self._closed)
        self._messages = _Reading(reactor, pipes["messages"], self._said, self._silent)
        self._killing: Any = None
        self._has_ended = False

    def write(self, octets: bytes) -> None:
        """
        Hand something to the program.

        @raise LookupUnavailable: when it does not take it
        """
        try:
            written = os.write(self._input, octets) if self._input >= 0 else 0
        except OSError:
            written = 0
        if written != len(octets):
            raise LookupUnavailable(f"{self._programs.name}: the program does not read")

    def look(self) -> None:
        """Take what the program has written already, without waiting for the reactor's turn."""
        self._output.doRead()

    def end_input(self) -> None:
        """There is nothing more to come."""
        if self._input >= 0:
            os.close(self._input)
            self._input = -1

    def kill(self) -> None:
        """End it with TERM, and soon after with KILL."""
        if not self._has_ended and self._killing is None:
            self._programs.signal(self._number, signal.SIGTERM)
            self._killing = self._programs.reactor.callLater(
                _GRACE_SECONDS, self._programs.signal, self._number, signal.SIGKILL
            )

    def has_ended(self, status: int | None) -> None:
        """The keeper says so, or has gone."""
        if self._killing is not None and self._killing.active():
            self._killing.cancel()
        self._has_ended = True
        self.end_input()
        self._output.drain()
        self._messages.drain()
        self._silent()
        self._receiver.ended(status)

    def _closed(self) -> None:
        """The program has closed its output: nothing more can be had from it."""
        if not self._has_ended:
            self._killing = self._killing or self._programs.reactor.callLater(_GRACE_SECONDS, self._kill_now)

    def _kill_now(self) -> None:
        self._programs.signal(self._number, signal.SIGKILL)

    def _said(self, octets: bytes) -> None:
        *lines, rest = (self._line + octets).split(b"\n")
        self._line = rest[:_HELD_OCTETS]
        for line in lines:
            self._tell(line)

    def _silent(self) -> None:
        line, self._line = self._line, b""
        if line:
            self._tell(line)

    def _tell(self, line: bytes) -> None:
        text = printable(line, self.secrets)
        _log.warn("{source}: the program says: {line}", event="program", source=self._programs.name, line=text)


class Programs:
    """
    Runs of one program.

    @ivar name: the accounts source, for the log
    @ivar reactor: the reactor
    """

    def __init__(self, name: str, settings: Settings, reactor: Any) -> None:
        self.name = name
        self.reactor = reactor
        self._settings = settings
        self._rights = os.geteuid()
        self._keeper: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._reading: _Reading | None = None
        self._running: dict[int, Program] = {}
        self._last = 0
        self._stopping = False

    def start(self) -> None:
        """Start the keeper, with the rights that the server has now.  @raise OSError: when that fails"""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._channel = ours
        with its:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", _KEEPER],
                stdin=its.fileno(),
                stdout=subprocess.DEVNULL,
                cwd="/",
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        ours.send(json.dumps(self._settings._asdict()).encode())
        self._reading = _Reading(self.reactor, os.dup(ours.fileno()), self._received, self._lost)

    async def stop(self) -> None:
        """End the keeper and with it all programs."""
        self._stopping = True
        self._end()
        while self._keeper is not None and self._keeper.poll() is None:
            await deferLater(self.reactor, 0.01, lambda: None)

    def run(self, receiver: Receiver, variables: Mapping[str, str] | None = None) -> Program:
        """
        Start the program.

        @param variables: what is added to its environment
        @raise LookupUnavailable: when it cannot be started
        """
        self._last += 1
        number = self._last
        theirs: list[int] = []
        ours: dict[str, int] = {}
        try:
            for what in ("input", "output", "messages"):
                reader, writer = os.pipe()
                theirs.append(reader if what == "input" else writer)
                ours[what] = writer if what == "input" else reader
            self._send({"start": number, "environment": variables or {}}, theirs)
        except (OSError, LookupUnavailable) as error:
            for descriptor in ours.values():
                os.close(descriptor)
            raise LookupUnavailable(f"{self.name}: cannot start the program: {error}") from None
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self._running[number] = Program(self, number, receiver, ours)
        return self._running[number]

    def signal(self, number: int, how: signal.Signals) -> None:
        """Send a signal to a program that may be running."""
        if number in self._running and self._channel is not None:
            with contextlib.suppress(OSError):
                self._send({"kill": number, "signal": int(how)}, [])

    def _send(self, what: Mapping[str, object], descriptors: list[int]) -> None:
        if self._channel is None:
            raise LookupUnavailable("its keeper is not running")
        socket.send_fds(self._channel, [json.dumps(what).encode()], descriptors)

    def _received(self, packet: bytes) -> None:
        told = json.loads(packet)
        if "failed" in told:
            _log.error("{source}: cannot start the program: {why}", source=self.name, why=told["why"])
        program = self._running.pop(told.get("failed", told.get("ended")), None)
        if program is not None:
            program.has_ended(told.get("status"))

    def _lost(self) -> None:
        """The keeper has ended."""
        self._end()
        if self._stopping:
            return
        if os.geteuid() == self._rights:
            _log.error("{source}: the keeper has ended and is started again", event="keeper", source=self.name)
            self.reactor.callLater(_GRACE_SECONDS, self._start_again)
        else:
            text = "{source}: the keeper has ended, and the rights to start it are given up: restart tpops"
            _log.critical(text, event="keeper", source=self.name)

    def _start_again(self) -> None:
        if self._stopping:
            return
        if self._keeper is not None:
            self._keeper.kill()
            self._keeper.wait()
        try:
            self.start()
        except OSError as error:
            _log.error("{source}: cannot start the keeper: {why}", source=self.name, why=error.strerror)
            self.reactor.callLater(_GRACE_SECONDS, self._start_again)

    def _end(self) -> None:
        """Let go of the keeper; it ends the programs."""
        if self._reading is not None:
            self._reading.close()
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        running, self._running = self._running, {}
        for program in running.values():
            program.has_ended(None)
