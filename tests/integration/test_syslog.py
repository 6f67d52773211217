"""Syslog from a running server, to sockets of the test and to the real rsyslogd."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.server import PATIENCE_SECONDS, RunningServer, end, wait_until
from tests.support import need


class Receiver:
    """A datagram socket that keeps what it gets."""

    def __init__(self, testcase: SynchronousTestCase, address: str | tuple[str, int]) -> None:
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(PATIENCE_SECONDS)
        testcase.addCleanup(self.socket.close)

    def until(self, part: str) -> list[str]:
        """The messages up to the first one that has this part."""
        found = []
        while not found or part not in found[-1]:
            found.append(self.socket.recv(65536).decode())
        return found


class SyslogTests(SynchronousTestCase):
    """What syslog says of sessions."""

    timeout = 240

    def short_directory(self) -> Path:
        """A directory whose path is short enough for a socket in it."""
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        return directory

    def server(self, syslog: str, **log: str | int) -> RunningServer:
        """A running one with two messages."""
        server = RunningServer(self, log={"syslog": syslog, **log})
        for name in ("1.host", "2.host"):
            server.deliver(name, corpus.ALL["lf"])
        return server.start()

    def session(self, server: RunningServer) -> None:
        """A failed login, then one that reads a message and deletes it."""
        wire = server.connect()
        wire.line()
        wire.command(b"USER joe")
        wire.command(b"PASS wrong")
        wire.socket.close()
        wire = server.session()
        wire.send(b"RETR 1\r\n")
        while wire.line() != b".":
            pass
        wire.command(b"DELE 1")
        wire.command(b"QUIT")
        wire.socket.close()

    def check(self, text: str) -> None:
        """All lines of such a session are there, with its identifier, and no secret."""
        octets = len(corpus.wire(corpus.ALL["lf"]))
        self.assertRegex(text, r"authentication failed: joe session=\w+ peer=127\.0\.0\.1 tries=1 \(BadCredentials")
        login = re.search(rf"login: joe has 2 messages \({2 * octets} octets\) session=(\w+) peer=127\.0\.0\.1", text)
        assert login is not None, text
        session = login[1]
        self.assertIn(f"connection from 127.0.0.1 session={session}", text)
        done = rf"top=0/0 retr=1/{octets} dele=1/{octets} left=1/{octets} uidl=\w{{8}}/removed seconds=\S+ reason=quit"
        has = rf"logout: joe has 1 messages \({octets} octets\)"
        self.assertRegex(text, rf"{has} session={session} peer=127\.0\.0\.1 {done}")
        self.assertIn(f"disconnect from 127.0.0.1 session={session}", text)
        self.assertNotIn("wrong\n", text)
        self.assertNotIn("secret", text)

    def test_local(self) -> None:
        """Promise: RFC 3164 with facility and tag; a receiver that is restarted gets what comes then."""
        path = self.short_directory() / "log"
        receiver = Receiver(self, str(path))
        server = self.server(f"unix:{path}", syslog_facility=19, syslog_tag="pop-1")
        self.session(server)
        found = [*receiver.until("disconnect from"), *receiver.until("disconnect from")]
        self.check("\n".join(found))
        for one in found:
            self.assertRegex(one, r"^<15[78]>\w{3} [ \d]\d \d\d:\d\d:\d\d pop-1\[\d+\]: ")
        receiver.socket.close()
        path.unlink()
        self.session(server)
        receiver = Receiver(self, str(path))
        found = [*receiver.until("disconnect from"), *receiver.until("disconnect from")]
        self.assertIn("authentication failed: joe", "\n".join(found))
        self.assertIn("syslog-away", server.output())

    def test_udp(self) -> None:
        """Promise: RFC 5424 with this machine's configured name."""
        receiver = Receiver(self, ("127.0.0.1", 0))
        port = receiver.socket.getsockname()[1]
        server = RunningServer(self, log={"syslog": f"udp:127.0.0.1:{port}"}, server={"hostname": "pop.example.org"})
        for name in ("1.host", "2.host"):
            server.deliver(name, corpus.ALL["lf"])
        server.start()
        self.session(server)
        found = [*receiver.until("disconnect from"), *receiver.until("disconnect from")]
        self.check("\n".join(found))
        self.assertRegex(
            found[0], r"^<22>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z pop\.example\.org tpops \d+ connect - "
        )

    def test_nobody_receives(self) -> None:
        """Promise: sessions are served, and a stop does not wait."""
        server = self.server("tcp:127.0.0.1:1")
        self.session(server)
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertIn("syslog-dropped: tcp:127.0.0.1:1: stopped while it could not be reached", server.output())
        self.assertNotIn("Traceback", server.output())


class RsyslogTests(SyslogTests):
    """The same lines in a file that the real rsyslogd has written, from each kind of input."""

    skip = need(None, "rsyslogd")
    test_local = test_udp = test_nobody_receives = None  # type: ignore[assignment]

    def rsyslogd(self, directory: Path) -> tuple[subprocess.Popen[bytes], int]:
        """A private one, and its TCP port."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        (directory / "conf").write_text(
            f"""
            global(workDirectory="{directory}")
            module(load="imuxsock" SysSock.Use="off")
            input(type="imuxsock" Socket="{directory}/log" CreatePath="off" RateLimit.Interval="0")
            module(load="imtcp")
            input(type="imtcp" port="{port}" address="127.0.0.1")
            template(name="plain" type="string"
                     string="%syslogfacility-text%.%syslogseverity-text% %programname% %msgid% %msg%\\n")
            action(type="omfile" file="{directory}/out" template="plain" asyncWriting="off")
            """
        )
        command = ["rsyslogd", "-n", "-f", str(directory / "conf"), "-i", str(directory / "pid")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self.addCleanup(end, process)
        wait_until((directory / "log").exists, "rsyslogd listens")
        return process, port

    def written(self, directory: Path) -> str:
        """What it has written about a session that has ended."""
        out = directory / "out"
        wait_until(lambda: out.exists() and out.read_text().count("disconnect from") >= 2, "rsyslogd has written")
        return out.read_text()

    def test_unix(self) -> None:
        """Promise: facility, severity, program and text arrive as they are."""
        directory = self.short_directory()
        self.rsyslogd(directory)
        self.session(self.server(f"unix:{directory}/log"))
        text = self.written(directory)
        self.check(text)
        self.assertRegex(text, r"(?m)^mail\.info tpops - +connection from")
        self.assertRegex(text, r"(?m)^mail\.notice tpops - +authentication failed")

    def test_tcp(self) -> None:
        """Promise: RFC 5424 in octets counted; after a restart of rsyslogd lines arrive again."""
        directory = self.short_directory()
        process, port = self.rsyslogd(directory)
        server = self.server(f"tcp:127.0.0.1:{port}")
        self.session(server)
        text = self.written(directory)
        self.check(text)
        self.assertRegex(text, r"(?m)^mail\.info tpops login login: joe has")
        process.terminate()
        process.wait(PATIENCE_SECONDS)
        wait_until(lambda: "syslog-away" in server.output(), "the server notices")
        self.session(server)
        conf = directory / "conf"
        process = subprocess.Popen(["rsyslogd", "-n", "-f", str(conf), "-i", str(directory / "pid")])
        self.addCleanup(end, process)
        wait_until(lambda: (directory / "out").read_text().count("disconnect from") >= 4, "the rest arrives")
