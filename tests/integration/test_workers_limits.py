"""Limits hold over all workers together."""

from __future__ import annotations

import contextlib
import os
import signal

from tests.integration.load import Load
from tests.integration.server import PASSWORD, USER, wait_until
from tests.integration.test_workers import WORKERS, WorkerCase
from tests.integration.wire import Wire


class SharedLimitTests(WorkerCase):
    """Counts, pauses and penalties."""

    def test_connections_of_one_address(self) -> None:
        """Promise: exact, whichever worker a client comes to; places of a worker that is killed are free again."""
        users = {f"user{number}": PASSWORD for number in range(5)}
        server = self.start(users=users, limits={"connections_per_address": 6})
        sessions = [self.serving(server, user) for user in (USER, *users)]
        for _ in range(20):
            wire = server.connect()
            self.assertEqual(wire.rest(), b"-ERR [SYS/TEMP] too many connections, try again later\r\n")
        event = server.event("greeting-refused")
        self.assertEqual(event["detail"], "connections_per_address: 6 connections from 127.0.0.1, at most 6")
        sessions[0][0].close()
        server.event("disconnect", user=USER, reason="client closed")
        sessions[0] = self.serving(server, USER)
        self.assertTrue(server.connect().rest().startswith(b"-ERR"))
        victim = sessions[0][1]
        lost = [wire for wire, pid in sessions if pid == victim]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(server.workers()) == WORKERS and victim not in server.workers(), "there are two again")
        wires = [server.connect() for _ in lost]
        for wire in wires:
            self.assertTrue(wire.line().startswith(b"+OK"))
        self.assertTrue(server.connect().rest().startswith(b"-ERR"))

    def test_connections_under_load(self) -> None:
        """Promise: nobody is refused below the limit, however fast clients come and go."""
        users = {f"user{number}": PASSWORD for number in range(4)}
        # A client sees the end of a connection a moment before its place is free.
        server = self.start(users=users, limits={"connections": 12, "connections_per_address": 12})
        with Load(server.port, list(users)) as load:
            load.wait_for_more(400)
        load.check(self)
        wait_until(lambda: len(server.events("disconnect")) == len(server.events("connect")))
        wires = [server.connect() for _ in range(12)]
        for wire in wires:
            self.assertTrue(wire.line().startswith(b"+OK"))
        self.assertTrue(server.connect().rest().startswith(b"-ERR"))

    def test_sessions_of_one_user(self) -> None:
        """Promise: exact over workers; those of a worker that is killed are forgotten, those of a new one count."""
        server = self.start(limits={"connections_per_user": 3}, maildir={"lock_wait_seconds": 120})
        refusal = b"-ERR [SYS/TEMP] too many connections of this user, close others or try again later"

        def waits() -> Wire:
            wire = server.connect()
            wire.line()
            wire.send(b"USER joe\r\nPASS " + PASSWORD.encode() + b"\r\n")
            wire.line()
            return wire

        def refused() -> bool:
            wire = waits()
            wire.socket.settimeout(2)
            try:
                return wire.line() == refusal
            except TimeoutError:
                return False
            finally:
                wire.close()

        _, victim = self.serving(server, USER)
        wires = [waits() for _ in range(2)]
        wait_until(refused, "three of them count")
        for pid in (victim, *server.workers()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for wire in wires:
            wire.rest()
        wait_until(lambda: len(server.workers()) == WORKERS, "there are two again")
        wires = [server.session(), *(waits() for _ in range(2))]
        wait_until(refused, "three of them count")

    def test_pause_between_logins(self) -> None:
        """RFC 2449 section 8.1.1: counted for the user, not for the worker, and over a reload."""
        server = self.start(limits={"login_delay_seconds": 600})
        server.session().command(b"QUIT")
        for turn in range(2):
            for _ in range(5):
                wire = server.connect()
                wire.line()
                wire.command(b"USER joe")
                self.assertTrue(wire.command(b"PASS " + PASSWORD.encode()).startswith(b"-ERR [LOGIN-DELAY]"))
                wire.close()
            if turn == 0:
                self.send(server, signal.SIGHUP, "reloaded ")

    def test_penalties(self) -> None:
        """Promise: who guesses waits longer and longer, whichever worker he comes to."""
        server = self.start(protocol={"auth_delay_seconds": 0.01, "auth_delay_max_seconds": 30, "auth_tries": 1})
        for number in range(8):
            wire = server.connect()
            wire.line()
            wire.command(b"USER joe")
            self.assertTrue(wire.command(b"PASS guess%d" % number).startswith(b"-ERR [AUTH]"))
            wire.close()
        wait_until(lambda: len(server.events("disconnect")) == 8, "every connection has its closing record")
        seconds = [event["seconds"] for event in server.events("disconnect")]
        self.assertGreater(seconds[7], 1.27)
