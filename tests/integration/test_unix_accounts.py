"""Real accounts of this machine, made with useradd, log in with the password that chpasswd gave them."""

from __future__ import annotations

import os
import pwd
import secrets
import subprocess
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.server import RunningServer, program, wait_until
from tests.integration.test_twistd import reachable_directory
from tests.support import need, need_root
from tpops.cred.watched import LOOK_SECONDS

PROGRAMS = ("useradd", "userdel", "usermod", "chpasswd", "chage")

#: What userdel says of an account that has processes.
_IN_USE = 8

_DISABLED = b"-ERR [AUTH] account is disabled"
_WRONG = b"-ERR [AUTH] authentication failed"


class UnixAccount:
    """
    An account that is there until the test ends, with a message in ~/Maildir.

    @ivar name: its name
    @ivar password: its password
    @ivar home: its home directory
    """

    def __init__(self, testcase: SynchronousTestCase) -> None:
        self.name = f"tpops{secrets.token_hex(6)}"
        self.password = secrets.token_hex(12)
        self.change("useradd", "-m", "-s", "/usr/sbin/nologin", self.name)
        testcase.addCleanup(self.remove)
        self.set_password()
        entry = pwd.getpwnam(self.name)
        self.home = Path(entry.pw_dir)
        maildir = self.home / "Maildir"
        for path in (maildir, *(maildir / part for part in ("tmp", "new", "cur"))):
            path.mkdir(mode=0o700)
            os.chown(path, entry.pw_uid, entry.pw_gid)
        message = maildir / "new" / "1.host"
        message.write_bytes(corpus.ALL["lf"])
        os.chown(message, entry.pw_uid, entry.pw_gid)

    def change(self, *command: str, given: str = "") -> None:
        """Run a program of the machine's administrator."""
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"{command}: {done.stderr}")

    def remove(self) -> None:
        """Remove it, when its last process has ended: sessions end a moment after their server."""
        wait_until(lambda: self.removal() != _IN_USE, f"nothing of {self.name} runs")
        if self.name in {one.pw_name for one in pwd.getpwall()}:
            raise AssertionError(f"{self.name} could not be removed")

    def removal(self) -> int:
        """The status of a try to remove it."""
        return subprocess.run(("userdel", "-r", self.name), capture_output=True, check=False).returncode

    def set_password(self, *options: str) -> None:
        """Store the password, by the machine's own method or as the options say."""
        self.change("chpasswd", *options, given=f"{self.name}:{self.password}\n")

    def stored(self) -> str:
        """What /etc/shadow has for it."""
        lines = Path("/etc/shadow").read_text().splitlines()
        return next(line.split(":")[1] for line in lines if line.startswith(f"{self.name}:"))


class UnixAccountsTests(SynchronousTestCase):
    """The server on /etc/passwd and /etc/shadow as they are."""

    timeout = 240

    def setUp(self) -> None:
        need_root(self, "making an account of this machine")
        need(self, *PROGRAMS)
        self.account = UnixAccount(self)

    def server(self, directory: Path | None = None, user: str = "") -> RunningServer:
        """A server that is not started."""
        server = RunningServer(
            self, directory, users={}, server={"user": user}, protocol={"auth_delay_seconds": 0.05, "auth_tries": 100}
        )
        server.configuration["accounts"] = [{"driver": "shadow"}]
        return server

    def answer(self, server: RunningServer, password: str | None = None, name: str = "") -> bytes:
        """What the client gets for PASS, on a connection of its own."""
        wire = server.connect()
        self.assertTrue(wire.line().startswith(b"+OK"))
        self.assertTrue(wire.command(f"USER {name or self.account.name}".encode()).startswith(b"+OK"))
        answer = wire.command(f"PASS {self.account.password if password is None else password}".encode())
        wire.command(b"QUIT")
        return answer

    def change(self, *command: str) -> None:
        """Change the account, and wait until the server has had the time to see it."""
        self.account.change(*command, self.account.name)
        time.sleep(LOOK_SECONDS + 0.1)

    def test_mail_is_fetched_with_the_machines_password(self) -> None:
        """Promise: RETR and DELE on ~/Maildir; a wrong password, no password and root are refused alike."""
        server = self.server().start()
        wire = server.session(self.account.name, self.account.password)
        self.assertEqual(wire.multi_line(b"RETR 1")[1], corpus.wire(corpus.ALL["lf"]))
        wire.command(b"DELE 1")
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (0 messages left)")
        self.assertEqual(os.listdir(self.account.home / "Maildir" / "new"), [])
        for name, password in (("", "wrong"), ("", self.account.stored()), ("root", "root"), ("nobody", "*")):
            self.assertTrue(self.answer(server, password, name).startswith(_WRONG), name)
        self.assertNotIn(self.account.password, server.output())
        self.assertNotIn("Traceback", server.output())

    def test_names_with_a_domain_of_the_machine(self) -> None:
        """Promise: joe@example.org is joe, also where the domain is appended; another domain is nobody's."""
        server = self.server()
        server.configuration["accounts"] = [{"driver": "shadow", "domains": ["Example.org"]}]
        server.configuration["names"] = {"default_domain": "example.org"}
        server.start()
        for name in ("", f"{self.account.name}@example.org", f"{self.account.name}@EXAMPLE.ORG"):
            self.assertIn(b"+OK %s has 1 message" % self.account.name.encode(), self.answer(server, name=name))
        self.assertTrue(self.answer(server, name=f"{self.account.name}@example.com").startswith(_WRONG))

    def test_every_method_of_chpasswd(self) -> None:
        """Promise: whatever has stored the password, and a change counts after a second."""
        server = self.server().start()
        for method, start in (("YESCRYPT", "$y$"), ("SHA512", "$6$"), ("SHA256", "$5$"), ("MD5", "$1$"), ("DES", "")):
            self.account.password = secrets.token_hex(4)
            self.account.set_password("-c", method)
            self.assertTrue(self.account.stored().startswith(start), method)
            time.sleep(LOOK_SECONDS + 0.1)
            self.assertIn(b"has 1 message", self.answer(server), method)
            self.assertTrue(self.answer(server, "wrong").startswith(_WRONG), method)

    def test_locked_account(self) -> None:
        """Promise: C{usermod -L} shuts the account, C{usermod -U} opens it, and the log has the reason."""
        server = self.server().start()
        self.assertIn(b"has 1 message", self.answer(server))
        self.change("usermod", "-L")
        self.assertTrue(self.answer(server).startswith(_WRONG))
        detail = server.event("login-failed", named=self.account.name)["detail"]
        self.assertIn("password is locked", detail)
        self.change("usermod", "-U")
        self.assertIn(b"has 1 message", self.answer(server))

    def test_expired_account_and_password(self) -> None:
        """Promise: refused after the right password only, with the reason in the log."""
        server = self.server().start()
        for command, back, reason in (
            (("chage", "-E", "0"), ("chage", "-E", "-1"), "account has expired"),
            (("chage", "-d", "0"), ("chage", "-d", time.strftime("%Y-%m-%d", time.gmtime())), "must be changed first"),
            (("chage", "-d", "2020-01-01", "-M", "30"), ("chage", "-M", "-1"), "password has expired"),
        ):
            self.change(*command)
            self.assertTrue(self.answer(server).startswith(_DISABLED), reason)
            self.assertIn(reason, server.events("login-refused")[-1]["detail"])
            self.assertTrue(self.answer(server, "wrong").startswith(_WRONG), reason)
            self.change(*back)
            self.assertIn(b"has 1 message", self.answer(server), reason)

    def test_rights_of_the_servers_user(self) -> None:
        """Promise: who may not read /etc/shadow is told what to do, in the log and by C{tpops check}; it helps."""
        directory = reachable_directory(self)
        server = self.server(directory, user=self.account.name)
        entry = pwd.getpwnam(self.account.name)
        os.chown(directory, entry.pw_uid, entry.pw_gid)
        server.start()
        self.assertTrue(self.answer(server).startswith(b"-ERR [SYS/TEMP]"))
        self.assertIn("usermod -aG shadow", server.event("login-failed")["detail"])
        status, text = self.check(server)
        self.assertEqual(status, 1)
        self.assertIn("the server's user may not read /etc/shadow; put the server's user into the group", text)
        self.change("usermod", "-aG", "shadow")
        self.assertEqual(self.check(server)[0], 0)
        server.restart()
        self.assertIn(b"has 1 message", self.answer(server))

    def check(self, server: RunningServer) -> tuple[int, str]:
        """Exit status and output of C{tpops check}."""
        done = subprocess.run(
            [program("tpops"), "-c", str(server.configuration_file), "check"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout
