"""Every way to log in, with real clients: each is told by its options which one to use."""

from __future__ import annotations

import os
import poplib
from pathlib import Path

from tests.integration import corpus
from tests.integration.clients import ClientCase
from tests.integration.server import PASSWORD, PATIENCE_SECONDS, USER, temporary
from tests.support import need
from tpops.cred.hashes import hash_password


class MechanismCase(ClientCase):
    """A server with one message."""

    messages = {"lf": corpus.ALL["lf"]}

    def check_refused(self, logins: int = 0) -> None:
        """Nobody got in but these, and the server knows that a password was wrong."""
        event = self.server.event("login-failed")
        self.assertIn("wrong password", event["detail"])
        self.assertEqual(len(self.server.events("login")), logins)


class CurlTests(MechanismCase):
    """curl, with and without an initial response."""

    skip = need(None, "curl")

    def curl(self, mechanism: str, *options: str, password: str = PASSWORD, statuses: tuple[int, ...] = (0,)) -> bytes:
        """Fetch the message; 67 is "login denied"."""
        url = f"pop3://127.0.0.1:{self.server.port}/1"
        command = ("curl", "-sS", "-u", f"{USER}:{password}", "--login-options", f"AUTH={mechanism}", *options, url)
        return self.run_client(*command, statuses=statuses)

    def check(self, mechanism: str) -> None:
        """The right password gets the mail, a wrong one nothing."""
        for options in ((), ("--sasl-ir",)):
            self.assertEqual(self.curl(mechanism, *options), corpus.wire(self.messages["lf"]))
        self.curl(mechanism, password="wrong", statuses=(67,))
        self.check_refused(logins=2)

    def test_login(self) -> None:
        """Promise: LOGIN works, also with the name on the command line."""
        self.check("LOGIN")

    def test_cram_md5(self) -> None:
        """RFC 2195: the password is not sent, and the server knows it all the same."""
        self.check("CRAM-MD5")

    def test_apop(self) -> None:
        """RFC 1939 section 7."""
        self.assertEqual(self.curl("+APOP"), corpus.wire(self.messages["lf"]))
        self.curl("+APOP", password="wrong", statuses=(67,))
        self.check_refused(logins=1)


class MpopTests(MechanismCase):
    """mpop."""

    skip = need(None, "mpop")

    def poll(self, mechanism: str, password: str = PASSWORD, statuses: tuple[int, ...] = (0,)) -> list[Path]:
        """Fetch into a new Maildir; gives what is there then."""
        home = temporary(self)
        for part in ("tmp", "new", "cur"):
            (home / "Maildir" / part).mkdir(parents=True)
        settings = home / "mpoprc"
        settings.touch(0o600)
        settings.write_text(
            f'account default\nhost 127.0.0.1\nport {self.server.port}\nuser {USER}\npassword "{password}"\n'
            f"auth {mechanism}\ntls off\nkeep on\ndelivery maildir {home}/Maildir\nuidls_file {home}/uidls\n"
        )
        command = ("mpop", "-C", str(settings), "--debug")
        self.said = self.run_client(*command, env={**os.environ, "HOME": str(home)}, statuses=statuses)
        return list((home / "Maildir" / "new").iterdir())

    def check(self, mechanism: str, command: bytes) -> None:
        """The right password gets the mail, a wrong one nothing; 77 is EX_NOPERM."""
        self.assertEqual(len(self.poll(mechanism)), 1)
        self.assertIn(b"--> " + command, self.said)
        self.assertEqual(self.poll(mechanism, password="wrong", statuses=(77,)), [])
        self.check_refused(logins=1)

    def test_login(self) -> None:
        """Promise: LOGIN works."""
        self.check("login", b"AUTH LOGIN")

    def test_cram_md5(self) -> None:
        """RFC 2195."""
        self.check("cram-md5", b"AUTH CRAM-MD5")

    def test_scram_sha_1(self) -> None:
        """RFC 5802 and RFC 7677, with GNU SASL at the other end."""
        self.check("scram-sha-1", b"AUTH SCRAM-SHA-1")

    def test_scram_sha_256(self) -> None:
        """RFC 7677."""
        self.check("scram-sha-256", b"AUTH SCRAM-SHA-256")

    def test_apop(self) -> None:
        """RFC 1939 section 7."""
        self.check("apop", b"APOP joe")


class FetchmailTests(MechanismCase):
    """fetchmail."""

    skip = need(None, "fetchmail")

    def poll(self, how: str, password: str = PASSWORD, statuses: tuple[int, ...] = (0,)) -> list[Path]:
        """Fetch with a home of its own; gives what it delivered."""
        home = temporary(self)
        (home / "in").mkdir()
        take = home / "take"
        take.write_text(f'#!/bin/sh\nexec cat > "$(mktemp {home}/in/XXXXXXXXXX)"\n')
        take.chmod(0o700)
        settings = home / "fetchmailrc"
        settings.touch(0o600)
        settings.write_text(
            f"poll 127.0.0.1 service {self.server.port} {how} timeout 60\n"
            f'  user "{USER}" password "{password}" mda "{take}" sslproto \'\'\n'
        )
        files = ("-f", str(settings), "--pidfile", str(home / "pid"), "-i", str(home / "ids"))
        self.said = self.run_client(
            *("fetchmail", "--verbose", "--nodetach", "--nosyslog", "--fetchall", "--keep", *files),
            statuses=statuses,
            env={**os.environ, "FETCHMAILHOME": str(home), "HOME": str(home)},
        )
        return list((home / "in").iterdir())

    def check(self, how: str, command: bytes) -> None:
        """The right password gets the mail, a wrong one nothing; 3 is "authentication failed"."""
        self.assertEqual(len(self.poll(how)), 1)
        self.assertIn(b"POP3> " + command, self.said)
        self.assertEqual(self.poll(how, password="wrong", statuses=(3,)), [])
        self.check_refused(logins=1)

    def test_password(self) -> None:
        """RFC 1939 section 7: USER and PASS, though there is more to choose from."""
        self.check("proto pop3 auth password", b"USER joe")

    def test_cram_md5(self) -> None:
        """RFC 2195."""
        self.check("proto pop3 auth cram-md5", b"AUTH CRAM-MD5")

    def test_apop(self) -> None:
        """RFC 1939 section 7."""
        self.check("proto apop", b"APOP joe")


class PoplibTests(MechanismCase):
    """Python's poplib."""

    def connect(self) -> poplib.POP3:
        """A connection before login."""
        client = poplib.POP3("127.0.0.1", self.server.port, timeout=PATIENCE_SECONDS)
        self.addCleanup(client.close)
        return client

    def test_apop(self) -> None:
        """RFC 1939 section 7: right and wrong digest, and another try on the same connection."""
        client = self.connect()
        with self.assertRaisesRegex(poplib.error_proto, "AUTH"):
            client.apop(USER, "wrong")
        self.check_refused()
        self.assertTrue(client.apop(USER, PASSWORD).startswith(b"+OK"))
        self.assertEqual(client.stat()[0], 1)
        client.quit()

    def test_capabilities_tell_what_works(self) -> None:
        """RFC 5034 section 3: every mechanism is announced."""
        mechanisms = ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"]
        self.assertEqual(self.connect().capa()["SASL"], mechanisms)

    def test_digests_are_offered_only_where_secrets_are_stored(self) -> None:
        """Promise: where all passwords are hashed, neither APOP nor CRAM-MD5 is announced, and both are refused."""
        self.server.stop()
        users = self.server.directory / "users"
        hashed = hash_password(PASSWORD.encode())
        users.write_text(users.read_text().replace("{PLAIN}" + PASSWORD, hashed))
        self.server.start()
        client = self.connect()
        self.assertNotIn(b"<", client.getwelcome())
        self.assertEqual(client.capa()["SASL"], ["PLAIN", "LOGIN"])
        self.assertRaises(poplib.error_proto, client.apop, USER, PASSWORD)
        self.assertRaises(poplib.error_proto, client._shortcmd, "AUTH CRAM-MD5")
        client.user(USER)
        self.assertTrue(client.pass_(PASSWORD).startswith(b"+OK"))

    def test_mixed_accounts(self) -> None:
        """Promise: where only some passwords are stored as they are, protocol.digests says what is announced."""
        users = self.server.directory / "users"
        users.write_text(users.read_text() + f"hashed:{hash_password(b'x')}\n")
        for digests, announced in (("auto", False), ("any", True), ("never", False)):
            self.server.stop()
            self.server.configuration["protocol"] = {
                **self.server.configuration.get("protocol", {}),
                "digests": digests,
            }
            self.server.start()
            client = self.connect()
            self.assertEqual(b"<" in client.getwelcome(), announced, digests)
            self.assertEqual("CRAM-MD5" in client.capa()["SASL"], announced, digests)
            if announced:
                self.assertTrue(client.apop(USER, PASSWORD).startswith(b"+OK"))
            client.quit()
