"""C{tpops-inetd} under real super-servers: a process for each client."""

from __future__ import annotations

import os
import poplib
import pwd
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

from tests.integration.inetd_case import MESSAGE, InetdCase, command, free_port
from tests.integration.server import CHECKOUT, PASSWORD, USER, RunningServer, wait_until
from tests.integration.test_twistd import reachable_directory
from tests.pki import write_pem
from tests.support import need


class NowaitTests(InetdCase):
    """One process for each connection, under openbsd-inetd."""

    skip = need(None, "inetd")

    def test_a_session(self) -> None:
        """Promise: curl fetches the mail, the process ends, and the log has the client's address."""
        need(self, "curl")
        server = self.mail()
        inetd = self.inetd(server)
        url = f"pop3://127.0.0.1:{server.port}/1"
        fetched = subprocess.run(["curl", "-sS", "-u", f"{USER}:{PASSWORD}", url], capture_output=True, timeout=60)
        self.assertEqual((fetched.stdout, fetched.stderr), (MESSAGE.replace(b"\n", b"\r\n"), b""))
        wait_until(lambda: not self.children(inetd), "the process ends")
        self.assertIn("127.0.0.1", server.access()[0])
        login = server.event("login")
        self.assertEqual((login["user"], login["peer"]), (USER, "127.0.0.1"))

    def test_fetchmail(self) -> None:
        """Promise: fetchmail takes the mail and removes it."""
        need(self, "fetchmail")
        server = self.mail()
        self.inetd(server)
        taken = server.directory / "taken"
        control = server.directory / "fetchmailrc"
        control.touch(0o600)
        control.write_text(
            f'poll 127.0.0.1 port {server.port} proto pop3 user "{USER}" password "{PASSWORD}" sslproto ""\n'
            f'mda "cat > {taken}"\n'
        )
        done = subprocess.run(
            ["fetchmail", "-f", str(control), "-a", "--nosyslog", "--pidfile", str(server.directory / "pid")],
            capture_output=True,
            timeout=90,
            env={**os.environ, "FETCHMAILHOME": str(server.directory), "HOME": str(server.directory)},
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn(b"world", taken.read_bytes())
        wait_until(lambda: server.names() == set(), "the mail is removed")

    def test_wrong_password(self) -> None:
        """Promise: the delay for wrong passwords works within a connection, and nothing but POP3 gets to the client."""
        server = self.mail(protocol={"auth_delay_seconds": 0.05}, log={"level": "debug", "json_log": "events.json"})
        self.inetd(server)
        wire = self.connect(server)
        self.assertTrue(wire.line().startswith(b"+OK"))
        wire.command(b"USER joe")
        self.assertTrue(wire.command(b"PASS wrong").startswith(b"-ERR [AUTH]"))
        wire.command(b"USER joe")
        self.assertTrue(wire.command(f"PASS {PASSWORD}".encode()).startswith(b"+OK"))
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        self.assertEqual(wire.rest(), b"")
        self.assertEqual(server.event("login-failed")["peer"], "127.0.0.1")

    def test_many_at_once(self) -> None:
        """Promise: twenty sessions at the same time are served, each by a process of its own."""
        users = {f"user{number}": PASSWORD for number in range(20)}
        server = self.mail(users={**users, USER: PASSWORD})
        inetd = self.inetd(server)
        wires = [self.connect(server) for _ in users]
        for name, wire in zip(users, wires, strict=True):
            self.assertTrue(wire.log_in(name, PASSWORD).startswith(b"+OK"))
        self.assertEqual(len(self.children(inetd)), 20)
        for wire in wires:
            self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        wait_until(lambda: not self.children(inetd), "all processes end")

    def test_tls(self) -> None:
        """Promise: STLS works, and implicit TLS at the port of such a listener."""
        ports = [free_port(), free_port()]
        listen = [
            {"address": "127.0.0.1", "port": port, "tls": mode}
            for port, mode in zip(ports, ("optional", "implicit"), strict=True)
        ]
        server = self.mail(listen=listen, tls={"certificate": "mail.pem"})
        trusted = server.directory / "trusted.pem"
        trusted.write_bytes(write_pem(server.directory / "mail.pem", "127.0.0.1"))
        context = ssl.create_default_context(cafile=str(trusted))
        for server.port in ports:
            inetd = self.inetd(server)
            if server.port == ports[0]:
                client = poplib.POP3("127.0.0.1", server.port, timeout=60)
                client.stls(context)
            else:
                client = poplib.POP3_SSL("127.0.0.1", server.port, timeout=60, context=context)
            self.addCleanup(client.close)
            client.user(USER)
            client.pass_(PASSWORD)
            self.assertEqual(client.stat()[0], 1)
            client.quit()
            self.stop(inetd)

    def test_user(self) -> None:
        """Promise: started as root it is C{server.user} before the client has said anything."""
        nobody = pwd.getpwnam("nobody")
        server = self.mail(reachable_directory(self), server={"user": "nobody"})
        for path in [server.directory, *server.directory.rglob("*")]:
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        inetd = self.inetd(server)
        wire = self.connect(server)
        wire.log_in(USER, PASSWORD)
        (child,) = self.children(inetd)
        status = Path(f"/proc/{child}/status").read_text()
        self.assertIn(f"Uid:\t{nobody.pw_uid}\t{nobody.pw_uid}\t{nobody.pw_uid}\t{nobody.pw_uid}\n", status)
        wire.command(b"QUIT")

    def test_configuration_that_is_wrong(self) -> None:
        """Promise: the client is told to come again, and none of the reasons."""
        server = self.mail(limits={"connections": -1})
        self.inetd(server)
        wire = self.connect(server)
        self.assertEqual(wire.rest(), b"-ERR [SYS/TEMP] this server cannot serve at the moment\r\n")

    def test_term(self) -> None:
        """Promise: TERM ends the session without removing anything, HUP does not end it."""
        server = self.mail()
        inetd = self.inetd(server)
        wire = self.connect(server)
        wire.log_in(USER, PASSWORD)
        (child,) = self.children(inetd)
        os.kill(child, signal.SIGHUP)
        wire.command(b"DELE 1")
        os.kill(child, signal.SIGTERM)
        wire.rest()
        wait_until(lambda: not self.children(inetd), "the process ends")
        self.assertEqual(server.names(), {"1.host"})


class ExampleTests(InetdCase):
    """The lines in contrib/inetd, with other paths and ports."""

    def changed(self, server: RunningServer, name: str, *changes: tuple[str, str]) -> Path:
        """A copy for this test."""
        text = (CHECKOUT / "contrib" / "inetd" / name).read_text()
        for before, after in (("/etc/tpops/tpops.toml", str(server.configuration_file)), *changes):
            self.assertIn(before, text)
            text = text.replace(before, after)
        program = server.directory / "tpops-inetd"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m tpops.process.inetd "$@"\n')
        program.chmod(0o755)
        path = server.directory / name
        path.write_text(text.replace("/opt/tpops/bin/tpops-inetd", str(program)))
        return path

    def serves(self, server: RunningServer) -> None:
        """A session."""
        wire = self.connect(server)
        wire.log_in(USER, PASSWORD)
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))

    def test_inetd(self) -> None:
        """Promise: the lines for inetd.conf work as they are."""
        need(self, "inetd")
        server = self.mail()
        changes = (("\npop3 ", f"\n127.0.0.1:{server.port} "), ("\npop3s ", f"\n127.0.0.1:{free_port()} "))
        self.run_program(server, "inetd", "-i", str(self.changed(server, "inetd.conf", *changes)))
        self.serves(server)

    def test_tcpserver(self) -> None:
        """Promise: the run script works as it is."""
        need(self, "tcpserver")
        server = self.mail()
        self.run_program(server, "sh", str(self.changed(server, "tcpserver-run", ("0.0.0.0 110", f"0 {server.port}"))))
        self.serves(server)


class OtherProgramsTests(InetdCase):
    """The same under programs that are not inetd, and with a pipe."""

    def test_tcpserver(self) -> None:
        """Promise: a session under tcpserver; the log goes to its standard error, the address is the socket's own."""
        need(self, "tcpserver")
        server = self.mail()
        server.configuration["log"]["level"] = "debug"
        self.tcpserver(server)
        wire = self.connect(server)
        wire.log_in(USER, PASSWORD)
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        self.assertEqual(server.event("login")["peer"], "127.0.0.1")

    def test_xinetd(self) -> None:
        """Promise: a session under xinetd, and with wait = yes as well."""
        need(self, "xinetd")
        for wait in ("no", "yes"):
            server = self.mail(server={"autoclose_seconds": 0.2})
            xinetd = self.xinetd(server, wait)
            for _ in range(2):
                wire = self.connect(server)
                wire.log_in(USER, PASSWORD)
                self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
                wait_until(lambda started=xinetd: not self.children(started), "the process ends")
            self.stop(xinetd)

    def pipe(self, text: bytes, **environment: str) -> tuple[int, bytes, dict[str, object]]:
        """A session over pipes: exit status, what is said, and the login in the log."""
        server = self.mail()
        done = subprocess.run(
            command(server), input=text, capture_output=True, timeout=60, env={**os.environ, **environment}
        )
        return done.returncode, done.stdout, server.event("login")

    def test_pipe(self) -> None:
        """Promise: pipes will do, and TCPREMOTEIP tells who is there."""
        text = f"USER {USER}\r\nPASS {PASSWORD}\r\nRETR 1\r\nQUIT\r\n".encode()
        status, said, login = self.pipe(text, TCPREMOTEIP="127.0.0.9", TCPREMOTEPORT="4711")
        self.assertEqual(status, 0)
        self.assertIn(b"\r\nSubject: hello\r\n\r\nworld\r\n.\r\n+OK bye", said)
        self.assertEqual(login["peer"], "127.0.0.9")
        self.assertEqual(self.pipe(text)[2]["peer"], "unix")

    def test_environment_that_lies(self) -> None:
        """Promise: a socket that knows its peer is believed, not TCPREMOTEIP, and the log has the contradiction."""
        server = self.mail()
        with socket.create_server(("127.0.0.1", server.port)) as listening:
            wire = self.connect(server)
            connected, _ = listening.accept()
        with connected, open(server.directory / "error", "wb") as error:
            process = subprocess.Popen(
                command(server),
                stdin=connected,
                stdout=connected,
                stderr=error,
                env={**os.environ, "TCPREMOTEIP": "192.0.2.7"},
            )
        wire.log_in(USER, PASSWORD)
        wire.command(b"QUIT")
        self.assertEqual(process.wait(60), 0)
        self.assertEqual(server.event("login")["peer"], "127.0.0.1")
        said = (server.directory / "error").read_text()
        self.assertIn("TCPREMOTEIP says 192.0.2.7, but the connection comes from 127.0.0.1, which counts", said)


class WaitTests(InetdCase):
    """The port itself, lent by openbsd-inetd."""

    skip = need(None, "inetd")

    def test_port_goes_back_and_forth(self) -> None:
        """Promise: no client is refused or lost while the port changes hands again and again."""
        server = self.mail(server={"autoclose_seconds": 0.05, "workers": 4})
        inetd = self.inetd(server, "wait.1000")
        processes: set[int] = set()
        for _ in range(4):
            wire = self.connect(server)
            wire.log_in(USER, PASSWORD)
            processes.update(self.children(inetd))
            self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
            wait_until(lambda: not self.children(inetd), "the process ends")
        self.assertEqual(len(processes), 4)
        self.assertEqual({one["peer"] for one in server.events("login")}, {"127.0.0.1"})

    def test_who_comes_at_the_wrong_moment(self) -> None:
        """Promise: a client that comes when the process accepts nobody any more is served by the next one."""
        server = self.mail()
        inetd = self.inetd(server, "wait.1000")
        wire = self.connect(server)
        wire.log_in(USER, PASSWORD)
        wire.command(b"QUIT")
        (process,) = self.children(inetd)
        os.kill(process, signal.SIGSTOP)
        late = self.connect(server)
        os.kill(process, signal.SIGKILL)
        late.log_in(USER, PASSWORD)
        self.assertNotEqual(self.children(inetd), [process])

    def test_one_process_for_all(self) -> None:
        """Promise: clients share a process, which stays as long as one of them does; HUP reads the configuration."""
        users = dict.fromkeys(("ann", "bob", USER), PASSWORD)
        server = self.mail(users=users, server={"autoclose_seconds": 0.2})
        inetd = self.inetd(server, "wait")
        wires = [self.connect(server) for _ in users]
        for name, wire in zip(users, wires, strict=True):
            wire.log_in(name, PASSWORD)
        (process,) = self.children(inetd)
        server.configuration["protocol"] = {"greeting": "hello again"}
        server.write_configuration()
        os.kill(process, signal.SIGHUP)

        def greeting() -> bytes:
            wire = self.connect(server)
            line = wire.line()
            wire.command(b"QUIT")
            return line

        wait_until(lambda: b"hello again" in greeting(), "the new configuration holds")
        self.assertEqual(self.children(inetd), [process])
        # It is not the server that "tpops who" and others ask.
        self.assertFalse((server.directory / "control.sock").exists())
        for wire in wires:
            self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        wait_until(lambda: not self.children(inetd), "inetd has the port back")
