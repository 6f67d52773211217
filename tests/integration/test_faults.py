"""The server dies, or its clients vanish: no mail is lost, no lock stays, nothing leaks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.server import PASSWORD, USER, RunningServer, wait_until
from tests.integration.wire import Wire

#: Within this time "at once" must have happened, however busy the machine; far less than any lock wait here.
AT_ONCE_SECONDS = 8.0

#: How long a failed login takes, and how long a login waits for the lock.
DELAY_SECONDS = 60.0

_MIB = 1 << 20


class KillTests(SynchronousTestCase):
    """kill -9 around QUIT."""

    timeout = 240
    count = 400
    marked = 200

    def setUp(self) -> None:
        """A server with 400 messages, each with a text of its own."""
        self.server = RunningServer(self, maildir={"lock_wait_seconds": 0})
        self.message = {f"{number:04}.host": self.text(number) for number in range(self.count)}
        self.fill()
        self.server.start()

    def text(self, number: int) -> bytes:
        """The message with this number."""
        return b"Subject: %d\n\n" % number + b"%d\n" % number * 50

    def fill(self) -> None:
        """Deliver what is not there."""
        for name in self.message.keys() - self.server.names():
            self.server.deliver(name, self.message[name])

    def gone_after_kill(self, moment: Callable[[Path], None]) -> int:
        """
        Mark every second message, send QUIT, wait for a moment, kill the server, and check everything.

        @param moment: gets the file of a marked message in the middle
        @return: how many messages are gone
        """
        server = self.server
        wire = server.session()
        wire.send(b"".join(b"DELE %d\r\n" % number for number in range(1, self.count + 1, 2)))
        self.assertTrue(all(line.startswith(b"+OK") for line in wire.lines(self.marked)))
        wire.send(b"QUIT\r\n")
        moment(server.maildir(part="new") / f"{self.marked:04}.host")
        server.stop(signal.SIGKILL)
        wire.close()
        stored = server.stored()
        marked = {name for number, name in enumerate(sorted(self.message)) if number % 2 == 0}
        self.assertLessEqual(self.message.keys() - marked, stored.keys())
        self.assertTrue(all(self.message[name] == octets for name, octets in stored.items()))
        server.start()
        again = server.session()
        listed = again.multi_line(b"UIDL")[1].decode().split()[1::2]
        self.assertEqual(sorted(listed), sorted(stored))
        self.assertTrue(again.multi_line(b"RETR 1")[1] == corpus.wire(stored[listed[0]]))
        self.assertTrue(again.command(b"QUIT").startswith(b"+OK"))
        return len(self.message) - len(stored)

    def test_at_many_moments(self) -> None:
        """RFC 1939 section 6: unmarked messages stay; marked ones are whole or gone; the lock is free at once."""
        moments: list[Callable[[Path], None]] = [
            lambda _, delay=delay: time.sleep(delay)  # type: ignore[misc]
            for delay in (0.0, 0.0004, 0.0008, 0.0015, 0.01)
        ]
        moments += [until_gone] * 2
        for moment in moments:
            gone = self.gone_after_kill(moment)
            self.assertLessEqual(gone, self.marked)
            self.fill()

    def test_without_quit(self) -> None:
        """RFC 1939 section 6: marks die with the server."""
        wire = self.server.session()
        wire.send(b"DELE 1\r\nDELE 2\r\n")
        wire.lines(2)
        self.server.stop(signal.SIGKILL)
        wire.close()
        self.server.start()
        self.assertTrue(self.server.session().command(b"STAT").startswith(b"+OK %d " % self.count))


def until_gone(path: Path) -> None:
    """Wait until this file is removed, looking all the time."""
    end = time.monotonic() + AT_ONCE_SECONDS
    while os.path.exists(path) and time.monotonic() < end:
        pass


class VanishTests(SynchronousTestCase):
    """A client goes at each step of its session, with a reset, or with an end of file."""

    timeout = 240

    def setUp(self) -> None:
        """A server with a big message, long delays, and one finished session, so that its threads are there."""
        self.server = RunningServer(
            self, protocol={"auth_delay_seconds": DELAY_SECONDS}, maildir={"lock_wait_seconds": DELAY_SECONDS}
        )
        self.server.deliver("1.host", corpus.ALL["lf"])
        self.server.deliver("2.host", b"Subject: big\n\n" + b"x" * 99 + b"\n" + b"line\n" * (4 * _MIB))
        self.server.start()
        self.connections = 0
        self.learn_descriptors()

    def learn_descriptors(self) -> None:
        """How many descriptors the server has without clients; each socket is closed before its line is logged."""
        self.finish_session()
        wait_until(lambda: len(self.server.access()) == self.connections, "a line for each connection")
        self.descriptors = self.server.descriptors()

    def connect(self) -> Wire:
        """A connection, counted."""
        self.connections += 1
        return self.server.connect(receive_octets=4096)

    def session(self) -> Wire:
        """A session, counted."""
        wire = self.connect()
        wire.log_in(USER, PASSWORD)
        return wire

    def finish_session(self) -> None:
        """Somebody else logs in, at once, and sees both messages."""
        began = time.monotonic()
        wire = self.session()
        self.assertLess(time.monotonic() - began, AT_ONCE_SECONDS)
        self.assertTrue(wire.command(b"STAT").startswith(b"+OK 2 "))
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (2 messages left)")
        wire.rest()
        wire.close()

    def check_nothing_is_left(self, step: str) -> None:
        """The lock is free, descriptors are closed, and there is one line per connection."""
        self.finish_session()
        wait_until(lambda: self.server.descriptors() == self.descriptors, f"{step}: descriptors", AT_ONCE_SECONDS)
        wait_until(lambda: len(self.server.access()) >= self.connections, f"{step}: access log", AT_ONCE_SECONDS)
        wait_until(
            lambda: len(self.server.events("disconnect")) >= self.connections, f"{step}: event log", AT_ONCE_SECONDS
        )
        self.assertEqual(len(self.server.access()), self.connections, step)
        self.assertEqual(len(self.server.events("disconnect")), self.connections, step)
        self.assertEqual(self.server.names(), {"1.host", "2.host"}, step)

    def dialogue(self, wire: Wire) -> list[tuple[str, Callable[[], object]]]:
        """The steps of a session, in order."""
        return [
            ("before the greeting is read", lambda: None),
            ("greeting", wire.line),
            ("CAPA", lambda: wire.multi_line(b"CAPA")),
            ("USER", lambda: wire.command(b"USER joe")),
            ("half of PASS", lambda: wire.send(b"PASS " + PASSWORD.encode())),
            ("PASS without reading", lambda: wire.send(b"\r\n")),
            ("login", wire.line),
            ("STAT", lambda: wire.command(b"STAT")),
            ("DELE", lambda: wire.command(b"DELE 1")),
            ("LIST", lambda: wire.multi_line(b"LIST")),
            ("TOP", lambda: wire.multi_line(b"TOP 2 10")),
            ("RETR without reading", lambda: wire.send(b"RETR 2\r\n")),
            ("RETR, a line read", wire.line),
            ("RETR, much of it read", lambda: wire.lines(100_000)),
            ("commands behind RETR", lambda: wire.send(b"NOOP\r\n" * 1000)),
        ]

    def test_at_every_step(self) -> None:
        """Promise: whatever a vanished client was doing, a new login works at once and nothing is left."""
        steps = len(self.dialogue(Wire.__new__(Wire)))
        for leave in (Wire.reset, Wire.close):
            for last in range(steps):
                wire = self.connect()
                for _, step in self.dialogue(wire)[: last + 1]:
                    step()
                leave(wire)
                self.check_nothing_is_left(f"{self.dialogue(wire)[last][0]}, {leave.__name__}")

    def failing(self) -> Wire:
        """A client whose login has failed and who waits for the answer."""
        wire = self.connect()
        wire.line()
        wire.command(b"USER joe")
        wire.send(b"PASS wrong\r\n")
        self.server.event("login-failed")
        return wire

    def test_reset_during_the_delay_of_a_failed_login(self) -> None:
        """Promise: the delay ends with the connection."""
        self.failing().reset()
        self.check_nothing_is_left("reset")

    def test_end_of_file_during_the_delay_of_a_failed_login(self) -> None:
        """Promise: it may be a half-closed client, so it gets its answer when the delay is over; others do not wait."""
        self.failing().close()
        self.finish_session()
        self.server.configuration["protocol"]["auth_delay_seconds"] = 0.5
        self.server.restart()
        self.learn_descriptors()
        self.failing().close()
        self.check_nothing_is_left("end of file")

    def test_while_waiting_for_the_lock(self) -> None:
        """Promise: who has gone gets the lock and gives it back, and the next one has it."""
        for leave in (Wire.reset, Wire.close):
            holder = self.session()
            waiting = [self.connect() for _ in range(3)]
            for wire in waiting:
                wire.line()
                wire.send(b"USER joe\r\nPASS %s\r\nDELE 1\r\n" % PASSWORD.encode())
                wire.line()
            time.sleep(0.2)
            for wire in waiting:
                leave(wire)
            self.assertEqual(holder.command(b"QUIT"), b"+OK bye (2 messages left)")
            holder.close()
            self.check_nothing_is_left(leave.__name__)

    def test_behind_quit(self) -> None:
        """RFC 1939 section 6: a QUIT that came is carried out, whether or not its answer can be delivered."""
        for number, leave in enumerate((Wire.reset, Wire.close), 3):
            self.server.deliver(f"{number}.host", corpus.ALL["lf"])
            wire = self.session()
            self.assertTrue(wire.command(b"DELE 3").startswith(b"+OK"))
            wire.send(b"QUIT\r\n")
            self.server.event("remove", detail="1")
            leave(wire)
            wait_until(lambda: len(self.server.names()) == 2, "the message is removed", AT_ONCE_SECONDS)
            self.check_nothing_is_left(leave.__name__)
            self.server.json_log.write_bytes(b"")
            self.connections = self.connections - len(self.server.access())
            self.server.access_log.write_bytes(b"")
