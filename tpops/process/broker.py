"""
The process that turns logins into sessions: C{python -m tpops.process.broker FRONT ORDERS}.

Purpose: root, and as little as possible: no network, no reactor, no accounts, no passwords.  A front, which talks to
clients, sends it records (L{tpops.process.records}), each with one end of a socket pair; the broker hands them, unread,
to the judge (L{tpops.process.judge}), which verifies them, and forks, for each that is verified, a process that becomes
the owner of the mail and serves the session (L{tpops.process.session}).  What is said of a login goes over the socket
pair that came with it.
Trust: a front is believed nothing.  A record that is not exactly as it should be is dropped with its descriptors; whose
mail is opened is what the judge says, not what the record says.  Records are overwritten when they are handed on: no
session's process inherits the password of another.
Limits: so many logins wait for the judge at a time, so many sessions run, so many wrong guesses are judged a second;
more are told to come again.
Errors: without the judge, or without its front, it ends; the sessions that run go on without it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn, cast

from tpops.errors import BadCredentials, ConfigError, LookupUnavailable, TpopsError
from tpops.process import handoff
from tpops.process.records import (
    MOST_OCTETS,
    NUMBER,
    VERDICT,
    error_of,
    pack,
    parse,
    refusal,
)
from tpops.process.session_start import settings

#: Logins that may wait for the judge, and how long.
MOST_WAITING = 512
_WAIT_SECONDS = 90.0

#: Sessions at a time where the configuration has no limit.
_MOST_SESSIONS = 10000

#: Wrong guesses that are judged: a second in the long run, and at once.
GUESSES_PER_SECOND = 100.0
GUESSES_AT_ONCE = 1000.0

_START_SECONDS = 60

#: Seconds between two complaints about a front.
_COMPLAIN_SECONDS = 1.0

#: What Twisted and the standard library load where it is there, and no session needs: the front ends TLS.  It would be
#: a fifth of what is forked each time.
_SPARED = ("OpenSSL", "ssl", "bz2", "lzma")

#: Numbers, since sums of Python's names for them take longer than what they are for.
_INT = struct.calcsize("i")
_ROOM = socket.CMSG_SPACE(4 * _INT)
_AT_ONCE = int(socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
_CUT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)

#: fork(2) itself.  L{os.fork} also has the standard library renew its locks and its random numbers in the child, which
#: is a fifth of what a session costs.  This process has one thread, so nobody else holds a lock, and nothing in a
#: session goes by the numbers of C{random}.
_fork = ctypes.PyDLL(None, use_errno=True).fork

_HUNG_UP = select.POLLHUP | select.POLLERR | select.POLLNVAL


#: Forks a session from the judge's answer and the control, and gives its process.
Starting = Callable[[bytes, socket.SocketType], int]


class Guesses:
    """How many wrong guesses a front has left."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._left = GUESSES_AT_ONCE
        self._at = seconds()

    def exhausted(self) -> bool:
        """Whether there are none."""
        now = self._seconds()
        self._left = min(GUESSES_AT_ONCE, self._left + (now - self._at) * GUESSES_PER_SECOND)
        self._at = now
        return self._left < 1

    def wrong(self) -> None:
        """One was made."""
        self._left -= 1


class Broker:
    """
    See the module.

    @param front: the socket to it
    @param judge: the socket to it
    @param start: forks a session and gives its process
    @param most_sessions: that may run at a time
    """

    def __init__(self, front: socket.socket, judge: socket.socket, start: Starting, most_sessions: int) -> None:
        self._front = front
        self._judge = judge
        self._start = start
        self._most_sessions = most_sessions
        self._sessions: set[int] = set()
        self._record = bytearray(MOST_OCTETS)
        self._waiting: dict[int, tuple[socket.SocketType, float]] = {}
        self._asked = 0
        self._bad_records = 0
        self._complained = 0.0
        self._guesses = Guesses(time.monotonic)
        front.setblocking(False)
        judge.setblocking(False)

    def serve(self, wakeup: int) -> None:
        """
        Until the front or the judge is gone.

        @param wakeup: becomes readable when a child ends
        """
        poll = select.poll()
        for descriptor in (self._front.fileno(), self._judge.fileno(), wakeup):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = dict(poll.poll(1000))
            if wakeup in ready:
                _drain(wakeup)
                self._reap()
            if ready.get(self._judge.fileno()) and not self._hear(ready[self._judge.fileno()]):
                return
            if ready.get(self._front.fileno()) and not self._take(ready[self._front.fileno()]):
                return
            self._forget_old()

    # From the front.

    def _take(self, ready: int) -> bool:
        """A record; False when the front is gone."""
        try:
            octets, descriptors, whole = _receive(self._front, self._record)
        except BlockingIOError:
            return not ready & _HUNG_UP
        except OSError:
            return False
        if not octets and not descriptors:
            return not ready & _HUNG_UP
        control = _control(descriptors, whole)
        if control is None:
            self._complain("a record without one socket of the right kind, or too long")
        else:
            self._ask(octets, control)
        self._record[:octets] = bytes(octets)
        return True

    def _ask(self, octets: int, control: socket.SocketType) -> None:
        if self._guesses.exhausted():
            self._refuse(control, LookupUnavailable("too many wrong guesses; wait a moment"))
            return
        if len(self._waiting) >= MOST_WAITING:
            self._refuse(control, LookupUnavailable("too many logins wait to be verified"))
            return
        self._asked += 1
        try:
            self._judge.sendmsg([NUMBER.pack(self._asked), memoryview(self._record)[:octets]])
        except OSError as problem:
            self._refuse(control, LookupUnavailable(f"the judge cannot be asked: {problem.strerror}"))
            return
        self._waiting[self._asked] = control, time.monotonic()

    def _forget_old(self) -> None:
        """The judge has no answer; the records are in order of their age."""
        oldest = time.monotonic() - _WAIT_SECONDS
        for number, (control, since) in list(self._waiting.items()):
            if since > oldest:
                return
            del self._waiting[number]
            self._refuse(control, LookupUnavailable(f"not verified within {_WAIT_SECONDS:g} seconds"))

    # From the judge.

    def _hear(self, ready: int) -> bool:
        """A verdict; False when the judge is gone."""
        try:
            octets = self._judge.recv(MOST_OCTETS)
        except BlockingIOError:
            return not ready & _HUNG_UP
        except OSError:
            return False
        if not octets:
            return False
        number, verified = VERDICT.unpack_from(octets)
        control, _ = self._waiting.pop(number, (None, 0.0))
        if control is None:
            return True  # it came too late
        answer = octets[VERDICT.size :]
        if verified:
            self._begin(answer, control)
        else:
            self._deny(parse(answer), control)
        return True

    def _begin(self, answer: bytes, control: socket.SocketType) -> None:
        """What the judge says of the session is for its process."""
        if len(self._sessions) >= self._most_sessions:
            self._refuse(control, LookupUnavailable(f"{self._most_sessions} sessions run already"))
            return
        try:
            pid = self._start(answer, control)
        except OSError as problem:
            self._refuse(control, LookupUnavailable(f"no session can be started: {problem.strerror}"))
            return
        self._sessions.add(pid)
        control.close()

    def _deny(self, answer: Mapping[str, Any], control: socket.SocketType) -> None:
        """There is no session, or not yet."""
        if "step" in answer:
            if "rejected" in answer["step"]:
                self._guesses.wrong()
            self._tell(control, {"step": answer["step"]})
        elif "bad" in answer:
            self._complain(f"a record that is none: {answer['bad']}")
            control.close()
        else:
            problem = error_of(answer)
            if isinstance(problem, BadCredentials):
                self._guesses.wrong()
            self._refuse(control, problem)

    def _reap(self) -> None:
        """Sessions that are over, and what they have left behind."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._sessions.discard(pid)

    def _complain(self, what: str) -> None:
        """Write about a record to the log, once a second at most: whoever sends it may send many."""
        self._bad_records += 1
        now = time.monotonic()
        if now >= self._complained + _COMPLAIN_SECONDS:
            self._complained = now
            os.write(2, f"broker: {what}; it is dropped, the {self._bad_records}. of its kind\n".encode())

    def _refuse(self, control: socket.SocketType, why: TpopsError) -> None:
        self._tell(control, refusal(why))

    def _tell(self, control: socket.SocketType, what: dict[str, object]) -> None:
        """Tell the front, which may not read or be gone: then it finds the socket closed."""
        with contextlib.suppress(OSError):
            control.send(pack(what), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        control.close()


def _receive(front: socket.socket, into: bytearray) -> tuple[int, list[int], bool]:
    """How long a packet is, the descriptors that came with it, and whether both are whole."""
    octets, ancillary, flags, _ = front.recvmsg_into([into], _ROOM, _AT_ONCE)
    descriptors: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors += struct.unpack(f"{len(data) // _INT}i", data[: len(data) - len(data) % _INT])
    return octets, descriptors, not flags & _CUT


def _control(descriptors: list[int], whole: bool) -> socket.SocketType | None:
    """The socket that came with a whole record, when that is all that came; else everything is closed."""
    try:
        control = socket.SocketType(fileno=descriptors[0]) if len(descriptors) == 1 and whole else None
    except OSError:
        control = None
    if control is None:
        for one in descriptors:
            os.close(one)
        return None
    if (control.family, control.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
        control.close()
        return None
    return control


def _drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass


def _forker(serve: Callable[[bytes, socket.SocketType], NoReturn]) -> Starting:
    """What forks sessions."""

    def fork(answer: bytes, control: socket.SocketType) -> int:
        pid: int = _fork()
        if pid == 0:
            serve(answer, control)
        if pid < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return pid

    return fork


def start_judge(orders: int) -> tuple[socket.socket, list[str]]:
    """
    Start the judge and wait until it can answer: the socket to it, and what proves a password without sending it.

    @param orders: descriptor of what it must know (L{handoff}); is closed here
    @raise ConfigError: when it cannot
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # It is waited for as all children are.
    subprocess.Popen(
        [sys.executable, "-P", "-m", "tpops.process.judge", str(its.fileno()), str(orders)],
        stdin=subprocess.DEVNULL,
        pass_fds=[its.fileno(), orders],
    )
    its.close()
    os.close(orders)
    ours.settimeout(_START_SECONDS)
    try:
        said = parse(ours.recv(MOST_OCTETS) or b"{}")
    except OSError:
        said = {}
    if "failed" in said:
        raise ConfigError(said["failed"])
    if "ready" not in said:
        raise ConfigError(["the process that verifies passwords does not start; see its output"])
    return ours, said["ready"]


def main(arguments: list[str]) -> int:
    """Serve until the front is gone; the exit status."""
    front_number, orders, judge_orders = (int(argument) for argument in arguments)
    front = socket.socket(fileno=front_number)
    front.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for name in _SPARED:
        sys.modules[name] = cast(Any, None)
    # Before all else of Twisted: some of it looks for a reactor when it is loaded.
    from tpops.process import early_reactor

    reactor = early_reactor.install()
    from tpops.process.owners import adopt_orphans
    from tpops.process.session import Plan, serve_session

    try:
        plan = Plan(settings(handoff.take(orders)["config"]), reactor)
        judge, proofs = start_judge(judge_orders)
    except ConfigError as problem:
        front.send(pack({"failed": list(problem.problems)}))
        return 1
    plan.warm()
    adopt_orphans()
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    front.send(pack({"ready": proofs}))
    most = plan.config.limits.connections or _MOST_SESSIONS
    Broker(front, judge, _forker(partial(serve_session, plan)), most).serve(reader)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
