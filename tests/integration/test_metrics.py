"""The endpoint for Prometheus, and what is made from it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.server import CHECKOUT, PASSWORD, PATIENCE_SECONDS, USER, RunningServer, program, wait_until
from tests.support import need

DASHBOARD = CHECKOUT / "contrib" / "grafana-dashboard.json"
ALERTS = CHECKOUT / "contrib" / "prometheus-alerts.yml"


class MetricsTests(SynchronousTestCase):
    """What a scrape gives."""

    timeout = 240

    def server(self, workers: int, **tables: Any) -> RunningServer:
        """One that runs, with a message."""
        tables |= {"metrics": {"listen": "127.0.0.1:0"}, "protocol": {"auth_delay_seconds": 0.05}}
        users = {USER: PASSWORD, "ann": PASSWORD}
        server = RunningServer(self, users=users, server={"workers": workers}, **tables)
        server.deliver("1.host", corpus.ALL["lf"])
        return server.start()

    def get(self, server: RunningServer, path: str = "/metrics") -> tuple[str, str]:
        """Content type and text of a page."""
        place = server.ready()[-1]
        with urllib.request.urlopen(f"http://{place}{path}", timeout=PATIENCE_SECONDS) as response:
            return response.headers["Content-Type"], response.read().decode()

    def samples(self, server: RunningServer) -> dict[tuple[str, str], float]:
        """Values by name and label."""
        return {
            (sample.name, "".join(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(self.get(server)[1])
            for sample in family.samples
        }

    def work(self, server: RunningServer) -> None:
        """A failed login, one that reads and deletes a message, and one that stays."""
        failing = server.connect()
        failing.line()
        failing.command(b"USER joe")
        failing.command(b"PASS wrong")
        failing.command(b"QUIT")
        wire = server.session()
        wire.send(b"RETR 1\r\n")
        while wire.line() != b".":
            pass
        wire.command(b"DELE 1")
        wire.command(b"QUIT")
        self.held = server.session("ann")

    def check(self, server: RunningServer, workers: int) -> None:
        """The figures are those of this work, whichever worker did it and whichever is asked."""
        self.work(server)
        found = wait_until(
            lambda: (values := self.samples(server)).get(("tpops_sessions_ended_total", "quit")) == 2 and values
        )
        octets = len(corpus.wire(corpus.ALL["lf"]))
        for key, value in {
            ("tpops_logins_total", "PASS"): 2,
            ("tpops_login_failures_total", "wrong_password"): 1,
            ("tpops_sessions", "transaction"): 1,
            ("tpops_messages_total", "retr"): 1,
            ("tpops_messages_total", "dele"): 1,
            ("tpops_octets_sent_total", "retr"): octets,
            ("tpops_login_seconds_count", ""): 2,
            ("tpops_login_seconds_bucket", "+Inf"): 2,
            ("tpops_session_seconds_count", ""): 2,
            ("tpops_update_seconds_count", ""): 1,
            ("tpops_update_seconds_bucket", "+Inf"): 1,
            ("tpops_workers", ""): workers,
            ("tpops_workers_silent", ""): 0,
            ("tpops_worker_restarts_total", ""): 0,
        }.items():
            self.assertEqual(found.get(key), value, key)
        listings = sum(value for (name, _), value in found.items() if name == "tpops_listings_total")
        self.assertEqual(listings, 2)

    def test_one_process(self) -> None:
        """Promise: logins, failures, sessions, octets, latencies, listings, as Prometheus reads them."""
        server = self.server(1)
        kind, text = self.get(server)
        self.assertTrue(kind.startswith("text/plain; version="))
        self.assertIn("# TYPE tpops_login_seconds histogram", text)
        self.check(server, 1)
        for path in ("/", "/other"):
            self.assertRaises(urllib.error.HTTPError, self.get, server, path).close()
        self.assertNotIn("joe", self.get(server)[1])
        self.assertNotIn("Traceback", server.output())

    def test_workers(self) -> None:
        """Promise: one endpoint gives the sum of all workers."""
        self.check(self.server(2), 2)

    def notices(self, server: RunningServer) -> dict[str, float]:
        """What became of notices, by sink and outcome."""
        families = text_string_to_metric_families(self.get(server)[1])
        return {
            f"{sample.labels['sink']} {sample.labels['outcome']}": sample.value
            for family in families
            for sample in family.samples
            if sample.name == "tpops_sink_notices_total" and sample.value
        }

    def test_sinks(self) -> None:
        """Promise: how often each receiver was told, and how many wait, by its name, also over a reload."""
        server = self.server(1, sink=self.sinks())
        server.session().command(b"QUIT")
        wait_until(lambda: self.notices(server) == {"good sent": 1, "bad failed": 1})
        found = self.samples(server)
        self.assertEqual((found["tpops_sink_waiting", "good"], found["tpops_lost_total", "bad"]), (0, 1))
        command = [program("tpops"), "-c", str(server.configuration_file), "stats"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS).stdout
        for line in (r"Sink good: sent\W+1\b", r"Sink bad: failed\W+1\b", r"Mean QUIT\W+0\.\d\d\ds"):
            self.assertRegex(shown, line)
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded" in server.output())
        server.session().command(b"QUIT")
        wait_until(lambda: self.notices(server) == {"good sent": 2, "bad failed": 2})

    def test_sinks_of_workers(self) -> None:
        """Promise: the sum of all workers."""
        server = self.server(2, sink=self.sinks())
        for _ in range(5):
            server.session().command(b"QUIT")
        wait_until(lambda: self.notices(server) == {"good sent": 5, "bad failed": 5})

    def sinks(self) -> list[dict[str, Any]]:
        """A receiver that takes everything, and one that is not there."""
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(receiver.close)
        receiver.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{receiver.getsockname()[1]}"
        return [
            {"driver": "udp", "name": "good", "destination": place},
            {"driver": "program", "name": "bad", "command": ["/bin/false"]},
        ]

    def test_bounds(self) -> None:
        """Promise: so many connections, and a request a connection; who asks for too much is refused."""
        server = self.server(1)
        host, _, port = server.ready()[-1].rpartition(":")
        for head, said in (
            (b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 9000 + b"\r\n\r\n", b" 400 "),
            (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b" 200 "),
        ):
            with socket.create_connection((host, int(port)), PATIENCE_SECONDS) as connected:
                connected.sendall(head)
                octets = connected.makefile("rb").read()
                self.assertIn(said, octets.partition(b"\r\n")[0])


class ContribTests(SynchronousTestCase):
    """The example dashboard and alert rules."""

    timeout = 120

    def test_every_metric_exists(self) -> None:
        """Promise: what the dashboard and the rules name is what the endpoint gives."""
        from tpops.events.counters import Counters
        from tpops.sight.metrics import exposition

        totals = {
            **Counters().figures(0.0),
            "sessions": {"login": 0},
            "queues": {"threads": 0},
            "dropped": {"x": 0},
            "listings": {"scan": 0},
            "sinks": {"x": {"sent": 0, "failed": 0, "dropped": 0, "waiting": 0}},
            "processes": 1,
            "worker_restarts": 0,
        }
        for one in ("logins", "failures", "refusals", "limits", "ends"):
            totals[one] = {"x": 0}
        text = exposition({"totals": totals, "processes": []}).decode()
        there = set(re.findall(r"^(tpops_\w+)", text, re.MULTILINE))
        board = json.loads(DASHBOARD.read_text())
        used = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"]) + ALERTS.read_text()
        named = set(re.findall(r"\btpops_\w+", used))
        self.assertEqual(named - there, set())
        self.assertGreater(len(named), 12)

    def test_alert_rules(self) -> None:
        """Promise: Prometheus' own check accepts them."""
        need(self, "promtool")
        done = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
