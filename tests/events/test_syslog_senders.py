"""L{tpops.events.syslog_senders}, with real sockets."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tpops.events import syslog_senders
from tpops.events.syslog_senders import Datagrams, Sender, open_sender


async def until(condition: Any) -> Any:
    """Wait until something is true; what it gives."""
    while not (result := condition()):
        await deferLater(reactor, 0.005, lambda: None)
    return result


def run(work: Any) -> Any:
    """A test as a coroutine."""

    def test(self: SenderCase) -> Deferred[None]:
        return Deferred.fromCoroutine(work(self))

    test.__doc__ = work.__doc__
    test.__name__ = work.__name__
    return test


class SenderCase(TestCase):
    """Short pauses, and receivers."""

    timeout = 60

    def setUp(self) -> None:
        """Nothing waits long."""
        self.patch(syslog_senders, "_FIRST_PAUSE_SECONDS", 0.01)
        self.patch(syslog_senders, "LONGEST_PAUSE_SECONDS", 0.05)
        directory = tempfile.mkdtemp()
        self.path = os.path.join(directory, "log")
        self.addCleanup(os.rmdir, directory)
        self.addCleanup(lambda: os.path.exists(self.path) and os.unlink(self.path))

    def receiver(self, address: Any, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        """A socket that receives."""
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        made = socket.socket(family, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.setblocking(False)
        if kind == socket.SOCK_STREAM:
            made.listen()
        self.addCleanup(made.close)
        return made

    def sender(self, kind: str, address: str, port: int = 0) -> Sender:
        """One that is closed at the end."""
        made = open_sender(reactor, kind, address, port)
        self.addCleanup(made.close)
        return made

    def logged(self, name: str) -> list[Any]:
        """What was logged under this name."""
        return [event for event in self.flushLoggedErrors() if name in str(event)]


class DatagramTests(SenderCase):
    """/dev/log, and UDP."""

    def received(self, receiver: socket.socket) -> list[bytes]:
        """What has arrived."""
        found = []
        while True:
            try:
                found.append(receiver.recv(65536))
            except BlockingIOError:
                return found

    @run
    async def test_sends_at_once(self) -> None:
        """Promise: a receiver that is there gets each message in the call."""
        receiver = self.receiver(self.path)
        sender = self.sender("unix", self.path)
        sender.send(b"one")
        sender.send(b"two")
        self.assertEqual(self.received(receiver), [b"one", b"two"])

    @run
    async def test_udp(self) -> None:
        """Promise: UDP takes them too."""
        receiver = self.receiver(("127.0.0.1", 0))
        self.sender("udp", "127.0.0.1", receiver.getsockname()[1]).send(b"one")
        self.assertEqual(await until(lambda: self.received(receiver)), [b"one"])

    @run
    async def test_missing_receiver(self) -> None:
        """Promise: nothing is raised; when it comes, what has waited leaves in order, with what is new."""
        sender = self.sender("unix", self.path)
        for number in range(5):
            sender.send(b"%d" % number)
        self.assertEqual((sender.waiting, sender.dropped), (5, 0))
        receiver = self.receiver(self.path)
        sender.send(b"5")
        await until(lambda: not sender.waiting)
        self.assertEqual(self.received(receiver), [b"%d" % number for number in range(6)])

    @run
    async def test_restarted_receiver(self) -> None:
        """Promise: the first message after a restart is not lost."""
        receiver = self.receiver(self.path)
        sender = self.sender("unix", self.path)
        sender.send(b"one")
        receiver.close()
        os.unlink(self.path)
        receiver = self.receiver(self.path)
        sender.send(b"two")
        self.assertEqual(self.received(receiver), [b"two"])

    @run
    async def test_receiver_that_does_not_read(self) -> None:
        """Promise: the caller does not wait; messages wait instead, and arrive when it reads."""
        receiver = self.receiver(self.path)
        sender = self.sender("unix", self.path)
        sent = 0
        while not sender.waiting:
            sender.send(b"%d" % sent)
            sent += 1
        sender.send(b"%d" % sent)
        found: list[bytes] = []
        await until(lambda: found.extend(self.received(receiver)) or not sender.waiting)
        found += self.received(receiver)
        self.assertEqual(found, [b"%d" % number for number in range(sent + 1)])

    @run
    async def test_queue_is_bounded(self) -> None:
        """Promise: the oldest go, and are counted; what is left at the end is counted, too."""
        self.patch(syslog_senders, "MOST_WAITING", 3)
        sender = self.sender("unix", self.path)
        for number in range(5):
            sender.send(b"%d" % number)
        self.assertEqual((sender.waiting, sender.dropped), (3, 2))
        sender.close()
        self.assertEqual((sender.waiting, sender.dropped), (0, 5))
        sender.send(b"late")
        self.assertEqual(sender.dropped, 6)

    @run
    async def test_udp_without_a_receiver(self) -> None:
        """Promise: a port that refuses raises nothing, and nothing waits for ever."""
        probe = self.receiver(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        sender = Datagrams(reactor, ("127.0.0.1", port))
        self.addCleanup(sender.close)
        for number in range(20):
            sender.send(b"%d" % number)
        receiver = self.receiver(("127.0.0.1", port))
        sender.send(b"last")
        await until(lambda: b"last" in self.received(receiver))


class StreamTests(SenderCase):
    """TCP, with octets counted."""

    async def accepted(self, receiver: socket.socket) -> socket.socket:
        """The next connection."""

        def accept() -> socket.socket | None:
            try:
                return receiver.accept()[0]
            except BlockingIOError:
                return None

        connected: socket.socket = await until(accept)
        connected.setblocking(False)
        self.addCleanup(connected.close)
        return connected

    async def messages(self, connected: socket.socket, count: int) -> list[bytes]:
        """So many messages, taken apart."""
        octets = b""
        found: list[bytes] = []

        def enough() -> bool:
            nonlocal octets
            try:
                octets += connected.recv(65536)
            except BlockingIOError:
                return False
            while match := re.match(rb"(\d+) ", octets):
                end = match.end() + int(match[1])
                if len(octets) < end:
                    break
                found.append(octets[match.end() : end])
                octets = octets[end:]
            return len(found) >= count

        await until(enough)
        return found

    @run
    async def test_reconnects(self) -> None:
        """Promise: what is said while the receiver is away arrives when it is back, in order."""
        receiver = self.receiver(("127.0.0.1", 0), socket.SOCK_STREAM)
        port = receiver.getsockname()[1]
        sender = self.sender("tcp", "127.0.0.1", port)
        sender.send(b"before it is there")
        connected = await self.accepted(receiver)
        sender.send("jörg\nand more".encode())
        self.assertEqual(await self.messages(connected, 2), [b"before it is there", "jörg\nand more".encode()])
        receiver.close()
        connected.close()
        await until(lambda: sender.send(b"x") or sender.waiting >= 3)
        waiting = sender.waiting
        receiver = self.receiver(("127.0.0.1", port), socket.SOCK_STREAM)
        connected = await self.accepted(receiver)
        self.assertEqual(await self.messages(connected, waiting), [b"x"] * waiting)
        self.assertEqual(sender.dropped, 0)

    @run
    async def test_receiver_that_does_not_read(self) -> None:
        """Promise: memory is bounded: what the queue cannot hold is dropped, the oldest first, and counted."""
        self.patch(syslog_senders, "MOST_WAITING", 10)
        receiver = self.receiver(("127.0.0.1", 0), socket.SOCK_STREAM)
        sender = self.sender("tcp", "127.0.0.1", receiver.getsockname()[1])
        connected = await self.accepted(receiver)
        await until(lambda: sender.send(b"x" * 2000) or sender.dropped >= 5)
        self.assertEqual(sender.waiting, 10)
        await until(lambda: _taken(connected) or not sender.waiting)

    @run
    async def test_close_before_it_is_there(self) -> None:
        """Promise: a stop waits for nobody; what never left is counted."""
        sender = self.sender("tcp", "127.0.0.1", 1)
        sender.send(b"x")
        sender.close()
        self.assertEqual((sender.waiting, sender.dropped), (0, 1))
        sender.send(b"y")
        self.assertEqual(sender.dropped, 2)

    @run
    async def test_close_sends_the_rest(self) -> None:
        """Promise: what was said before the stop arrives."""
        receiver = self.receiver(("127.0.0.1", 0), socket.SOCK_STREAM)
        sender = self.sender("tcp", "127.0.0.1", receiver.getsockname()[1])
        connected = await self.accepted(receiver)
        await until(lambda: sender.send(b"x") or not sender.waiting)
        sender.send(b"last")
        sender.close()
        found = await self.messages(connected, 2)
        self.assertEqual(found[-1], b"last")


def _taken(connected: socket.socket) -> bool:
    """Take what is there; never enough."""
    try:
        connected.recv(1 << 20)
    except BlockingIOError:
        return False
    return False
