"""Clients that mean no good: a running server keeps its limits, its memory and its friends."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import ssl
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.integration import corpus
from tests.integration.server import PASSWORD, USER, RunningServer, wait_until
from tests.integration.test_limits import LimitCase
from tests.integration.wire import Wire
from tests.pki import write_pem

PER_USER = b"-ERR [SYS/TEMP] too many connections of this user, close others or try again later"


class UserLimitTests(LimitCase):
    """So many sessions of one user."""

    def waits(self, server: RunningServer) -> Wire:
        """A login that waits for the maildrop."""
        wire = server.connect()
        wire.line()
        wire.send(b"USER %s\r\nPASS %s\r\n" % (USER.encode(), PASSWORD.encode()))
        wire.line()
        return wire

    def answer(self, server: RunningServer, user: str = USER, password: str = PASSWORD) -> bytes:
        """What PASS gets."""
        wire = server.connect()
        wire.line()
        wire.command(b"USER " + user.encode())
        answer = wire.command(b"PASS " + password.encode())
        wire.send(b"QUIT\r\n")
        wire.rest()
        return answer

    def start_with(self, **limits: Any) -> RunningServer:
        """A server where logins wait for the maildrop."""
        return self.start(
            users={USER: PASSWORD, "ann": "secret"},
            limits=limits,
            maildir={"lock_wait_seconds": 120},
            protocol={"auth_delay_seconds": 0},
        )

    def test_of_one_user(self) -> None:
        """RFC 3206 section 4: [SYS/TEMP] behind the right password only; who has gone, however, does not count."""
        server = self.start_with(connections_per_user=2)
        first, second = server.session(), self.waits(server)
        wait_until(lambda: self.answer(server) == PER_USER, "both of them count")
        self.assertEqual(self.answer(server, password="wrong"), b"-ERR [AUTH] authentication failed")
        self.assertTrue(self.answer(server, "ann", "secret").startswith(b"+OK"))
        event = server.event("login-refused", limit="connections_per_user")
        self.assertEqual(event["detail"], "LimitReached: connections_per_user: 2 connections of joe, at most 2")
        self.assertIn("login-refused: session", server.output())
        first.reset()
        self.assertTrue(second.line().startswith(b"+OK joe has 1 message"))
        third = self.waits(server)
        wait_until(lambda: self.answer(server) == PER_USER, "both of them count")
        second.command(b"QUIT")
        self.assertTrue(third.line().startswith(b"+OK joe"))

    def test_of_one_user_at_one_address(self) -> None:
        """Promise: networks that are exempt are not counted."""
        server = self.start_with(connections_per_user_and_address=1)
        session = server.session()
        self.assertEqual(self.answer(server), PER_USER)
        server.event("login-refused", limit="connections_per_user_and_address")
        session.command(b"QUIT")
        server.configuration["limits"]["exempt"] = ["127.0.0.0/8"]
        server.restart()
        session = server.session()
        waiting = self.waits(server)
        session.command(b"QUIT")
        self.assertTrue(waiting.line().startswith(b"+OK joe"))


class StrangerTests(LimitCase):
    """Who does not log in keeps nobody out."""

    def test_one_octet_at_a_time(self) -> None:
        """Promise: of clients that only ever begin a command the oldest make room, and real ones are served."""
        server = self.start(
            users={USER: PASSWORD, "ann": "secret"},
            limits={"unauthenticated_connections": 20, "connections": 40, "connections_per_address": 0},
        )
        session = server.session("ann", "secret")
        slow: list[Wire] = []
        for turn in range(6):
            slow += [server.connect() for _ in range(15)]
            for wire in slow:
                with contextlib.suppress(OSError):
                    wire.send(b"USER joe"[turn : turn + 1])
            client = server.session()
            self.assertTrue(client.command(b"STAT").startswith(b"+OK 1 "))
            self.assertTrue(client.command(b"QUIT").startswith(b"+OK"))
            self.assertEqual(session.command(b"NOOP"), b"+OK")
        oldest = slow[0].rest()
        self.assertIn(b"-ERR [SYS/TEMP] too many clients that have not logged in", oldest)
        event = server.event("limit", limit="unauthenticated_connections")
        self.assertEqual(event["detail"], "unauthenticated_connections: made room for a newer client")
        self.assertEqual(server.events("greeting-refused"), [])

    def test_flood(self) -> None:
        """Promise: after some thousand connections without a word the server works as before."""
        server = self.start(limits={"unauthenticated_connections": 50, "connections_per_address": 0})
        before = server.memory_mib()
        began = time.monotonic()
        for _ in range(3000):
            with socket.create_connection(("127.0.0.1", server.port)):
                pass
        self.assertTrue(server.session().command(b"STAT").startswith(b"+OK 1 "))
        self.assertLess(time.monotonic() - began, 60)
        wait_until(lambda: server.descriptors() < 60, "nothing of it is left")
        self.assertLess(server.memory_mib() - before, 30)

    def test_numbers_of_commands_and_errors(self) -> None:
        """Promise: each phase has its limits, and the log names them."""
        keys = ("commands_before_login", "errors_before_login", "commands_after_login", "errors_after_login")
        server = self.start(limits=dict(zip(keys, (8, 3, 5, 2), strict=True)))
        for key, line in zip(keys, (b"CAPA", b"X", b"NOOP", b"X"), strict=True):
            wire = server.session() if "after" in key else server.connect()
            wire.send((line + b"\r\nCAPA\r\n") * 10)
            self.assertTrue(wire.rest().endswith(b"closing the connection\r\n"), key)
            event = server.event("limit", limit=key)
            server.event("disconnect", session=event["session"])
        self.assertEqual(len(server.events("limit")), 4)


class MemoryTests(LimitCase):
    """What clients send, or do not take, does not grow in the server."""

    def test_lines_of_a_megabyte(self) -> None:
        """Promise: refused and closed, with and without a line end; no memory for it."""
        server = self.start(limits={"connections_per_address": 0})
        server.session().command(b"QUIT")
        before = server.memory_mib()
        wires = [server.connect() for _ in range(60)]
        for number, wire in enumerate(wires):
            with contextlib.suppress(OSError):
                wire.send(b"USER " + b"x" * (1 << 20) + (b"\r\n" if number % 2 else b""))
        for wire in wires:
            wire.rest()
        wait_until(lambda: len(server.events("disconnect")) == 61, "all of them are gone")
        self.assertEqual(len([one for one in server.events("limit") if one["limit"] == "disconnect_octets"]), 60)
        self.assertLess(server.memory_mib() - before, 20)

    def test_clients_that_never_read(self) -> None:
        """Promise: 20 clients that take nothing of 20 MB each cost some chunks, and are cut off."""
        users = {f"user{number}": PASSWORD for number in range(20)}
        server = self.start(users={USER: PASSWORD, **users}, protocol={"write_timeout_seconds": 2})
        big = b"Subject: big\n\n" + b"all work and no play\n" * (1 << 20)
        for user in users:
            server.deliver("2.host", big, user=user)
        wires = [server.session(user, receive_octets=4096) for user in users]
        before = server.memory_mib()
        for wire in wires:
            wire.send(b"RETR 1\r\n" * 100)
        most = 0.0
        while len(server.events("limit")) < len(users):
            most = max(most, server.memory_mib())
            time.sleep(0.01)
        self.assertEqual({one["limit"] for one in server.events("limit")}, {"write_timeout_seconds"})
        self.assertLess(most - before, 40)
        self.assertTrue(server.session("user7").command(b"STAT").startswith(b"+OK 1 "))


class BandwidthTests(LimitCase):
    """How fast mail is sent."""

    def test_one_session(self) -> None:
        """Promise: with TLS as without, a message takes its time, is whole, and the others are not held back."""
        here = {"address": "127.0.0.1", "port": 0}
        server = RunningServer(
            self,
            limits={"octets_per_second_per_session": 100000},
            listen=({**here, "tls": "off"}, {**here, "tls": "implicit"}),
            tls={"certificate": "mail.pem"},
        )
        write_pem(server.directory / "mail.pem", "localhost")
        server.start()
        big = b"Subject: big\n\n" + b"no play and no work\n" * 15000
        server.deliver("1.host", big)
        for secure in (False, True):
            wire = server.connect() if not secure else self.over_tls(server)
            wire.log_in(USER, PASSWORD)
            began = time.monotonic()
            _, body = wire.multi_line(b"RETR 1")
            self.assertGreater(time.monotonic() - began, 1.9)
            self.assertEqual(body, corpus.wire(big))
            self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        event = server.event("limit", limit="octets_per_second_per_session")
        self.assertIn("slowed down by ", event["detail"])

    def over_tls(self, server: RunningServer) -> Wire:
        """A connection to the second listener."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        raw = socket.create_connection(("127.0.0.1", server.configuration["listen"][1]["port"]), 60)
        self.addCleanup(raw.close)
        wrapped = context.wrap_socket(raw)
        self.addCleanup(wrapped.close)
        return Wire(wrapped)


class DescriptorTests(LimitCase):
    """The process may open no more files."""

    def limited(self, most: int) -> RunningServer:
        """A server that may have so many files open."""
        server = RunningServer(self, limits={"connections_per_address": 0, "connections": 1000})
        server.deliver("1.host", corpus.ALL["lf"])
        return server.start(preexec_fn=partial(resource.setrlimit, resource.RLIMIT_NOFILE, (most, most)))

    def processor_seconds(self, server: RunningServer) -> float:
        """What it has used of the processor."""
        fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def test_new_clients_wait(self) -> None:
        """Promise: sessions go on, and fetch their mail; nothing spins; who waits is let in when others go."""
        server = self.limited(160)
        self.assertIn("few-descriptors: at most 160 files may be open", server.output())
        session = server.session()
        wires = [server.connect() for _ in range(200)]
        wait_until(lambda: "no-descriptors: new clients wait" in server.output())
        before = self.processor_seconds(server)
        for _ in range(20):
            self.assertTrue(session.multi_line(b"RETR 1")[0].startswith(b"+OK"))
            time.sleep(0.05)
        self.assertLess(self.processor_seconds(server) - before, 0.6)
        last = wires[-1]
        last.socket.settimeout(0.3)
        self.assertRaises(TimeoutError, last.line)
        for wire in wires[:150]:
            wire.close()
        last.socket.settimeout(60)
        self.assertTrue(last.line().startswith(b"+OK"))
        self.assertEqual(server.output().count("no-descriptors"), 1)

    def test_not_one_is_left(self) -> None:
        """RFC 3206 section 4: RETR and logins get [SYS/TEMP], the session lives, and it all works again."""
        server = self.limited(1000)
        session, other = server.session(), server.connect()
        other.line()
        used = max(int(name) for name in os.listdir(f"/proc/{server.pid}/fd")) + 1
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used, 1000))
        holes = set(range(used)) - {int(name) for name in os.listdir(f"/proc/{server.pid}/fd")}
        waiting = [server.connect() for _ in range(len(holes) + 3)]
        wait_until(lambda: "no-descriptors" in server.output())
        answer = session.command(b"RETR 1")
        self.assertTrue(answer.startswith(b"-ERR [SYS/TEMP]"), answer)
        self.assertEqual(session.command(b"STAT")[:5], b"+OK 1")
        other.command(b"USER joe")
        answer = other.command(b"PASS " + PASSWORD.encode())
        self.assertTrue(answer.startswith(b"-ERR [SYS/TEMP]"), answer)
        before = self.processor_seconds(server)
        time.sleep(1)
        self.assertLess(self.processor_seconds(server) - before, 0.3)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (1000, 1000))
        for wire in waiting:
            self.assertTrue(wire.line().startswith(b"+OK"))
        self.assertTrue(session.multi_line(b"RETR 1")[0].startswith(b"+OK"))
        self.assertTrue(session.command(b"QUIT").startswith(b"+OK"))
