"""What the tests of POP before SMTP share: a tpops that writes logins down, and a Postfix that asks it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import smtplib
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.postfix import PROGRAMS, USER, Postfix, reason_to_skip
from tests.integration.server import PATIENCE_SECONDS, RunningServer, program, wait_until
from tests.integration.wire import Wire
from tests.support import need
from tpops.db import sqlite as database
from tpops.db.addresses import site
from tpops.db.relay import Contents, Login, Rule, Sender
from tpops.db.relay_sqlite import SQLiteRelayStore

#: A domain that Postfix has nothing to do with.
ELSEWHERE = "friend@elsewhere.test"

ACCEPTED, REFUSED = 250, 454

USERS = {"joe": "secret", "ann": "secret"}


#: Who answers the SMTP server on each port: policy services of tpops, and tpops-pbsselect.
SENDER, ADDRESS, OWN, SPAWNED = "sender", "address", "own", "spawned"


class RelayPostfix(Postfix):
    """
    A Postfix that relays for nobody but those that somebody else allows: on each port another one is asked.

    @ivar ports: of SMTP, by who is asked
    """

    def __init__(self) -> None:
        super().__init__()
        self.ports = dict(zip((SENDER, ADDRESS, OWN, SPAWNED), _free_ports(4), strict=True))
        self.spawned_directory = self.directory / "spawned"
        self.spawned_directory.mkdir()

    def socket(self, name: str) -> str:
        """The UNIX socket on which somebody is asked."""
        return str(self.directory / "queue" / "private" / f"pbs-{name}")

    def start(self) -> Postfix:
        """See L{Postfix.start}."""
        main = {
            "mynetworks": "",
            "smtpd_authorized_xclient_hosts": "127.0.0.0/8",
            "default_transport": "discard:",
            "inet_protocols": "all",
        }
        services = [
            f"127.0.0.1:{port} inet n - n - - smtpd "
            f"-o {{ smtpd_relay_restrictions = check_policy_service unix:private/pbs-{name}, "
            "defer_unauth_destination }"
            for name, port in self.ports.items()
        ]
        words = self.console_command("tpops.postfix.pbsselect", "--config", str(self.spawned_directory / "tpops.toml"))
        services.append(f"pbs-{SPAWNED} unix - n n - 0 spawn user={USER} argv={words}")
        self._write(main, services)
        self._command("start")
        self._running = True
        wait_until(self._answers, "Postfix answers")
        return self


class _WholeRun:
    """Stands for a test where something is made that lasts until the run ends."""

    def __init__(self) -> None:
        self.addCleanup = atexit.register

    def mktemp(self) -> str:
        """A directory that is not there yet."""
        path = tempfile.mkdtemp(prefix="tpops-", dir="/tmp")
        atexit.register(shutil.rmtree, path, ignore_errors=True)
        return os.path.join(path, "test")


@functools.cache
def postfix() -> RelayPostfix:
    """One for all tests of a run."""
    made = RelayPostfix()
    atexit.register(made.remove)
    made.start()
    return made


def make_server(testcase: Any, asked: str, **settings: Any) -> RunningServer:
    """A tpops that Postfix asks on one of its ports; not started."""
    table = {
        "store": "sqlite",
        "path": "pbs.sqlite",
        "policy": [f"unix:{postfix().socket(asked)}"],
        "socket_group": "postfix",
        **settings,
    }
    listen = [{"address": "127.0.0.1", "port": 0}, {"address": "::1", "port": 0}]
    return RunningServer(testcase, users=USERS, listen=listen, pop_before_smtp=table)


@functools.cache
def shared_server(asked: str, **settings: Any) -> RunningServer:
    """A tpops for all tests that do it no harm."""
    return make_server(_WholeRun(), asked, **settings).start()


class RelayCase(SynchronousTestCase):
    """
    A tpops and a Postfix, with nothing in the store.

    @ivar asked: on which port of Postfix mail is sent
    @ivar settings: keys of [pop_before_smtp]
    @ivar server: the tpops
    """

    timeout = 240
    skip = need(None, *PROGRAMS) or reason_to_skip()
    asked = SENDER
    settings: Mapping[str, Any] = {}

    def setUp(self) -> None:
        self.postfix = postfix()
        self.server = self.make_server()
        # The server makes it when it has started.
        self.store().purge()
        with contextlib.closing(database.connect(str(self.database), "pbs")) as connection:
            for table in ("logins", "usermap", "accessmap", "param"):
                connection.execute(f"DELETE FROM {table}")

    def make_server(self) -> RunningServer:
        """The server of these tests, running."""
        return shared_server(self.asked, **self.settings)

    # What clients do.

    def log_in(self, user: str = "joe", source: str = "127.0.0.1", password: str = "secret") -> bytes:
        """Log in by POP3 from an address of this machine; gives the answer to PASS."""
        port = self.server.configuration["listen"][1 if ":" in source else 0]["port"]
        target = ("::1" if ":" in source else "127.0.0.1", port)
        connected = socket.create_connection(target, PATIENCE_SECONDS, (source, 0))
        self.addCleanup(connected.close)
        wire = Wire(connected)
        wire.line()
        wire.send(f"USER {user}\r\n".encode())
        wire.line()
        wire.send(f"PASS {password}\r\n".encode())
        answer = wire.line()
        connected.close()
        return answer

    def relay(self, sender: str, source: str = "127.0.0.1", claim: str = "", recipient: str = ELSEWHERE) -> int:
        """
        Ask Postfix to take mail for somewhere else; gives the code of its answer to RCPT TO.

        @param source: the client's address, one of this machine
        @param claim: the address that Postfix is made to believe, by XCLIENT
        """
        with smtplib.SMTP(
            "127.0.0.1", self.postfix.ports[self.asked], timeout=PATIENCE_SECONDS, source_address=(source, 0)
        ) as client:
            client.ehlo("client.test")
            if claim:
                code, text = client.docmd("XCLIENT", f"ADDR={claim}")
                self.assertEqual(code, 220, text)
                client.ehlo("client.test")
            code, text = client.mail(sender)
            self.assertEqual(code, 250, text)
            return client.rcpt(recipient)[0]

    def assert_relays(self, sender: str, source: str = "127.0.0.1", claim: str = "") -> None:
        """Postfix takes it."""
        self.assertEqual(self.relay(sender, source, claim), ACCEPTED, self.postfix.log()[-2000:])

    def assert_refuses(self, sender: str, source: str = "127.0.0.1", claim: str = "") -> None:
        """Postfix does not, for the reason that nobody has allowed it."""
        self.assertEqual(self.relay(sender, source, claim), REFUSED, self.postfix.log()[-2000:])

    # The store.

    def store(self) -> SQLiteRelayStore:
        """The server's store."""
        settings = self.server.configuration["pop_before_smtp"]
        store = SQLiteRelayStore(str(self.database), settings.get("expire_seconds", 1800))
        self.addCleanup(store.close)
        return store

    def may(self, user: str, *senders: str, status: int = 1) -> None:
        """Let a user have these senders."""
        self.store().put(Contents(senders=[Sender(user, one, status) for one in senders]))

    def rule(self, network: str, sender: str | None = None, status: int = 1) -> None:
        """A rule for a network."""
        self.store().put(Contents(rules=[Rule(network, sender, status)]))

    def allow(self, address: str, user: str, prefix: int = 64) -> None:
        """As if a user had just logged in from there."""
        where = site(address, prefix)
        assert where is not None
        self.store().record([Login(where, user, int(time.time()))])

    def pbs(self, *arguments: str) -> str:
        """Run "tpops pbs" on the server's configuration."""
        return self.run_command(program("tpops"), "-c", str(self.server.configuration_file), "pbs", *arguments)

    def run_command(self, *command: str, stdin: bytes = b"", status: int = 0) -> str:
        """Run a program; gives what it has said."""
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
        self.assertEqual(done.returncode, status, (command, done.stdout, done.stderr))
        return (done.stdout + done.stderr).decode()

    @property
    def database(self) -> Path:
        """The store's file."""
        return self.server.directory / self.server.configuration["pop_before_smtp"]["path"]


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
