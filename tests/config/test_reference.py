"""The generated pages."""

from __future__ import annotations

import contextlib
import io
import pathlib

from twisted.trial.unittest import SynchronousTestCase

import tpops
from tpops.config.load import load
from tpops.config.model_walk import tables
from tpops.config.reference import main, render_reference, render_sample
from tpops.config.schema import Config

ROOT = pathlib.Path(tpops.__file__).resolve().parents[1]


class ReferenceTests(SynchronousTestCase):
    """docs/reference/config.md and contrib/tpops.toml."""

    def test_the_files_of_the_tree_are_up_to_date(self) -> None:
        """Nobody forgets to generate them."""
        self.assertEqual((ROOT / "docs/reference/config.md").read_text("utf-8"), render_reference())
        self.assertEqual((ROOT / "contrib/tpops.toml").read_text("utf-8"), render_sample())

    def test_every_key_is_in_both_with_description_and_version(self) -> None:
        """Nothing is configurable in secret."""
        for name, table in tables(Config).items():
            for key, field in table.keys.items() if name else ():
                self.assertTrue(field.description, key)
                self.assertIn(f"| `{key}` | ", render_reference())
                self.assertIn(f"\n# {key} = ", render_sample())

    def test_the_sample_is_valid_as_it_is(self) -> None:
        """All commented out: the defaults."""
        path = pathlib.Path(self.mktemp())
        path.write_text(render_sample(), "utf-8")
        self.assertEqual(load(str(path)).config, Config())

    def test_the_sample_is_valid_with_every_key_in_force(self) -> None:
        """What is commented out is right as well: removing the signs gives a valid file."""
        lines = []
        for line in render_sample().splitlines():
            key = line.removeprefix("# ").split(" = ")[0]
            known = any(key in table.keys for table in tables(Config).values())
            lines.append(line.removeprefix("# ") if (known and " = " in line) or line.startswith("# [[") else line)
        text = "\n".join(lines).replace('address = "127.0.0.1"', 'address = "unix:/x"').replace("\nport = 110", "")
        path = pathlib.Path(self.mktemp())
        path.touch(0o600)  # there are secrets in it
        path.write_text(text, "utf-8")
        loaded = load(str(path))
        self.assertEqual({key for key, origin in loaded.origins.items() if origin == "default"}, {"listen[1].port"})

    def test_writes_and_compares(self) -> None:
        """--check says by its status, and on stderr, what is out of date."""
        root = pathlib.Path(self.mktemp())
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(main(["--check"], root), 1)
        self.assertIn("contrib/tpops.toml is out of date", said.getvalue())
        self.assertEqual(main([], root), 0)
        self.assertEqual(main(["--check"], root), 0)
        self.assertTrue((root / "docs/reference/config.md").is_file())
