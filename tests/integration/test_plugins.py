"""The package of docs/plugins.md is built, installed by pip into an environment of its own, and used by a server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import server as running
from tests.integration.server import CHECKOUT, RunningServer, temporary, wait_until

#: Seconds for a run of pip or tpops.
_PATIENCE_SECONDS = 180

#: Loads files, and prints what is wrong with each.
_LOAD = """
import sys
from tpops.config.load import load
from tpops.errors import ConfigError
for path in sys.argv[1:]:
    try:
        load(path)
    except ConfigError as error:
        print(*error.problems, sep=" | ")
"""


class PluginTests(SynchronousTestCase):
    """A sink, an accounts source and a mailbox driver of somebody else's."""

    timeout = 600

    def setUp(self) -> None:
        """An environment that borrows everything from this one, with the package installed in it."""
        base = temporary(self)
        package, self.venv = base / "tpops-notes", base / "venv"
        text = (CHECKOUT / "docs" / "plugins.md").read_text("utf-8")
        for name, _, content in re.findall(r"^`([\w/.]+)`[^\n]*:\n\n```(toml|python)\n(.*?)^```", text, re.M | re.S):
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            (package / name).write_text(content, "utf-8")
        self.run_program(sys.executable, "-m", "venv", "--without-pip", str(self.venv))
        python = str(self.venv / "bin" / "python")
        site = Path(self.run_program(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), str(CHECKOUT)}
        (site / "borrowed.pth").write_text("".join(f"{one}\n" for one in sorted(here)))
        options = ("--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check")
        self.run_program(python, "-m", "pip", "-q", "install", *options, str(package))
        self.assertTrue((site / "twisted" / "plugins" / "tpops_notes_plugin.py").exists())
        self.script("twistd", "from twisted.scripts.twistd import run; run()")
        self.script("tpops", "from tpops.admin.cli import main; main()")
        self.patch(running, "program", lambda name: str(self.venv / "bin" / name))

    def script(self, name: str, code: str) -> None:
        """A program of the environment."""
        path = self.venv / "bin" / name
        path.write_text(f"#!{self.venv}/bin/python\n{code}\n")
        path.chmod(0o755)

    def run_program(self, *command: str, status: int = 0) -> str:
        """What a program prints."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            command,
            env={**environment, "PIP_ROOT_USER_ACTION": "ignore"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, status, f"{command}: {done.stdout}")
        return done.stdout

    def tpops(self, *arguments: str, status: int = 0) -> str:
        """The command of that environment."""
        return self.run_program(str(self.venv / "bin" / "tpops"), *arguments, status=status)

    def test_all_three(self) -> None:
        """Promise: listed, configured from the same file with the loader's messages, and used."""
        listed = {row["driver"]: row for row in json.loads(self.tpops("plugins", "--json"))}
        self.assertEqual(
            {driver: row["table"] for driver, row in listed.items()},
            {"plugin:word": "accounts", "plugin:notebook": "sink", "plugin:notes": "store"},
        )
        self.assertEqual(set(listed["plugin:notebook"]["keys"]), {"path", "prefix"})
        server = RunningServer(self, users={})
        directory = server.directory
        notes = directory / "mail" / "joe"
        notes.mkdir(parents=True)
        for number in (1, 2):
            (notes / f"note{number}.txt").write_text(f"Subject: {number}\n\nhello\n")
        (notes / "other.md").write_text("not for POP3")
        server.configuration |= {
            "accounts": [{"driver": "plugin:word", "word": "open sesame", "users": "ann joe"}],
            "store": [{"driver": "plugin:notes", "name": "texts"}],
            "mail": {"location": f"plugin:texts:{directory}/mail/$(user)"},
            "sink": [
                {"driver": "plugin:notebook", "path": "notebook", "prefix": "- ", "events": ["login", "logout"]},
                {"driver": "plugin:notebook", "name": "ours", "path": "ours", "before_ok": True, "users": ["deny joe"]},
            ],
        }
        server.start()
        client = server.poplib("joe", "open sesame")
        self.assertEqual(client.stat()[0], 2)
        self.assertEqual(client.uidl()[1], [b"1 note1", b"2 note2"])
        self.assertEqual(client.retr(2)[1], [b"Subject: 2", b"", b"hello"])
        client.dele(1)
        client.quit()
        self.assertEqual(sorted(os.listdir(notes)), ["note2.txt", "other.md"])
        written = directory / "notebook"
        wait_until(lambda: written.read_text() == "- login 'joe'\n- logout 'joe'\n", "both events")
        self.assertEqual((directory / "ours").read_text(), "")
        self.assertEqual({event["driver"] for event in server.events("login")}, {"word"})
        wire = server.connect()
        wire.line()
        wire.command(b"USER joe")
        self.assertTrue(wire.command(b"PASS wrong").startswith(b"-ERR [AUTH]"))
        self.check_mistakes(server)

    def check_mistakes(self, server: RunningServer) -> None:
        """Wrong keys have the loader's messages, with their lines; secrets are not shown."""
        config = ("-c", str(server.configuration_file))
        self.assertIn("is right", self.tpops(*config, "check"))
        self.assertNotIn("sesame", self.tpops(*config, "config"))
        good = dict(server.configuration)
        mistakes = (
            ("sink", {"colour": "red"}, "sink[1].colour is not a known key; known are driver, name"),
            ("sink", {"prefix": 7}, 'sink[1].prefix must be text in quotes ("..."), not 7'),
            ("sink", {"driver": "plugin:nothing"}, "sink[1].driver must be one of"),
            ("store", {"driver": "plugin:nothing"}, "store[1].driver must be"),
            ("store", {"ending": ".md", "size": 1}, "store[1].size is not a known key"),
            ("store", {"name": "others"}, "mail names the store texts in location; in [[store]] there are others"),
            ("accounts", {"word": 1}, "accounts[1].word must be text"),
        )
        paths = []
        for number, (table, change, _) in enumerate(mistakes):
            paths.append(server.directory / f"wrong{number}.toml")
            paths[-1].touch(0o600)
            paths[-1].write_text(running.toml({**good, table: [{**good[table][0], **change}]}))
        told = self.run_program(str(self.venv / "bin" / "python"), "-c", _LOAD, *map(str, paths)).splitlines()
        self.assertEqual(len(told), len(mistakes), told)
        for path, (_, _, said), line in zip(paths, mistakes, told, strict=True):
            self.assertIn(said, line)
            self.assertRegex(line, f"^{re.escape(str(path))}:\\d+: ")
