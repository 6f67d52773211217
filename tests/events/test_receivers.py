"""WHOSON, DRAC and programs in this process, at real receivers: what goes right and what goes wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections import Counter
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.events.peers import Dracd, StreamPeer, UDPPeer, Whosond
from tests.events.samples import MOMENT
from tpops.events import drac, program, whoson
from tpops.events.deliveries import Deliveries, NotTold
from tpops.interfaces import IReceiver
from tpops.model import Notice

LOGIN = Notice(
    kind="login", at=MOMENT, session="s1", user="joe", named="Joe", peer="192.0.2.7", server="pop.example.org"
)
LOGOUT = Notice(kind="logout", at=MOMENT, session="s1", user="joe", peer="192.0.2.7")


def children() -> set[str]:
    """The processes that this thread has started and not waited for."""
    return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())


def descriptors() -> Counter[str]:
    """What this process has open, and how often."""
    found = []
    for one in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{one}"))
    return Counter(found)


def state(pid: int) -> str:
    """The letter of a process' state."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


_MISSING = "cannot start /nowhere: No such file or directory"


class ReceiverCase(TestCase):
    """Sends notices."""

    timeout = 120

    async def refusal(self, receiver: IReceiver, notice: Notice = LOGIN, seconds: float = 60.0) -> str:
        """Why a notice was not told."""
        deliveries = Deliveries(receiver.send, reactor, seconds)  # type: ignore[arg-type]  # what it is just now
        try:
            await deliveries.add("line", notice)
        except NotTold as problem:
            return str(problem)
        raise AssertionError("it was told")


class WhosonTests(ReceiverCase):
    """whosond, by each transport."""

    def whoson(self, *servers: whoson.Server, seconds: float = 30.0) -> whoson.Whoson:
        """A client of these servers."""
        return whoson.Whoson(reactor, servers, seconds, True)

    async def test_transports(self) -> None:
        """WHOSON: LOGIN and LOGOUT over UDP, TCP and a UNIX socket; a lost datagram is sent again."""
        path = str(Path(self.mktemp()))
        for transport in ("udp", "tcp", "unix"):
            whosond = Whosond()
            if transport == "udp":
                whosond.lose = 1
                server = whoson.Server("udp", "localhost", UDPPeer(self, whosond.answer).port)
            elif transport == "tcp":
                server = whoson.Server("tcp", "127.0.0.1", StreamPeer(self, whosond.answer).port)
            else:
                StreamPeer(self, whosond.answer, path)
                server = whoson.Server("unix", path)
            receiver = self.whoson(server)
            receiver.start()
            await receiver.send(LOGIN)
            self.assertEqual(whosond.users, {"192.0.2.7": "joe"})
            await receiver.send(LOGOUT)
            self.assertEqual((whosond.users, len(whosond.requests)), ({}, 2))
            await receiver.stop()

    async def test_no(self) -> None:
        """Promise: every server's reason is told; a name cannot make another request."""
        whosond = Whosond()
        whosond.refuse = True
        udp = whoson.Server("udp", "127.0.0.1", UDPPeer(self, whosond.answer).port)
        closed = StreamPeer(self, whosond.answer)
        closed.stop()
        tcp = whoson.Server("tcp", "127.0.0.1", closed.port)
        empty = whoson.Server("tcp", "127.0.0.1", StreamPeer(self, lambda request: b"").port)
        told = await self.refusal(self.whoson(udp, tcp, empty))
        self.assertIn(f"udp:127.0.0.1:{udp.port}: it says '-no such luck'", told)
        self.assertIn(f"tcp:127.0.0.1:{tcp.port}: cannot connect", told)
        self.assertIn(f"tcp:127.0.0.1:{empty.port}: the connection was closed without an answer", told)
        silent = whoson.Server("udp", "127.0.0.1", UDPPeer(self, lambda request: None).port)
        self.assertIn("no answer within 0.3 seconds", await self.refusal(self.whoson(silent, seconds=0.3)))
        nowhere = whoson.Server("udp", "nowhere.invalid", 9)
        self.assertIn("there is no address for nowhere.invalid", await self.refusal(self.whoson(nowhere)))
        self.assertEqual(str(whoson.Server("tcp", "::1", 7)), "tcp:[::1]:7")
        whosond.refuse = False
        evil = Notice(kind="login", at=MOMENT, user="joe\r\n\r\nLOGOUT 192.0.2.1", peer="192.0.2.7")
        await self.whoson(udp).send(evil)
        self.assertEqual(whosond.users, {"192.0.2.7": "joe\\x0d\\x0a\\x0d\\x0aLOGOUT\\x20192.0.2.1"})


class DracTests(ReceiverCase):
    """rpc.dracd and its portmapper."""

    async def test_add(self) -> None:
        """DRAC: found by the portmapper once, told the address; no is no; another port is found after a failure."""
        dracd = Dracd(self)
        receiver = drac.Drac(reactor, "127.0.0.1", 0, dracd.portmapper.port, lambda: time.monotonic_ns())
        receiver.start()
        for _ in range(2):
            await receiver.send(LOGIN)
        self.assertEqual((dracd.addresses, len(dracd.portmapper.got)), (["192.0.2.7"] * 2, 1))
        dracd.verdict = 2
        self.assertEqual(await self.refusal(receiver), "rpc.dracd says 'system error'")
        dracd.known = False
        receiver = drac.Drac(reactor, "127.0.0.1", 0, dracd.portmapper.port, lambda: 1)
        self.assertEqual(await self.refusal(receiver), "the portmapper of 127.0.0.1 knows no rpc.dracd")
        receiver = drac.Drac(reactor, "127.0.0.1", dracd.portmapper.port, 1, lambda: 1)
        self.assertIn("rpc.dracd at 127.0.0.1, port", await self.refusal(receiver))
        silent = UDPPeer(self, lambda call: b"\0" * 40)
        receiver = drac.Drac(reactor, "127.0.0.1", silent.port, 1, lambda: 1)
        self.assertIn("not done within 0.3", await self.refusal(receiver, seconds=0.3))
        await receiver.stop()


class ProgramTests(ReceiverCase):
    """Programs of all manners."""

    def notes(self) -> Path:
        """Where a program writes."""
        return Path(self.mktemp()).absolute()

    def shell(self, script: str, *arguments: str) -> program.Program:
        """A receiver that runs a script."""
        return program.Program(reactor, ("/bin/sh", "-c", script, "sh", *arguments))

    async def test_told(self) -> None:
        """Promise: arguments and environment say what happened; values are no options and no words of a shell."""
        notes = self.notes()
        receiver = self.shell(f'echo "$1,$2,$TPOPS_USER,$LOGNAME,$TPOPS_PEER" > {notes}', "$(user)", "<$(clienthost)>")
        receiver.start()
        self.assertEqual(receiver.line(LOGIN), "s1")
        await receiver.send(LOGIN)
        self.assertEqual(notes.read_text(), "joe,<192.0.2.7>,joe,Joe,192.0.2.7\n")
        evil = Notice(kind="login", at=MOMENT, user="-x `id` $(id)", peer="unix")
        await receiver.send(evil)
        self.assertEqual(notes.read_text().split(",")[0], "\\x2dx\\x20`id`\\x20$\\x28id\\x29")
        await receiver.stop()

    async def test_failures(self) -> None:
        """Promise: exit status, signal and the beginning of what it said."""
        self.assertEqual(
            await self.refusal(self.shell("echo one >&2; echo two >&2; exit 7")),
            "/bin/sh ends with exit status 7: one | two",
        )
        self.assertEqual(await self.refusal(self.shell("kill -TERM $$")), "/bin/sh was ended by signal 15")
        long = await self.refusal(self.shell("exec >&2 2>/dev/null; head -c 300000 /dev/zero | tr '\\0' x; exit 1"))
        self.assertEqual(long.count("x"), 1 + 400)
        missing = program.Program(reactor, ("/nowhere/program",))
        self.assertEqual(await self.refusal(missing), "cannot start /nowhere/program: No such file or directory")

    async def test_killed_with_its_children(self) -> None:
        """Promise: at the time limit, and when it ends and leaves others; nothing stays open here."""
        await self.shell("exit 0").send(LOGIN)  # the reactor runs now, and has what it needs itself
        before = descriptors()
        notes = self.notes()
        script = f"sleep 1000 & echo $! > {notes}; "
        self.assertIn("not done within", await self.refusal(self.shell(script + "wait"), seconds=1.0))
        await self.gone(int(notes.read_text()))
        await self.shell(script + "exit 0").send(LOGIN)
        await self.gone(int(notes.read_text()))
        self.assertFalse(descriptors() - before)

    async def test_no_descriptors_left(self) -> None:
        """Promise: a program that cannot be watched is ended at once, and nothing is left of it."""
        await self.shell("exit 0").send(LOGIN)
        before, others = descriptors(), children()

        def refuse(pid: int) -> int:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        self.patch(os, "pidfd_open", refuse)
        self.assertEqual(await self.refusal(self.shell("sleep 1000")), "cannot start /bin/sh: Too many open files")
        self.assertEqual(await self.refusal(program.Program(reactor, ("/nowhere",))), _MISSING)
        self.assertFalse(descriptors() - before)
        self.assertEqual(children() - others, set())

    async def gone(self, pid: int) -> None:
        """Wait until a process has ended."""
        end = time.monotonic() + 60
        while True:
            try:
                if state(pid) == "Z":
                    return
            except FileNotFoundError:
                return
            self.assertLess(time.monotonic(), end)
            pause: Deferred[None] = Deferred()
            reactor.callLater(0.02, pause.callback, None)  # type: ignore[attr-defined]  # what it is just now
            await pause
