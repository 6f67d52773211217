"""What "tpops check" says of logs."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tpops.admin import log_check
from tpops.config.log import Log


class SyslogTests(SynchronousTestCase):
    """A syslog daemon that is not there."""

    def test_missing_socket(self) -> None:
        """Promise: a warning with the path; nothing about other machines, or without syslog."""
        path = Path(self.mktemp())
        (warning,) = log_check.warnings(Log(syslog=f"unix:{path.absolute()}"))
        self.assertEqual(
            warning,
            f"log.syslog: {path.absolute()}: No such file or directory; lines wait until a syslog daemon makes it",
        )
        path.touch()
        (warning,) = log_check.warnings(Log(syslog=f"unix:{path.absolute()}"))
        self.assertEqual(warning, f"log.syslog: {path.absolute()} is no socket")
        self.assertEqual(list(log_check.warnings(Log())), [])
        self.assertEqual(list(log_check.warnings(Log(syslog="udp:192.0.2.1:514"))), [])
