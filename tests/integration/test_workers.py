"""Several processes serve the same listeners, and one looks after them."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.load import Load
from tests.integration.server import PASSWORD, USER, RunningServer, wait_until
from tests.integration.test_twistd import reachable_directory
from tests.integration.wire import Wire
from tests.support import need_root

WORKERS = 2


class WorkerCase(SynchronousTestCase):
    """Starts servers with two workers."""

    timeout = 240

    def server(
        self, directory: Path | None = None, users: dict[str, str] | None = None, **tables: Any
    ) -> RunningServer:
        """One with a message that is not started."""
        tables["server"] = {"workers": WORKERS, **tables.get("server", {})}
        server = RunningServer(self, directory, users={USER: PASSWORD, **(users or {})}, **tables)
        server.deliver("1.host", corpus.ALL["lf"])
        return server

    def start(self, **tables: Any) -> RunningServer:
        """One that runs."""
        return self.server(**tables).start()

    def send(self, server: RunningServer, number: int, expected: str) -> str:
        """Send the first process a signal and wait for what the log says."""
        before = len(server.output())
        os.kill(server.pid, number)
        wait_until(lambda: expected in server.output()[before:], f"it says {expected!r}")
        return server.output()[before:]

    def serving(self, server: RunningServer, user: str, password: str = PASSWORD) -> tuple[Any, int]:
        """A session, and the process that serves it."""
        wire = server.session(user, password)
        lock = server.maildir(user, "tpops_lock")
        inode = lock.stat().st_ino

        def holder() -> int:
            for pid in server.workers():
                for link in Path(f"/proc/{pid}/fd").glob("*"):
                    try:
                        if link.stat().st_ino == inode:
                            return pid
                    except OSError:
                        continue
            return 0

        return wire, int(wait_until(holder, "who holds the lock"))


class WorkerTests(WorkerCase):
    """A life with two workers."""

    def test_everybody_serves_and_there_is_one_log(self) -> None:
        """
        Promise: the kernel spreads connections; lines of all workers are whole, in one file of each kind.

        A worker takes less than 100 MiB.
        """
        users = {f"user{number}": PASSWORD for number in range(6)}
        server = self.start(users=users)
        numbers = sorted(server.workers().values())
        self.assertEqual(numbers, [1, 2])
        with Load(server.port, list(users)) as load:
            load.wait_for_more(300)
        load.check(self)
        wait_until(lambda: len(server.access()) >= load.polls)
        pattern = r"127\.0\.0\.1 \d{4}/\d\d/\d\d \S{8} \d{4}/\d\d/\d\d \S{8} user\d 0 0 0 0"
        self.assertEqual([line for line in server.access() if not re.fullmatch(pattern, line)], [])
        self.assertGreater(len({event["session"][:6] for event in server.events("connect")}), 1)
        for pid in (server.pid, *server.workers()):
            found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            assert found is not None
            self.assertLess(int(found[1]) / 1024, 100)
        failing = server.connect()
        failing.line()
        failing.command(b"USER joe")
        failing.command(b"PASS wrong")
        wait_until(
            lambda: re.search(r"\[worker [12]: tpops\.events\.process_log#info\] login-failed: ", server.output())
        )
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertEqual(server.workers(), {})
        self.assertNotIn("Traceback", server.output())

    def test_killed_worker(self) -> None:
        """Promise: the others serve on, its sessions' locks are gone, and another one takes its place."""
        server = self.start(users={"ann": PASSWORD, "bob": PASSWORD, "eve": PASSWORD})
        sessions = {user: self.serving(server, user) for user in (USER, "ann", "bob", "eve")}
        _, victim = sessions[USER]
        number = server.workers()[victim]
        sessions[USER][0].command(b"DELE 1")
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: f"worker {number} (process {victim}) has ended, signal SIGKILL" in server.output())
        wait_until(lambda: victim not in server.workers() and len(server.workers()) == WORKERS, "there are two again")
        for wire, pid in sessions.values():
            if pid == victim:
                self.assertEqual(wire.rest(), b"")
            else:
                self.assertEqual(wire.command(b"NOOP"), b"+OK")
        self.assertEqual(server.session().command(b"STAT"), b"+OK 1 %d" % len(corpus.wire(corpus.ALL["lf"])))

    def test_worker_that_dies_at_once(self) -> None:
        """Promise: it is started after longer and longer pauses, and does not keep the machine busy."""
        server = self.start()
        users = server.directory / "users"
        server.configuration_file.unlink()
        for pause in ("0.5", "1", "2"):
            before = len(server.output())
            (victim,) = [pid for pid, number in server.workers().items() if number == 1]
            os.kill(victim, signal.SIGKILL)
            expected = f"has ended, signal SIGKILL; another one starts in {pause} seconds"
            wait_until(lambda: expected in server.output()[before:], expected)  # noqa: B023
            wait_until(lambda: 1 in server.workers().values(), "it is back")
        self.assertTrue(users.exists())
        self.assertTrue(server.session().command(b"QUIT").startswith(b"+OK"))

    def test_worker_that_hangs(self) -> None:
        """Promise: one that gives no sign of life is ended, and the others serve."""
        environment = {**os.environ, "PYTHONPATH": str(self.impatient())}
        server = self.server().start(env=environment)
        victim = next(iter(server.workers()))
        os.kill(victim, signal.SIGSTOP)
        wait_until(lambda: "gives no sign of life, ending it" in server.output())
        wait_until(lambda: victim not in server.workers() and len(server.workers()) == WORKERS, "there are two again")

    def impatient(self) -> Path:
        """A directory that makes Python programs expect signs of life every tenth of a second."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        (directory / "sitecustomize.py").write_text(
            "import tpops.process.worker, tpops.process.child\n"
            "tpops.process.worker.ALIVE_SECONDS = tpops.process.child.ALIVE_SECONDS = 0.1\n"
        )
        return directory

    def test_supervisor_that_is_killed(self) -> None:
        """Promise: workers let nobody in any more and end, so that another one can start on the same port."""
        server = self.start(server={"drain_seconds": 3600})
        wire = server.session()
        workers = list(server.workers())
        server.stop(signal.SIGKILL)
        server.start()
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (1 message left)")
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the former workers have ended")
        self.assertTrue(server.session().command(b"QUIT").startswith(b"+OK"))

    def test_rights(self) -> None:
        """Promise: workers run as the configured user; the process that keeps the ports reads nothing of clients."""
        need_root(self, "what is tested")
        server = self.server(reachable_directory(self, 0o777), server={"user": "nobody"})
        server.start()
        for pid in server.workers():
            status = Path(f"/proc/{pid}/status").read_text()
            self.assertIn("Uid:\t65534\t65534\t65534\t65534", status)
            self.assertNotIn("Groups:\t0", status)
        self.assertIn("Uid:\t0\t0\t0\t0", Path(f"/proc/{server.pid}/status").read_text())


class StartTests(WorkerCase):
    """Starting, and not starting."""

    def check_refused(self, server: RunningServer, part: str) -> None:
        """It does not start, says why, and leaves nobody behind."""
        text = server.refuses_to_start()
        self.assertIn(f"\ntpops: {part}", "\n" + text)
        self.assertEqual(server.workers(), {})
        self.assertNotIn("Traceback", text)

    def test_what_only_workers_notice(self) -> None:
        """Promise: the same message and exit status as with one process."""
        server = self.server()
        server.configuration["log"]["access_log"] = "no/such/directory/access.log"
        self.check_refused(server, "cannot write the log ")
        server.configuration["log"] = {}
        server.configuration["tls"] = {"certificate": "missing.pem"}
        self.check_refused(server, "tls.certificate: ")

    def test_what_the_supervisor_notices(self) -> None:
        """Promise: a port in use, a user that there is not."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            listen = [{"address": "127.0.0.1", "port": taken.getsockname()[1]}]
            self.check_refused(self.server(listen=listen), "cannot listen on 127.0.0.1:")
        self.check_refused(self.server(server={"user": "no-such-user"}), "server.user: there is no user")

    def test_daemon(self) -> None:
        """Promise: in the background, with a process id and a log file, and with an application file."""
        server = self.server()
        pid_file, log_file = server.directory / "tpops.pid", server.directory / "twistd.log"
        arguments = ("--pidfile", str(pid_file), "--logfile", str(log_file))
        launched = server.launch(*arguments, "tpops", "--config", str(server.configuration_file))
        self.assertEqual(launched.wait(60), 0, server.output())
        pid = int(wait_until(lambda: pid_file.exists() and pid_file.read_text()))
        server.port = int(wait_until(lambda: re.search(r"ready on .*:(\d+)", log_file.read_text()))[1])
        self.assertTrue(server.session().command(b"QUIT").startswith(b"+OK"))
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not pid_file.exists(), "the process id is removed")
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon is gone")
        self.assertIn("Server Shut Down.", log_file.read_text())


class SignalTests(WorkerCase):
    """The same as with one process."""

    def test_reload_under_load(self) -> None:
        """Promise: nobody is refused or cut off; old workers stay with their sessions and end with them."""
        users = {f"user{number}": PASSWORD for number in range(3)}
        server = self.start(users=users)
        former = set(server.workers())
        wire = server.session()
        with Load(server.port, list(users)) as load:
            for number in range(int(os.environ.get("TPOPS_TEST_RELOADS", "3"))):
                server.configuration["protocol"] = {"greeting": f"number {number}"}
                server.write_configuration()
                self.send(server, signal.SIGHUP, "reloaded ")
                load.wait_for_more(1)
        load.check(self)
        late = server.connect()
        self.assertTrue(late.line().startswith(b"+OK number"))
        self.assertEqual(wire.command(b"NOOP"), b"+OK")
        wait_until(lambda: len(server.workers()) == WORKERS + 1, "one of the former workers is left")
        self.assertEqual(len(former & set(server.workers())), 1)
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (1 message left)")
        wait_until(lambda: not former & set(server.workers()), "the former workers are gone")
        self.assertNotIn("Traceback", server.output())

    def test_many_signals_at_once(self) -> None:
        """Promise: a HUP while another one is carried out is carried out after it; USR1 disturbs nobody."""
        server = self.start()
        former = set(server.workers())
        for _ in range(10):
            os.kill(server.pid, signal.SIGHUP)
            os.kill(server.pid, signal.SIGUSR1)
            time.sleep(0.05)
        wait_until(lambda: server.output().count("reloaded ") > 1, "one at once, and one for those that came then")
        wait_until(lambda: not former & set(server.workers()) and len(server.workers()) == WORKERS)
        self.assertNotIn("reload-failed", server.output())
        self.assertTrue(server.session().command(b"QUIT").startswith(b"+OK"))

    def test_bad_configuration(self) -> None:
        """Promise: changes nothing, whether the supervisor notices or a worker."""
        server = self.start()
        workers = server.workers()
        before = server.descriptors()
        server.configuration["limits"] = {"connectoins": 5}
        server.write_configuration()
        text = self.send(server, signal.SIGHUP, "the configuration stays as it was")
        self.assertIn("did you mean limits.connections?", text)
        server.configuration["limits"] = {}
        server.configuration["listen"].append({"address": "127.0.0.1", "port": 0})
        server.configuration["tls"] = {"certificate": "missing.pem"}
        server.write_configuration()
        text = self.send(server, signal.SIGHUP, "the configuration stays as it was")
        self.assertIn("reload-failed: tls.certificate: cannot read ", text)
        wait_until(lambda: server.workers() == workers, "the present workers stay, and nobody else")
        wait_until(lambda: server.descriptors() <= before, "nothing stays open")
        self.assertTrue(server.session().command(b"QUIT").startswith(b"+OK"))

    def test_other_listeners_and_workers(self) -> None:
        """Promise: also their number may change, and listeners of other kinds may come."""
        server = self.start()
        server.configuration["listen"].append({"address": "127.0.0.1", "port": 0})
        server.configuration["lmtp"] = {"listen": ["127.0.0.1:0"]}
        server.configuration["server"]["workers"] = 1
        server.write_configuration()
        text = self.send(server, signal.SIGHUP, "reloaded ")
        pop3, lmtp = (int(port) for port in re.findall(r"ready on 127\.0\.0\.1:(\d+)", text))
        wait_until(lambda: list(server.workers().values()) == [1], "there is one worker")
        self.assertTrue(Wire.connect(self, ("127.0.0.1", lmtp)).line().startswith(b"220 "))
        server.port = pop3
        self.assertTrue(server.session().command(b"QUIT").startswith(b"+OK"))

    def test_logs(self) -> None:
        """Promise: USR1 opens the logs of all workers anew."""
        server = self.start(users={"ann": PASSWORD, "bob": PASSWORD})
        sessions = [self.serving(server, user) for user in (USER, "ann", "bob")]
        moved = server.directory / "moved"
        server.access_log.rename(moved)
        os.kill(server.pid, signal.SIGUSR1)
        wait_until(server.access_log.exists, "the new file")
        for pid in server.workers():
            wait_until(lambda: self.has_open(pid, server.access_log), "every worker has it")  # noqa: B023
        for wire, _ in sessions:
            wire.command(b"QUIT")
        wait_until(lambda: len(server.access()) == 3)
        self.assertEqual(moved.read_bytes(), b"")

    def has_open(self, pid: int, path: Path) -> bool:
        """Whether a process has this file open."""
        return str(path) in {os.readlink(link) for link in Path(f"/proc/{pid}/fd").glob("*") if link.exists()}

    def test_term_and_term_again(self) -> None:
        """Promise: sessions go on after TERM, and end with the second one, without deleting."""
        server = self.start(server={"drain_seconds": 3600})
        wire = server.session()
        wire.command(b"DELE 1")
        os.kill(server.pid, signal.SIGTERM)

        def refused() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", server.port)) != 0

        wait_until(refused, "the port is closed")
        self.assertEqual(wire.command(b"NOOP"), b"+OK")
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertEqual(wire.rest(), b"")
        self.assertEqual(server.names(), {"1.host"})
        self.assertEqual(server.event("disconnect", user=USER)["reason"], "server shutdown")
