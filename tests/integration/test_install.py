"""tpops is installed from its source into an environment of its own, uninstalled, and installed again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import CHECKOUT, temporary
from tests.support import lacking, need

#: Seconds for a run of pip or twistd.
_PATIENCE_SECONDS = 180


class InstallTests(SynchronousTestCase):
    """The plugin and the command come and go with the package."""

    timeout = 600
    skip = need(None, "git")

    def setUp(self) -> None:
        """A copy of the source as it would be committed, and an environment with the dependencies but without tpops."""
        if not (CHECKOUT / ".git").exists():
            lacking(self, "this is no git checkout")
        base = temporary(self)
        self.elsewhere = base / "elsewhere"
        self.elsewhere.mkdir()
        self.source = base / "source"
        listed = self.run_program("git", "ls-files", "-coz", "--exclude-standard", cwd=CHECKOUT)
        for name in filter(None, listed.split("\0")):
            if (CHECKOUT / name).is_file():
                (self.source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(CHECKOUT / name, self.source / name)
        self.venv = base / "venv"
        self.run_program(sys.executable, "-m", "venv", "--without-pip", str(self.venv))
        self.packages = Path(
            self.run_program(
                str(self.venv / "bin" / "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
            ).strip()
        )
        self.lend_dependencies()
        self.twistd = str(self.venv / "bin" / "twistd")
        (self.venv / "bin" / "twistd").write_text(
            f"#!{self.venv}/bin/python\nimport sys\nfrom twisted.scripts.twistd import run\nsys.exit(run())\n"
        )
        (self.venv / "bin" / "twistd").chmod(0o755)

    def lend_dependencies(self) -> None:
        """Link what is installed here into the new environment; tpops itself is an editable install, or a link."""
        for here in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for entry in os.scandir(here):
                lower = entry.name.lower()
                if "tpops" in lower or lower.endswith((".pth", ".egg-link")) or (self.packages / entry.name).exists():
                    continue
                if entry.name == "twisted":
                    self.lend_twisted(Path(entry.path))
                else:
                    (self.packages / entry.name).symlink_to(entry.path)

    def lend_twisted(self, here: Path) -> None:
        """A directory of its own, because plugins are installed into it."""
        there = self.packages / "twisted"
        (there / "plugins").mkdir(parents=True)
        for entry in os.scandir(here):
            if entry.name != "plugins":
                (there / entry.name).symlink_to(entry.path)
        for entry in os.scandir(here / "plugins"):
            if entry.name.endswith(".py") and "tpops" not in entry.name:
                (there / "plugins" / entry.name).symlink_to(entry.path)

    def run_program(self, *command: str, cwd: Path | None = None, status: int = 0) -> str:
        """What a program prints, which must end with this status."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TPOPS"))}
        done = subprocess.run(
            command,
            cwd=cwd or self.elsewhere,
            env={**environment, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, status, f"{command}: {done.stdout}")
        return done.stdout

    def pip(self, *arguments: str) -> None:
        """Run pip of the new environment, without the network."""
        self.run_program(str(self.venv / "bin" / "python"), "-m", "pip", "-q", *arguments)

    def install(self, what: Path) -> None:
        """Install the source or a wheel."""
        self.pip("install", "--no-build-isolation", "--no-deps", "--no-index", str(what))

    def check_installed(self) -> None:
        """The plugin and the command work, from the installed files."""
        self.assertIn("--config", self.run_program(self.twistd, "tpops", "--help"))
        self.assertIn("POP3", self.run_program(self.twistd, "--help"))
        command = str(self.venv / "bin" / "tpops")
        self.assertRegex(self.run_program(command, "--version"), r"\b\d+\.\d+")
        self.assertIn("check", self.run_program(command, "--help"))
        for other in ("tpops-pbsinsert", "tpops-pbsselect", "tpops-pbsdelete"):
            self.assertIn("--config", self.run_program(str(self.venv / "bin" / other), "--help"))
        where = self.run_program(str(self.venv / "bin" / "python"), "-c", "import tpops; print(tpops.__file__)")
        self.assertTrue(where.startswith(str(self.packages)), where)
        self.run_program(command, "init", "--help")
        for schema in ("accounts-1.sql", "pbs-1.sql", "mysql-v2-pbs.sql"):
            self.assertTrue((self.packages / "tpops" / "db" / "schema" / schema).exists())
        for page in ("page.html", "login.html", "status.css", "status.js", "icon.svg"):
            self.assertTrue((self.packages / "tpops" / "sight" / "page" / page).exists(), page)
        self.assertFalse((self.packages / "tests").exists())

    def check_absent(self) -> None:
        """No plugin, no command, and twistd works."""
        self.assertIn("twistd", self.run_program(self.twistd, "--version"))
        self.assertNotIn("tpops", self.run_program(self.twistd, "--help"))
        self.assertIn("Unknown command: tpops", self.run_program(self.twistd, "tpops", "--help", status=1))
        self.assertFalse((self.venv / "bin" / "tpops").exists())
        self.assertEqual([path for path in self.packages.rglob("tpops*") if path.suffix != ".pyc"], [])

    def test_install_uninstall_and_install_again(self) -> None:
        """Promise: C{pip install .} is all that is needed, from the source and from a wheel."""
        self.check_absent()
        self.install(self.source)
        self.check_installed()
        self.pip("uninstall", "-y", "tpops")
        self.check_absent()
        wheels = self.elsewhere / "wheels"
        self.pip("wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(wheels), str(self.source))
        (wheel,) = wheels.iterdir()
        self.install(wheel)
        self.check_installed()
