"""tpops check looks at sinks and at the file with the last logins."""

from __future__ import annotations

import os
from pathlib import Path

from tests.admin.test_cli import CommandCase
from tpops.admin import sink_check
from tpops.admin.rights import RunsAs
from tpops.config.load import load


class SinkCheckTests(CommandCase):
    """What a start or a login would stumble over."""

    def problems(self, text: str) -> list[str]:
        """What tpops check complains of."""
        self.configure(f'[server]\nstate_dir = "."\n[[accounts]]\ndriver = "passwd_file"\npath = "users"\n{text}')
        Path(self.directory, "users").touch()
        Path(self.config).chmod(0o640)
        result = self.run_command("-c", self.config, "check")
        self.assertNotIn("Traceback", result.output)
        return [line.removeprefix("problem: ") for line in result.stderr.splitlines()]

    def test_sinks(self) -> None:
        """Promise: programs that are not there or cannot be executed, secrets and certificates that cannot be read."""
        tool = Path(self.mktemp()).absolute()
        tool.write_text("#!/bin/sh\n")
        for text, said in (
            (
                'driver = "program"\ncommand = ["/nowhere/program"]',
                "sink program: there is no program /nowhere",
            ),
            (f'driver = "program"\ncommand = ["{tool}"]', f"sink program: the server's user may not execute {tool}"),
            ('driver = "udp"\ndestination = "a:1"\nsecret_file = "none"', "sink udp: secret_file: cannot read"),
            ('driver = "webhook"\naddress = "https://a/"\nca_file = "none"', "cannot read"),
            ('driver = "sql"\nstatement = "DO 1"\npassword_file = "none"', "sink sql: password_file: cannot read"),
        ):
            (problem,) = self.problems(f"[[sink]]\n{text}\n")
            self.assertIn(said, problem)
        tool.chmod(0o755)
        good = f'[[sink]]\ndriver = "program"\ncommand = ["{tool}"]\n[[sink]]\ndriver = "drac"\n'
        self.assertEqual(self.problems(good + "[last_login]\nkeep = true\n"), [])

    def test_last_logins(self) -> None:
        """Promise: the directory of the file has to be there."""
        (problem,) = self.problems('[last_login]\nkeep = true\npath = "/nowhere/last.sqlite"\n')
        self.assertEqual(problem, "last_login.path: there is no directory /nowhere")

    def test_rights_of_the_servers_user(self) -> None:
        """Promise: what root may read and the server's user may not is told: a reload would fail."""
        os.makedirs(self.directory, exist_ok=True)
        secret, tool = Path(self.directory, "secret"), Path(self.directory, "tool")
        secret.write_text("word\n")
        tool.write_text("#!/bin/sh\n")
        secret.chmod(0o600)
        tool.chmod(0o744)
        self.configure(
            f'[server]\nstate_dir = "{self.directory}"\n[[sink]]\ndriver = "udp"\ndestination = "a:1"\n'
            f'secret_file = "secret"\n[[sink]]\ndriver = "program"\ncommand = ["{tool}"]\n[last_login]\nkeep = true\n'
        )
        config = load(self.config).config
        stranger = RunsAs(54321, frozenset((54321,)))
        (warning,) = sink_check.warnings(config, stranger)
        self.assertIn(f"sink udp: secret_file: the server's user may not read {secret}", warning)
        self.assertIn("so a reload fails", warning)
        program, last = sink_check.problems(config, stranger)
        self.assertEqual(program, f"sink program: the server's user may not execute {tool}")
        self.assertEqual(last, f"last_login.path: the server's user may not write in {self.directory}")
        owner = RunsAs(os.geteuid(), frozenset((os.getegid(),)))
        Path(self.directory, "last-logins.sqlite").touch(0o600)
        self.assertEqual((list(sink_check.problems(config, owner)), list(sink_check.warnings(config, owner))), ([], []))
