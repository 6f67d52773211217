"""Started by systemd: what it is told, and the sockets that it has opened."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import time
from pathlib import Path

from tests.integration.server import PASSWORD, USER, RunningServer, wait_until
from tests.integration.systemd_case import SystemdCase
from tests.integration.test_twistd import reachable_directory
from tests.integration.wire import Wire
from tests.private_network import PrivateNetwork
from tests.support import need, need_root


class NotifyTests(SystemdCase):
    """C{Type=notify}, with a socket of the test in the place of systemd's."""

    def reloads(self, workers: int) -> None:
        """Ready, reloaded, reload refused, and the stop."""
        server = RunningServer(self, server={"workers": workers, "drain_seconds": 60})
        self.begin(server)
        where = server.ready()[0]
        server.port = int(where.rpartition(":")[2])
        server.configuration["listen"][0]["port"] = server.port
        server.configuration["limits"] = {"connections": 7}
        server.write_configuration()
        began = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        os.kill(server.pid, signal.SIGHUP)
        message = self.heard("RELOADING", "MONOTONIC_USEC")
        self.assertLessEqual(began, int(message["MONOTONIC_USEC"]))
        self.assertEqual(self.heard("READY"), {"READY": "1", "STATUS": f"serving {where}"})
        server.configuration["limits"] = {"connections": -1}
        server.write_configuration()
        os.kill(server.pid, signal.SIGHUP)
        self.heard("RELOADING")
        status = self.heard("READY")["STATUS"]
        self.assertIn(f"reload refused, serving {where}: ", status)
        self.assertIn("limits.connections must be at least", status)
        wire = server.session()
        os.kill(server.pid, signal.SIGTERM)
        self.assertEqual(self.heard("STOPPING")["STOPPING"], "1")
        self.assertEqual(self.heard("EXTEND_TIMEOUT_USEC"), {"EXTEND_TIMEOUT_USEC": "30000000"})
        self.heard("EXTEND_TIMEOUT_USEC")
        wire.command(b"QUIT")
        assert server.process is not None
        self.assertEqual(server.process.wait(60), -signal.SIGTERM)
        self.assertNotIn("Traceback", server.output())

    def test_one_process(self) -> None:
        """Promise: READY, RELOADING with its time, READY also after a refused reload, STOPPING with patience."""
        self.reloads(1)

    def test_workers(self) -> None:
        """Promise: the same of the process that looks after workers."""
        self.reloads(2)

    def test_readiness_means_service(self) -> None:
        """Promise: when it says READY, clients are served."""
        server = RunningServer(self)
        self.begin(server)
        server.wait_ready()
        server.session().command(b"QUIT")

    def test_watchdog(self) -> None:
        """Promise: signs of life come as long as the reactor turns, and only so long."""
        server = RunningServer(self)
        self.begin(server, watchdog="400000")
        for _ in range(3):
            self.heard("WATCHDOG")
        os.kill(server.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, server.pid, signal.SIGCONT)
        self.notify.settimeout(0.2)
        while True:
            try:
                self.heard("WATCHDOG")
            except TimeoutError:
                break
        self.notify.settimeout(1.0)
        self.assertRaises(TimeoutError, self.heard, "WATCHDOG")
        os.kill(server.pid, signal.SIGCONT)
        self.notify.settimeout(60)
        self.heard("WATCHDOG")

    def test_children(self) -> None:
        """Promise: workers do not find NOTIFY_SOCKET in their environment, nor the watchdog or sockets."""
        server = RunningServer(self, server={"workers": 2})
        self.begin(server, watchdog="4000000")
        for worker in server.workers():
            environment = Path(f"/proc/{worker}/environ").read_bytes()
            for name in (b"NOTIFY_SOCKET", b"WATCHDOG", b"LISTEN_"):
                self.assertNotIn(name, environment)


class ActivationTests(SystemdCase):
    """Sockets that were open before the server was started."""

    def fetches(self, wire: Wire) -> None:
        """A whole session."""
        wire.log_in(USER, PASSWORD)
        self.assertEqual(wire.command(b"STAT"), b"+OK 0 0")
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))

    def serves(self, workers: int) -> None:
        """By address and by name, TCP and UNIX."""
        (tcp, port), (named, other), (unix, path) = self.listening(), self.listening(), self.listening_unix()
        early = Wire.connect(self, ("127.0.0.1", port))  # whoever comes before the server waits
        server = RunningServer(
            self,
            listen=[
                {"address": "127.0.0.1", "port": port},
                {"address": f"unix:{path}"},
                {"address": "0.0.0.0", "port": 110, "systemd_name": "tpops.socket"},
            ],
            server={"workers": workers},
        )
        self.begin(server, [named, tcp, unix], "tpops.socket:unknown:")
        self.fetches(early)
        self.fetches(Wire.connect(self, ("127.0.0.1", other)))
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(path)
        connected.close()
        os.kill(server.pid, signal.SIGHUP)
        self.heard("RELOADING")
        self.assertNotIn("refused", self.heard("READY")["STATUS"])
        self.fetches(Wire.connect(self, ("127.0.0.1", port)))
        if workers > 1:
            os.kill(server.pid, signal.SIGUSR2)
            self.heard("RELOADING")
            self.assertNotIn("refused", self.heard("READY")["STATUS"])
            self.fetches(Wire.connect(self, ("127.0.0.1", other)))
        server.stop()
        self.assertTrue(os.path.exists(path))
        # systemd has the sockets still: whoever comes now is served by the next start.
        between = Wire.connect(self, ("127.0.0.1", port))
        self.begin(server, [unix, named, tcp], ":tpops.socket:")
        self.fetches(between)
        self.assertNotIn("Traceback", server.output())

    def test_one_process(self) -> None:
        """Promise: listeners get the sockets of their address or name; over HUP and a restart nobody is refused."""
        self.serves(1)

    def test_workers(self) -> None:
        """Promise: the same with workers, and over USR2."""
        self.serves(2)

    def test_privileged_port(self) -> None:
        """Promise: a port below 1024 is served by a process that may not open one, and drops its rights."""
        need(self, "setpriv")
        need_root(self, "what is tested")
        network = PrivateNetwork(self)
        with network:
            opened = socket.create_server(("127.0.0.1", 110))
        self.addCleanup(opened.close)
        server = RunningServer(self, reachable_directory(self), listen=[{}], server={"user": "nobody"})
        server.write_configuration()
        nobody = pwd.getpwnam("nobody")
        for path in [server.directory, *server.directory.rglob("*")]:
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        os.chmod(self.directory, 0o711)
        os.chmod(self.directory / "notify", 0o777)
        self.begin(server, [opened], before=["setpriv", "--bounding-set=-net_bind_service"])
        self.assertEqual(os.stat(f"/proc/{server.pid}").st_uid, nobody.pw_uid)
        with network:
            client = Wire.connect(self, ("127.0.0.1", 110))
        self.fetches(client)

    def test_what_does_not_match(self) -> None:
        """Promise: the start fails with the socket and what to do about it."""
        for workers in (1, 2):
            tcp, port = self.listening()
            server = RunningServer(self, server={"workers": workers})
            self.launch(server, [tcp], "odd.socket")
            assert server.process is not None
            self.assertEqual(server.process.wait(60), 1)
            self.assertIn(
                f"systemd passes the socket 127.0.0.1:{port} (odd.socket), and no listener has this address",
                server.output(),
            )

    def test_systemd_s_own_program(self) -> None:
        """systemd-socket-activate(1): it starts the server with the first client, who is served."""
        need(self, "systemd-socket-activate")
        opened, port = self.listening()
        opened.close()
        server = RunningServer(self, listen=[{"address": "0.0.0.0", "port": 110, "systemd_name": "pop3"}])
        program = shutil.which("systemd-socket-activate")
        server.launch(before=[str(program), f"--listen=127.0.0.1:{port}", "--fdname=pop3"])

        def connect() -> Wire | None:
            try:
                return Wire.connect(self, ("127.0.0.1", port))
            except ConnectionRefusedError:
                return None

        self.fetches(wait_until(connect, "systemd-socket-activate listens"))
