"""HUP: another configuration takes the place of the present one in a running server of one process."""

from __future__ import annotations

import os
import pwd
import signal
import socket
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.load import Load
from tests.integration.server import PASSWORD, USER, RunningServer, wait_until
from tests.integration.test_twistd import reachable_directory
from tests.integration.wire import Wire
from tests.support import need_root
from tpops.cred import sqlite


class ReloadCase(SynchronousTestCase):
    """Starts servers and reloads them."""

    timeout = 240

    def start(self, directory: Path | None = None, **tables: Any) -> RunningServer:
        """A server with one message."""
        server = RunningServer(self, directory, **tables)
        server.deliver("1.host", corpus.ALL["lf"])
        return server.start()

    def reload(self, server: RunningServer, expected: str = "reloaded ") -> str:
        """Write the configuration as it is now, send HUP, wait for what the log says of it."""
        server.write_configuration()
        return self.send_hup(server, expected)

    def send_hup(self, server: RunningServer, expected: str = "reloaded ") -> str:
        """Send HUP and wait for what the log says of it."""
        before = len(server.output())
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: expected in server.output()[before:], f"it says {expected!r}")
        return server.output()[before:]

    def greeting(self, server: RunningServer, port: int = 0) -> bytes:
        """What a new client is told."""
        wire = Wire.connect(self, ("127.0.0.1", port or server.port))
        line = wire.line()
        wire.close()
        return line.partition(b" <")[0]


class ReloadTests(ReloadCase):
    """A configuration that is right."""

    def test_nothing_of_the_former_one_stays_open(self) -> None:
        """Promise: after any number of reloads as many descriptors are open as after the first one."""
        server = RunningServer(self)
        accounts = {"driver": "sqlite", "path": "accounts.sqlite"}
        server.configuration["accounts"].insert(0, accounts)
        sqlite.create(str(server.directory / "accounts.sqlite"))
        server.start()
        self.reload(server)
        self.assertTrue(server.session().command(b"QUIT").startswith(b"+OK"))
        server.event("disconnect")
        before = server.descriptors()
        for _ in range(4):
            self.reload(server)
            self.assertTrue(server.session().command(b"QUIT").startswith(b"+OK"))
        wait_until(lambda: server.descriptors() <= before, "everything is closed")

    def test_new_connections_get_the_new_one(self) -> None:
        """Promise: what is open keeps the configuration that it began with."""
        server = self.start(protocol={"greeting": "one", "apop_only": False, "digests": "never"})
        old = server.session()
        early = server.connect()
        self.assertTrue(early.line().startswith(b"+OK one"))
        server.configuration["protocol"]["greeting"] = "two"
        server.configuration["accounts"][0]["path"] = "others"
        (server.directory / "others").write_text(f"ann:{{PLAIN}}x::::{server.directory / USER}:\n")
        self.reload(server)
        self.assertEqual(self.greeting(server), b"+OK two")
        self.assertEqual(early.command(b"USER joe"), b"+OK send PASS")
        old.command(b"DELE 1")
        self.assertTrue(old.command(b"QUIT").startswith(b"+OK"))
        self.assertEqual(server.names(), set())
        self.assertTrue(early.command(b"PASS " + PASSWORD.encode()).startswith(b"+OK"))
        early.command(b"QUIT")
        self.assertTrue(server.session("ann", "x").command(b"STAT").startswith(b"+OK 0 "))
        late = server.connect()
        late.line()
        late.command(b"USER joe")
        self.assertTrue(late.command(b"PASS " + PASSWORD.encode()).startswith(b"-ERR [AUTH]"))

    def test_listeners(self) -> None:
        """Promise: those that stay keep their socket, new ones are opened, others are closed."""
        directory = reachable_directory(self)
        listen = [{"address": "127.0.0.1", "port": 0}, {"address": "unix:one"}]
        server = self.start(directory, listen=listen)
        server.configuration["listen"] = [
            {"address": "127.0.0.1", "port": server.port},
            {"address": "127.0.0.1", "port": 0},
            {"address": "unix:two", "mode": "0606"},
        ]
        inode = self.socket_inode(server)
        text = self.reload(server)
        self.assertEqual(text.count("ready on"), 2)
        self.assertNotIn(f"127.0.0.1:{server.port}", text)
        self.assertEqual(self.socket_inode(server), inode)
        self.assertFalse((directory / "one").exists())
        self.assertEqual((directory / "two").stat().st_mode & 0o777, 0o606)
        self.assertTrue(Wire.connect(self, str(directory / "two")).line().startswith(b"+OK"))
        port = int(text.split("ready on 127.0.0.1:")[1].split()[0])
        self.assertTrue(self.greeting(server, port).startswith(b"+OK"))
        self.assertTrue(self.greeting(server).startswith(b"+OK"))
        server.configuration["listen"] = server.configuration["listen"][:1]
        self.reload(server)

        def refused() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) != 0

        wait_until(refused, "the second port is closed")
        self.assertTrue(self.greeting(server).startswith(b"+OK"))

    def socket_inode(self, server: RunningServer) -> str:
        """The kernel's number of the socket that listens on the first port."""
        for line in Path("/proc/net/tcp").read_text().splitlines():
            fields = line.split()
            if fields[1] == f"0100007F:{server.port:04X}" and fields[3] == "0A":
                return fields[9]
        raise AssertionError("nobody listens")

    def test_limits_know_who_is_there(self) -> None:
        """Promise: counts, penalties and the last logins outlive a reload."""
        server = self.start(
            limits={"connections": 2, "login_delay_seconds": 600},
            protocol={"auth_delay_seconds": 0.1, "auth_delay_max_seconds": 0.1},
        )
        wires = [server.session(), server.connect()]
        wires[1].line()
        server.configuration["protocol"]["greeting"] = "two"
        self.reload(server)
        self.assertTrue(server.connect().rest().startswith(b"-ERR [SYS/TEMP] too many connections"))
        wires[0].close()
        server.event("disconnect", user=USER)
        wire = server.connect()
        self.assertTrue(wire.line().startswith(b"+OK two"))
        wire.command(b"USER joe")
        self.assertTrue(wire.command(b"PASS " + PASSWORD.encode()).startswith(b"-ERR [LOGIN-DELAY]"))

    def test_nothing_is_left_behind(self) -> None:
        """Promise: what a former configuration had open is closed after its last session, not before."""
        server = self.start()
        server.poplib().quit()
        self.send_hup(server)
        wait_until(lambda: "disconnect" in str(server.events()))
        before = server.descriptors()
        wire = server.session()
        for _ in range(20):
            self.send_hup(server)
        wait_until(lambda: server.descriptors() <= before + 4, "former generations without sessions are closed")
        self.assertEqual(wire.command(b"NOOP"), b"+OK")
        wire.command(b"QUIT")
        wait_until(lambda: server.descriptors() <= before, "the last one is closed")
        server.event("disconnect", user=USER, reason="quit")
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertNotIn("Traceback", server.output())

    def test_stop_ends_sessions_of_former_configurations(self) -> None:
        """Promise: TERM waits for them as for the others."""
        server = self.start(server={"drain_seconds": 3600})
        wire = server.session()
        self.send_hup(server)
        os.kill(server.pid, signal.SIGTERM)
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (1 message left)")
        assert server.process is not None
        self.assertEqual(server.process.wait(60), -signal.SIGTERM)
        self.assertEqual(server.event("disconnect", user=USER)["reason"], "quit")

    def test_level_of_the_log(self) -> None:
        """Promise: also the level of the process's log follows."""
        server = self.start()
        server.configuration["log"]["level"] = "debug"
        self.reload(server)
        server.poplib().quit()
        wait_until(lambda: "tpops.events.process_log#debug] logout: " in server.output())

    def test_hundred_reloads_under_load(self) -> None:
        """Promise: nobody is refused or cut off."""
        users = {f"user{number}": PASSWORD for number in range(4)}
        server = self.start(users={USER: PASSWORD, **users})
        with Load(server.port, list(users)) as load:
            for number in range(100):
                server.configuration["protocol"] = {"greeting": f"number {number}"}
                self.reload(server)
                load.wait_for_more(1)
        load.check(self)
        self.assertEqual(self.greeting(server), b"+OK number 99")
        self.assertNotIn("Traceback", server.output())


class RefusalTests(ReloadCase):
    """A configuration that is wrong changes nothing, and the log says all that is wrong with it."""

    def check(self, server: RunningServer, *parts: str) -> None:
        """A reload that fails; the server goes on as before."""
        server.configuration["protocol"] = {"greeting": "never seen", **server.configuration.get("protocol", {})}
        text = self.reload(server, "the configuration stays as it was")
        for part in parts:
            self.assertIn(f"reload-failed: {part}", text)
        self.assertEqual(self.greeting(server), b"+OK tpops ready")
        self.assertTrue(server.session().command(b"QUIT").startswith(b"+OK bye (1 "))
        self.assertNotIn("Traceback", server.output())

    def test_keys(self) -> None:
        """Promise: every problem, with file and line."""
        server = self.start()
        server.configuration["limits"] = {"connectoins": 5}
        server.configuration["protocol"] = {"auth_tries": 0}
        self.check(server, f"{server.configuration_file}:")
        self.assertIn("did you mean limits.connections?", server.output())
        self.assertIn("protocol.auth_tries must be at least 1, not 0", server.output())

    def test_no_file(self) -> None:
        """Promise: not even a file that is gone stops a server."""
        server = self.start()
        server.configuration_file.unlink()
        self.send_hup(server, "the configuration stays as it was")
        self.assertTrue(self.greeting(server).startswith(b"+OK"))

    def test_address_in_use(self) -> None:
        """Promise: what was opened before the failure is closed again."""
        directory = reachable_directory(self)
        server = self.start(directory)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            server.configuration["listen"] += [{"address": "unix:new"}, {"address": "127.0.0.1", "port": port}]
            self.check(server, f"cannot listen on 127.0.0.1:{port}: Address already in use")
        self.assertFalse((directory / "new").exists())
        server.configuration["protocol"] = {}
        self.reload(server)
        self.assertTrue(self.greeting(server, port).startswith(b"+OK"))

    def test_certificate_and_log(self) -> None:
        """Promise: what only shows when it is used is tried before."""
        server = self.start()
        before = server.descriptors()
        server.configuration["tls"] = {"certificate": "missing.pem"}
        self.check(server, "tls.certificate: ")
        server.configuration["tls"] = {}
        server.configuration["log"]["access_log"] = "no/such/directory/access.log"
        self.check(server, "cannot write the log ")
        wait_until(lambda: server.descriptors() <= before, "nothing stays open")

    def test_what_needs_a_restart(self) -> None:
        """Promise: said, and not half done."""
        server = self.start()
        server.configuration["server"] |= {"workers": 3, "user": pwd.getpwuid(os.geteuid()).pw_name}
        self.check(server, "server.workers has changed, which needs a restart", "server.user has changed")

    def test_rights_that_were_given_up(self) -> None:
        """Promise: a port below 1024, and programs that need root's rights, are refused with what to do."""
        need_root(self, "what is tested")
        nobody = pwd.getpwnam("nobody")
        server = RunningServer(self, reachable_directory(self), server={"user": "nobody"})
        server.deliver("1.host", corpus.ALL["lf"])
        for directory, _, files in os.walk(server.directory):
            for path in (directory, *(os.path.join(directory, name) for name in files)):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        server.start()
        os.chown(server.configuration_file, nobody.pw_uid, nobody.pw_gid)
        server.configuration["listen"].append({"address": "127.0.0.1", "port": 1})
        self.check(server, "cannot listen on 127.0.0.1:1: Permission denied", "a port below 1024 needs rights that")
        server.configuration["listen"].pop()
        program = {"driver": "checkpassword", "name": "program", "command": ["/bin/false"]}
        server.configuration["accounts"].append(program)
        server.stop()
        server.configuration["protocol"] = {}
        server.start()
        self.check(server, "the accounts source program needs rights that were given up at the start: restart tpops")
