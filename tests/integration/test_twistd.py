"""twistd starts, refuses to start, and stops the service."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.server import CHECKOUT, PASSWORD, USER, RunningServer, toml, wait_until
from tests.integration.wire import Wire
from tests.support import need_root
from tpops.cred.hashes import hash_password


def reachable_directory(testcase: SynchronousTestCase, mode: int = 0o755) -> Path:
    """A directory with a short name that every user can enter."""
    directory = Path(tempfile.mkdtemp(prefix="tpops-"))
    testcase.addCleanup(shutil.rmtree, directory)
    directory.chmod(mode)
    return directory


class StartTests(SynchronousTestCase):
    """Ways to start."""

    timeout = 240

    def server(self, directory: Path | None = None, **tables: Any) -> RunningServer:
        """A server with one message that is not started."""
        server = RunningServer(self, directory, **tables)
        server.deliver("1.host", corpus.ALL["lf"])
        return server

    def check_serves(self, server: RunningServer) -> None:
        """A client sees the message."""
        wire = server.session()
        self.assertEqual(wire.multi_line(b"RETR 1")[1], corpus.wire(corpus.ALL["lf"]))
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (1 message left)")

    def test_plugin(self) -> None:
        """Promise: C{twistd -n tpops --config FILE}, and TERM ends it in good order."""
        server = self.server().start()
        self.check_serves(server)
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertNotIn("Traceback", server.output())
        self.assertEqual(len(server.access()), 1)

    def test_level_of_the_log(self) -> None:
        """Promise: C{log.level} leaves out what is less important, and "debug" has what happens in sessions."""
        server = self.server()
        server.configuration["log"]["level"] = "debug"
        self.check_serves(server.start())
        wait_until(lambda: "tpops.events.process_log#debug] logout: " in server.output())
        server.stop()
        server.configuration["log"]["level"] = "error"
        server.launch()
        wait_until(lambda: server.port and self.connects(server.port), "it listens")
        server.stop()
        self.assertEqual(server.output(), "")

    def connects(self, port: int) -> bool:
        """Whether somebody listens there."""
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            return False
        return True

    def test_configuration_from_the_environment(self) -> None:
        """Promise: $TPOPS_CONFIG is used when no file is named."""
        server = self.server()
        environment = {**os.environ, "TPOPS_CONFIG": str(server.configuration_file)}
        server.start("-n", "--pidfile=", "tpops", env=environment, cwd="/")
        self.check_serves(server)

    def test_application_file(self) -> None:
        """Promise: C{twistd -y tpops.tac} with $TPOPS_CONFIG."""
        server = self.server()
        environment = {**os.environ, "TPOPS_CONFIG": str(server.configuration_file)}
        server.start("-n", "--pidfile=", "-y", str(CHECKOUT / "tpops.tac"), env=environment)
        self.check_serves(server)
        self.assertEqual(server.stop(), -signal.SIGTERM)

    def test_daemon(self) -> None:
        """Promise: without -n it detaches, writes its process id and its log, and TERM ends it and removes the id."""
        server = self.server()
        pid_file, log_file = server.directory / "tpops.pid", server.directory / "twistd.log"
        arguments = ("--pidfile", str(pid_file), "--logfile", str(log_file))
        launched = server.launch(*arguments, "tpops", "--config", str(server.configuration_file))
        self.assertEqual(launched.wait(60), 0, server.output())
        pid = int(wait_until(lambda: pid_file.exists() and pid_file.read_text()))
        self.addCleanup(self.kill, pid)
        ready = wait_until(lambda: re.search(r"ready on .*:(\d+)", log_file.read_text()))
        server.port = int(ready[1])
        self.check_serves(server)
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not pid_file.exists(), "the process id is removed")
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon is gone")
        self.assertIn("Server Shut Down.", log_file.read_text())

    def test_daemon_that_cannot_start_says_why(self) -> None:
        """Promise: also in the background the reason gets to the terminal, and no process id is left."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            server = self.server(listen=[{"address": "127.0.0.1", "port": taken.getsockname()[1]}])
            pid_file = server.directory / "tpops.pid"
            arguments = ("--pidfile", str(pid_file), "--logfile", str(server.directory / "twistd.log"))
            launched = server.launch(*arguments, "tpops", "--config", str(server.configuration_file))
            self.assertNotEqual(launched.wait(60), 0)
        self.assertIn("cannot listen on 127.0.0.1:", server.output())
        wait_until(lambda: not pid_file.exists(), "no process id is left")

    def kill(self, pid: int) -> None:
        """End a daemon that a failed test left behind."""
        with contextlib.suppress(OSError):
            if b"twistd" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)

    def test_several_listeners(self) -> None:
        """Promise: IPv4, IPv6, two ports and a UNIX socket with its mode, all of the same service."""
        directory = reachable_directory(self)
        local = {"address": "127.0.0.1", "port": 0}
        listen: Sequence[dict[str, Any]] = [
            local,
            {"address": "::1", "port": 0},
            dict(local),
            {"address": "unix:pop3.socket", "mode": "0606"},
        ]
        server = self.server(directory, listen=listen).start()
        ports = [one["port"] for one in server.configuration["listen"][:3]]
        self.assertNotEqual(ports[0], ports[2])
        path = directory / "pop3.socket"
        self.assertEqual(path.stat().st_mode & 0o777, 0o606)
        for address in (("127.0.0.1", ports[0]), ("::1", ports[1]), ("127.0.0.1", ports[2]), str(path)):
            wire = Wire.connect(self, address)
            self.assertTrue(wire.log_in(USER, PASSWORD).startswith(b"+OK joe has 1 message"), address)
            self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
            wire.rest()
        wait_until(lambda: len(server.access()) == 4)
        self.assertEqual([line.split()[0] for line in server.access()], ["127.0.0.1", "::1", "127.0.0.1", "unix"])
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertFalse(path.exists())

    def test_stale_socket_is_replaced(self) -> None:
        """Promise: a socket that a killed server left does not keep the next one from starting."""
        server = self.server(reachable_directory(self), listen=({"address": "unix:pop3.socket"},)).start()
        path = str(server.directory / "pop3.socket")
        server.stop(signal.SIGKILL)
        self.assertTrue(os.path.exists(path))
        server.start()
        self.assertTrue(Wire.connect(self, path).log_in(USER, PASSWORD).startswith(b"+OK joe has 1 message"))

    def test_gives_up_roots_rights(self) -> None:
        """Promise: user, group and groups after the ports are bound, and everything still works."""
        need_root(self, "what is tested")
        nobody = pwd.getpwnam("nobody")
        server = self.server(
            reachable_directory(self),
            server={"user": "nobody"},
            protocol={"auth_delay_seconds": 0.05},
            maildir={"mark_seen": "retr"},
            listen=({"address": "127.0.0.1", "port": 0}, {"address": "unix:pop3.socket"}),
        )
        server.deliver("2.host", corpus.ALL["attachment"])
        for directory, _, files in os.walk(server.directory):
            for path in (directory, *(os.path.join(directory, name) for name in files)):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        server.start()
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{server.pid}/status").read_text().splitlines() if ":" in line
        )
        self.assertEqual(status["Uid"].split(), [str(nobody.pw_uid)] * 4)
        self.assertEqual(status["Gid"].split(), [str(nobody.pw_gid)] * 4)
        self.assertEqual(status["Groups"].split(), [str(group) for group in os.getgrouplist("nobody", nobody.pw_gid)])
        failed = server.connect()
        failed.line()
        failed.command(b"USER joe")
        self.assertTrue(failed.command(b"PASS wrong").startswith(b"-ERR [AUTH]"))
        wire = server.session()
        self.assertTrue(wire.multi_line(b"RETR 1")[0].startswith(b"+OK"))
        wire.command(b"DELE 2")
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (1 message left)")
        self.assertEqual(server.names(), {"1.host:2,S"})
        self.assertEqual((server.maildir() / "tpops_lock").stat().st_uid, nobody.pw_uid)
        self.assertEqual(server.access_log.stat().st_uid, nobody.pw_uid)
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertNotIn("Traceback", server.output())


class SocketOfAnotherUserTests(SynchronousTestCase):
    """A UNIX socket in a directory of root's, and a server that is root no more."""

    def test_socket_belongs_to_the_server_and_outlives_it_harmlessly(self) -> None:
        """Promise: its user and group may connect; one that cannot be removed is told, and replaced by a start."""
        need_root(self, "what is tested")
        nobody = pwd.getpwnam("nobody")
        directory = reachable_directory(self)
        run = directory / "run"
        run.mkdir(mode=0o755)
        server = RunningServer(self, directory, listen=({"address": "unix:run/pop3"},), server={"user": "nobody"})
        for path in (directory, directory / "users", *(directory / USER).rglob("*"), directory / USER):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        for _ in range(2):
            server.start()
            found = (run / "pop3").stat()
            self.assertEqual((found.st_uid, found.st_gid), (nobody.pw_uid, nobody.pw_gid))
            wire = Wire.connect(self, str(run / "pop3"))
            self.assertTrue(wire.log_in(USER, PASSWORD).startswith(b"+OK"))
            wire.close()
            self.assertEqual(server.stop(), -signal.SIGTERM)
            self.assertIn(f"{run}/pop3 stays: Permission denied", server.output())
            self.assertNotIn("Traceback", server.output())


class HashedPasswordTests(SynchronousTestCase):
    """Whatever a login needs is loaded before rights are given up."""

    timeout = 240

    def test_every_source_works_without_rights(self) -> None:
        """Promise: slow hashes, crypt and SQLite, where the user cannot read Python's own files."""
        need_root(self, "what is tested")
        directory = reachable_directory(self, 0o777)
        kinds = ("ARGON2ID", "SHA512-CRYPT", "BLF-CRYPT", "SSHA256", "MD5-CRYPT")
        users = {kind.lower(): "secret" for kind in kinds}
        server = RunningServer(self, directory, users=users, server={"user": "nobody"})
        lines = [f"{kind.lower()}:{hash_password(b'secret', kind)}::::{directory / kind.lower()}:\n" for kind in kinds]
        (directory / "users").write_text("".join(lines))
        for user in users:
            server.deliver("1.host", corpus.ALL["lf"], user=user)
        server.start()
        for user in users:
            wire = server.connect()
            self.assertIn(b"has 1 message", wire.log_in(user, "secret"), user)
            self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        self.assertNotIn("Traceback", server.output())


class RefusalTests(SynchronousTestCase):
    """What keeps it from starting is said in one line each, without a traceback, and the exit status tells."""

    timeout = 240

    def check(self, text: str, *parts: str) -> list[str]:
        """The lines that are no log lines, for warnings have a place of their own, too."""
        self.assertNotIn("Traceback", text)
        lines = [line for line in text.splitlines() if not re.match(r"\d{4}-\d\d-\d\dT|warning: ", line)]
        for part, line in zip(parts, lines, strict=True):
            self.assertIn(part, line)
        return lines

    def test_port_in_use(self) -> None:
        """Promise: address, port and what to do; the listeners before it are given back."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            server = RunningServer(
                self, listen=({"address": "127.0.0.1", "port": 0}, {"address": "127.0.0.1", "port": port})
            )
            text = server.refuses_to_start()
        self.check(text, f"cannot listen on 127.0.0.1:{port}: Address already in use (")

    def test_address_of_another_machine(self) -> None:
        """Promise: told apart from a port in use."""
        server = RunningServer(self, listen=({"address": "203.0.113.7", "port": 0},))
        self.check(server.refuses_to_start(), "this machine has no such address")

    def test_live_socket(self) -> None:
        """Promise: a UNIX socket on which somebody listens is left alone, as is a file that is no socket."""
        directory = reachable_directory(self)
        server = RunningServer(self, directory, listen=({"address": "unix:live.socket"},)).start()
        second = RunningServer(self, reachable_directory(self), listen=({"address": f"unix:{directory}/live.socket"},))
        self.check(second.refuses_to_start(), "another program listens on it")
        wire = Wire.connect(self, str(directory / "live.socket"))
        self.assertTrue(wire.line().startswith(b"+OK"))
        server.stop()
        (directory / "live.socket").write_text("precious")
        self.check(second.refuses_to_start(), "a file that is no socket is there")
        self.assertEqual((directory / "live.socket").read_text(), "precious")

    def test_missing_file(self) -> None:
        """Promise: its name, and how to make one."""
        server = RunningServer(self)
        missing = str(server.directory / "missing.toml")
        text = server.refuses_to_start("-n", "--pidfile=", "tpops", "--config", missing)
        self.check(text, f"{missing}: there is no such configuration file; 'tpops init' makes one")
        environment = {**os.environ, "TPOPS_CONFIG": missing}
        text = server.refuses_to_start("-n", "--pidfile=", "-y", str(CHECKOUT / "tpops.tac"), env=environment)
        self.check(text, f"{missing}: there is no such configuration file")

    def test_bad_keys(self) -> None:
        """Promise: every problem at once, with file and line and the nearest valid name."""
        server = RunningServer(
            self,
            protocol={"idle_timout_seconds": 700, "auth_tries": 0},
            limts={"connections": 5},
            maildir={"sizes": "guess"},
        )
        text = server.refuses_to_start()
        written = toml(server.configuration).splitlines()
        places = [
            f"{server.configuration_file}:{number}: "
            for number, line in enumerate(written, 1)
            if re.match(r"idle_timout_seconds|auth_tries|\[limts\]|sizes", line)
        ]
        self.assertEqual(len(places), 4)
        lines = self.check(text, *places)
        self.assertIn("did you mean protocol.idle_timeout_seconds?", lines[0])
        self.assertIn("protocol.auth_tries must be at least 1, not 0", lines[1])
        self.assertIn("did you mean limits?", lines[2])
        self.assertIn('not "guess"', lines[3])

    def test_unknown_user(self) -> None:
        """Promise: before a port is bound."""
        server = RunningServer(self, server={"user": "no-such-user"})
        text = server.refuses_to_start()
        self.check(text, "server.user: there is no user 'no-such-user' on this machine")
        self.assertNotIn("starting on", text)

    def test_log_that_cannot_be_written(self) -> None:
        """Promise: known at the start, not when the first line is lost."""
        server = RunningServer(self)
        server.configuration["log"]["access_log"] = "no/such/directory/access.log"
        self.check(server.refuses_to_start(), "access.log: No such file or directory")


class StopTests(SynchronousTestCase):
    """Stopping ends sessions; only QUIT deletes (RFC 1939 section 6)."""

    timeout = 240

    def check_stops(self, number: int) -> None:
        """Sessions at all stages end, marked messages stay, each connection has its line."""
        server = RunningServer(self)
        for name in ("1.host", "2.host"):
            server.deliver(name, b"Subject: big\n\n" + b"line\n" * (4 << 20))
        server.start()
        greeted = server.connect()
        greeted.line()
        marked = server.session(receive_octets=4096)
        marked.command(b"DELE 1")
        marked.send(b"RETR 2\r\n")
        marked.line()
        waiting = server.connect()
        waiting.send(b"USER joe\r\nPASS %s\r\n" % PASSWORD.encode())
        waiting.lines(2)
        self.assertEqual(server.stop(number), -number)
        self.assertEqual(greeted.rest(), b"")
        marked.rest()
        waiting.rest()
        self.assertEqual(server.names(), {"1.host", "2.host"})
        self.assertEqual({event["reason"] for event in server.events("disconnect")}, {"server shutdown"})
        self.assertEqual(len(server.access()), 3)
        self.assertNotIn("Traceback", server.output())

    def test_term(self) -> None:
        """Promise: what init systems send."""
        self.check_stops(signal.SIGTERM)

    def test_interrupt(self) -> None:
        """Promise: Ctrl-C."""
        self.check_stops(signal.SIGINT)

    def test_quit_before_the_stop_is_carried_out(self) -> None:
        """RFC 1939 section 6: what was answered with +OK is done."""
        server = RunningServer(self)
        for number in range(300):
            server.deliver(f"{number:03}.host", corpus.ALL["lf"])
        server.start()
        wire = server.session()
        wire.send(b"".join(b"DELE %d\r\n" % number for number in range(1, 301)))
        wire.lines(300)
        wire.send(b"QUIT\r\n")
        server.stop()
        answered = wire.rest()
        left = len(server.names())
        self.assertIn(left, (0, 300))
        if left == 0:
            self.assertIn(answered, (b"", b"+OK bye (0 messages left)\r\n"))
        else:
            self.assertEqual(answered, b"")
