"""Directories that do not answer, and what C{tpops check} says of them."""

from __future__ import annotations

import gc
import os
import subprocess

from tests.cred.fakes import means
from tests.integration.ldap_case import UNAVAILABLE, WRONG, LDAPCase
from tests.integration.server import PASSWORD, USER, RunningServer, program
from tests.integration.slapd import Slapd, reader
from tpops.config.accounts.directory import LDAP
from tpops.cred import drivers


class OutageTests(LDAPCase):
    """Servers that do not answer."""

    def test_down(self) -> None:
        """Promise: no server is never a wrong password; once it is there again, so are the users."""
        slapd = self.directory()
        slapd.stop()
        server = self.server(reader(slapd))
        for password in (PASSWORD, "wrong"):
            self.assertTrue(self.answer(server, password=password).startswith(UNAVAILABLE))
        self.assertIn("Connection refused", self.detail(server))
        slapd.start()
        self.assertIn(b"+OK", self.answer(server))
        self.assertIn("answers again", server.output())

    def test_frozen(self) -> None:
        """Promise: a server that says nothing holds up its own users for timeout_seconds, and others not at all."""
        slapd = self.directory()
        local = {"driver": "passwd_file", "path": "users"}
        server = self.server(local, reader(slapd, timeout_seconds=3.0))
        users = server.directory / "users"
        users.write_text(f"local:{{PLAIN}}{PASSWORD}::::{server.directory / 'local'}:\n")
        server.restart()
        self.assertIn(b"+OK", self.answer(server))
        slapd.freeze()
        waiting = [server.connect() for _ in range(20)]
        for wire in waiting:
            wire.line()
            wire.command(f"USER {USER}".encode())
            wire.send(f"PASS {PASSWORD}\r\n".encode())
        self.assertIn(b"+OK", self.answer(server, "local"))
        self.assertEqual(server.events("login-failed"), [])
        for wire in waiting:
            self.assertTrue(wire.line().startswith(UNAVAILABLE))
        self.assertIn("in time", self.detail(server))
        slapd.thaw()
        self.assertIn(b"+OK", self.answer(server))

    def test_frozen_with_tls(self) -> None:
        """Promise: nor does a server that falls silent within TLS, or before it; the server's own end does not wait."""
        slapd = self.directory()
        for keys in ({"tls": "starttls"}, {"urls": [slapd.ldaps], "tls": None}):
            table = reader(slapd, tls_ca=str(slapd.ca), timeout_seconds=1.0, **keys)
            server = self.server({key: value for key, value in table.items() if value is not None})
            self.assertIn(b"+OK", self.answer(server))
            slapd.freeze()
            for _ in range(2):
                self.assertTrue(self.answer(server).startswith(UNAVAILABLE))
            slapd.thaw()
            self.assertIn(b"+OK", self.answer(server))
            slapd.freeze()
            server.stop()
            slapd.thaw()

    def test_restart(self) -> None:
        """Promise: a restart of the directory costs no login."""
        slapd = self.directory()
        server = self.server(reader(slapd))
        for _ in range(3):
            self.assertIn(b"+OK", self.answer(server))
            self.assertTrue(self.answer(server, password="wrong").startswith(WRONG))
            slapd.restart()
        self.assertIn(b"+OK", self.answer(server))
        self.assertEqual(
            {event["detail"] for event in server.events("login-failed")}, {"BadCredentials: wrong password"}
        )

    def test_second_server(self) -> None:
        """Promise: when one server is down or silent, the next one answers."""
        first, second = self.directory(), self.directory()
        server = self.server(reader(first, urls=[first.ldap, second.ldap], timeout_seconds=4.0))
        self.assertIn(b"+OK", self.answer(server))
        first.freeze()
        for _ in range(3):
            self.assertIn(b"+OK", self.answer(server))
        self.assertTrue(self.answer(server, password="wrong").startswith(WRONG))
        first.thaw()
        first.stop()
        server.restart()
        self.assertIn(b"+OK", self.answer(server))
        second.stop()
        self.assertTrue(self.answer(server).startswith(UNAVAILABLE))
        first.start()
        self.assertIn(b"+OK", self.answer(server))

    def test_nobody_else_gets_the_searches(self) -> None:
        """Promise: searches are made as bind_dn after any number of users' logins; nobody else may search here."""
        server = self.server(reader(self.directory(), connections=1))
        people = ((USER, PASSWORD), ("jörg", "schlüssel"), (USER, "wrong"), ("raw", b"\xff\xfe octets"))
        for _ in range(5):
            wires = []
            for name, password in people:
                wire = server.connect()
                wires.append((wire, b"-ERR [AUTH]" if password == "wrong" else b"+OK"))
                wire.line()
                wire.command(b"USER " + name.encode())
                wire.send(b"PASS " + (password.encode() if isinstance(password, str) else password) + b"\r\n")
            for wire, expected in wires:
                self.assertTrue(wire.line().startswith(expected))
                wire.command(b"QUIT")


class CheckTests(LDAPCase):
    """What an operator is told."""

    def check(self, **keys: object) -> str:
        """What C{tpops check} says of a source with these keys; without a server."""
        server = RunningServer(self, users={})
        server.configuration["accounts"] = [keys]
        server.configuration["mail"] = {"location": "maildir:/var/mail/$(user)"}
        server.write_configuration()
        done = subprocess.run(
            [program("tpops"), "-c", str(server.configuration_file), "check"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.assertNotIn("Traceback", done.stdout)
        self.assertEqual(done.returncode == 0, "problem: " not in done.stdout, done.stdout)
        return done.stdout

    def test_check(self) -> None:
        """Promise: C{tpops check} searches as a login would, on every server, and says what is wrong where."""
        slapd, down = self.directory(), Slapd(self)
        self.assertIn("is right", self.check(**reader(slapd)))
        self.assertIn("is right", self.check(**reader(slapd, tls="starttls", tls_ca=str(slapd.ca))))
        for keys, wrong in (
            (
                {"urls": [slapd.ldap, down.ldap]},
                f"accounts source ldap: {down.ldap}: cannot connect: Connection was refused",
            ),
            ({"tls": "starttls"}, "certificate verify failed"),
            ({"bind_password": "x"}, "bind as 'cn=tpops,dc=example,dc=org': invalid credentials"),
            ({"base_dn": "dc=example,dc=com"}, "search in 'dc=example,dc=com': no such object"),
            ({"bind_dn": "", "bind_password": ""}, "insufficient access rights"),
            ({"filter": "(|(uid=$(user))(uid=joe))"}, "should fit nobody and fits an entry"),
            ({"tls": "starttls", "tls_ca": "/nowhere"}, "tls_ca: cannot read /nowhere: No such file"),
            ({"bind_password": "", "bind_password_file": "/nowhere"}, "bind_password_file: cannot read /nowhere"),
        ):
            self.assertIn(wrong, self.check(**reader(slapd, **keys)))

    def test_check_leaves_nothing_open(self) -> None:
        """Promise: after a check there is no descriptor more than before, whatever came of it."""
        slapd = self.directory()
        keys = reader(slapd, urls=[slapd.ldap, "ldap://nowhere.invalid"], tls="starttls", tls_ca=str(slapd.ca))
        source = drivers.make("ldap", "ldap", LDAP(**keys).settings(), means())
        source.check()
        gc.collect()  # what other tests have left
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            self.assertEqual([one.split(": ")[2:3] for one in source.check()], [["cannot connect"]])
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(before))
