"""What C{tpops-inetd} makes of its standard input."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Sequence

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from tpops.config.listen import Listen
from tpops.errors import ConfigError
from tpops.process.inetd_start import ToSyslog, choose
from tpops.process.inherited import ends


class ChoiceTests(SynchronousTestCase):
    """Which listener holds."""

    def setUp(self) -> None:
        """Some listeners."""
        self.listeners = [
            Listen(address="0.0.0.0", port=110),
            Listen(address="192.0.2.1", port=110),
            Listen(address="127.0.0.1", port=995, tls="implicit"),
            Listen(address="unix:/run/pop3"),
        ]

    def chosen(self, host: str, port: int, place: str = "") -> str:
        """Its address."""
        return choose(self.listeners, (host, port), place).where

    def refused(self, listeners: Sequence[Listen], host: str, port: int, place: str = "") -> str:
        """The problem."""
        return str(self.assertRaises(ConfigError, choose, listeners, (host, port), place))

    def test_by_address(self) -> None:
        """Promise: the same address and port, then all addresses, then the port alone; a path for UNIX sockets."""
        self.assertEqual(self.chosen("192.0.2.1", 110), "192.0.2.1:110")
        self.assertEqual(self.chosen("192.0.2.2", 110), "0.0.0.0:110")
        self.assertEqual(self.chosen("192.0.2.2", 995), "127.0.0.1:995")
        self.assertEqual(self.chosen("/run/pop3", 0), "unix:/run/pop3")

    def test_by_name(self) -> None:
        """Promise: --listen decides, whatever the address."""
        self.assertEqual(self.chosen("192.0.2.1", 110, "127.0.0.1:995"), "127.0.0.1:995")
        self.assertEqual(choose(self.listeners[:1], ("unix", 0), "").where, "0.0.0.0:110")

    def test_what_does_not_fit(self) -> None:
        """Promise: the error says what there is: a port with TLS must not become one without."""
        self.assertIn(
            "no [[listen]] fits the connection to 192.0.2.1:143", self.refused(self.listeners, "192.0.2.1", 143)
        )
        self.assertIn("say --listen with one of 0.0.0.0:110, ", self.refused(self.listeners, "unix", 0))
        self.assertIn("fits the connection to 192.0.2.1:995", self.refused(self.listeners[:1], "192.0.2.1", 995))
        self.assertIn(
            "no [[listen]] has this address; there are: 0.0.0.0:110, ", self.refused(self.listeners, "", 0, "x")
        )


class EndsTests(SynchronousTestCase):
    """Who has connected."""

    def test_socket_with_addresses(self) -> None:
        """Promise: its own addresses count, and an IPv4 client of an IPv6 socket has an IPv4 address."""
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")):
            with (
                socket.create_server(
                    (address, 0), family=family, dualstack_ipv6=family == socket.AF_INET6
                ) as listening,
                socket.create_connection(("127.0.0.1", listening.getsockname()[1])) as client,
            ):
                connected, _ = listening.accept()
                with connected:
                    peer, local = ends(connected, {"TCPREMOTEIP": "192.0.2.1"})
                    self.assertEqual((peer, local), (client.getsockname(), client.getpeername()))

    def test_socket_without(self) -> None:
        """Promise: the environment is asked; what is no address is not believed."""
        ours, other = socket.socketpair()
        with ours, other:
            told = {"TCPREMOTEIP": "::ffff:192.0.2.1", "TCPREMOTEPORT": "x", "TCPLOCALIP": "::1", "TCPLOCALPORT": "995"}
            self.assertEqual(ends(ours, told), (("192.0.2.1", 0), ("::1", 995)))
            self.assertEqual(ends(ours, {"TCPREMOTEIP": "mail.example.org"}), (("unix", 0), ("unix", 0)))


class SyslogTests(SynchronousTestCase):
    """The log of a process whose standard error is the client."""

    def test_lines(self) -> None:
        """RFC 3164 section 4.1: facility and severity, the program and its process; every line is one."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        path = os.path.join(directory, "log")
        daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(daemon.close)
        daemon.bind(path)
        daemon.setblocking(False)
        observer = ToSyslog(Clock(), path)
        self.addCleanup(observer.close)
        observer.tag = "pop"
        log = Logger("tests", observer=observer)
        log.warn("one\ntwo {text}", text="\x1b[2J")
        log.critical("three")
        said = [daemon.recv(4096).decode() for _ in range(3)]
        for line, priority, text in zip(said, (20, 20, 18), ("one", "two \\x1b[2J", "three"), strict=True):
            self.assertTrue(line.startswith(f"<{priority}>"), line)
            self.assertTrue(line.endswith(f" pop[{os.getpid()}]: {text}"), line)
