"""The table [log]."""

from __future__ import annotations

from tests.config.test_load import LoadCase
from tpops.config.log import FACILITIES


class SyslogTests(LoadCase):
    """Where syslog goes, and as what."""

    def test_off_by_default(self) -> None:
        """Promise: nothing goes anywhere that nobody asked for."""
        self.assertEqual(self.load("").config.log.syslog, "")

    def test_places(self) -> None:
        """Promise: the local daemon, another socket, UDP and TCP; paths become absolute."""
        for text, address in (
            ("local", ("unix", "/dev/log", 0)),
            ("unix:run/log", ("unix", f"{self.directory}/run/log", 0)),
            ("udp:192.0.2.5:514", ("udp", "192.0.2.5", 514)),
            ("tcp:[2001:db8::5]:601", ("tcp", "2001:db8::5", 601)),
        ):
            config = self.load(f'[log]\nsyslog = "{text}"\n').config.log
            self.assertEqual(config.syslog_address(), address)

    def test_wrong_places(self) -> None:
        """Promise: the message says what would be right."""
        for text in ("/dev/log", "udp:log.example.org:514", "udp:192.0.2.5", "tcp:192.0.2.5:0", "tcp:1.2.3.4:70000"):
            (problem,) = self.problems(f'[log]\nsyslog = "{text}"\n')
            self.assertIn('must be "local" (/dev/log)', problem)

    def test_facility_by_name_or_number(self) -> None:
        """Promise: as TPOPS took it."""
        for text in ('"mail"', '"MAIL"', '"LOG_MAIL"', "2", '"2"'):
            self.assertEqual(self.load(f"[log]\nsyslog_facility = {text}\n").config.log.syslog_facility, "mail")
        self.assertEqual(self.load("[log]\nsyslog_facility = 16\n").config.log.syslog_facility, "local0")
        self.assertEqual((FACILITIES[2], FACILITIES[16], FACILITIES[23]), ("mail", "local0", "local7"))

    def test_wrong_facility(self) -> None:
        """Promise: the message names those that there are; the kernel's is nobody else's."""
        for text in ('"post"', "24", "0", "-1", "true", '"kern"', "2.5"):
            (problem,) = self.problems(f"[log]\nsyslog_facility = {text}\n")
            self.assertIn("must be a number from 1 to 23, or one of user, mail, daemon, auth", problem)

    def test_tag(self) -> None:
        """Promise: a tag that would break the line's form is refused."""
        self.assertEqual(self.load('[log]\nsyslog_tag = "pop-1"\n').config.log.syslog_tag, "pop-1")
        for text in ("", "a b", "a:b", "a[1]", "x" * 33):
            (problem,) = self.problems(f'[log]\nsyslog_tag = "{text}"\n')
            self.assertIn("must be 1 to 32 printable ASCII characters", problem)
