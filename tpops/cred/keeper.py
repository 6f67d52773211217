"""
The process that starts programs for an accounts source, with the rights that the server was started with.

Purpose: the server gives up root's rights, yet PAM, checkpassword and programs that run as a user of their own need
them at every start.  Before that the server starts this file, one process for each source.  It is told once which
program it is about; from then on the server can ask for nothing but another run of that program, connected to
descriptors that it hands over, and for a signal to a run.
Limits: runs by itself, on the standard library, and imports nothing of tpops.  What clients send never comes here,
except their addresses, which are checked.  When the server has gone, it ends its programs and itself.

Messages are packets on one socket (SOCK_SEQPACKET), a JSON object each, at most L{MOST_OCTETS} long:

    to the keeper    first the L{Settings}; then {"start": number, "environment": {name: value}} with three descriptors,
                     or {"kill": number, "signal": 15 or 9}
    to the server    {"ended": number, "status": exit status, negative for a signal}, or {"failed": number, "why": text}

Errors: a packet of any other form ends the keeper: only the server talks to it.
"""

from __future__ import annotations

import array
import json
import os
import re
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

#: Longest packet.
MOST_OCTETS = 65536

#: Programs at the same time, whatever the server asks for.
_MOST_PROGRAMS = 1000

#: Descriptors that come with "start": what the program reads, what it writes, its messages.
DESCRIPTORS = 3

#: How long programs may take to end when the server has gone.
_GRACE_SECONDS = 1.0

#: What a variable of the environment may be that the server sets for one run.
_VALUE = re.compile(r"[0-9A-Za-z.:%_-]{0,100}", re.ASCII)

#: Exit status of a program that could not be run.
CANNOT_RUN = 127


class Settings(NamedTuple):
    """
    The program.

    @ivar argv: its path and arguments
    @ivar numbers: the descriptors that it finds the three under
    @ivar environment: its whole environment
    @ivar variables: what else of the environment may be set for each run
    @ivar uid: whom it runs as, None for the keeper's own rights
    @ivar gid: his primary group
    @ivar groups: his other groups
    """

    argv: list[str]
    numbers: list[int]
    environment: dict[str, str]
    variables: list[str]
    uid: int | None = None
    gid: int | None = None
    groups: Sequence[int] = ()


class Keeper:
    """
    See the module.

    @param channel: the server's socket
    """

    def __init__(self, channel: socket.socket, settings: Settings) -> None:
        self._channel = channel
        self._settings = settings
        self._numbers: dict[int, int] = {}

    def serve(self, child_ended: int) -> None:
        """
        Do what the server asks, until it has gone.

        @param child_ended: a descriptor that can be read once a child has ended
        """
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(child_ended, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if child_ended in ready:
                os.read(child_ended, 4096)
                self._reap()
            if self._channel.fileno() in ready and not self._take():
                return

    def end_all(self) -> None:
        """End every program, the polite way first."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._numbers:
                _signal(pid, number)
            until = time.monotonic() + _GRACE_SECONDS
            while self._numbers and time.monotonic() < until:
                time.sleep(0.01)
                self._forget_ended()

    def _take(self) -> bool:
        """One packet; False when there are no more."""
        try:
            packet, descriptors = _receive(self._channel)
        except ConnectionResetError:
            return False
        try:
            if not packet:
                return False
            asked: dict[str, Any] = json.loads(packet)
            if "start" in asked:
                self._start(int(asked["start"]), self._checked(asked["environment"]), descriptors)
            else:
                self._kill(int(asked["kill"]), signal.Signals(asked["signal"]))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _checked(self, environment: Mapping[str, str]) -> dict[str, str]:
        for name, value in environment.items():
            if name not in self._settings.variables or not _VALUE.fullmatch(value):
                raise ValueError(f"variable {name!r} is not allowed")
        return {**self._settings.environment, **environment}

    def _start(self, number: int, environment: Mapping[str, str], descriptors: list[int]) -> None:
        if len(descriptors) != DESCRIPTORS or len(self._numbers) >= _MOST_PROGRAMS:
            self._tell({"failed": number, "why": "too many programs"})
            return
        try:
            pid = os.fork()
        except OSError as error:
            self._tell({"failed": number, "why": str(error.strerror)})
            return
        if pid == 0:
            _become(self._settings, environment, descriptors)
        self._numbers[pid] = number

    def _kill(self, number: int, how: signal.Signals) -> None:
        if how not in (signal.SIGTERM, signal.SIGKILL):
            raise ValueError(f"signal {how} is not allowed")
        for pid, known in self._numbers.items():
            if known == number:
                _signal(pid, how)

    def _reap(self) -> None:
        for number, status in self._forget_ended():
            self._tell({"ended": number, "status": status})

    def _forget_ended(self) -> list[tuple[int, int]]:
        """The programs that have ended since the last call, with their exit status."""
        ended = []
        for pid in list(self._numbers):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                ended.append((self._numbers.pop(pid), os.waitstatus_to_exitcode(status)))
        return ended

    def _tell(self, what: Mapping[str, object]) -> None:
        try:
            self._channel.send(json.dumps(what).encode())
        except (BrokenPipeError, ConnectionResetError):
            return  # the server has gone, which the next packet tells


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """A packet and the descriptors that came with it, which no program inherits by accident."""
    room = socket.CMSG_LEN(DESCRIPTORS * array.array("i").itemsize)
    packet, ancillary, _, _ = channel.recvmsg(MOST_OCTETS, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return packet, list(descriptors)


def _signal(pid: int, number: int) -> None:
    """A signal to a program and all that it has started."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        os.kill(pid, number)  # it has no group of its own yet; not reaped, so the number is its own


def _become(settings: Settings, environment: Mapping[str, str], descriptors: list[int]) -> NoReturn:
    """In the new process: turn into the program."""
    try:
        os.setsid()
        _connect(settings.numbers, descriptors)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        # A dead program's memory would have passwords in it.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if settings.uid is not None and settings.gid is not None:
            if os.geteuid() == 0:
                os.setgroups(settings.groups)
            os.setresgid(settings.gid, settings.gid, settings.gid)
            os.setresuid(settings.uid, settings.uid, settings.uid)
        os.chdir("/")
        os.execve(settings.argv[0], settings.argv, dict(environment))  # noqa: S606
    except OSError as error:
        os.write(settings.numbers[2], f"cannot run {settings.argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(CANNOT_RUN)


def _connect(numbers: list[int], descriptors: list[int]) -> None:
    """Give the three descriptors their numbers; what is below them and not taken is /dev/null."""
    highest = max(*numbers, 2)
    null = os.open(os.devnull, os.O_RDWR)
    spare = [_above(descriptor, highest) for descriptor in (*descriptors, null)]
    for number in range(highest + 1):
        source = spare[numbers.index(number)] if number in numbers else spare[-1]
        os.dup2(source, number, inheritable=True)


def _above(descriptor: int, least: int) -> int:
    """The same file under a number above C{least}, which no program inherits."""
    made: list[int] = []
    try:
        while descriptor <= least:
            descriptor = os.dup(descriptor)
            made.append(descriptor)
    finally:
        for one in made[:-1]:
            os.close(one)
    return descriptor


def main() -> None:
    """Serve the socket that is standard input."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(0)) as channel:
        settings = Settings(**json.loads(_receive(channel)[0]))
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        keeper = Keeper(channel, settings)
        try:
            keeper.serve(reader)
        finally:
            keeper.end_all()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main()
