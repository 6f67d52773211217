"""driver = "checkpassword": a program of DJB's interface, written in C, judges the logins of a real server."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.integration.judges import LATER, WRONG, JudgesCase, alive, descendants
from tests.integration.server import RunningServer, wait_until
from tests.support import need

_SOURCE = Path(__file__).with_name("checkpassword.c")


class CheckpasswordTests(JudgesCase):
    """One program, and what it can say."""

    skip = need(None, "gcc")

    def setUp(self) -> None:
        super().setUp()
        self.program = self.directory / "checkpassword"
        subprocess.run(["gcc", "-Wall", "-Werror", "-o", str(self.program), str(_SOURCE)], check=True)
        owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        lines = [
            f"{name}:secret:{owner.pw_uid}:{owner.pw_gid}:{self.directory}\n" for name in ("joe", "virtual", "says")
        ]
        (self.directory / "shadow").write_text("".join(lines))
        (self.directory / "shadow").chmod(0o600)
        self.source: dict[str, Any] = {
            "driver": "checkpassword",
            "command": [str(self.program)],
            "timeout_seconds": 2.0,
        }

    def start(self, **more: Any) -> RunningServer:
        """A running server with mail for joe; as daemon where it can be."""
        self.mail("joe")
        server = self.server({**self.source, **more}, server={"user": "daemon" if os.geteuid() == 0 else ""})
        if os.geteuid() == 0:
            os.chown(self.directory, pwd.getpwnam("daemon").pw_uid, -1)
        return server.start()

    def test_logins(self) -> None:
        """Promise: exit status 0 is yes and 1 is no, by a file that only root may read."""
        server = self.start()
        self.assertIn(b"+OK joe has 1 message", self.answer(server, "joe"))
        for name, password in (("joe", "wrong"), ("ann", "secret"), ("root", "secret")):
            self.assertTrue(self.answer(server, name, password).startswith(WRONG), name)
        self.assertNotIn("Traceback", server.output())

    def test_environment(self) -> None:
        """Promise: nothing but PATH and tcpserver's variables, and a timestamp behind the password."""
        os.environ["TPOPS_TEST_SECRET"] = "x"
        self.addCleanup(os.environ.pop, "TPOPS_TEST_SECRET")
        server = self.start()
        self.answer(server, "joe")
        *lines, timestamp = (self.directory / "environment").read_text().splitlines()
        environment = dict(line.split("=", 1) for line in lines)
        self.assertEqual(
            environment.keys(), {"PATH", "PROTO", "TCPREMOTEIP", "TCPREMOTEPORT", "TCPLOCALIP", "TCPLOCALPORT"}
        )
        self.assertEqual((environment["PROTO"], environment["TCPREMOTEIP"]), ("TCP", "127.0.0.1"))
        self.assertEqual(environment["TCPLOCALPORT"], str(server.port))
        self.assertRegex(timestamp, r"^timestamp \d+$")

    def test_accounts(self) -> None:
        """Promise: HOME is the home; MAILDIR, relative to it, is the Maildir; USER renames nobody."""
        self.mail("elsewhere", messages=2)
        server = self.start()
        self.assertIn(b"+OK virtual has 2 messages", self.answer(server, "virtual"))
        server.stop()
        server.configuration["mail"] = {"location": "maildir:~/mail/joe"}
        server.start()
        self.assertIn(b"has 1 message", self.answer(server, "joe"))

    def test_what_is_neither_yes_nor_no(self) -> None:
        """Promise: every other exit status, and 0 without having run the arguments, is [SYS/TEMP], with the reason."""
        server = self.start()
        for name, reason in (
            ("later", "cannot say now (exit status 111)"),
            ("misused", "misused (exit status 2)"),
            ("odd", "exit status 77"),
            ("yesman", "did not run its arguments"),
            ("crashes", "signal 6"),
        ):
            self.assertTrue(self.answer(server, name).startswith(LATER), name)
            self.assertIn(reason, self.detail(server, name))

    def test_program_that_hangs(self) -> None:
        """Promise: it is ended, its client told to come later, and nobody else waits for it."""
        server = self.start(processes=2, timeout_seconds=5.0)
        wires = [server.connect() for _ in range(2)]
        for number, wire in enumerate(wires):
            wire.line()
            wire.send(b"USER hangs\r\nPASS secret\r\n")
            wire.line()
            wait_until(lambda count=number: len(self.runs(server)) == count + 1, "it hangs")
            if not number:
                self.assertIn(b"has 1 message", self.answer(server, "joe"))
        runs = self.runs(server)
        self.assertIn(b"has 1 message", self.answer(server, "joe"))
        for wire in wires:
            self.assertTrue(wire.line().startswith(LATER))
        self.assertIn("no answer in time", self.detail(server, "hangs"))
        self.assertFalse(any(map(alive, runs)))

    def runs(self, server: RunningServer) -> list[int]:
        """The runs of the program now."""
        return [pid for pid, line in descendants(server.pid).items() if line.startswith(str(self.program))]

    def test_too_long(self) -> None:
        """Promise: what would not fit into 512 octets is a wrong password, and the program is not asked."""
        server = self.server(self.source, protocol={"command_octets": 2048, "disconnect_octets": 2048}).start()
        self.assertTrue(self.answer(server, "joe", 500 * "x").startswith(WRONG))
        self.assertIn("512 octets", self.detail(server, "joe"))
        self.assertFalse((self.directory / "environment").exists())

    def test_messages_of_the_program(self) -> None:
        """Promise: standard error is in the log, without the password."""
        server = self.start()
        self.answer(server, "says", "very secret word")
        wait_until(lambda: "the password is (left out)" in server.output(), "the message")
        self.assertNotIn("very secret", server.output())

    def test_nothing_is_left(self) -> None:
        """Promise: a run that hangs ends with the server, and so does the keeper."""
        server = self.start(timeout_seconds=600.0)
        wire = server.connect()
        wire.line()
        wire.send(b"USER hangs\r\nPASS secret\r\n")
        wait_until(lambda: self.runs(server), "it hangs")
        started = descendants(server.pid)
        server.stop(signal.SIGKILL)
        wait_until(lambda: not any(map(alive, started)), "all have ended")

    def test_check(self) -> None:
        """Promise: C{tpops check} and the start say what is wrong with the program."""
        server = self.server(self.source)
        self.assertEqual(self.check(server)[0], 0)
        self.program.chmod(0o644)
        self.assertIn("is not executable; chmod +x", self.check(server)[1])
        self.assertIn("is not executable; chmod +x", server.refuses_to_start())
        self.program.unlink()
        self.assertIn(f"there is no program {self.program}", self.check(server)[1])

    def test_program_that_cannot_be_run(self) -> None:
        """Promise: a program without its interpreter is [SYS/TEMP], and the log says which it is."""
        server = self.start()
        shutil.copy(self.executable("broken", "#!/no/such/interpreter\n"), self.program)
        self.assertTrue(self.answer(server, "joe").startswith(LATER))
        self.assertIn("could not be run", self.detail(server, "joe"))
        wait_until(lambda: f"cannot run {self.program}: No such file" in server.output(), "the message")
