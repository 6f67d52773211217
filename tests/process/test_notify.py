"""What systemd is told."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tpops.process.notify import Notify, take


class NotifyTests(SynchronousTestCase):
    """With a socket like systemd's, which is not read by anybody else."""

    def setUp(self) -> None:
        """Listen."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        self.path = os.path.join(directory, "notify")
        self.clock = Clock()
        self.listen(self.path)

    def listen(self, address: str) -> None:
        """Listen there."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def said(self) -> list[dict[str, str]]:
        """The messages since the last look."""
        messages = []
        while True:
            try:
                text = self.socket.recv(65536).decode()
            except BlockingIOError:
                return messages
            messages.append(dict(line.split("=", 1) for line in text.splitlines()))

    def test_readiness(self) -> None:
        """sd_notify(3): READY=1 and a line for people."""
        Notify(self.clock, self.path).ready(["127.0.0.1:110", "[::1]:995"])
        self.assertEqual(self.said(), [{"READY": "1", "STATUS": "serving 127.0.0.1:110, [::1]:995"}])

    def test_refused_reload(self) -> None:
        """Promise: the service is ready again, the line says why it is as before, and cannot break the message."""
        Notify(self.clock, self.path).ready(["127.0.0.1:110"], ["a:1: x\nREADY=0", "y"])
        said = {"READY": "1", "STATUS": "reload refused, serving 127.0.0.1:110: a:1: x READY=0; y"}
        self.assertEqual(self.said(), [said])

    def test_reload(self) -> None:
        """sd_notify(3): RELOADING=1 comes with the present time of CLOCK_MONOTONIC."""
        Notify(self.clock, self.path).reloading()
        (message,) = self.said()
        self.assertEqual(message["RELOADING"], "1")
        self.assertTrue(message["MONOTONIC_USEC"].isdigit())

    def test_watchdog(self) -> None:
        """sd_watchdog_enabled(3): twice in the time that is allowed, from the time on when the service is ready."""
        notify = Notify(self.clock, self.path, 10.0)
        self.clock.advance(20)
        self.assertEqual(self.said(), [])
        notify.ready(["here"])
        notify.ready(["here"])
        self.assertEqual([one for one in self.said() if "WATCHDOG" in one], [{"WATCHDOG": "1"}])
        for _ in range(3):
            self.clock.advance(5)
            self.assertEqual(self.said(), [{"WATCHDOG": "1"}])

    def test_stop(self) -> None:
        """sd_notify(3): STOPPING=1, and patience is asked for again before it has run out."""
        Notify(self.clock, self.path).stopping()
        self.assertEqual([next(iter(one)) for one in self.said()], ["STOPPING", "EXTEND_TIMEOUT_USEC"])
        for _ in range(3):
            self.clock.advance(5)
            self.assertEqual(self.said(), [{"EXTEND_TIMEOUT_USEC": "30000000"}])

    def test_abstract_socket(self) -> None:
        """sd_notify(3): "@" stands for the first octet of an abstract name."""
        name = f"tpops-{secrets.token_hex(8)}"
        self.listen(f"\0{name}")
        Notify(self.clock, f"@{name}").ready(["here"])
        self.assertEqual(len(self.said()), 1)

    def test_socket_that_nobody_reads(self) -> None:
        """Promise: nothing waits; the log has it once."""
        notify = Notify(self.clock, self.path)
        for _ in range(1000):
            notify.ready(["x" * 2000])
        self.assertLess(len(self.said()), 1000)

    def test_nobody_there(self) -> None:
        """Promise: without systemd nothing is sent, and no timer runs; where it is gone, all goes on."""
        alone = Notify(self.clock)
        alone.ready(["here"])
        alone.stopping()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        Notify(self.clock, self.path + "-gone").ready(["here"])

    def test_environment(self) -> None:
        """Promise: the variables are taken once, so no program that is started later finds them."""
        environment = {
            "NOTIFY_SOCKET": self.path,
            "WATCHDOG_USEC": "4000000",
            "WATCHDOG_PID": str(os.getpid()),
            "A": "b",
        }
        notify = take(self.clock, environment)
        self.assertEqual(environment, {"A": "b"})
        self.assertEqual(notify.state(), {"address": self.path, "watchdog_seconds": 4.0})
        self.assertEqual(take(self.clock, environment).state(), {"address": "", "watchdog_seconds": 0.0})
        self.assertEqual(take(self.clock, environment, notify.state()).state(), notify.state())

    def test_what_is_for_others(self) -> None:
        """sd_watchdog_enabled(3): WATCHDOG_PID may name another process; sockets of other kinds are not ours to use."""
        other = {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}
        self.assertEqual(take(self.clock, other).state(), {"address": self.path, "watchdog_seconds": 0.0})
        self.assertEqual(take(self.clock, {"NOTIFY_SOCKET": "vsock:2:1234"}).state()["address"], "")
