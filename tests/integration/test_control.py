"""The control socket of a running server, and the commands that use it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess

from tests.integration import corpus
from tests.integration.control_case import ControlCase
from tests.integration.server import (
    PASSWORD,
    PATIENCE_SECONDS,
    USER,
    RunningServer,
    program,
    temporary,
    wait_until,
)
from tests.integration.test_twistd import reachable_directory
from tests.support import need_root


class OneProcessTests(ControlCase):
    """One process in all."""

    def test_who_and_kick(self) -> None:
        """Promise: sessions are listed with what they do; one that is ended deletes nothing, and the log says why."""
        server = self.server()
        joe, ann, nobody = server.session(), server.session("ann"), server.connect()
        nobody.line()
        nobody.command(b"USER no\x1bbody")
        joe.command(b"DELE 1")
        sessions = self.who(server)
        self.assertEqual(sorted(str(one["user"]) for one in sessions), ["None", "ann", "joe"])
        found = {one["user"]: one for one in sessions}
        self.assertEqual((found["joe"]["state"], found["joe"]["messages"]), ("transaction", 1))
        self.assertEqual((found[None]["state"], found[None]["peer"]), ("login", "127.0.0.1"))
        self.assertEqual([one["user"] for one in self.who(server, user="ann")], ["ann"])
        self.assertEqual([one["user"] for one in self.who(server, state="login")], [None])
        self.assertEqual(self.who(server, address="192.0.2.1"), [])
        (listed,) = json.loads(self.tpops(server, "who", "--json", "--user", "ann", "--state", "transaction"))
        self.assertEqual(listed["session"], found["ann"]["session"])
        table = self.tpops(server, "who")
        self.assertIn("joe", table)
        self.assertIn("3 sessions", table)
        session = found["joe"]["session"]
        self.assertIn(f"ended 1 sessions {session}", self.tpops(server, "kick", session))
        self.assertEqual(joe.rest(), b"")
        self.assertEqual(server.event("disconnect", session=session)["reason"], "ended by administrator")
        self.assertEqual(server.names(), {"1.host"})
        self.assertIn("ended 1 sessions", self.tpops(server, "kick", "--user", "ann"))
        self.assertEqual(ann.rest(), b"")
        self.assertIn("ended 1 sessions", self.tpops(server, "kick", "--address", "127.0.0.1"))
        self.assertEqual(nobody.rest(), b"")
        self.assertEqual(self.run_tpops(server, "kick", "--user", "ann").returncode, 1)
        self.assertEqual(self.run_tpops(server, "kick").returncode, 2)
        self.assertIn("admin: ", server.output())

    def test_session_whose_client_does_not_read(self) -> None:
        """Promise: it is shown as such, and can be ended."""
        server = self.server()
        server.deliver("2.host", b"Subject: big\n\n" + b"x" * 70 * 1000 + b"\n" * 1000 + (b"y" * 70 + b"\n") * 200000)
        wire = server.session(receive_octets=4096)
        wire.send(b"RETR 2\r\n")
        wait_until(lambda: self.who(server)[0]["doing"] == "RETR 2, client does not read")
        self.tpops(server, "kick", "--user", USER)
        event = server.event("disconnect")
        self.assertEqual((event["reason"], event["retr_count"]), ("ended by administrator", 0))

    def test_stats(self) -> None:
        """Promise: logins, failures by reason, messages and octets, limits by name; as JSON and as a table."""
        server = self.server(limits={"connections_per_address": 2})
        wire = server.session()
        wire.send(b"RETR 1\r\n")
        while wire.line() != b".":
            pass
        wire.command(b"DELE 1")
        wire.command(b"QUIT")
        wire.socket.close()
        failing = server.connect()
        failing.line()
        failing.command(b"USER joe")
        failing.command(b"PASS wrong")
        held = server.session("ann")
        refused = server.connect()
        self.assertTrue(refused.line().startswith(b"-ERR"))
        busy = failing.command(b"USER ann") and failing.command(b"PASS " + PASSWORD.encode())
        self.assertTrue(busy.startswith(b"-ERR [IN-USE]"))
        server.event("disconnect", reason="refused")
        totals = self.totals(server)
        octets = len(corpus.wire(corpus.ALL["lf"]))
        self.assertEqual(totals["logins"], {"PASS": 2})
        self.assertEqual(totals["failures"], {"wrong_password": 1})
        self.assertEqual(totals["refusals"], {"maildrop_in_use": 1})
        self.assertEqual(totals["limits"], {"connections_per_address": 1})
        self.assertEqual(totals["ends"], {"quit": 1, "refused": 1})
        self.assertEqual(totals["messages"], {"retr": 1, "top": 0, "dele": 1})
        self.assertEqual(totals["octets"], {"retr": octets, "top": 0})
        self.assertEqual(totals["sessions"], {"login": 1, "transaction": 1, "update": 0})
        self.assertEqual(sum(totals["login_seconds"]["buckets"]), 2)
        self.assertEqual(totals["recent"]["failures"], 1)
        self.assertEqual(sum(totals["listings"].values()), 2)
        table = self.tpops(server, "stats")
        for part in ("maildrop_in_use", "connections_per_address", "Mean login"):
            self.assertIn(part, table)
        held.socket.close()

    def test_penalties(self) -> None:
        """Promise: who has failed is listed, and forgotten when asked for."""
        server = self.server()
        wire = server.connect()
        wire.line()
        for number in range(2):
            wire.command(b"USER joe")
            wire.command(b"PASS wrong%d" % number)
        found = json.loads(self.tpops(server, "penalty", "list", "--json"))
        self.assertEqual(
            {(one["kind"], one["key"], one["failures"]) for one in found},
            {("client", "127.0.0.1", 2), ("name", "joe", 2)},
        )
        self.assertIn("127.0.0.1", self.tpops(server, "penalty", "list"))
        self.assertIn("forgot", self.tpops(server, "penalty", "clear", "JOE"))
        self.assertIn("forgot", self.tpops(server, "penalty", "clear", "127.0.0.1"))
        self.assertEqual(json.loads(self.tpops(server, "penalty", "list", "--json")), [])
        self.assertIn("no failed logins", self.refused(server, "penalty", "clear", "joe"))

    def test_reload(self) -> None:
        """Promise: success, or every problem of the configuration and nothing changed."""
        server = self.server()
        server.configuration["protocol"]["greeting"] = "second"
        server.write_configuration()
        self.assertIn("reloaded", self.tpops(server, "reload"))
        self.assertEqual(server.connect().line().split(b" <")[0], b"+OK second")
        good = server.configuration_file.read_text()
        server.configuration_file.write_text(good + "[limits]\nconections = 1\nipv6_prefix = 0\n")
        command = [program("tpops"), "-c", str(server.configuration_file), "reload"]
        self.assertEqual(subprocess.run(command, capture_output=True).returncode, 1)
        connected = self.control(server)
        connected.sendall(b'{"do": "reload"}\n')
        answer = json.loads(connected.makefile().readline())
        self.assertEqual((answer["reloaded"], len(answer["problems"])), (False, 2))
        self.assertEqual(server.connect().line().split(b" <")[0], b"+OK second")

    def test_drain(self) -> None:
        """Promise: as TERM: nobody gets in, sessions come to their end, the socket is gone."""
        server = self.server(server={"drain_seconds": 60})
        wire = server.session()
        self.assertIn("1 sessions may come to their end", self.tpops(server, "drain"))
        wait_until(lambda: "SIGTERM" in server.output())
        self.assertEqual([one["user"] for one in self.who(server)], ["joe"])
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        assert server.process is not None
        self.assertEqual(server.process.wait(PATIENCE_SECONDS), -signal.SIGTERM)
        self.assertFalse((server.directory / "control.sock").exists())
        self.assertIn("no server answers at", self.refused(server, "who"))

    def test_nonsense(self) -> None:
        """Promise: bad requests are answered with what is wrong, and the connection and the server go on."""
        server = self.server()
        connected = self.control(server)
        lines = connected.makefile("rb")
        for request in (b"", b"hello", b"[1]", b'{"do": 5}', b"\xff\x00", b"[" * 60000):
            connected.sendall(request + b"\n")
            self.assertIn(b'{"error": "a request is a JSON object', lines.readline())
        connected.sendall(b'{"do": "dance"}\n{"do": "kick"}\n{"do": "forgive", "who": 5}\n{"do": "stats"}\n')
        self.assertIn("there is no request 'dance'", json.loads(lines.readline())["error"])
        self.assertIn("say whom", json.loads(lines.readline())["error"])
        self.assertIn("say whom", json.loads(lines.readline())["error"])
        self.assertIn("totals", json.loads(lines.readline()))
        with contextlib.suppress(OSError):
            connected.sendall(b"x" * 200000)
        self.assertIn(b"at most 65536 octets", lines.readline())
        with contextlib.suppress(ConnectionResetError):
            self.assertEqual(lines.readline(), b"")
        self.assertEqual(self.who(server), [])
        self.assertNotIn("Traceback", server.output())

    def test_permissions(self) -> None:
        """Promise: the socket belongs to the server's user and is for him alone, or has the configured mode."""
        server = self.server()
        self.assertEqual((server.directory / "control.sock").stat().st_mode & 0o777, 0o600)
        server.configuration["admin"] = {"socket_mode": "0660", "socket": "ctl"}
        server.write_configuration()
        done = subprocess.run([program("tpops"), "-c", str(server.configuration_file), "who"], capture_output=True)
        self.assertEqual(done.returncode, 1)
        os.kill(server.pid, signal.SIGHUP)
        wait_until((server.directory / "ctl").exists)
        wait_until(lambda: (server.directory / "ctl").stat().st_mode & 0o777 == 0o660)
        self.assertFalse((server.directory / "control.sock").exists())
        self.assertIn("0 sessions", self.tpops(server, "who"))

    def test_others_may_not(self) -> None:
        """Promise: who may not write to the socket is told so."""
        need_root(self, "what is tested")
        server = self.server(reachable_directory(self, 0o755))
        code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", code]
        done = subprocess.run(
            [*command, str(server.directory / "control.sock")], capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        self.assertIn("PermissionError", done.stderr)

    def test_place_that_cannot_be(self) -> None:
        """Promise: a place that is named must be had; the default one need not."""
        directory = temporary(self)
        (directory / "control.sock").write_text("precious")
        server = self.server(directory)
        self.assertIn("no control socket", server.output())
        self.assertEqual((directory / "control.sock").read_text(), "precious")
        server.stop()
        server.configuration["admin"] = {"socket": "control.sock"}
        self.assertIn("a file that is no socket is there", server.refuses_to_start())
        server.configuration["admin"] = {"enabled": False}
        server.start()
        self.assertIn("admin.enabled is false", self.refused(server, "who"))

    def test_another_server_is_there(self) -> None:
        """Promise: its socket is not taken away; that of one that was killed is."""
        server = self.server()
        second = RunningServer(self, admin={"socket": str(server.directory / "control.sock")})
        self.assertIn("another server is there", second.refuses_to_start())
        server.stop(signal.SIGKILL)
        self.assertTrue((server.directory / "control.sock").exists())
        server.start()
        self.assertEqual(self.who(server), [])
