"""WHOSON, DRAC and datagrams of a running server, at receivers written from what is known of their protocols."""

from __future__ import annotations

import hashlib
import hmac
import shutil
import signal
import tempfile
import time
from typing import Any

from tests.events.peers import Dracd, StreamPeer, UDPPeer, Whosond
from tests.integration.server import RunningServer, wait_until
from tests.integration.sink_case import SinkCase


class WhosonTests(SinkCase):
    """whosond."""

    def sink(self, name: str, *servers: str, **keys: Any) -> dict[str, Any]:
        """One that the +OK waits for."""
        return {
            "driver": "whoson",
            "name": name,
            "servers": servers,
            "users": ["allow .*"],
            "before_ok": True,
            "timeout_seconds": 60.0,
            **keys,
        }

    def test_every_transport(self) -> None:
        """WHOSON: told before the +OK, by each transport; logouts where wanted; nothing of denied users."""
        directory = tempfile.mkdtemp(prefix="tpops-", dir="/tmp")
        self.addCleanup(shutil.rmtree, directory)
        udp, tcp, unix = Whosond(), Whosond(), Whosond()
        udp.lose = 1
        StreamPeer(self, unix.answer, f"{directory}/whosond")
        nobody = StreamPeer(self, tcp.answer)
        nobody.stop()
        both, rules = ["login", "logout"], ["deny ^ann$", "allow .*"]
        running = self.server(
            self.sink("udp", f"udp:127.0.0.1:{UDPPeer(self, udp.answer).port}", events=both, users=rules),
            # The first of these two is not there.
            self.sink(
                "tcp",
                f"tcp:127.0.0.1:{nobody.port}",
                f"tcp:localhost:{StreamPeer(self, tcp.answer).port}",
                events=both,
            ),
            self.sink("unix", f"unix:{directory}/whosond"),
            pop_before_smtp={"ok_wait_seconds": 60},
        )
        self.poll(running, "ann")
        wire = running.session("joe", "secret")
        for one in (udp, tcp, unix):
            self.assertEqual(one.users, {"127.0.0.1": "joe"})
            self.assertEqual(one.answer(b"QUERY 127.0.0.1\r\n\r\n"), b"+joe\r\n\r\n")
        self.quit(wire)
        wait_until(lambda: not udp.users and not tcp.users, "logout")
        self.assertEqual(udp.requests, ["LOGIN 127.0.0.1 joe", "QUERY 127.0.0.1", "LOGOUT 127.0.0.1"])
        self.assertEqual(tcp.requests[:3], ["LOGIN 127.0.0.1 ann", "LOGOUT 127.0.0.1", "LOGIN 127.0.0.1 joe"])
        self.assertEqual(unix.users, {"127.0.0.1": "joe"})
        self.assertNotIn("sink-failed", running.output())

    def test_server_that_says_no_or_nothing(self) -> None:
        """Promise: no login fails of it; the +OK waits its bounded time; the log says why."""
        refusing = Whosond()
        refusing.refuse = True
        server = f"udp:127.0.0.1:{UDPPeer(self, refusing.answer).port}"
        silent = f"udp:127.0.0.1:{UDPPeer(self, lambda datagram: None).port}"
        gone = StreamPeer(self, lambda request: None)
        gone.stop()
        running = self.server(
            self.sink("no", server),
            self.sink("gone", f"tcp:127.0.0.1:{gone.port}"),
            self.sink("silent", silent, timeout_seconds=0.5),
            pop_before_smtp={"ok_wait_seconds": 60},
        )
        for _ in range(2):
            self.poll(running, "joe")
        log = running.output()
        self.assertIn(f"sink-failed: no at login: {server}: it says '-no such luck' (1 failures", log)
        self.assertRegex(log, r"sink-failed: gone at login: .*: cannot connect: .*refused")
        self.assertRegex(log, r"sink-failed: silent at login: .*(no answer|not done) within 0.5 seconds")
        self.assertNotIn("Traceback", log)


class DracTests(SinkCase):
    """rpc.dracd."""

    def test_login(self) -> None:
        """DRAC: by portmapper or at a fixed port, the address is a number; no is a failure of the sink alone."""
        mapped, fixed, unknown = Dracd(self), Dracd(self), Dracd(self)
        unknown.known = False
        drac = {"driver": "drac", "before_ok": True, "timeout_seconds": 60}
        running = self.server(
            {**drac, "name": "mapped", "portmapper_port": mapped.portmapper.port},
            {**drac, "name": "fixed", "host": "localhost", "port": fixed.server.port},
            {**drac, "name": "nowhere", "host": "nowhere.invalid", "port": 850},
            {**drac, "name": "unknown", "portmapper_port": unknown.portmapper.port},
            pop_before_smtp={"ok_wait_seconds": 60},
        )
        self.poll(running, "joe")
        fixed.verdict = 1
        self.poll(running, "ann")
        self.assertEqual(mapped.addresses, ["127.0.0.1", "127.0.0.1"])
        self.assertEqual((fixed.addresses, fixed.portmapper.got), (["127.0.0.1"], []))
        self.assertIn("sink-failed: fixed at login: rpc.dracd says 'permission denied'", running.output())
        self.assertIn("sink-failed: unknown at login: the portmapper of 127.0.0.1 knows no rpc.dracd", running.output())


class DatagramTests(SinkCase):
    """popserv's datagram, from a running server."""

    def test_datagram(self) -> None:
        """popserv, logudp: one for each login, with the line for its secret (in a file of ours alone) and our own."""
        peer = UDPPeer(self, lambda datagram: None)
        running = RunningServer(self, users={"joe": "secret"}, server={"hostname": "pop.example.org"})
        secret = running.directory / "word"
        secret.touch(0o644)
        secret.write_text("word\n")
        sink = {"driver": "udp", "destination": f"127.0.0.1:{peer.port}", "hmac_key": "ours"}
        running.configuration["sink"] = [{**sink, "secret_file": str(secret)}]
        self.assertIn("sink udp: secret_file: ", running.refuses_to_start())
        secret.chmod(0o600)
        running.start()
        before = int(time.time())
        self.poll(running, "joe")
        wait_until(lambda: peer.got, "a datagram")
        lines = peer.got[0].split(b"\n")
        _, digest, challenge = lines[0].split(b" ")
        self.assertEqual(digest.decode(), hashlib.md5(challenge + b"word").hexdigest())
        self.assertIn(int(lines[1].removeprefix(b"time ")), range(before, int(time.time()) + 1))
        self.assertEqual(lines[2:6], [b"service pop", b"user joe", b"ip 127.0.0.1", b"source pop.example.org"])
        covered = b"\n".join(lines[:6]) + b"\n"
        self.assertEqual(lines[6].decode(), "hmac-sha256 " + hmac.new(b"ours", covered, "sha256").hexdigest())
        self.assertEqual(lines[7:], [b".", b""])
        self.poll(running, "joe")
        wait_until(lambda: len(peer.got) == 2, "another datagram")
        self.assertNotEqual(peer.got[1].split()[2], challenge)
        # After a reload somebody else is told.
        other = UDPPeer(self, lambda datagram: None)
        running.configuration["sink"] = [{**sink, "destination": f"localhost:{other.port}"}]
        running.write_configuration()
        assert running.process is not None
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded" in running.output(), "reload")
        self.poll(running, "joe")
        wait_until(lambda: other.got, "a datagram for the other")
        self.assertEqual(len(peer.got), 2)
