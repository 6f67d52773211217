"""tpops check looks at the token of the status page."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tpops.admin import status_check
from tpops.admin.rights import RunsAs
from tpops.config.schema import Config
from tpops.config.status import Status


class StatusCheckTests(SynchronousTestCase):
    """What a start or a reload would stumble over."""

    def problems(self, path: Path, who: RunsAs, warnings: list[str]) -> list[str]:
        """What is said of a file with a token."""
        status = Status(listen="127.0.0.1:9120", token_file=str(path.absolute()))
        return list(status_check.problems(Config(status=status), who, warnings))

    def test_token_files(self) -> None:
        """Promise: files that are not there, empty, open to everybody, or have no token that can be used."""
        me, path = RunsAs(os.getuid(), frozenset((os.getgid(),))), Path(self.mktemp())
        warnings: list[str] = []
        self.assertIn("cannot read", self.problems(path, me, warnings)[0])
        path.touch(0o600)
        self.assertIn("is empty", self.problems(path, me, warnings)[0])
        path.write_text("guess me\n")
        (problem,) = self.problems(path, me, warnings)
        self.assertIn("must be 20 to 200 printable ASCII characters without spaces; 'openssl rand -hex 20'", problem)
        self.assertNotIn("guess", problem)
        path.write_text("0123456789abcdef0123\n")
        self.assertEqual(self.problems(path, me, warnings), [])
        path.chmod(0o644)
        self.assertIn("is open to everybody", self.problems(path, me, warnings)[0])
        self.assertEqual(warnings, [])
        self.assertEqual(list(status_check.problems(Config(), me, warnings)), [])

    def test_rights_of_the_servers_user(self) -> None:
        """Promise: what root may read and the server's user may not is told: a reload would fail."""
        path = Path(self.mktemp())
        path.touch(0o600)
        path.write_text("0123456789abcdef0123\n")
        warnings: list[str] = []
        self.assertEqual(self.problems(path, RunsAs(65534, frozenset((65534,))), warnings), [])
        (warning,) = warnings
        self.assertIn("status.token_file: the server's user may not read", warning)
        self.assertIn("so a reload fails", warning)
