"""Behind a real HAProxy: both versions of its header, TLS that ends there, and a client that comes without it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PASSWORD, PATIENCE_SECONDS, USER, RunningServer, end, temporary, wait_until
from tests.integration.wire import Wire
from tests.pki import write_pem
from tests.support import need

#: A client's address that is not the balancer's.
CLIENT = "127.0.0.2"

MESSAGE = b"Subject: one\n\nbody\n"

_CONFIGURATION = """
global
    log stderr format raw local0
defaults
    mode tcp
    timeout connect 30s
    timeout client 60s
    timeout server 60s
listen plain
    bind 127.0.0.1:{plain}
    server tpops 127.0.0.1:{behind} source 127.0.0.1 {header}
listen tls
    bind 127.0.0.1:{tls} ssl crt {directory}/mail.pem
    server tpops 127.0.0.1:{behind} source 127.0.0.1 send-proxy-v2-ssl
listen passed
    bind 127.0.0.1:{passed}
    server tpops 127.0.0.1:{implicit} source 127.0.0.1 {header}
"""


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class HAProxyTests(SynchronousTestCase):
    """Clients connect to HAProxy, and tpops knows who they are."""

    skip = need(None, "haproxy")

    def setUp(self) -> None:
        """tpops, which takes passwords from one client's network only."""
        self.directory = temporary(self)
        self.certificate = write_pem(self.directory / "mail.pem", "localhost")
        proxied: dict[str, Any] = {"address": "127.0.0.1", "port": 0, "proxy_protocol": True}
        listen = [
            {**proxied, "proxy_networks": ["127.0.0.1/32"]},
            {**proxied, "proxy_networks": ["127.0.0.1/32"], "tls": "implicit"},
        ]
        protocol = {"plaintext_networks": [f"{CLIENT}/32"], "auth_delay_seconds": 0.05}
        tls = {"certificate": str(self.directory / "mail.pem")}
        self.server = RunningServer(self, listen=listen, tls=tls, protocol=protocol)
        self.server.deliver("1.a.host", MESSAGE)
        self.server.start()

    def balance(self, header: str) -> None:
        """Start HAProxy."""
        behind, implicit = (one["port"] for one in self.server.configuration["listen"])
        self.ports = {name: free_port() for name in ("plain", "tls", "passed")}
        path = self.directory / "haproxy.cfg"
        path.write_text(
            _CONFIGURATION.format(
                header=header, directory=self.directory, behind=behind, implicit=implicit, **self.ports
            )
        )
        process = subprocess.Popen(["haproxy", "-db", "-f", str(path)], stdin=subprocess.DEVNULL)
        self.addCleanup(end, process)
        wait_until(lambda: process.poll() is not None or self.accepts("passed"), "HAProxy listens")
        self.assertIsNone(process.poll())

    def accepts(self, name: str) -> bool:
        """Whether HAProxy listens."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.ports[name])) == 0

    def from_client(self) -> Wire:
        """A connection of the client to HAProxy."""
        address = ("127.0.0.1", self.ports["plain"])
        connected = socket.create_connection(address, PATIENCE_SECONDS, source_address=(CLIENT, 0))
        self.addCleanup(connected.close)
        return Wire(connected)

    def over_tls(self, name: str) -> Wire:
        """A connection with TLS to one of HAProxy's ports."""
        context = ssl.create_default_context(cafile=str(self.directory / "mail.pem"))
        connected = socket.create_connection(("127.0.0.1", self.ports[name]), PATIENCE_SECONDS)
        wrapped = context.wrap_socket(connected, server_hostname="localhost")
        self.addCleanup(wrapped.close)
        return Wire(wrapped)

    def test_client_is_known(self) -> None:
        """Promise: greeting, policy and access log go by the client's address, with both versions of the header."""
        for header in ("send-proxy", "send-proxy-v2"):
            self.balance(header)
            wire = self.from_client()
            wire.log_in(USER, PASSWORD)
            self.assertEqual(wire.command(b"QUIT")[:3], b"+OK")
            login = self.server.event("login", peer=CLIENT)
            self.assertEqual(login["user"], USER)
            self.assertTrue(wait_until(lambda: [one for one in self.server.access() if one.startswith(f"{CLIENT} ")]))
            near = Wire.connect(self, ("127.0.0.1", self.ports["plain"]))
            self.assertEqual(near.line()[:3], b"+OK")
            self.assertEqual(near.command(b"USER joe")[:4], b"-ERR")

    def test_tls_ends_at_the_balancer(self) -> None:
        """PP2_TYPE_SSL: a client whose TLS ends there may send its password; the log shows version and cipher."""
        self.balance("send-proxy-v2")
        wire = self.over_tls("tls")
        wire.log_in(USER, PASSWORD)
        self.assertEqual(wire.command(b"STAT"), b"+OK 1 %d" % len(MESSAGE.replace(b"\n", b"\r\n")))
        self.assertEqual(wire.command(b"QUIT")[:3], b"+OK")
        self.assertTrue(self.server.event("disconnect", user=USER)["tls"].startswith("TLSv1"))

    def test_tls_is_passed_through(self) -> None:
        """Promise: behind the header, TLS begins here where the listener's TLS is implicit."""
        self.balance("send-proxy-v2")
        wire = self.over_tls("passed")
        wire.log_in(USER, PASSWORD)
        self.assertEqual(wire.command(b"LIST 1"), b"+OK 1 %d" % len(MESSAGE.replace(b"\n", b"\r\n")))

    def test_without_the_balancer(self) -> None:
        """Promise: whoever comes by himself, or from an address that is no balancer's, is not served and is logged."""
        port = self.server.configuration["listen"][0]["port"]
        for source, why in (("127.0.0.1", "there is no PROXY header"), (CLIENT, "it is not in proxy_networks")):
            with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS, source_address=(source, 0)) as direct:
                # It may be gone before anything was said.
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    direct.sendall(b"USER joe\r\n")
                    self.assertEqual(direct.recv(100), b"")
            wait_until(
                lambda source=source, why=why: (
                    f"proxy-refused: {source} " in self.server.output() and why in self.server.output()
                )
            )
