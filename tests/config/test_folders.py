"""The keys of [folders], and what goes with them."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tpops import assembly
from tpops.config.load import load
from tpops.config.schema import Config
from tpops.errors import ConfigError


class FolderKeysTests(SynchronousTestCase):
    """What an operator may write."""

    def load(self, text: str) -> Config:
        """The configuration of this text."""
        path = Path(self.mktemp())
        path.write_text(text)
        return load(str(path)).config

    def problem(self, text: str) -> str:
        """What is wrong with it."""
        return str(self.assertRaises(ConfigError, self.load, text))

    def test_off_by_default(self) -> None:
        """Promise: without the table a plus sign in a name means what it meant."""
        config = self.load("")
        self.assertFalse(config.folders.used)
        self.assertEqual(assembly.login_names(config).parted(b"joe+lists"), ("joe+lists", ""))

    def test_both_ways(self) -> None:
        """popserv: an expression; a separator is the simple way to say the usual one, and both mean the same."""
        for text in (
            '[folders]\nseparator = "+"',
            "[folders]\nexpression = '[+]([^%@/]*)'",
            "[folders]\nexpression = '+([^%@/]*)'",
        ):
            names = assembly.login_names(self.load(text))
            self.assertEqual(names.parted(b"joe+lists@example.org"), ("joe@example.org", "lists"), text)

    def test_what_is_wrong_is_told(self) -> None:
        """Promise: with the name of the key."""
        for text, problem in (
            ("[folders]\nexpression = '[+]'", "folders.expression must have one pair of parentheses"),
            ("[folders]\nexpression = '([+])(.*)'", "folders.expression must have one pair of parentheses"),
            (
                "[folders]\nexpression = '[+](.*'",
                'folders.expression is no extended regular expression: .* has a "\\("',
            ),
            ('[folders]\nseparator = "a"', "folders.separator must be one punctuation sign"),
            ('[folders]\nseparator = "+"\nexpression = "(x)"', "folders has separator and expression"),
            ('[folders]\nseparator = "*"\n[masters]\nnames = ["a"]\nseparator = "*"', "which is masters.separator"),
            ('[mail]\nlocation = "mbox:~/m/$(folder) mbox:~/x"', "means nothing without folders.separator"),
            ('[folders]\nseparator = "+"\n[mail]\nlocation = "mbox:~/$(folder)"', "no location without"),
            ('[mail]\nlocation = "mbox:~/m/$(fodler)"', r"did you mean \$\(folder\)"),
            ('[maildir]\nignored_folders = ["x"]', "means nothing without recursive"),
            ('[maildir]\nrecursive = true\nignored_folders = ["^("]', "ignored_folders is no extended regular"),
            ('[maildir]\nrecursive = true\nignored_folders = [""]', "ignored_folders has an empty name"),
            ('[maildir]\nuidl_map = true\nunique_ids = "tpop3d"', "only one of them"),
        ):
            self.assertRegex(self.problem(text), problem)

    def test_recursive(self) -> None:
        """tpop3d: C{maildir-recursion} with its default of ignored folders, or none."""
        self.assertEqual(self.load("[maildir]\nrecursive = true").maildir.ignored_folders, ("Trash", "Sent"))
        config = self.load('[maildir]\nrecursive = true\nignored_folders = []\nunique_ids = "tpop3d"')
        self.assertEqual(config.maildir.ignored_folders, ())
