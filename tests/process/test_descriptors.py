"""How many files may be open."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

PROGRAM = """
import resource, sys
from twisted.logger import globalLogBeginner, eventAsText
globalLogBeginner.beginLoggingTo([lambda event: print(event["log_format"].format(**event))], redirectStandardIO=False)
soft, hard, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from tpops.process.descriptors import make_room
make_room(connections)
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


class RoomTests(SynchronousTestCase):
    """The soft limit follows limits.connections."""

    def said(self, soft: int, hard: int, connections: int) -> str:
        """What a process says that has begun with these limits."""
        command = [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(connections)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def test_raised_as_far_as_needed(self) -> None:
        """Promise: three for each connection, and some; what is enough stays as it is."""
        self.assertEqual(self.said(256, 4096, 1000), "(3512, 4096)")
        self.assertEqual(self.said(4000, 4096, 1000), "(4000, 4096)")

    def test_hard_limit_is_too_low(self) -> None:
        """Promise: as far as it goes, with a warning that says what is missing."""
        warning, limits = self.said(256, 2048, 2000).splitlines()
        self.assertEqual(limits, "(2048, 2048)")
        self.assertIn("at most 2048 files may be open, and limits.connections = 2000 may need 6512", warning)
        self.assertIn("lower it to 512", warning)

    def test_any_number_of_connections(self) -> None:
        """Promise: all that is possible, and nothing to warn of."""
        self.assertEqual(self.said(256, 2048, 0), "(2048, 2048)")
