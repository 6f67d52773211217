"""What contrib/ has for those who start tpops is accepted by the programs that it is for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import need

ROOT = Path(__file__).resolve().parents[1]
CONTRIB = ROOT / "contrib"

#: Where the files of contrib/ have the programs.
INSTALLED = "/opt/tpops/bin"

#: The highest exposure that "systemd-analyze security" may find, in tenths; "OK" begins below 45.
MOST_EXPOSURE = 20


class ContribCase(SynchronousTestCase):
    """Runs programs over copies."""

    def setUp(self) -> None:
        """A directory, with programs at a place that exists."""
        self.directory = Path(self.mktemp()).absolute()
        programs = self.directory / "bin"
        programs.mkdir(parents=True)
        for name in ("twistd", "tpops-inetd"):
            (programs / name).symlink_to(sys.executable)

    def copy(self, path: str, *changes: tuple[str, str]) -> Path:
        """A copy of a file for this machine."""
        text = (CONTRIB / path).read_text().replace(INSTALLED, str(self.directory / "bin"))
        for before, after in changes:
            self.assertIn(before, text)
            text = text.replace(before, after)
        copied = self.directory / Path(path).name
        copied.write_text(text)
        copied.chmod(0o644)
        return copied

    def run_program(self, *words: str) -> str:
        """What it says; its exit status must be 0."""
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=self.directory)
        self.assertEqual(done.returncode, 0, f"{done.stdout}{done.stderr}")
        return done.stdout + done.stderr


class SystemdTests(ContribCase):
    """Units, users and directories."""

    skip = need(None, "systemd-analyze")

    def test_units(self) -> None:
        """systemd-analyze(1) verify: nothing to complain about."""
        units = ["tpops.service", "tpops.socket", "tpops-lmtp.socket", "tpops-inetd@.service", "tpops-inetd.socket"]
        for name in units:
            self.copy(f"systemd/{name}")
        said = self.run_program("systemd-analyze", "verify", "--man=no", *(f"./{unit}" for unit in units))
        for unit in units:
            self.assertNotIn(unit, said)

    def test_verify_finds_mistakes(self) -> None:
        """Promise: that test can fail."""
        self.copy("systemd/tpops.service", ("Type=notify", "Type=notfy"), ("UMask=", "Umsk="))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "./tpops.service"],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.directory,
        )
        self.assertIn("tpops.service", done.stderr)

    def test_additions(self) -> None:
        """systemd-analyze(1) verify: nothing to complain about with any of the additions to tpops.service either."""
        unit = self.copy("systemd/tpops.service")
        there = self.directory / "tpops.service.d"
        there.mkdir()
        additions = sorted((CONTRIB / "systemd" / "tpops.service.d").iterdir())
        self.assertEqual([one.name for one in additions], ["home.conf", "owner.conf", "ports.conf"])
        for one in additions:
            (there / one.name).write_text(one.read_text())
            said = self.run_program("systemd-analyze", "verify", "--man=no", f"./{unit.name}")
            self.assertNotIn("tpops.service", said)
            (there / one.name).write_text(one.read_text().replace("[Service]", "[Service]\nProtectHom=no"))
            said = self.run_program("systemd-analyze", "verify", "--man=no", f"./{unit.name}")
            self.assertIn(f"{one.name}:", said)
            (there / one.name).unlink()

    def test_sessions_may_confine_themselves(self) -> None:
        """Promise: what they need for it is allowed where they run as owners; systemd's own set lacks it."""
        text = (CONTRIB / "systemd" / "tpops.service.d" / "owner.conf").read_text()
        allowed = [line for line in text.splitlines() if line.startswith("SystemCallFilter=landlock")]
        self.assertEqual(allowed, ["SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self"])

    def test_hardening(self) -> None:
        """systemd-analyze(1) security: "OK", and well below what that needs."""
        for name in ("tpops.service", "tpops-inetd@.service"):
            unit = str(self.copy(f"systemd/{name}"))
            said = self.run_program(
                "systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", unit
            )
            self.assertRegex(said, r"Overall exposure level for \S+: 1\.\d OK")

    def test_user(self) -> None:
        """sysusers.d(5): the user is made."""
        need(self, "systemd-sysusers")
        (self.directory / "etc").mkdir()
        file = self.copy("systemd/sysusers.d/tpops.conf")
        self.run_program("systemd-sysusers", f"--root={self.directory}", str(file))
        self.assertIn("tpops:", (self.directory / "etc" / "passwd").read_text())

    def test_directories(self) -> None:
        """tmpfiles.d(5): the directories are made."""
        need(self, "systemd-tmpfiles")
        file = self.copy("systemd/tmpfiles.d/tpops.conf", ("tpops tpops", "- -"), ("tpops adm  ", "- -"))
        self.run_program("systemd-tmpfiles", "--create", f"--root={self.directory}", str(file))
        modes = {path: (self.directory / path).stat().st_mode & 0o777 for path in ("run/tpops", "var/lib/tpops")}
        self.assertEqual(modes, {"run/tpops": 0o755, "var/lib/tpops": 0o750})


class OtherFilesTests(ContribCase):
    """logrotate, super-servers, containers."""

    def test_logrotate(self) -> None:
        """logrotate(8): it would rotate the logs, and then have them opened anew."""
        need(self, "logrotate")
        for name in ("access.log", "events.json"):
            (self.directory / name).write_text("a line\n")
        file = self.copy(
            "logrotate.d/tpops",
            ("/var/log/tpops", str(self.directory)),
            ("su tpops tpops", "su root root"),
            ("tpops tpops", "root root"),
        )
        said = self.run_program("logrotate", "-d", "-f", "-s", str(self.directory / "state"), str(file))
        self.assertNotIn("error", said)
        for name in ("access.log", "events.json"):
            self.assertIn(f"renaming {self.directory}/{name} to {self.directory}/{name}.1", said)
        self.assertIn("--signal=USR1 tpops.service", said)

    def test_run_script(self) -> None:
        """Promise: the run script of tcpserver is one."""
        script = CONTRIB / "inetd" / "tcpserver-run"
        self.assertTrue(script.stat().st_mode & 0o100)
        self.run_program("sh", "-n", str(script))

    def test_one_command_everywhere(self) -> None:
        """Promise: what the examples start is the program, with its option for the configuration."""
        for name in ("inetd.conf", "xinetd", "tcpserver-run"):
            text = (CONTRIB / "inetd" / name).read_text()
            self.assertIn(f"{INSTALLED}/tpops-inetd", text)
            self.assertIn("--config /etc/tpops/tpops.toml", text)

    def test_container(self) -> None:
        """Promise: what the Dockerfile copies is there, it installs all packages, and nobody runs as root."""
        text = (CONTRIB / "docker" / "Dockerfile").read_text()
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
            *sources, _ = line.split()
            for source in sources:
                self.assertTrue((ROOT / source).exists(), source)
        self.assertIn("\nUSER 10110\n", text)
        self.assertLess(text.index("\nUSER "), text.index("\nENTRYPOINT "))

    def test_health_check(self) -> None:
        """Promise: the container's probe fails where no server is, and says so when it does not know where to look."""
        probe = str(CONTRIB / "docker" / "healthcheck.py")
        for where, said in (
            ("pop3://127.0.0.1:1", "no POP3 server at pop3://127.0.0.1:1: "),
            ("pop3s://127.0.0.1:1", "no POP3 server at pop3s://127.0.0.1:1: "),
            ("", "TPOPS_HEALTH is ''; it should be like pop3://127.0.0.1:1110"),
            ("http://127.0.0.1:1", "TPOPS_HEALTH is 'http://127.0.0.1:1'; it should be like"),
            ("pop3://127.0.0.1:many", "TPOPS_HEALTH: "),
        ):
            done = subprocess.run(
                [sys.executable, probe], capture_output=True, text=True, timeout=60, env={"TPOPS_HEALTH": where}
            )
            self.assertEqual(done.returncode, 1)
            self.assertTrue(done.stderr.startswith(said), done.stderr)
