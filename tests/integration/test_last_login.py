"""When somebody logged in last: a running server, and tpops user show beside it."""

from __future__ import annotations

import json

from click.testing import CliRunner

from tests.integration.server import RunningServer, wait_until
from tests.integration.sink_case import SinkCase
from tpops.admin import cli


class LastLoginTests(SinkCase):
    """[last_login]."""

    def show(self, server: RunningServer, *arguments: str, status: int = 0) -> str:
        """What tpops user show says."""
        done = CliRunner().invoke(cli.tpops, ["-c", str(server.configuration_file), "user", *arguments])
        self.assertEqual(done.exit_code, status, done.output)
        return done.stderr if status else done.stdout

    def test_last_logins(self) -> None:
        """Promise: user, address, time and number; shown while the server runs; a stop loses nothing."""
        running = self.server(last_login={"keep": True, "write_seconds": 0.1})
        for _ in range(2):
            self.poll(running, "joe")

        def told() -> list[dict[str, object]]:
            rows: list[dict[str, object]] = json.loads(self.show(running, "show", "JOE", "--json"))["logins"]
            return rows

        wait_until(lambda: told() and told()[0]["count"] == 2, "both logins")
        self.assertEqual((told()[0]["address"], told()[0]["mechanism"]), ("127.0.0.1", "PASS"))
        self.assertRegex(self.show(running, "show", "joe"), r"(?s)name +joe.*20\d\d-.* 127.0.0.1 .* 2 .* PASS")
        self.assertIn("never, as far as is known", self.show(running, "show", "ann"))
        self.assertIn("there is no account bob", self.show(running, "show", "bob", status=1))
        running.configuration["last_login"]["write_seconds"] = 3600
        running.restart()
        self.poll(running, "ann")
        running.stop()
        self.assertEqual(json.loads(self.show(running, "show", "ann", "--json"))["logins"][0]["count"], 1)
        running.configuration["last_login"] = {"keep": True, "path": "/nowhere/last.sqlite", "write_seconds": 0.1}
        running.start()
        self.poll(running, "joe")
        wait_until(lambda: "the last logins are not kept: /nowhere/last.sqlite" in running.output(), "a complaint")
