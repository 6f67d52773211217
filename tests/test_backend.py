"""Accounts and mail without a server around them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import toml

_SCRIPT = """
import sys
from tpops import backend
from tpops.config.load import load

async def work(behind):
    account = await behind.account(sys.argv[2])
    maildrop = await behind.maildrops.open_maildrop(account)
    try:
        return f"{account.name} has {maildrop.messages.count} messages"
    finally:
        await maildrop.close()

print(backend.run(load(sys.argv[1]).config, work))
"""


class RunTests(SynchronousTestCase):
    """Commands work with the accounts and the mail of a configuration, in a reactor of their own."""

    def setUp(self) -> None:
        """An account with one message."""
        self.directory = Path(self.mktemp()).absolute()
        for part in ("tmp", "new", "cur"):
            (self.directory / "joe" / part).mkdir(parents=True)
        (self.directory / "joe/new/1.host").write_bytes(b"Subject: one\n\n")
        (self.directory / "users").write_text("joe:{PLAIN}secret::::/nowhere:\n")
        self.configuration = self.directory / "tpops.toml"
        self.configuration.touch(0o600)
        self.write("maildir:" + str(self.directory / "$(user)"))

    def write(self, location: str) -> None:
        """Write the configuration."""
        accounts = [{"driver": "passwd_file", "path": "users"}]
        tables = {"server": {"state_dir": str(self.directory)}, "accounts": accounts, "mail": {"location": location}}
        self.configuration.write_text(toml(tables))

    def run_it(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run the script above."""
        command = [sys.executable, "-c", _SCRIPT, str(self.configuration), name]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def test_result_comes_back(self) -> None:
        """Promise: the name is made canonical, and what the work gives is what run gives."""
        done = self.run_it("JOE")
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("joe has 1 messages\n", "", 0))

    def test_error_comes_back(self) -> None:
        """Promise: what the work raises is raised, and the process ends."""
        for name, location, error in (
            ("ann", "maildir:/nowhere", "tpops.errors.UnknownUser"),
            ("joe", f"mbox:{self.configuration}", "tpops.errors.MaildropBroken"),
        ):
            self.write(location)
            done = self.run_it(name)
            self.assertEqual(done.returncode, 1)
            self.assertIn(error, done.stderr)
