"""L{tpops.process.packets} and L{tpops.process.handoff}."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tpops.process import handoff
from tpops.process.packets import MOST_LINE, Lines, Packet, Packets


class PacketTests(SynchronousTestCase):
    """One end of a channel; the test has the other."""

    def setUp(self) -> None:
        ours, self.other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(self.other.close)
        self.reactor: Any = MemoryReactorClock()
        self.received: list[Packet] = []
        self.lost = 0
        self.packets = Packets(self.reactor, ours, self.received.append, self.count_loss)
        self.addCleanup(self.packets.close)

    def count_loss(self) -> None:
        """The other end is gone."""
        self.lost += 1

    def test_both_ways(self) -> None:
        """Promise: objects arrive whole and in order."""
        self.assertIn(self.packets, self.reactor.readers)
        for number in range(3):
            self.other.send(json.dumps({"number": number}).encode())
        self.packets.doRead()
        self.assertEqual(self.received, [{"number": 0}, {"number": 1}, {"number": 2}])
        self.assertTrue(self.packets.send({"a": ["b", 1]}))
        self.assertEqual(json.loads(self.other.recv(1000)), {"a": ["b", 1]})

    def test_end(self) -> None:
        """Promise: told once; later packets go nowhere."""
        self.other.close()
        self.packets.doRead()
        self.packets.doRead()
        self.assertEqual(self.lost, 1)
        self.assertNotIn(self.packets, self.reactor.readers)
        self.assertFalse(self.packets.send({"a": 1}))

    def test_what_is_no_packet(self) -> None:
        """Promise: who sends something else is taken for gone, and the log says so."""
        for octets in (b"\xff", b"[1]", b"{"):
            self.setUp()
            self.other.send(octets)
            self.packets.doRead()
            self.assertEqual((self.lost, self.received), (1, []))
            self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_packet_that_cannot_be_handled(self) -> None:
        """Promise: the same for a packet at which whoever gets it fails."""
        ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(other.close)
        packets = Packets(self.reactor, ours, lambda packet: packet["missing"], self.count_loss)
        other.send(b"{}")
        packets.doRead()
        self.assertEqual(self.lost, 1)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_other_end_that_does_not_read(self) -> None:
        """Promise: packets are dropped, nothing waits."""
        sent = 0
        while self.packets.send({"text": "x" * 1000}):
            sent += 1
        self.assertGreater(sent, 10)

    def test_packet_that_is_too_long(self) -> None:
        """Promise: a mistake, and told as one."""
        self.assertRaises(ValueError, self.packets.send, {"text": "x" * (64 << 20)})

    def test_sockets(self) -> None:
        """Promise: lent sockets arrive as themselves, and no program that is started there gets them."""
        there = Packets(self.reactor, self.other, self.received.append, self.count_loss)
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            self.packets.lend({"lent": True}, [one, two])
            packet, lent = there.wait_for("lent")
            names = [opened.getsockname() for opened in (one, two)]
        self.assertEqual(packet, {"lent": True})
        self.assertEqual([opened.getsockname() for opened in lent], names)
        self.assertFalse(any(opened.get_inheritable() for opened in lent))
        for opened in lent:
            opened.close()

    def test_something_else_than_sockets(self) -> None:
        """Promise: another order, or the end, ends the waiting; one that means nothing yet does not."""
        self.other.send(b'{"reopen": true}')
        self.other.send(b'{"refused": ["why"]}')
        self.assertEqual(self.packets.wait_for("refused", passing="reopen"), ({"refused": ["why"]}, []))
        self.other.send(b'{"stop": true}')
        self.assertEqual(self.packets.wait_for("lent", "refused"), (None, []))
        self.other.close()
        self.assertEqual(self.packets.wait_for("lent", "refused"), (None, []))


class LineTests(SynchronousTestCase):
    """What a process writes."""

    def setUp(self) -> None:
        reader, self.writer = os.pipe()
        self.said: list[str] = []
        self.reactor: Any = MemoryReactorClock()
        self.lines = Lines(self.reactor, reader, self.said.append)

    def test_lines(self) -> None:
        """Promise: whole ones, however they come; blank ones are left out; the rest comes at the end."""
        for octets in (b"on", b"e\ntwo\n\n", b"\xff\nrest"):
            os.write(self.writer, octets)
            self.lines.doRead()
        self.assertEqual(self.said, ["one", "two", "\\xff"])
        os.close(self.writer)
        self.lines.close()
        self.lines.close()
        self.assertEqual(self.said[3:], ["rest"])
        self.assertNotIn(self.lines, self.reactor.readers)

    def test_long_line(self) -> None:
        """Promise: memory is bounded."""
        os.write(self.writer, b"x" * (MOST_LINE + 5))
        self.lines.doRead()
        os.write(self.writer, b"y\n")
        os.close(self.writer)
        self.lines.doRead()
        self.assertEqual([len(line) for line in self.said], [MOST_LINE])

    def test_closed_while_the_writer_lives(self) -> None:
        """Promise: a program that outlives the worker keeps nothing open."""
        os.write(self.writer, b"one\n")
        self.lines.close()
        os.close(self.writer)
        self.assertEqual(self.said, ["one"])


class HandoffTests(SynchronousTestCase):
    """State in memory."""

    def test_round_trip(self) -> None:
        """Promise: what was put is what is taken, and nothing stays open."""
        before = len(os.listdir("/proc/self/fd"))
        descriptor = handoff.put({"a": [1, "x"], "text": "\udce4"})
        self.assertEqual(handoff.take(descriptor), {"a": [1, "x"], "text": "\udce4"})
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
