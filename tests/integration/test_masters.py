"""Logins as somebody else, with every client form of it, and what the logs say."""

from __future__ import annotations

import base64
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.clients import ClientCase
from tests.integration.server import RunningServer
from tests.integration.wire import Wire
from tests.support import need

FAILED = b"-ERR [AUTH] authentication failed"
USERS = {"joe": "secret of joe", "ann": "secret of ann", "admin": "secret of admin"}


def plain(target: str, name: str, password: str) -> bytes:
    """A response of PLAIN."""
    return base64.b64encode(f"{target}\0{name}\0{password}".encode())


class MasterCase(SynchronousTestCase):
    """Three accounts with one message each but admin; admin may log in as joe and others."""

    timeout = 240
    masters: dict[str, Any] = {"names": ["admin"], "targets": ["j*", "disabled"], "separator": "*"}

    def setUp(self) -> None:
        self.server = RunningServer(
            self,
            users=USERS,
            protocol={"auth_delay_seconds": 0.05, "auth_delay_max_seconds": 0.05, "auth_tries": 100},
            masters=self.masters,
        )
        for name in ("joe", "ann"):
            self.server.deliver("1.a.host", f"Subject: for {name}\n\nx\n".encode(), user=name)
        users = self.server.directory / "users"
        users.write_text(users.read_text() + f"disabled:{{PLAIN}}x::::{self.server.directory}/joe::nologin\n")
        self.server.start()

    def wire(self) -> Wire:
        """A connection after its greeting."""
        wire = self.server.connect()
        self.assertTrue(wire.line().startswith(b"+OK"))
        return wire

    def answer(self, *lines: bytes) -> bytes:
        """What the last of these lines is answered, on a connection of its own."""
        wire = self.wire()
        answers = [wire.command(line) for line in lines]
        wire.command(b"QUIT")
        return answers[-1]


class MasterTests(MasterCase):
    """A master with his own password."""

    def test_authorization_identity(self) -> None:
        """RFC 4616 section 2: PLAIN with another's name, in both line forms; mail is the other's."""
        wire = self.wire()
        self.assertIn(b"+OK joe has 1", wire.command(b"AUTH PLAIN " + plain("joe", "admin", USERS["admin"])))
        self.assertIn(b"Subject: for joe", wire.multi_line(b"RETR 1")[1])
        wire.command(b"QUIT")
        two_lines = (b"AUTH PLAIN", plain("Joe", "Admin", USERS["admin"]))
        self.assertIn(b"+OK joe has 1", self.answer(*two_lines))

    def test_separator(self) -> None:
        """Promise: clients that know one name only: USER and PASS, LOGIN, PLAIN."""
        both, password = b"joe*admin", USERS["admin"].encode()
        encoded = (base64.b64encode(both), base64.b64encode(password))
        self.assertIn(b"+OK joe has 1", self.answer(b"USER " + both, b"PASS " + password))
        self.assertIn(b"+OK joe has 1", self.answer(b"AUTH LOGIN " + encoded[0], encoded[1]))
        self.assertIn(b"+OK joe has 1", self.answer(b"AUTH PLAIN " + plain("", "joe*admin", USERS["admin"])))
        for name in (b"*admin", b"admin*", b"*", b"joe*", b"joe*nobody"):
            self.assertEqual(self.answer(b"USER " + name, b"PASS " + password), FAILED, name)
        self.assertIn(b"+OK admin has 0", self.answer(b"USER admin", b"PASS " + password))

    def test_refusals_look_like_wrong_passwords(self) -> None:
        """Promise: the same answer and the same count; the log has both names and the reason."""
        for target, name, password, why in (
            ("joe", "admin", "wrong", "as a master user: wrong password"),
            ("joe", "ann", USERS["ann"], "ann is no master user"),
            ("ann", "admin", USERS["admin"], "master user admin may not log in as ann"),
            ("jill", "admin", USERS["admin"], "master user admin asks for jill, who has no account"),
        ):
            self.assertEqual(self.answer(b"AUTH PLAIN " + plain(target, name, password)), FAILED)
            event = self.server.event("login-failed", named=target, master=name)
            self.assertEqual(event["detail"], f"BadCredentials: {why}")
        answer = self.answer(b"AUTH PLAIN " + plain("disabled", "admin", USERS["admin"]))
        self.assertEqual(answer, b"-ERR [AUTH] account is disabled")
        self.assertIn("user joe*admin: BadCredentials: as a master user: wrong password", self.server.output())

    def test_logs_have_both_names(self) -> None:
        """Promise: JSON, access log and the log of the process; never the password."""
        self.answer(b"AUTH PLAIN " + plain("joe", "admin", USERS["admin"]))
        event = self.server.event("login")
        self.assertEqual((event["user"], event["named"], event["master"]), ("joe", "joe", "admin"))
        self.server.event("disconnect")
        self.assertRegex(self.server.access()[-1], r" joe\*admin 1 \d+ 1 \d+$")
        self.assertRegex(self.server.output(), r"login: session \w+, 127\.0\.0\.1, user joe\*admin: ")
        self.answer(b"AUTH PLAIN " + plain("joe", "admin", "wrong"))
        self.server.event("disconnect", user=None)
        self.assertRegex(self.server.access()[-1], r" \(joe\*admin\) 0 0 0 0$")
        self.assertNotIn(USERS["admin"], self.server.output() + self.server.json_log.read_text())
        self.answer(b"USER ann", b"PASS " + USERS["ann"].encode())
        self.assertIsNone(self.server.event("login", user="ann")["master"])

    def test_without_masters(self) -> None:
        """Promise: by default nobody acts for another, and the separator means nothing."""
        self.server.stop()
        self.server.configuration["masters"] = {}
        self.server.start()
        self.assertEqual(self.answer(b"AUTH PLAIN " + plain("joe", "admin", USERS["admin"])), FAILED)
        self.assertEqual(self.answer(b"USER joe*admin", b"PASS " + USERS["admin"].encode()), FAILED)
        self.assertEqual(self.server.event("login-failed", named="joe*admin")["master"], None)
        self.assertIn(b"+OK joe has", self.answer(b"AUTH PLAIN " + plain("Joe", "joe", USERS["joe"])))

    def test_disabled_targets(self) -> None:
        """Promise: with C{disabled_targets} a master opens the mail of a disabled account, up to RETR."""
        self.server.stop()
        self.server.configuration["masters"] = {**self.masters, "disabled_targets": True}
        self.server.start()
        wire = self.wire()
        login = b"AUTH PLAIN " + plain("disabled", "admin", USERS["admin"])
        self.assertIn(b"+OK disabled has 1", wire.command(login))
        self.assertIn(b"Subject: for joe", wire.multi_line(b"RETR 1")[1])
        wire.command(b"QUIT")
        self.assertEqual(self.answer(b"USER disabled", b"PASS x"), b"-ERR [AUTH] account is disabled")

    def test_networks(self) -> None:
        """Promise: a master comes from masters.networks only."""
        for networks, answer in ((["192.0.2.0/24"], FAILED), (["127.0.0.0/8"], b"+OK joe has 1 message (23 octets)")):
            self.server.stop()
            self.server.configuration["masters"] = {**self.masters, "networks": networks}
            self.server.start()
            self.assertEqual(self.answer(b"AUTH PLAIN " + plain("joe", "admin", USERS["admin"])), answer)


class CurlTests(MasterCase):
    """curl with an authorization identity."""

    skip = need(None, "curl")
    run_client = ClientCase.run_client

    def test_sasl_authzid(self) -> None:
        """RFC 4616: the other's mail with the master's password."""
        url = f"pop3://127.0.0.1:{self.server.port}/1"
        login = ("-u", f"admin:{USERS['admin']}", "--login-options", "AUTH=PLAIN")
        for options in ((), ("--sasl-ir",)):
            got = self.run_client("curl", "-sS", *login, "--sasl-authzid", "joe", *options, url)
            self.assertIn(b"Subject: for joe", got)
        self.run_client("curl", "-sS", *login, "--sasl-authzid", "ann", url, statuses=(67,))
