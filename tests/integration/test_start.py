"""
What programs load that start for every message, every client or every command: no more than they use.

Loading modules is nearly all that their start costs.  Python itself says what it loads (C{-X importtime}); no time is
looked at.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PASSWORD, PATIENCE_SECONDS, USER, RunningServer, program

#: What nobody needs who has accounts in a file and mail in Maildirs: other kinds of mail, of passwords and of accounts,
#: those who are told of logins, and what answers mail servers.
OTHERS = (
    "MySQLdb",
    "argon2",
    "jwt",
    "ldap",
    "rich",
    "sansldap",
    "tpops.cred.app_passwords",
    "tpops.cred.keeper",
    "tpops.cred.sqlite",
    "tpops.db.mysql",
    "tpops.delivery.lmtp",
    "tpops.events.drac",
    "tpops.events.program",
    "tpops.events.udp_notify",
    "tpops.events.webhook",
    "tpops.events.whoson",
    "tpops.mailbox.mbox",
    "tpops.mailbox.mysql",
    "tpops.mailbox.proxy",
    "tpops.postfix",
    "tpops.process.supervisor",
    "tpops.service",
    "treq",
    "twisted.plugin",
    "twisted.web",
)

#: What those do not need who serve no clients.
SERVING = ("sqlite3", "tpops.generation", "tpops.policy", "tpops.server", "tpops.sinks", "twisted.mail")

#: What those do not need who only look at the configuration and its files.
NETWORK = (
    "OpenSSL",
    "cryptography",
    "tpops.backend",
    "tpops.upstream",
    "twisted.internet.reactor",
    "twisted.internet.tcp",
)


class StartTests(SynchronousTestCase):
    """A configuration with the defaults, accounts in a file, and mail in Maildirs."""

    def setUp(self) -> None:
        self.server = RunningServer(self, server={"workers": 1})
        self.server.configuration["listen"] = [{"address": "127.0.0.1", "port": 1110}]
        self.server.write_configuration()
        (self.server.directory / "users").chmod(0o600)

    def start(self, name: str, *arguments: str, given: bytes | socket.socket = b"") -> set[str]:
        """Run a program to its end; gives the modules that it has loaded."""
        source = {"input": given} if isinstance(given, bytes) else {"stdin": given}
        done = subprocess.run(
            [sys.executable, "-X", "importtime", program(name), *arguments],
            env={**os.environ, "TPOPS_CONFIG": str(self.server.configuration_file)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=PATIENCE_SECONDS,
            check=False,
            **source,  # type: ignore[call-overload]
        )
        said = done.stderr.decode()
        self.assertEqual(done.returncode, 0, said[-2000:])
        loaded = {line.rpartition("|")[2].strip() for line in said.splitlines() if line.startswith("import time:")}
        self.assertIn("tpops", loaded)
        return loaded

    def assert_without(self, loaded: set[str], *unwanted: str) -> None:
        """None of these was loaded, nor anything in them."""
        found = {one for one in loaded for name in unwanted if one == name or one.startswith(f"{name}.")}
        self.assertEqual(found, set())

    def test_delivery(self) -> None:
        """Promise: a delivery loads neither a server nor the kinds of mail and accounts that are not configured."""
        loaded = self.start("tpops-pipe", USER, given=b"Subject: x\n\ntext\n")
        self.assertEqual(len(self.server.stored()), 1)
        self.assert_without(loaded, *OTHERS, *SERVING, "click", "tpops.admin")

    def test_inetd(self) -> None:
        """Promise: a session for inetd loads what sessions need, and not what a server that runs all the time has."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        ours.sendall(b"USER %s\r\nPASS %s\r\nSTAT\r\nQUIT\r\n" % (USER.encode(), PASSWORD.encode()))
        with theirs:
            loaded = self.start("tpops-inetd", "--listen", "127.0.0.1:1110", given=theirs)
        ours.settimeout(PATIENCE_SECONDS)
        said = b""
        while more := ours.recv(4096):
            said += more
        self.assertIn(b"\r\n+OK 0 0\r\n", said)
        self.assert_without(loaded, *OTHERS, "click", "tpops.admin")

    def test_commands(self) -> None:
        """Promise: "tpops check" loads no other command, no reactor and nothing of the network."""
        loaded = self.start("tpops", "check")
        self.assert_without(loaded, *OTHERS, *NETWORK, "tpops.server", "tpops.generation", "tpops.admin.users")

    def test_no_configuration(self) -> None:
        """Promise: a command that needs no configuration does not load what reads it."""
        self.assert_without(
            self.start("tpops", "--version"), *OTHERS, *NETWORK, "pydantic", "tpops.config", "twisted.internet"
        )
