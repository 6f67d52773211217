"""USR2: the program that is installed now takes the place of the one that runs, and nobody notices."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

from tests.integration.load import Load
from tests.integration.server import CHECKOUT, PASSWORD, USER, RunningServer, wait_until
from tests.integration.test_workers import WORKERS, WorkerCase


class UpgradeTests(WorkerCase):
    """With a copy of the program, which is changed while it runs."""

    def install(self) -> Path:
        """A copy of the program."""
        directory = Path(self.mktemp()).absolute()
        shutil.copytree(CHECKOUT / "tpops", directory / "tpops", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(CHECKOUT / "twisted", directory / "twisted", ignore=shutil.ignore_patterns("__pycache__"))
        return directory

    def change(self, installed: Path, name: str, before: str, after: str) -> None:
        """Another version of a module."""
        path = installed / "tpops" / name
        text = path.read_text()
        self.assertIn(before, text)
        path.write_text(text.replace(before, after))

    def begin(self, installed: Path, *arguments: str, **tables: object) -> RunningServer:
        """Start the copy."""
        users = {f"user{number}": PASSWORD for number in range(3)}
        server = self.server(users=users, **tables)
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        server.launch(*(one.format(server.directory) for one in arguments), env=environment)
        return server

    def version(self, server: RunningServer) -> bytes:
        """What new clients are told of the program."""
        wire = server.session("user0")
        _, capabilities = wire.multi_line(b"CAPA")
        wire.command(b"QUIT")
        found = re.search(rb"IMPLEMENTATION (\S+)", capabilities)
        assert found is not None
        return found[1]

    def test_nobody_notices(self) -> None:
        """Promise: sessions go on, nobody is refused, counts and penalties go on, and it is the new program."""
        installed = self.install()
        server = self.begin(installed, limits={"connections_per_address": 20})
        server.wait_ready()
        former = set(server.workers())
        wire = server.session()
        self.change(installed, "file_assembly.py", "return f\"tpops-{version('tpops')}\"", 'return f"tpops-next"')
        self.change(installed, "process/supervisor.py", '"reloaded {path}"', '"reloaded by the next {path}"')
        with Load(server.port, [f"user{number}" for number in range(3)]) as load:
            for _ in range(2):
                load.wait_for_more(5)
                self.send(server, signal.SIGUSR2, "reloaded by the next ")
            load.wait_for_more(5)
        load.check(self)
        self.assertEqual(self.version(server), b"tpops-next")
        self.assertEqual(wire.command(b"NOOP"), b"+OK")
        wait_until(lambda: len(server.workers()) == WORKERS + 1, "a former worker stays with its session")
        self.assertEqual(len(former & set(server.workers())), 1)
        wires = [server.connect() for _ in range(19)]
        for one in wires:
            self.assertTrue(one.line().startswith(b"+OK"))
        self.assertTrue(server.connect().rest().startswith(b"-ERR [SYS/TEMP] too many"))
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (1 message left)")
        wait_until(lambda: not former & set(server.workers()), "it ends with it")
        victim = next(iter(server.workers()))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in server.workers() and len(server.workers()) == WORKERS, "there are two again")
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertEqual(server.workers(), {})
        self.assertNotIn("Traceback", server.output())

    def test_program_that_cannot_run(self) -> None:
        """Promise: one that is broken, or does not like the configuration, changes nothing."""
        installed = self.install()
        server = self.begin(installed)
        server.wait_ready()
        workers = server.workers()
        self.change(installed, "process/supervisor.py", "class Supervisor(Service):", "class Supervisor(Service:")
        text = self.send(server, signal.SIGUSR2, "upgrade-refused: the program stays as it was")
        self.assertIn("SyntaxError", text)
        self.change(installed, "process/supervisor.py", "class Supervisor(Service:", "class Supervisor(Service):")
        server.configuration["limits"] = {"connectoins": 5}
        server.write_configuration()
        text = self.send(server, signal.SIGUSR2, "upgrade-refused: the program stays as it was")
        self.assertIn("did you mean limits.connections?", text)
        self.assertEqual(server.workers(), workers)
        self.assertTrue(server.session().command(b"QUIT").startswith(b"+OK"))

    def test_workers_of_the_new_program_that_cannot_serve(self) -> None:
        """Promise: then those of the old one go on, also when one of them dies."""
        installed = self.install()
        server = self.begin(installed)
        server.wait_ready()
        server.configuration["tls"] = {"certificate": "missing.pem"}
        server.write_configuration()
        self.send(server, signal.SIGUSR2, "the configuration stays as it was")
        self.assertTrue(server.session().command(b"QUIT").startswith(b"+OK"))
        victim = next(iter(server.workers()))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in server.workers() and len(server.workers()) == WORKERS, "there are two again")
        self.assertTrue(server.session().command(b"QUIT").startswith(b"+OK"))

    def test_daemon(self) -> None:
        """Promise: process id, its file and the log file stay what they are."""
        installed = self.install()
        names = ("--pidfile", "{0}/tpops.pid", "--logfile", "{0}/twistd.log", "tpops", "--config", "{0}/tpops.toml")
        server = self.begin(installed, *names)
        assert server.process is not None
        self.assertEqual(server.process.wait(60), 0, server.output())
        pid_file, log_file = server.directory / "tpops.pid", server.directory / "twistd.log"
        pid = int(pid_file.read_text())
        self.addCleanup(self.kill, pid)
        server.port = int(wait_until(lambda: re.search(r"ready on .*:(\d+)", log_file.read_text()))[1])
        wire = server.session()
        os.kill(pid, signal.SIGUSR2)
        wait_until(lambda: "reloaded " in log_file.read_text())
        self.assertEqual(int(pid_file.read_text()), pid)
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (1 message left)")
        self.assertTrue(server.session().command(b"QUIT").startswith(b"+OK"))
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon is gone")
        self.assertFalse(pid_file.exists())
        self.assertNotIn("Traceback", log_file.read_text())

    def kill(self, pid: int) -> None:
        """End a daemon that a failed test left behind."""
        try:
            if b"twistd" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        except OSError:
            return

    def test_one_process(self) -> None:
        """Promise: says that it needs workers, and goes on."""
        server = self.server(server={"workers": 1}).start()
        self.send(server, signal.SIGUSR2, "upgrade-refused: one process cannot replace itself")
        self.assertTrue(server.session(USER).command(b"QUIT").startswith(b"+OK"))
