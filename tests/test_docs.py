"""The documentation agrees with the code."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tpops.config.load import load
from tpops.protocol.commands import COMMANDS, Command

ROOT = Path(__file__).parent.parent


def row(command: Command) -> str:
    """A verb's line in docs/protocol.md."""
    states = " and ".join(command.states)
    return f"| `{command.verb.decode()}` | {command.syntax} | {states} | {command.source} |"


class DocumentationTests(SynchronousTestCase):
    """What is written is true."""

    def test_table_of_verbs_is_that_of_the_code(self) -> None:
        """docs/protocol.md lists every verb of COMMANDS, and no other."""
        text = (ROOT / "docs" / "protocol.md").read_text("utf-8")
        rows = [line for line in text.splitlines() if line.startswith("| `") and "RFC" in line.split("|")[-2]]
        self.assertEqual(rows, [row(command) for command in COMMANDS.values()])

    def test_modules_and_tests_that_are_named_exist(self) -> None:
        """Every path in the table of RFCs is there."""
        text = (ROOT / "docs" / "protocol.md").read_text("utf-8")
        table = text.partition("## RFC by RFC")[2].partition("## Response codes")[0]
        paths = re.findall(r"`([a-z_0-9/]+(?:\.py|/))`", table)
        self.assertGreater(len(paths), 20)
        for path in paths:
            places = [ROOT / path, ROOT / "tpops" / path, ROOT / "tests" / "protocol" / path]
            self.assertTrue(any(place.exists() for place in places), path)

    def test_links_between_pages_lead_somewhere(self) -> None:
        """No page of the README or docs links to a file that is not there."""
        for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
            for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
                if "://" not in target:
                    self.assertTrue((page.parent / target).exists(), f"{page.name}: {target}")

    def test_configuration_of_the_readme_is_right(self) -> None:
        """What a newcomer copies is accepted as it stands, without a warning."""
        text = (ROOT / "README.md").read_text("utf-8")
        (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
        path = Path(self.mktemp())
        path.write_text(example, "utf-8")
        loaded = load(str(path))
        self.assertEqual(loaded.warnings, ())
        self.assertEqual([one.port for one in loaded.config.listen], [110, 995])
