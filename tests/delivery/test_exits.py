"""What an MTA is told."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import caught_stderr
from tpops.delivery import exits, pipe, store
from tpops.delivery.exits import Outcome
from tpops.errors import ConfigError


class ExitTests(SynchronousTestCase):
    """Statuses and command lines."""

    def test_the_worst_counts(self) -> None:
        """Promise: whoever must be tried again decides, then who is full, then who is unknown."""
        order = (75, 73, 67, 0)
        for several in itertools.product(order, repeat=3):
            expected = next(one for one in order if one in several)
            self.assertEqual(exits.worst([Outcome(one) for one in several]), expected)
        self.assertEqual(exits.worst([]), 0)

    def test_the_worst_is_said_first(self) -> None:
        """RFC 3463: the first line's status code is the one that goes with the exit status."""
        with caught_stderr() as said:
            exits.say([Outcome(0), Outcome(67, "5.1.1 a"), Outcome(75, "4.3.0 b"), Outcome(73, "5.2.2 c")])
        self.assertEqual(said(), "4.3.0 b\n5.2.2 c\n5.1.1 a\n")

    def test_whatever_happens_is_tried_again(self) -> None:
        """Promise: no error of ours, and no signal, is a reason to give a message up."""
        for error in (
            ConfigError(["one", "two"]),
            OSError(28, "No space left on device"),
            MemoryError(),
            ImportError("no module"),
            KeyboardInterrupt(),
            SystemExit("interrupted"),
            RecursionError("x\ny"),
        ):

            def fail(arguments: object, error: BaseException = error) -> int:
                raise error

            with caught_stderr() as said:
                self.assertEqual(exits.guarded("tpops-pipe", "usage", fail, []), 75)
            self.assertTrue(said().startswith("4.3.0 tpops-pipe: "), said())
            self.assertEqual(said().count("\n"), 1)

    def test_wrong_usage(self) -> None:
        """Promise: 64, and what would be right."""
        for command, arguments in (
            (pipe.command, []),
            (pipe.command, ["--"]),
            (pipe.command, ["-x", "joe"]),
            (pipe.command, ["-f"]),
            (pipe.command, ["joe", ""]),
            (store.command, []),
            (store.command, ["--config"]),
            (store.command, ["", "file"]),
        ):
            with caught_stderr() as said:
                self.assertEqual(command(arguments), 64)
            self.assertIn("usage: tpops-", said())

    def test_options(self) -> None:
        """Promise: options come first, "--" ends them, and an address may look like one behind it."""
        for arguments, expected in (
            (["joe"], (None, None, ["joe"])),
            (["-f", "<a@b>", "joe", "-c"], (None, "a@b", ["joe", "-c"])),
            (["--config=x", "--sender=", "--", "-joe"], ("x", "", ["-joe"])),
            (["-f", "<>", "-c", "x", "joe", "ann"], ("x", "", ["joe", "ann"])),
            (["joe", "-"], (None, None, ["joe", "-"])),
        ):
            self.assertEqual(pipe.options(arguments), expected)

    def test_closed_outputs(self) -> None:
        """Promise: the status is right even where nobody reads what is said."""
        script = "import os, sys; from tpops.delivery import pipe; print('x'); os.close(1); os.close(2); pipe.main()"
        done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60, stdout=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 64)

    def test_broken_installation(self) -> None:
        """Promise: where tpops cannot even be loaded, the message is tried again."""
        directory = self.mktemp()
        os.makedirs(os.path.join(directory, "pydantic"))
        with open(os.path.join(directory, "pydantic", "__init__.py"), "w") as file:
            file.write("raise ImportError('half an upgrade')\n")
        script = "import sys; from tpops.delivery import pipe; sys.argv[1:] = ['joe']; pipe.main()"
        environment = {**os.environ, "PYTHONPATH": os.path.abspath(directory)}
        done = subprocess.run(
            [sys.executable, "-c", script], check=False, timeout=60, capture_output=True, env=environment
        )
        self.assertEqual((done.returncode, done.stderr), (75, b"4.3.0 tpops-pipe: ImportError: half an upgrade\n"))

    def test_shell_around_it(self) -> None:
        """Promise: contrib/postfix-pipe lets 0, 67 and 73 through; a program that is not there is tried again."""
        script = Path(__file__).resolve().parents[2] / "contrib" / "postfix-pipe"
        program = Path(self.mktemp()).absolute()
        program.write_text('#!/bin/sh\n[ "$2" = "a b" ] || exit 99\nexit "$1"\n')
        program.chmod(0o755)
        for given, expected in ((0, 0), (67, 67), (73, 73), (75, 75), (64, 75), (1, 75), (126, 75), (255, 75)):
            done = subprocess.run(
                [script, str(given), "a b"], check=False, timeout=60, env={**os.environ, "TPOPS_PIPE": str(program)}
            )
            self.assertEqual(done.returncode, expected)
        done = subprocess.run(
            [script, "joe"], check=False, timeout=60, capture_output=True, env={**os.environ, "TPOPS_PIPE": "/nowhere"}
        )
        self.assertEqual(done.returncode, 75)
