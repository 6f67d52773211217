"""A program in place of our own TRANSACTION: a real one, as a real user."""

from __future__ import annotations

import os
import poplib
import pwd
import signal
import ssl
import subprocess
from pathlib import Path
from typing import Any

from tests.integration.apart_case import ApartCase, children, sessions_of
from tests.integration.server import RunningServer, wait_until
from tests.integration.test_apart_sight import ask
from tests.integration.wire import Wire
from tests.pki import write_pem
from tests.support import need

_SOURCE = Path(__file__).with_name("session_program.c")


class ProgramTests(ApartCase):
    """What the program gets, and what becomes of it."""

    skip = need(None, "gcc")

    def start(self, *arguments: str, sessions: dict[str, Any] | None = None, **tables: Any) -> RunningServer:
        """A server with the program."""
        server = self.server(**tables)
        program = server.directory / "popit"
        subprocess.run(["gcc", "-Wall", "-Werror", "-o", str(program), str(_SOURCE)], check=True)
        server.configuration["sessions"] |= {"program": [str(program), *arguments], **(sessions or {})}
        return server.start()

    def who(self, wire: Wire) -> dict[str, list[str]]:
        """What the program says of itself."""
        status, body = wire.multi_line(b"WHO")
        self.assertEqual(status, b"+OK")
        found: dict[str, list[str]] = {}
        for line in body.decode().splitlines():
            key, _, value = line.partition(" ")
            found.setdefault(key, []).append(value)
        return found

    def test_what_it_gets(self) -> None:
        """Promise: the owner's ids, the Maildir as directory, the documented environment, and no other descriptor."""
        server = self.start("popit", "$(user)", "at=$(maildir)", "$(home)")
        account, entry = self.account, pwd.getpwnam(self.account.name)
        wire = server.connect()
        wire.line()
        wire.command(f"USER {account.name.upper()}".encode())
        answer = wire.command(f"PASS {account.password}".encode())
        self.assertEqual(answer, f"+OK {account.name} logged in".encode())
        found = self.who(wire)
        maildir = str(account.home / "Maildir")
        self.assertEqual(found["ids"], [f"{entry.pw_uid} {entry.pw_uid} {entry.pw_gid} {entry.pw_gid}"])
        self.assertEqual(found["cwd"], [maildir])
        self.assertEqual(found["files"], ["0"])
        self.assertEqual(found["arg"][1:], ["popit", account.name, f"at={maildir}", str(account.home)])
        environment = dict(one.split("=", 1) for one in found["env"])
        self.assertTrue(environment.pop("TCPREMOTEPORT").isdigit())
        self.assertEqual(
            environment,
            {
                "SHELL": "/usr/sbin/nologin",
                "HOME": str(account.home),
                "USER": account.name,
                "LOGNAME": account.name.upper(),
                "EXTENSION": "",
                "MAILDIR": maildir,
                "REMOTE_ADDR": "127.0.0.1",
                "TCPREMOTEIP": "127.0.0.1",
                "PROTO": "POP3",
                "PATH": "/usr/local/bin:/usr/bin:/bin",
            },
        )
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye from the program")
        self.assertEqual(wire.rest(), b"")
        self.assertEqual(server.event("disconnect", user=account.name)["reason"], "quit")
        sessions_of(server, 0)

    def test_folder_option_and_its_own_greeting(self) -> None:
        """Promise: popserv's folder and useropt; commands behind the login reach the program."""
        folder = self.account.home / "Maildir" / ".lists"
        entry = pwd.getpwnam(self.account.name)
        for path in (folder, folder / "new", folder / "cur", folder / "tmp"):
            path.mkdir()
            os.chown(path, entry.pw_uid, entry.pw_gid)
        server = self.start(
            "greet",
            sessions={"program_greets": True, "useropt": "/([^%@+]*)"},
            folders={"expression": r"\+([^%@/]*)"},
        )
        wire = server.connect()
        wire.line()
        name = f"{self.account.name}+lists/fast"
        wire.send(f"USER {name}\r\nPASS {self.account.password}\r\nNOPE\r\n".encode())
        self.assertTrue(wire.line().startswith(b"+OK"))
        self.assertEqual(wire.line(), b"+OK the program greets")
        self.assertEqual(wire.line(), b"-ERR unknown")
        found = self.who(wire)
        self.assertEqual(found["cwd"], [str(folder)])
        self.assertEqual(found["arg"][1:], ["greet", "--", "fast"])
        self.assertIn("EXTENSION=lists", found["env"])
        self.assertIn(f"LOGNAME={name}", found["env"])
        self.assertIn(f"USER={self.account.name}", found["env"])
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye from the program")

    def test_over_tls(self) -> None:
        """Promise: the program's octets as they are, however many."""
        server = self.server(tls={"certificate": "mail.pem"})
        trusted = server.directory / "trusted.pem"
        trusted.write_bytes(write_pem(server.directory / "mail.pem", "localhost", "127.0.0.1"))
        program = server.directory / "popit"
        subprocess.run(["gcc", "-Wall", "-Werror", "-o", str(program), str(_SOURCE)], check=True)
        server.configuration["sessions"]["program"] = [str(program)]
        server.start()
        client = poplib.POP3("127.0.0.1", server.port, timeout=60)
        self.addCleanup(client.close)
        client.stls(ssl.create_default_context(cafile=str(trusted)))
        client.user(self.account.name)
        client.pass_(self.account.password)
        lines = client._longcmd("BIG")[1]  # type: ignore[attr-defined]
        self.assertEqual(lines, [b"%09d of many lines" % number for number in range(200_000)])
        self.assertEqual(client.quit(), b"+OK bye from the program")
        sessions_of(server, 0)

    def test_ends(self) -> None:
        """Promise: the log has a bad exit and what the program says; a stop ends it; a lost client does, too."""
        server = self.start()
        wire = self.session(server)
        wire.send(b"FAIL\r\n")
        self.assertEqual(wire.rest(), b"")
        wait_until(lambda: "has ended, status 3" in server.output() and "the program complains" in server.output())
        self.assertEqual(server.event("disconnect", user=self.account.name)["reason"], "error")
        self.session(server).close()
        sessions_of(server, 0)
        wire = self.session(server)
        (session,) = sessions_of(server)
        (program,) = children(session)
        self.assertEqual([one["doing"] for one in ask(server, "who")], ["in a process of its own"])
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertEqual(wire.rest(), b"")
        wait_until(lambda: not Path(f"/proc/{program}").exists(), "the program has ended")

    def test_program_that_cannot_run(self) -> None:
        """Promise: the session ends, and the log says why."""
        server = self.server(sessions={"program": ["/no/such/program"]}).start()
        wire = self.session(server)
        self.assertEqual(wire.rest(), b"")
        wait_until(lambda: "cannot run /no/such/program: No such file or directory" in server.output())
