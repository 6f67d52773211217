"""The log line for fail2ban, against the real fail2ban-regex."""

from __future__ import annotations

import base64
import json
import re
import subprocess

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import CHECKOUT, PASSWORD, USER, RunningServer, wait_until
from tests.integration.wire import Wire
from tests.support import need
from tests.tokens import SigningKey, key_set

FILTER = CHECKOUT / "contrib" / "fail2ban" / "tpops.conf"


class FilterTests(SynchronousTestCase):
    """contrib/fail2ban/tpops.conf on what a server has really logged."""

    skip = need(None, "fail2ban-regex")

    def test_finds_failed_logins_and_nothing_else(self) -> None:
        """Promise: wrong passwords, names and tokens count, with the address; good logins and forged names do not."""
        server = RunningServer(
            self,
            protocol={"auth_delay_seconds": 0.01, "auth_delay_max_seconds": 0.02, "auth_tries": 9},
            oauth={"jwks_file": "keys", "issuer": "x", "audience": ["x"]},
        )
        (server.directory / "keys").write_text(json.dumps(key_set(SigningKey("one", "ES256"))))
        server.start()
        wire = Wire.connect(self, ("127.0.0.1", server.port))
        wire.line()
        forged = b"x, 203.0.113.9, user y: BadCredentials"
        for user, password in ((USER.encode(), b"wrong"), (forged, b"x")):
            wire.command(b"USER " + user)
            self.assertTrue(wire.command(b"PASS " + password).startswith(b"-ERR [AUTH]"))
        wire.command(b"AUTH PLAIN " + base64.b64encode(b"somebody else\0joe\0wrong"))
        nameless = base64.b64encode(b"n,,\x01auth=Bearer x\x01\x01")
        self.assertTrue(wire.command(b"AUTH OAUTHBEARER " + nameless).startswith(b"+ "))
        self.assertEqual(wire.command(b"AQ=="), b"-ERR [AUTH] authentication failed")
        wire.command(b"QUIT")
        wire = Wire.connect(self, ("127.0.0.1", server.port))
        self.assertTrue(wire.log_in(USER, PASSWORD).startswith(b"+OK"))
        wire.command(b"QUIT")
        server.event("disconnect", user=USER)
        wait_until(lambda: server.output().count("login-failed:") == 4)
        log = server.directory / "log"
        log.write_text(server.output())
        done = subprocess.run(
            ["fail2ban-regex", "-v", str(log), str(FILTER)], capture_output=True, text=True, timeout=60
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertTrue(re.search(r"Failregex: 4 total", done.stdout), done.stdout)
        self.assertEqual(re.findall(r"^\|\s+(\S+)\s+\w{3} \w{3} \d", done.stdout, re.MULTILINE), ["127.0.0.1"] * 4)

    def test_penalties_grow_over_connections(self) -> None:
        """Promise: a client that guesses waits longer on its next connection; a right password is never delayed."""
        server = RunningServer(
            self, protocol={"auth_delay_seconds": 0.01, "auth_delay_max_seconds": 30, "auth_tries": 1}
        )
        server.start()
        for number in range(8):
            wire = Wire.connect(self, ("127.0.0.1", server.port))
            wire.line()
            wire.command(b"USER joe")
            self.assertTrue(wire.command(b"PASS guess%d" % number).startswith(b"-ERR [AUTH]"))
            wire.close()
        wait_until(lambda: len(server.events("disconnect")) == 8, "every connection has its closing record")
        seconds = [event["seconds"] for event in server.events("disconnect")]
        self.assertGreater(seconds[7], 1.0)
        self.assertGreater(seconds[7], 4 * seconds[0])
        wire = Wire.connect(self, ("127.0.0.1", server.port))
        self.assertTrue(wire.log_in(USER, PASSWORD).startswith(b"+OK"))
