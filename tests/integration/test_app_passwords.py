"""Application passwords, from the command line to the mail, with real clients and a running server."""

from __future__ import annotations

import base64
import json
import os
import poplib
import re
import select
import signal
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.server import PASSWORD, PATIENCE_SECONDS, USER, RunningServer, end, program, wait_until
from tests.integration.test_twistd import reachable_directory
from tests.integration.test_unix_accounts import UnixAccount
from tests.scram_client import ScramClient
from tests.support import need, need_root
from tpops.cred.hashes import hash_password
from tpops.cred.watched import LOOK_SECONDS

_WRONG = b"-ERR [AUTH] authentication failed"

#: Somebody else's writing, of which nothing comes.
_LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("DELETE FROM app_passwords")
print("locked", flush=True)
time.sleep(600)
"""


class AppPasswordCase(SynchronousTestCase):
    """A server with a message, and the command line beside it."""

    timeout = 240

    def serve(self, directory: Path | None = None, **settings: Any) -> RunningServer:
        """A server that is running, with an empty database."""
        tables = {"protocol": {"auth_delay_seconds": 0.05, "auth_tries": 100, **settings.pop("protocol", {})}}
        self.server = RunningServer(
            self, directory, **tables, app_passwords={"path": "app.sqlite", "key_file": "app.key", **settings}
        )
        self.server.deliver("1.host", corpus.ALL["lf"])
        self.server.write_configuration()
        self.tpops("init")
        self.tpops("key")
        return self.server

    def tpops(self, *arguments: str, given: str = "") -> str:
        """What "tpops apppasswd" prints, in a process of its own."""
        done = subprocess.run(
            [program("tpops"), "-c", str(self.server.configuration_file), "apppasswd", *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def add(self, name: str = "phone", *options: str, user: str = USER) -> str:
        """A new application password."""
        return self.tpops("add", name, "--user", user, *options)

    def mail(self, password: str, user: str = USER) -> list[bytes]:
        """The message, by poplib."""
        client = self.server.poplib(user, password)
        lines = client.retr(1)[1]
        client.quit()
        return lines

    def refuses(self, password: str, user: str = USER) -> None:
        """poplib is refused like anybody who has a wrong password."""
        error = self.assertRaises(poplib.error_proto, self.server.poplib, user, password)
        self.assertTrue(error.args[0].startswith(_WRONG), error)

    def listed(self) -> dict[str, dict[str, Any]]:
        """What the list says, by name."""
        return {one["name"]: one for one in json.loads(self.tpops("list", "--json", "--user", USER))}


class LifeTests(AppPasswordCase):
    """From the first login to the last."""

    def test_added_used_revoked(self) -> None:
        """Promise: it is good from the next login on, and bad from the next login on; the others do not notice."""
        server = self.serve().start()
        expected = corpus.ALL["lf"].splitlines()
        phone, scanner = self.add("phone"), self.add("scanner")
        for password in (phone, scanner, phone.replace("-", ""), phone.replace("-", " ").title(), PASSWORD):
            self.assertEqual(self.mail(password), expected)
        wait_until(lambda: self.listed()["scanner"]["last_used"], "last use noted")
        open_session = server.session(USER, phone)
        self.tpops("revoke", "phone", "--user", USER, "--yes")
        self.refuses(phone)
        self.assertEqual(open_session.command(b"STAT")[:5], b"+OK 1")
        open_session.command(b"QUIT")
        self.assertEqual(self.mail(scanner), expected)
        self.assertIn("BadCredentials: wrong password", server.event("login-failed")["detail"])
        for password in (phone, scanner):
            self.assertNotIn(password, server.output() + server.json_log.read_text())

    def test_unknown_users_and_those_without_look_the_same(self) -> None:
        """Promise: one answer for all, whoever has application passwords, and whatever is wrong."""
        self.serve(instead=True).start()
        self.add("phone")
        for user in (USER, "nobody"):
            for password in ("wrong", "abcde-fghij-kmnpq-rstuv", PASSWORD):
                self.refuses(password, user)

    def test_instead_of_the_own_password(self) -> None:
        """Promise: from the first application password on the own one is refused, until the last is revoked."""
        self.serve(instead=True).start()
        self.mail(PASSWORD)
        phone = self.add("phone")
        self.mail(phone)
        self.refuses(PASSWORD)
        self.tpops("revoke", "--all", "--user", USER, "--yes")
        self.refuses(phone)
        self.mail(PASSWORD)

    def test_two_servers_share_the_database(self) -> None:
        """Promise: whatever process writes, all see it with the next login."""
        first = self.serve().start()
        second = RunningServer(self, protocol={"auth_delay_seconds": 0.05})
        second.deliver("1.host", corpus.ALL["lf"])
        second.configuration["app_passwords"] = {"path": str(first.directory / "app.sqlite")}
        second.start()
        phone = self.add("phone")
        for self.server in (first, second, first, second):
            self.mail(phone)
        self.server = first
        self.tpops("revoke", "phone", "--user", USER, "--yes")
        for self.server in (first, second):
            self.refuses(phone)

    def test_the_list_tells_the_last_use(self) -> None:
        """Promise: never before, and then noted; the login does not wait for it, a stop does."""
        server = self.serve().start()
        phone = self.add("phone")
        self.assertIsNone(self.listed()["phone"]["last_used"])
        self.mail(phone)
        server.stop()
        self.assertTrue(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", self.listed()["phone"]["last_used"]))


class FaultTests(AppPasswordCase):
    """What must not hurt."""

    def test_a_locked_database_does_not_keep_anybody_out(self) -> None:
        """Promise: logins go on while somebody else writes and does not end; it is logged once; kill -9 frees it."""
        server = self.serve().start()
        phone, scanner = self.add("phone"), self.add("scanner")
        path = str(server.directory / "app.sqlite")
        locker = subprocess.Popen([program("python"), "-c", _LOCK, path], stdout=subprocess.PIPE)
        with locker:
            assert locker.stdout is not None
            self.assertEqual(locker.stdout.readline(), b"locked\n")
            for password in (phone, scanner, phone, PASSWORD):
                self.mail(password)
            wait_until(lambda: "cannot be noted" in server.output(), "the failure is logged")
            locker.send_signal(signal.SIGKILL)
        self.assertEqual(server.output().count("cannot be noted"), 1)
        self.assertEqual(set(self.listed()), {"phone", "scanner"})
        self.tpops("revoke", "phone", "--user", USER, "--yes")
        self.refuses(phone)

    def ask(self, name: str) -> tuple[subprocess.Popen[bytes], int]:
        """tpops apppasswd add --ask on a terminal of its own, at its first prompt; and the terminal's other end."""
        ours, its = os.openpty()
        self.addCleanup(os.close, ours)
        command = [program("tpops"), "-c", str(self.server.configuration_file), "apppasswd", "add", name, "-u", USER]
        process = subprocess.Popen([*command, "--ask"], stdin=its, stdout=its, stderr=its, start_new_session=True)
        self.addCleanup(end, process)
        os.close(its)
        self.assertIn(b"Password: ", self.read_to(ours, b": "))
        return process, ours

    def read_to(self, terminal: int, what: bytes) -> bytes:
        """What appears on a terminal until this does."""
        seen = b""
        while what not in seen:
            self.assertTrue(select.select([terminal], [], [], PATIENCE_SECONDS)[0], seen)
            seen += os.read(terminal, 1000)
        return seen

    def test_a_password_is_asked_for_twice_and_hidden(self) -> None:
        """Promise: what is typed is not seen on the terminal; it logs in."""
        self.serve().start()
        process, terminal = self.ask("tv")
        seen = b""
        for end_of_answer in (b": ", b"\n"):
            os.write(terminal, b"chosen by joe\n")
            seen += self.read_to(terminal, end_of_answer)
        while b"added 'tv' for joe" not in seen:
            seen += self.read_to(terminal, b"\n")
        self.assertEqual(process.wait(PATIENCE_SECONDS), 0)
        self.assertIn(b"The same again", seen)
        self.assertNotIn(b"chosen", seen)
        self.mail("chosen by joe")

    def test_a_command_that_asks_or_is_killed_locks_nothing(self) -> None:
        """Promise: others work while it asks, and after kill -9."""
        self.serve().start()
        process, _ = self.ask("tv")
        phone = self.add("phone")
        process.kill()
        process.wait(PATIENCE_SECONDS)
        for password in (phone, self.add("scanner")):
            self.mail(password)
        self.assertEqual(set(self.listed()), {"phone", "scanner"})

    def test_a_server_that_is_killed_leaves_nothing_locked(self) -> None:
        """Promise: kill -9 after logins; commands and the next server work."""
        server = self.serve().start()
        phone = self.add("phone")
        for _ in range(3):
            self.mail(phone)
        server.stop(signal.SIGKILL)
        scanner = self.add("scanner")
        server.start()
        for password in (phone, scanner):
            self.mail(password)

    def test_a_missing_database_is_told_and_own_passwords_work(self) -> None:
        """Promise: an application password is then no wrong password; with C{instead} nobody gets in."""
        server = self.serve().start()
        phone = self.add("phone")
        for name in os.listdir(server.directory):
            if name.startswith("app.sqlite"):
                os.rename(server.directory / name, server.directory / f"away-{name}")
        self.mail(PASSWORD)
        error = self.assertRaises(poplib.error_proto, server.poplib, USER, phone)
        self.assertTrue(error.args[0].startswith(b"-ERR [SYS/TEMP]"), error)
        self.assertIn("there is no database", server.output())
        server.configuration["app_passwords"]["instead"] = True
        server.restart()
        error = self.assertRaises(poplib.error_proto, server.poplib, USER, PASSWORD)
        self.assertTrue(error.args[0].startswith(b"-ERR [SYS/TEMP]"), error)


class DigestTests(AppPasswordCase):
    """APOP and CRAM-MD5, for accounts whose own password is stored as a hash."""

    def serve(self, directory: Path | None = None, **settings: Any) -> RunningServer:
        """The same, with a hash for joe."""
        server = super().serve(directory, protocol={"digests": "any"}, **settings)
        hashed = hash_password(PASSWORD.encode(), "SSHA256")
        (server.directory / "users").write_text(f"{USER}:{hashed}::::{server.directory / USER}:\n")
        return server

    def apop(self, password: str) -> bytes:
        """The answer to APOP."""
        client = poplib.POP3("127.0.0.1", self.server.port, timeout=PATIENCE_SECONDS)
        self.addCleanup(client.close)
        try:
            answer = client.apop(USER, password)
            client.quit()
        except poplib.error_proto as error:
            answer = error.args[0]
        return answer

    def test_apop_with_an_encrypted_secret(self) -> None:
        """Promise: what --apop keeps works until it is revoked; what only has a hash does not."""
        server = self.serve()
        phone, plain = self.add("phone", "--apop"), self.add("plain")
        server.start()
        for password in (phone, phone.replace("-", "")):
            self.assertTrue(self.apop(password).startswith(b"+OK"))
        for password in (plain, PASSWORD, "wrong"):
            self.assertTrue(self.apop(password).startswith(_WRONG), password)
            self.assertNotIn("Traceback", server.output())
        self.mail(plain)
        self.tpops("revoke", "phone", "--user", USER, "--yes")
        self.assertTrue(self.apop(phone).startswith(_WRONG))

    def test_scram_with_an_encrypted_secret(self) -> None:
        """Promise: the same with SCRAM, where the own password is a hash that knows nothing of it."""
        server = self.serve()
        phone, plain = self.add("phone", "--apop"), self.add("plain")
        server.start()
        for password, right in ((phone, True), (phone.replace("-", ""), True), (plain, False), (PASSWORD, False)):
            client = ScramClient(USER.encode(), password.encode())
            wire = server.connect()
            wire.line()
            first = wire.command(b"AUTH SCRAM-SHA-256 " + base64.b64encode(client.first()))
            answer = wire.command(base64.b64encode(client.final(base64.b64decode(first[2:]))))
            if right:
                self.assertEqual(answer, b"+ " + base64.b64encode(client.expected))
                self.assertEqual(wire.command(b"")[:3], b"+OK")
                self.assertEqual(wire.command(b"QUIT")[:3], b"+OK")
            else:
                self.assertTrue(answer.startswith(_WRONG), answer)
        wait_until(lambda: self.listed()["phone"]["last_used"], "last use noted")

    def test_a_key_can_be_replaced_while_the_server_runs(self) -> None:
        """Promise: both steps; nobody notices.  A key file that is wrong or open to others is no wrong password."""
        server = self.serve()
        phone = self.add("phone", "--apop")
        server.start()
        for step in ("--rotate", "--drop-old"):
            self.tpops("key", step)
            self.assertTrue(self.apop(phone).startswith(b"+OK"), step)
        key = server.directory / "app.key"
        key.chmod(0o644)
        self.assertTrue(self.apop(phone).startswith(b"-ERR [SYS/TEMP]"))
        self.assertIn(f"chmod 600 {key}", server.event("login-failed")["detail"])
        key.unlink()
        self.tpops("key")
        self.assertTrue(self.apop(phone).startswith(b"-ERR [SYS/TEMP]"))
        self.mail(phone)
        self.mail(PASSWORD)

    def test_digests_are_offered_where_all_have_them(self) -> None:
        """Promise: with C{instead} and digests = "auto" only application passwords count for the offer as well."""
        server = self.serve(instead=True)
        server.configuration["protocol"]["digests"] = "auto"
        (server.directory / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}::::{server.directory / USER}:\n")
        for options, offered in (((), False), (("--apop",), True)):
            self.add("phone", *options)
            server.start()
            greeting = server.connect().line()
            self.assertEqual(b"<" in greeting, offered, greeting)
            server.stop()
            self.tpops("revoke", "--all", "--user", USER, "--yes")


class CurlTests(AppPasswordCase):
    """curl."""

    skip = need(None, "curl")

    def test_every_mechanism(self) -> None:
        """Promise: PLAIN, LOGIN and CRAM-MD5 with an application password; after it is revoked, none of them."""
        server = self.serve(protocol={"digests": "any"})
        phone = self.add("phone", "--apop")
        server.start()
        for expected in (0, 67):
            for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5", "+APOP"):
                options = ("--login-options", f"AUTH={mechanism}")
                url = f"pop3://127.0.0.1:{server.port}/1"
                done = subprocess.run(
                    ["curl", "-sS", "-u", f"{USER}:{phone}", *options, url], capture_output=True, check=False
                )
                self.assertEqual(done.returncode, expected, f"{mechanism}: {done.stderr!r}")
            if not expected:
                self.tpops("revoke", "phone", "--user", USER, "--yes")


class UnixAccountTests(AppPasswordCase):
    """The accounts of the machine."""

    skip = need(None, "useradd", "userdel", "usermod", "chage")

    def setUp(self) -> None:
        need_root(self, "making an account of this machine")
        self.account = UnixAccount(self)

    def test_beside_the_machines_password(self) -> None:
        """Promise: it is good while the machine's password is locked, and not when the account has expired."""
        server = self.serve(reachable_directory(self))
        server.configuration["accounts"] = [{"driver": "shadow", "domains": ["example.org"]}]
        server.start()
        name = self.account.name
        phone = self.add("phone", user=f"{name}@example.org")
        for password in (phone, self.account.password):
            self.assertEqual(self.mail(password, name), corpus.ALL["lf"].splitlines())
        self.mail(phone, f"{name}@example.org")
        self.account.change("usermod", "-L", name)
        wait_until(lambda: self.is_refused(self.account.password), "the lock counts", 10 * LOOK_SECONDS)
        self.mail(phone, name)
        self.account.change("chage", "-E", "0", name)
        wait_until(lambda: self.is_refused(phone), "the expiry counts", 10 * LOOK_SECONDS)
        error = self.assertRaises(poplib.error_proto, server.poplib, name, phone)
        self.assertTrue(error.args[0].startswith(b"-ERR [AUTH] account is disabled"), error)

    def is_refused(self, password: str) -> bool:
        """Whether a login fails now."""
        try:
            self.mail(password, self.account.name)
        except poplib.error_proto:
            return True
        return False
