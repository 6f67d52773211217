"""What is seen of sessions that run in processes of their own, and the limits that hold for them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.integration import corpus
from tests.integration.apart_case import ApartCase, sessions_of
from tests.integration.server import CHECKOUT, PATIENCE_SECONDS, RunningServer, program, wait_until
from tests.integration.test_apart import deliver
from tests.integration.wire import Wire

#: More than the buffers between two sockets hold.
BIG = b"Subject: big\n\n" + b"a line of a long message that nobody takes\n" * 200_000


def ask(server: RunningServer, *words: str) -> Any:
    """What a command of the administrator says."""
    command = [program("tpops"), "-c", str(server.configuration_file), *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS)
    return json.loads(done.stdout)


def samples(server: RunningServer) -> dict[tuple[str, str], float]:
    """The metrics, by name and labels."""
    with urllib.request.urlopen(f"http://{server.ready()[-1]}/metrics", timeout=PATIENCE_SECONDS) as response:
        text = response.read().decode()
    return {
        (one.name, "".join(one.labels.values())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


class SightTests(ApartCase):
    """tpops who and stats, metrics, transcripts."""

    def one(self, server: RunningServer, **wanted: object) -> dict[str, Any]:
        """The only session, when it is as it should be."""

        def found() -> dict[str, Any] | None:
            rows: list[dict[str, Any]] = ask(server, "who")
            return next((one for one in rows if wanted.items() <= one.items()), None)

        row: dict[str, Any] = wait_until(found, f"a session with {wanted}")
        return row

    def test_while_it_lasts(self) -> None:
        """Promise: tpops who has state, work, octets and silence of the session as where the server serves itself."""
        deliver(self.account, "2.host", BIG)
        server = self.server().start()
        wire = server.connect(4096)
        wire.log_in(self.account.name, self.account.password)
        wire.multi_line(b"TOP 1 0")
        wire.multi_line(b"RETR 1")
        row = self.one(server, user=self.account.name, state="transaction", doing="", retr=1)
        self.assertGreater(row["octets"], len(corpus.ALL["lf"]))
        self.assertEqual(row["messages"], 2)
        wire.send(b"RETR 2\r\n")
        row = self.one(server, doing="RETR 2, client does not read")
        self.assertEqual(ask(server, "stats")["totals"]["sessions"], {"login": 0, "transaction": 1, "update": 0})
        silent = row["idle"]
        wait_until(lambda: self.one(server)["idle"] > silent + 1, "it grows")
        wire.body()
        wire.command(b"NOOP")
        row = self.one(server, doing="", retr=2)
        self.assertLess(row["idle"], silent + 1)
        self.assertGreater(row["octets"], len(BIG))
        wire.command(b"QUIT")
        self.assertEqual(wire.rest(), b"")
        wait_until(lambda: ask(server, "who") == [], "nobody is there")

    def test_kick_in_the_middle_of_a_message(self) -> None:
        """Promise: it ends at once, its process and its lock, too, and what was marked stays."""
        deliver(self.account, "2.host", BIG)
        server = self.server().start()
        wire = server.connect(4096)
        wire.log_in(self.account.name, self.account.password)
        wire.command(b"DELE 1")
        wire.send(b"RETR 2\r\n")
        self.one(server, doing="RETR 2, client does not read")
        (session,) = sessions_of(server)
        ask(server, "kick", "--user", self.account.name)
        sessions_of(server, 0)
        self.assertFalse(Path(f"/proc/{session}").exists())
        wire.rest()
        ended = server.event("disconnect", user=self.account.name)
        self.assertEqual((ended["reason"], ended["dele_count"]), ("ended by administrator", 0))
        self.assertEqual(sorted(os.listdir(self.account.home / "Maildir" / "new")), ["1.host", "2.host"])
        self.assertEqual(self.session(server).command(b"QUIT"), b"+OK bye (2 messages left)")

    def test_figures(self) -> None:
        """Promise: stats and metrics count what the processes of sessions have done."""
        server = self.server(metrics={"listen": "127.0.0.1:0"}).start()
        for _ in range(2):
            wire = self.session(server)
            wire.multi_line(b"RETR 1")
            wire.multi_line(b"TOP 1 0")
            wire.command(b"RSET")
            wire.command(b"QUIT")
        wire = self.session(server)
        wire.command(b"DELE 1")
        wire.command(b"QUIT")
        key = ("tpops_sessions_ended_total", "quit")
        found = wait_until(lambda: (values := samples(server)).get(key) == 3 and values, "three sessions")
        octets = len(corpus.wire(corpus.ALL["lf"]))
        totals = ask(server, "stats")["totals"]
        self.assertEqual(sum(totals["listings"].values()), 3, totals["listings"])
        self.assertEqual(found["tpops_messages_total", "dele"], 1)
        self.assertEqual(found["tpops_update_seconds_count", ""], 3)
        self.assertEqual(found["tpops_messages_total", "retr"], 2)
        self.assertEqual(found["tpops_octets_sent_total", "retr"], 2 * octets)

    def test_transcript(self) -> None:
        """Promise: a transcript has the commands behind the login and what was answered, in order, without mail."""
        server = self.server(log={"transcript": "transcript.log", "json_log": "events.json"}).start()
        path = server.directory / "transcript.log"
        wire = self.session(server)
        for line in (b"CAPA", b"RETR 1"):
            wire.multi_line(line)
        wire.send(b"NOOP\r\n" * 2000 + b"wrong one\r\nQUIT\r\n")
        wire.rest()
        text = wait_until(lambda: "S: +OK bye" in path.read_text() and path.read_text(), "the last answer")
        lines = [line.split(" ", 2)[2] for line in text.splitlines()]
        login = lines.index("C: PASS (hidden)")
        self.assertRegex(lines[login + 1], rf"S: \+OK {self.account.name} has 1 message")
        self.assertEqual(lines[login + 2], "C: CAPA")
        self.assertRegex(lines[login + 4], "C: RETR 1")
        self.assertEqual(lines.count("C: NOOP"), 2000)
        self.assertEqual(lines[-4:-2], ["C: (no command, 9 octets)", "S: -ERR unknown command"])
        self.assertEqual(len({line.split(" ", 2)[1] for line in text.splitlines()}), 1)
        for secret in (self.account.password, "wrong one", "Subject"):
            self.assertFalse(secret in text, secret)


class SideTests(ApartCase):
    """Limits, and who is told of logins."""

    def test_limits_of_a_user(self) -> None:
        """Promise: sessions of a user, of a user at an address, and the seconds between two logins."""
        folder = self.account.home / "Maildir" / ".lists"
        owner = (self.account.home / "Maildir").stat()
        for path in (folder, *(folder / part for part in ("new", "cur", "tmp"))):
            path.mkdir()
            os.chown(path, owner.st_uid, owner.st_gid)
        for limits, answer in (
            ({"connections_per_user": 1}, b"-ERR [SYS/TEMP] too many connections of this user"),
            ({"connections_per_user_and_address": 1}, b"-ERR [SYS/TEMP] too many connections of this user"),
            ({"login_delay_seconds": 3600}, b"-ERR [LOGIN-DELAY]"),
        ):
            server = self.server(limits=limits, folders={"separator": "+"}).start()
            wire = self.session(server)
            named = self.account.name + ("" if "login_delay_seconds" in limits else "+lists")
            if "login_delay_seconds" in limits:
                wire.command(b"QUIT")
                self.assertEqual(wire.rest(), b"")
            refused = self.answer(server, named, self.account.password)
            self.assertTrue(refused.startswith(answer), (limits, refused))
            if "login_delay_seconds" not in limits:
                wire.command(b"QUIT")
                self.assertEqual(wire.rest(), b"")
                good = wait_until(
                    lambda: (said := self.answer(server, named, self.account.password)).startswith(b"+OK") and said  # noqa: B023
                )
                self.assertIn(b"0 messages", good)
            sessions_of(server, 0)
            server.stop()
            self.assertNotIn("Traceback", server.output())

    def test_who_is_told(self) -> None:
        """Promise: the relay store, the last login and sinks know of a login before its +OK is sent."""
        server = self.server(
            pop_before_smtp={"store": "sqlite", "policy": ["unix:policy.sock"]},
            last_login={"keep": True, "write_seconds": 0.1},
        )
        told = server.directory / "told"
        words = "$(event) $(user)"
        server.configuration["sink"] = [
            {
                "driver": "program",
                "command": ["/bin/sh", "-c", f'echo "$0 $TPOPS_RETR_COUNT" >> {told}', words],
                "events": ["login", "logout"],
                "before_ok": True,
            }
        ]
        # Schemas are read by the user without rights, who may not enter the directory that tests run from.
        shutil.copytree(CHECKOUT / "tpops", server.directory / "installed" / "tpops")
        server.start(env={**os.environ, "PYTHONPATH": str(server.directory / "installed")})
        wire = self.session(server)
        found = ask(server, "pbs", "list")
        self.assertEqual([one["user"] for one in found], [self.account.name])
        self.assertIn(f"login {self.account.name}", told.read_text())
        wire.multi_line(b"RETR 1")
        wire.command(b"QUIT")
        wait_until(lambda: f"logout {self.account.name}" in told.read_text(), "the sink knows of the end")
        logins = wait_until(lambda: ask(server, "user", "show", self.account.name)["logins"], "the last login")
        self.assertEqual((logins[0]["address"], logins[0]["count"]), ("127.0.0.1", 1))
        server.stop()


class SignalTests(ApartCase):
    """TERM and USR2 while a session runs."""

    def finish(self, server: RunningServer, wire: Wire) -> None:
        """The session comes to its end, and removes what it should."""
        wire.command(b"DELE 1")
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (0 messages left)")
        self.assertEqual(wire.rest(), b"")
        ended = server.event("disconnect", user=self.account.name)
        self.assertEqual((ended["reason"], ended["dele_count"]), ("quit", 1))

    def test_drain(self) -> None:
        """Promise: after TERM a session has server.drain_seconds to come to its end, and nobody gets in."""
        server = self.server(server={"drain_seconds": 60}).start()
        wire = self.session(server)
        (session,) = sessions_of(server)
        os.kill(server.pid, signal.SIGTERM)

        def refused() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", server.port)) != 0

        wait_until(refused, "nobody gets in any more")
        self.finish(server, wire)
        assert server.process is not None
        self.assertEqual(server.process.wait(PATIENCE_SECONDS), -signal.SIGTERM)
        self.assertFalse(Path(f"/proc/{session}").exists())

    def test_upgrade(self) -> None:
        """Promise: USR2 lets sessions go on; new ones have another broker."""
        server = self.server().start()
        wire = self.session(server)
        former = set(server.workers())
        os.kill(server.pid, signal.SIGUSR2)
        wait_until(lambda: set(server.workers()) - former, "another worker")
        wait_until(lambda: "reloaded" in server.output(), "it serves")
        other = server.connect()
        other.line()
        other.command(b"QUIT")
        self.finish(server, wire)
        wait_until(lambda: not former & set(server.workers()), "the former worker is gone")
        self.assertEqual(self.session(server).command(b"QUIT"), b"+OK bye (0 messages left)")
        self.assertNotIn("Traceback", server.output())
