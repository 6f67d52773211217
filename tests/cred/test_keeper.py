"""tpops.cred.keeper, as the process that it is."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PATIENCE_SECONDS, end
from tests.support import need_root
from tpops.cred import keeper
from tpops.cred.keeper import CANNOT_RUN, Settings


class KeeperTests(SynchronousTestCase):
    """A keeper of /bin/sh."""

    timeout = 120

    def keeper(self, script: str, numbers: tuple[int, ...] = (0, 1, 2), **settings: Any) -> None:
        """Start one."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = ours
        self.addCleanup(ours.close)
        ours.settimeout(PATIENCE_SECONDS)
        with its:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__], stdin=its.fileno(), stderr=subprocess.PIPE
            )
        self.addCleanup(self.close, self.process)
        argv = settings.pop("argv", ["/bin/sh", "-c", script])
        self.tell(Settings(argv, list(numbers), {"PATH": os.environ["PATH"]}, ["TCPREMOTEIP"], **settings)._asdict())

    def close(self, process: subprocess.Popen[bytes]) -> None:
        """End a keeper."""
        end(process)
        if process.stderr is not None:
            process.stderr.close()

    def tell(self, what: object, *descriptors: int) -> None:
        """Send a packet."""
        socket.send_fds(self.channel, [json.dumps(what).encode()], descriptors)

    def start(self, number: int = 1, **environment: str) -> tuple[int, int, int]:
        """Ask for a run; gives our ends of its pipes."""
        pipes = [os.pipe() for _ in range(3)]
        (its_input, our_input), (our_output, its_output), (our_log, its_log) = pipes
        self.tell({"start": number, "environment": environment}, its_input, its_output, its_log)
        for descriptor in (its_input, its_output, its_log):
            os.close(descriptor)
        ours = (our_input, our_output, our_log)
        for descriptor in ours:
            self.addCleanup(os.close, descriptor)
        return ours

    def told(self) -> dict[str, Any]:
        """What the keeper says next."""
        return dict(json.loads(self.channel.recv(65536)))

    def wait(self) -> str:
        """Wait until the keeper has ended; gives what it wrote to standard error."""
        assert self.process.stderr is not None
        text = self.process.stderr.read().decode()
        self.process.wait(PATIENCE_SECONDS)
        return text

    def test_run(self) -> None:
        """Promise: the program has the three descriptors under their numbers, and no others."""
        script = "import os; os.write(4, os.read(3, 5)); os.write(4, repr([*map(os.path.exists, "
        script += "[f'/proc/self/fd/{n}' for n in range(100)])].count(True)).encode()); os._exit(5)"
        self.keeper("", numbers=(3, 4, 2), argv=[sys.executable, "-IS", "-c", script])
        writes, reads, _ = self.start(7)
        os.write(writes, b"hello")
        self.assertEqual(self.told(), {"ended": 7, "status": 5})
        self.assertEqual(os.read(reads, 1000), b"hello5")

    def test_environment(self) -> None:
        """Promise: the environment is what was given; a variable must be an expected one, and look like an address."""
        self.keeper("env; echo $TCPREMOTEIP")
        _, reads, _ = self.start(1, TCPREMOTEIP="2001:db8::1")
        self.assertEqual(self.told()["status"], 0)
        names = {line.partition(b"=")[0] for line in os.read(reads, 10000).splitlines()}
        self.assertEqual(
            names, {b"PATH", b"PWD", b"TCPREMOTEIP", b"2001:db8::1"} | (names & {b"SHLVL", b"_", b"OLDPWD"})
        )
        for environment in ({"LD_PRELOAD": "x"}, {"TCPREMOTEIP": "$(id)"}):
            self.start(2, **environment)
            self.assertEqual(self.channel.recv(65536), b"")
            self.assertIn("is not allowed", self.wait())
            self.keeper("env")

    def test_rights(self) -> None:
        """Promise: the program runs as whom the settings say, without root's groups."""
        need_root(self, "becoming another user")
        self.keeper("id -u; id -g; id -G", uid=65534, gid=65533, groups=[65533])
        _, reads, _ = self.start()
        self.assertEqual(self.told()["status"], 0)
        self.assertEqual(os.read(reads, 1000).split(), [b"65534", b"65533", b"65533"])

    def test_signals(self) -> None:
        """Promise: a run and what it has started are ended; numbers of nobody are passed over, others are refused."""
        self.keeper("trap '' TERM; echo begun; sleep 1000; true")
        _, reads, _ = self.start(3)
        self.assertEqual(os.read(reads, 100), b"begun\n")
        self.tell({"kill": 4, "signal": 9})
        self.tell({"kill": 3, "signal": 15})
        self.tell({"kill": 3, "signal": 9})
        self.assertEqual(self.told(), {"ended": 3, "status": -9})
        self.assertEqual(os.read(reads, 100), b"", "the sleep has ended as well")
        self.tell({"kill": 3, "signal": int(signal.SIGSTOP)})
        self.assertIn("is not allowed", self.wait())

    def test_program_that_is_not_there(self) -> None:
        """Promise: its messages say so."""
        self.keeper("", argv=["/no/such/program"])
        log = self.start()[2]
        self.assertEqual(self.told(), {"ended": 1, "status": CANNOT_RUN})
        self.assertEqual(os.read(log, 1000), b"cannot run /no/such/program: No such file or directory\n")

    def test_bad_packets(self) -> None:
        """Promise: whoever talks nonsense is not the server, and the keeper ends."""
        for packet in (b"{", b"[]", b'{"stop": 1}', b'{"start": 1}'):
            self.keeper("true")
            self.channel.send(packet)
            self.assertEqual(self.channel.recv(65536), b"", packet)
            self.assertTrue(self.wait(), packet)
        self.keeper("true")
        self.tell({"start": 1, "environment": {}})
        self.assertEqual(self.told()["failed"], 1)

    def test_in_this_process(self) -> None:
        """Promise: what is asked before the server goes is done, and then ended."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = ours
        ended, ends = os.pipe()
        for descriptor in (ended, ends):
            self.addCleanup(os.close, descriptor)
        os.write(ends, b"x")
        settings = Settings(["/bin/sh", "-c", "sleep 1000"], [0, 1, 2], {}, [])
        kept = keeper.Keeper(its, settings)
        for number in (1, 2):
            self.start(number)
        self.tell({"start": 3, "environment": {}})
        self.tell({"kill": 1, "signal": 9})
        ours.shutdown(socket.SHUT_WR)
        with its, warnings.catch_warnings():
            # Other tests may have left threads behind.
            warnings.simplefilter("ignore", DeprecationWarning)
            kept.serve(ended)
            self.assertEqual(self.told()["failed"], 3)
            kept.end_all()
            kept._tell({"ended": 1})
        ours.close()
        self.assertEqual(kept._numbers, {})

    def test_end_of_the_server(self) -> None:
        """Promise: programs end with it, the stubborn ones by KILL."""
        self.keeper("trap '' TERM; echo $$; while true; do sleep 1; done")
        pid = int(os.read(self.start()[1], 100))
        self.channel.close()
        self.assertEqual(self.wait(), "")
        self.assertEqual(self.process.returncode, 0)
        end_at = time.monotonic() + PATIENCE_SECONDS
        while Path(f"/proc/{pid}").exists() and time.monotonic() < end_at:
            time.sleep(0.01)
        self.assertFalse(Path(f"/proc/{pid}").exists())
