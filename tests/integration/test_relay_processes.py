"""POP before SMTP while the server changes: another configuration, several workers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PASSWORD, PATIENCE_SECONDS, RunningServer, wait_until
from tpops.db.relay import Contents, Sender
from tpops.db.relay_sqlite import SQLiteRelayStore

JOE = "joe@example.org"
QUESTION = f"request=smtpd_access_policy\nclient_address=127.0.0.1\nsender={JOE}\n\n".encode()


class ProcessCase(SynchronousTestCase):
    """A server that joe can log in to, and those who ask."""

    timeout = 240

    def setUp(self) -> None:
        # Short: it is the path of a socket.
        self.directory = Path(tempfile.mkdtemp(prefix="tpops-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.directory)

    def started(self, **server: Any) -> RunningServer:
        """A server with a policy service."""
        running = RunningServer(
            self,
            users={"joe": PASSWORD, "ann": PASSWORD},
            pop_before_smtp={"store": "sqlite", "policy": [f"unix:{self.directory}/policy"]},
            server=server,
        )
        store = SQLiteRelayStore(str(running.directory / "pbs.sqlite"), 1800)
        self.addCleanup(store.close)
        store.put(Contents(senders=[Sender("joe", JOE, 1)]))
        return running.start()

    def connect(self) -> socket.socket:
        """A connection to the policy service."""
        connection = socket.socket(socket.AF_UNIX)
        self.addCleanup(connection.close)
        connection.settimeout(PATIENCE_SECONDS)
        connection.connect(f"{self.directory}/policy")
        return connection

    def ask(self, connection: socket.socket) -> str:
        """What is said of joe."""
        connection.sendall(QUESTION)
        said = b""
        while not said.endswith(b"\n\n"):
            piece = connection.recv(100)
            if not piece:
                return "closed"
            said += piece
        return said.decode().strip()

    def log_in(self, server: RunningServer) -> None:
        """A session of joe, and its end."""
        wire = server.session()
        wire.command(b"QUIT")
        wire.close()


class ReloadTests(ProcessCase):
    """HUP."""

    def test_new_configuration_answers(self) -> None:
        """Old connections end at once, whatever sessions there are; new ones are answered by the new configuration."""
        server = self.started()
        server.session("ann")
        self.log_in(server)
        old = self.connect()
        self.assertEqual(self.ask(old), "action=OK")
        server.configuration["pop_before_smtp"]["action"] = "OK after POP"
        server.write_configuration()
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: "reloaded " in server.output(), "it has another configuration")
        self.assertEqual(old.recv(100), b"")
        self.assertEqual(self.ask(self.connect()), "action=OK after POP")
        self.log_in(server)
        self.assertEqual(self.ask(self.connect()), "action=OK after POP")

    def test_turned_off(self) -> None:
        """Nobody listens any more."""
        server = self.started()
        server.configuration["pop_before_smtp"] = {}
        server.write_configuration()
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: "reloaded " in server.output(), "it has another configuration")
        with self.assertRaises(OSError):
            self.connect()


class WorkerTests(ProcessCase):
    """server.workers."""

    def test_every_worker_knows_what_another_has_written(self) -> None:
        """Whoever serves the login, whoever is asked."""
        server = self.started(workers=2)
        asking = [self.connect() for _ in range(8)]
        for _ in range(5):
            self.assertEqual({self.ask(one) for one in asking}, {"action=DUNNO"})
            self.log_in(server)
            self.assertEqual({self.ask(one) for one in asking}, {"action=OK"})
            store = SQLiteRelayStore(str(server.directory / "pbs.sqlite"), 1800, time.time)
            store.forget("127.0.0.1", None)
            store.close()
