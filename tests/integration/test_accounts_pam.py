"""driver = "pam": a real server, real modules of PAM, and accounts of this machine made with useradd."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.integration.judges import DISABLED, LATER, WRONG, JudgesCase, alive, descendants
from tests.integration.server import RunningServer, wait_until
from tests.integration.test_unix_accounts import UnixAccount
from tests.support import lacking, need
from tpops.cred.pam_worker import LIBRARY

_UNIX = "auth required pam_unix.so\naccount required pam_unix.so\n"

#: Judges by itself: "secret" is right for joe, "hangs" never gets an answer; notes what PAM tells it.
_SCRIPT = """#!/bin/sh
password=$(cat | tr -d '\\000')
echo "$PAM_TYPE $PAM_SERVICE $PAM_USER $PAM_RHOST $PAM_TTY" >>{directory}/asked
case "$PAM_USER" in
*hangs*) echo $$ >>{directory}/hanging; exec sleep 1000 ;;
esac
[ "$password" = secret ]
"""


def need_pam(testcase: TestCase | SynchronousTestCase) -> None:
    """Skip where there is no libpam; fail in continuous integration."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        lacking(testcase, "this machine has no libpam")


class PAMCase(JudgesCase):
    """A directory of service files."""

    def setUp(self) -> None:
        super().setUp()
        need_pam(self)
        (self.directory / "pam.d").mkdir()
        self.source: dict[str, Any] = {"driver": "pam", "directory": "pam.d", "service": "pop3test"}

    def service(self, text: str, name: str = "pop3test") -> None:
        """Write a service file."""
        (self.directory / "pam.d" / name).write_text(text)

    def script(self) -> Path:
        """The script as a module, for all names."""
        script = self.executable("judge", _SCRIPT.format(directory=self.directory))
        self.service(
            f"auth [success=done default=ignore] pam_exec.so quiet expose_authtok {script}\n"
            "auth required pam_deny.so\naccount required pam_permit.so\n"
        )
        self.addCleanup(self.end_hanging)
        return script

    def end_hanging(self) -> None:
        """End what the script has started and pam_exec has given a session of its own."""
        hanging = self.directory / "hanging"
        for pid in hanging.read_text().split() if hanging.exists() else ():
            if alive(int(pid)):
                os.kill(int(pid), signal.SIGKILL)


class UnixTests(PAMCase):
    """pam_unix."""

    def setUp(self) -> None:
        super().setUp()
        self.need_root()
        need(self, "useradd", "userdel", "chpasswd", "chage")
        self.account = UnixAccount(self)
        self.service(_UNIX)
        self.mail(self.account.name)

    def start(self, **more: Any) -> RunningServer:
        """A server that has given root's rights up."""
        server = self.server({**self.source, **more}, server={"user": "daemon"})
        os.chown(self.directory, pwd.getpwnam("daemon").pw_uid, -1)
        return server.start()

    def test_password_of_the_machine(self) -> None:
        """Promise: a server that is not root any more verifies all accounts; wrong, unknown and root are alike."""
        server = self.start()
        self.assertEqual(Path(f"/proc/{server.pid}").stat().st_uid, pwd.getpwnam("daemon").pw_uid)
        self.assertIn(b"has 1 message", self.answer(server, self.account.name, self.account.password))
        for name, password in ((self.account.name, "wrong"), ("nobody-of-that-name", "x"), ("root", "root")):
            self.assertTrue(self.answer(server, name, password).startswith(WRONG), name)
        self.assertIn("Authentication failure", self.detail(server, self.account.name))
        self.assertIn("unknown user", self.detail(server, "root"))
        self.assertNotIn(self.account.password, server.output())
        self.assertNotIn("Traceback", server.output())

    def test_domains(self) -> None:
        """Promise: an address with a domain of the machine is the account; any other domain is nobody."""
        server = self.start(domains=["example.org"])
        name, password = self.account.name, self.account.password
        self.assertIn(b"has 1 message", self.answer(server, f"{name}@example.org", password))
        self.assertTrue(self.answer(server, f"{name}@example.com", password).startswith(WRONG))

    def test_account_phase(self) -> None:
        """Promise: an expired account and a password to be changed are refused, after the right password only."""
        server = self.start()
        name, password = self.account.name, self.account.password
        for command, back, reason in (
            (("chage", "-E", "0"), ("chage", "-E", "-1"), "expired"),
            (("chage", "-d", "0"), ("chage", "-d", "20000"), "Authentication token is no longer valid"),
        ):
            self.account.change(*command, name)
            self.assertTrue(self.answer(server, name, password).startswith(DISABLED), reason)
            self.assertIn(reason, self.detail(server, name))
            self.assertTrue(self.answer(server, name, "wrong").startswith(WRONG), reason)
            self.account.change(*back, name)
            self.assertIn(b"has 1 message", self.answer(server, name, password), reason)

    def test_policy_modules(self) -> None:
        """Promise: other modules have their say: pam_listfile keeps a user out."""
        refused = self.directory / "refused"
        refused.write_text("somebody\n")
        listed = f"auth required pam_listfile.so item=user sense=deny file={refused} onerr=fail\n"
        self.service(listed + _UNIX)
        server = self.start()
        self.assertIn(b"has 1 message", self.answer(server, self.account.name, self.account.password))
        refused.write_text(f"{self.account.name}\n")
        self.assertTrue(self.answer(server, self.account.name, self.account.password).startswith(WRONG))
        self.service("auth required pam_deny.so\naccount required pam_deny.so\n")
        self.assertTrue(self.answer(server, self.account.name, self.account.password).startswith(WRONG))

    def test_home_of_the_account(self) -> None:
        """Promise: ~/Maildir is the home that the machine knows, and an ordinary service of /etc/pam.d works."""
        path = Path("/etc/pam.d") / self.account.name
        self.addCleanup(path.unlink)
        path.write_text(_UNIX)
        source = {"driver": "pam", "service": self.account.name}
        server = self.server(source, mail={"location": "maildir:~/Maildir"}).start()
        self.assertIn(b"has 1 message", self.answer(server, self.account.name, self.account.password))


class ModuleTests(PAMCase):
    """Modules that do what they want, for names without an account of the machine."""

    def setUp(self) -> None:
        super().setUp()
        self.script()
        self.mail("joe")
        owner = pwd.getpwuid(os.geteuid()).pw_name
        self.source = {**self.source, "mail_user": owner, "timeout_seconds": 2.0, "processes": 2}

    def start(self, **more: Any) -> RunningServer:
        """A server that runs as whoever started it."""
        return self.server({**self.source, **more}).start()

    def test_what_modules_are_told(self) -> None:
        """Promise: service, name, the client's address as PAM_RHOST, and a terminal's name."""
        server = self.start()
        self.assertIn(b"has 1 message", self.answer(server, "joe"))
        self.assertTrue(self.answer(server, "joe", "wrong").startswith(WRONG))
        asked = (self.directory / "asked").read_text().splitlines()
        self.assertEqual(asked, 2 * ["auth pop3test joe 127.0.0.1 tpops"])

    def test_broken_module_is_no_wrong_password(self) -> None:
        """Promise: what PAM cannot say is [SYS/TEMP]: a module that is missing, a script whose failure is an error."""
        server = self.start()
        failing = self.executable("fails", "#!/bin/sh\nexit 1\n")
        script = f"auth required pam_exec.so quiet {failing}\n"
        for text in (script, "auth required pam_no_such_module.so\n"):
            self.service(text + "account required pam_permit.so\n")
            self.assertTrue(self.answer(server, "joe").startswith(LATER), text)

    def test_names_without_an_account(self) -> None:
        """Promise: they are nobody where no mail_user is configured, and modules are not asked."""
        server = self.start(mail_user="")
        self.assertTrue(self.answer(server, "joe").startswith(WRONG))
        self.assertFalse((self.directory / "asked").exists())

    def test_module_that_hangs(self) -> None:
        """Promise: its own client is told to come later; meanwhile the others log in, and afterwards as well."""
        server = self.start()
        wire = server.connect()
        wire.line()
        wire.command(b"USER hangs")
        wire.send(b"PASS secret\r\n")
        wait_until((self.directory / "hanging").exists, "the module hangs")
        for _ in range(3):
            self.assertIn(b"has 1 message", self.answer(server, "joe"))
        self.assertTrue(wire.line().startswith(LATER))
        self.assertIn("no answer in 2 seconds", self.detail(server, "hangs"))
        self.assertIn(b"has 1 message", self.answer(server, "joe"))

    def test_all_processes_hang(self) -> None:
        """Promise: more checks than processes wait in order, and get their turn when the time is over."""
        server = self.start()
        hanging = [server.connect() for _ in range(2)]
        for number, wire in enumerate(hanging):
            wire.line()
            wire.send(b"USER hangs%d\r\nPASS secret\r\n" % number)
            wire.line()
        file = self.directory / "hanging"
        wait_until(lambda: file.exists() and len(file.read_text().split()) == 2, "both hang")
        self.assertIn(b"has 1 message", self.answer(server, "joe"))
        for wire in hanging:
            self.assertTrue(wire.line().startswith(LATER))

    def test_process_that_dies(self) -> None:
        """Promise: a process that crashes is replaced."""
        server = self.start()
        self.assertIn(b"has 1 message", self.answer(server, "joe"))
        for _ in range(2):
            worker = next(pid for pid, line in descendants(server.pid).items() if "pam_worker.py" in line)
            os.kill(worker, signal.SIGSEGV)
            wait_until(lambda: b"has 1 message" in self.answer(server, "joe"), "logins work again")
        self.assertIn("the program has ended, status -11", server.output())

    def test_check(self) -> None:
        """Promise: C{tpops check} says where the service file would have to be; mail_user must exist."""
        status, text = self.check(self.server(self.source))
        self.assertEqual((status, "problem" in text), (0, False))
        self.source["service"] = "missing"
        status, text = self.check(self.server(self.source))
        self.assertEqual(status, 1)
        self.assertIn(f"there is no PAM service missing: write {self.directory}/pam.d/missing", text)
        self.source["mail_user"] = "no-such-user"
        self.assertIn("mail_user: there is no user", self.server(self.source).refuses_to_start())
