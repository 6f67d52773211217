"""
A network for the sockets of one test: nothing but a loopback interface, on which every port is free.

    network = PrivateNetwork(self)
    with network:
        listening = socket.create_server(("127.0.0.1", 110))

Sockets stay in the network in which they were made, also when other processes use them.  Needs root.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import lacking, need

#: Linux: <sched.h>.
_CLONE_NEWNET = 0x40000000

_MINE = Path("/proc/thread-self/ns/net")

#: What every machine has, and a new network has not; and where to send multicast.
_COMMANDS = (
    ("ip", "link", "set", "lo", "multicast", "on", "up"),
    ("ip", "route", "add", "224.0.0.0/4", "dev", "lo"),
)


class PrivateNetwork:
    """See the module.  What this thread does in C{with} happens in the network."""

    def __init__(self, testcase: SynchronousTestCase) -> None:
        need(testcase, "ip")
        self._system = ctypes.CDLL(None, use_errno=True)
        self._before = os.open(_MINE, os.O_RDONLY)
        testcase.addCleanup(os.close, self._before)
        if self._system.unshare(_CLONE_NEWNET):
            why = os.strerror(ctypes.get_errno())
            lacking(testcase, f"this machine lets us have no network of our own (unshare -n): {why}")
        try:
            self._network = os.open(_MINE, os.O_RDONLY)
            testcase.addCleanup(os.close, self._network)
            for command in _COMMANDS:
                subprocess.run(command, check=True, timeout=60)
        finally:
            self._enter(self._before)

    def __enter__(self) -> None:
        self._enter(self._network)

    def __exit__(self, *_: object) -> None:
        self._enter(self._before)

    def _enter(self, network: int) -> None:
        if self._system.setns(network, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
