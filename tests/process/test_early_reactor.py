"""A reactor that is made before a fork, and what sessions know of the configuration."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tpops.config.schema import Config
from tpops.process.broker_link import SESSION_TABLES, session_settings
from tpops.process.early_reactor import EarlyReactor
from tpops.process.session_start import settings

#: Two processes serve on the same reactor, each its own connection and timers.
_FORKS = """
import os, socket
from tpops.process.early_reactor import install
from tpops.process.packets import Reading

reactor = install()

class Echo(Reading):
    def __init__(self, connected):
        self.connected = connected
        super().__init__(reactor, connected.fileno())

    def doRead(self):
        said = self.connected.recv(100)
        reactor.callLater(0.001, self.connected.send, said + b" " + str(os.getpid()).encode())
        reactor.callLater(0.002, reactor.crash)

def play():
    ours, its = socket.socketpair()
    echo = Echo(its)
    ours.send(b"hello")
    reactor.run(installSignalHandlers=False)
    echo.stop_reading()
    assert ours.recv(100) == b"hello " + str(os.getpid()).encode()

play()
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        play()
        os._exit(7)
    play()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
print("done")
"""


class EarlyReactorTests(SynchronousTestCase):
    """L{EarlyReactor}."""

    def test_parent_and_children(self) -> None:
        """Promise: a reactor that has run before the fork serves in both processes, and neither sees the other's."""
        done = subprocess.run([sys.executable, "-c", _FORKS], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("done", done.stdout)

    def test_nothing_in_the_kernel(self) -> None:
        """Promise: it has no descriptor that parent and child would share."""
        reactor = EarlyReactor()
        self.assertEqual((reactor.getReaders(), reactor.getWriters(), reactor.waker), ([], [], None))

    def test_calls_from_the_only_thread(self) -> None:
        """Promise: what would be called from another thread is called in the next turn, though nobody wakes it."""
        reactor = EarlyReactor()
        called: list[int] = []
        reactor.callFromThread(called.append, 1)
        reactor.callFromThread(reactor.crash)
        reactor.run(installSignalHandlers=False)
        self.assertEqual(called, [1])

    def test_waits_for_timers_once(self) -> None:
        """Promise: it sleeps until a timer is due, rather than turn round for the rest of a millisecond."""
        reactor = EarlyReactor()
        self.assertIsNone(reactor.timeout())
        reactor.callLater(0.0104, int)
        rest = reactor.timeout()
        assert rest is not None
        self.assertEqual(rest * 1000, round(rest * 1000))
        self.assertGreater(rest, 0)


class SettingsTests(SynchronousTestCase):
    """L{settings}."""

    def test_says_what_the_configuration_says(self) -> None:
        """Promise: a session finds every key of its tables, with its value, and no other table."""
        config = Config.model_validate({"maildir": {"recursive": True, "ignored_folders": ["Spam"]}})
        found = settings(session_settings(config))
        for table, value in config.model_dump(include=SESSION_TABLES).items():
            for key, one in value.items():
                there = getattr(getattr(found, table), key)
                self.assertEqual(tuple(one) if isinstance(one, list) else one, there, f"{table}.{key}")
        self.assertEqual(found.server.processes, config.server.processes)
        self.assertEqual(found.maildir.ignored_folders, ("Spam",))
        self.assertEqual(set(vars(found)), set(SESSION_TABLES))
        self.assertEqual(set(vars(found.masters)), {"separator"})
