"""The keys of the drivers where somebody else judges the password."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tpops.config.load import Loaded, load
from tpops.errors import ConfigError

_PAGE = Path(__file__).parents[2] / "docs" / "accounts" / "programs.md"


class ProgramsTests(SynchronousTestCase):
    """[[accounts]] with pam, external, checkpassword and strcred."""

    def load(self, text: str) -> Loaded:
        """A configuration."""
        path = Path(self.mktemp())
        path.write_text(text, "utf-8")
        path.chmod(0o600)
        return load(str(path))

    def test_what_the_documentation_shows(self) -> None:
        """Promise: every configuration on the page is accepted as it stands."""
        blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", _PAGE.read_text("utf-8"), re.MULTILINE)
        shown = [re.sub("^    ", "", block, flags=re.MULTILINE) for block in blocks if "[[accounts]]" in block]
        drivers = [self.load(text).config.accounts[0].driver for text in shown]
        self.assertEqual(drivers, ["pam", "pam", "external", "checkpassword", "strcred"])

    def test_mistakes(self) -> None:
        """Promise: each is told with its key and what would be right."""
        for text, reason in (
            ('driver = "external"', "accounts[1].command is missing"),
            ('driver = "external"\ncommand = []', "must be a list that begins with the absolute path"),
            (
                'driver = "checkpassword"\ncommand = ["checkpassword"]',
                "must be a list that begins with the absolute path",
            ),
            ('driver = "checkpassword"\ncommand = ["/bin/a", "b\\u0000"]', "must not contain a NUL"),
            ('driver = "checkpassword"\ncommand = ["/bin/a"]\nprocesses = 0', "accounts[1].processes"),
            ('driver = "pam"\nservice = "../shadow"', "must be the name of a file in /etc/pam.d"),
            ('driver = "pam"\ntimeout_seconds = 0', "accounts[1].timeout_seconds"),
            ('driver = "pam"\ncommand = ["/bin/true"]', "accounts[1].command"),
            ('driver = "strcred"\nchecker = ""', "accounts[1].checker must not be empty"),
        ):
            error = self.assertRaises(ConfigError, self.load, f"[[accounts]]\n{text}\n")
            self.assertIn(reason, "\n".join(error.problems), text)

    def test_descriptions_of_checkers_are_secret(self) -> None:
        """Promise: "memory:" has passwords, so no message shows a description."""
        error = self.assertRaises(
            ConfigError, self.load, '[[accounts]]\ndriver = "strcred"\nchecker = ["memory:joe:word"]\n'
        )
        self.assertNotIn("word", "\n".join(error.problems))
