"""The commands of PBS: what they read, what they say, and what is in the store then."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import click
from click.testing import Result

from tests.admin.test_pbs import PbsCase
from tests.integration.server import program
from tpops.db.relay import Contents, Login, Sender
from tpops.postfix import pbsselect
from tpops.postfix.console import pbsdelete, pbsinsert


class ConsoleTests(PbsCase):
    """tpops-pbsinsert, tpops-pbsselect and tpops-pbsdelete."""

    def run_program(self, name: str, stdin: bytes = b"", config: str = "") -> subprocess.CompletedProcess[bytes]:
        """Run one as a program of its own."""
        command = [program(name), "--config", config or self.config]
        return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)

    def invoke(self, command: click.Command, stdin: bytes = b"", config: str = "") -> Result:
        """Run one here."""
        return self.runner.invoke(command, ["--config", config or self.config], input=stdin)

    def test_insert_and_select(self) -> None:
        """Lines of another POP server open the way; what is not understood is told and left out."""
        self.store.put(Contents(senders=[Sender("hoge@example.org", "hoge@example.com", 1)]))
        lines = b"login, user=Hoge, client=10.1.2.3\nrubbish\nlogin, user=x, client=host\r\n"
        lines += b"login, user=x, client=::1\r\n"
        done = self.invoke(pbsinsert, lines)
        self.assertEqual((done.exit_code, done.stdout), (65, ""))
        self.assertEqual(done.stderr.count("\n"), 2)
        self.assertEqual({one.address for one in self.store.logins()}, {"10.1.2.3", "::/64"})
        request = "request=smtpd_access_policy\nclient_address={}\nsender=hoge@example.com\n\n"
        done = self.run_program("tpops-pbsselect", (request.format("10.1.2.3") + request.format("10.1.2.4")).encode())
        self.assertEqual((done.returncode, done.stdout), (0, b"action=OK\n\naction=DUNNO\n\n"))

    def test_select_removes_what_is_outdated(self) -> None:
        """Once, when it starts, as PBS did; pbsdelete does nothing else."""
        for command in ("tpops-pbsselect", "tpops-pbsdelete"):
            self.store.record([Login("10.1.2.3", "x", 5), Login("10.1.2.3", "y", int(time.time()) + 999)])
            done = self.run_program(command)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))
            self.assertEqual(self.store.purge(), 0)

    def test_select_never_fails(self) -> None:
        """Without a configuration or a store every answer is DUNNO, and nothing else is written."""
        request = b"request=smtpd_access_policy\nclient_address=10.1.2.3\nsender=a@b\n\n"
        Path(self.store.path).write_bytes(b"rubbish " * 1000)
        for config in ("", os.path.join(self.directory, "no-such.toml")):
            done = self.run_program("tpops-pbsselect", request * 2, config)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"action=DUNNO\n\n" * 2, b""))

    def test_the_others_tell_what_is_wrong(self) -> None:
        """On standard error, with an exit status."""
        Path(self.store.path).write_bytes(b"rubbish " * 1000)
        for command, stdin in ((pbsinsert, b"login, user=x, client=10.1.2.3\n"), (pbsdelete, b"")):
            done = self.invoke(command, stdin)
            self.assertEqual(done.exit_code, 75)
            self.assertIn("file is not a database", done.stderr)
            done = self.invoke(command, stdin, os.path.join(self.directory, "no-such.toml"))
            self.assertEqual(done.exit_code, 1)
            self.assertIn("no-such.toml", done.stderr)
        self.configure("")
        self.assertIn("store is not set in [pop_before_smtp]", self.invoke(pbsdelete).stderr)

    def test_insert_as_a_program(self) -> None:
        """At the end of a pipe; names are those of this server."""
        done = self.run_program("tpops-pbsinsert", b"login, user=Hoge, client=::ffff:10.1.2.3\n")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))
        self.assertEqual([(one.address, one.user) for one in self.store.logins()], [("10.1.2.3", "hoge@example.org")])

    def test_select_piece_by_piece(self) -> None:
        """Requests and replies may come and go in any pieces; what never ends, or goes away, ends it."""
        request = b"request=smtpd_access_policy\nclient_address=10.1.2.3\nsender=a@b\n\n"
        for config in (self.config, os.path.join(self.directory, "no-such.toml")):
            pieces = [bytes((octet,)) for octet in request * 2] + [b""]
            written: list[bytes] = []

            def write(octets: bytes, written: list[bytes] = written) -> int:
                written.append(octets[:5])
                return len(octets[:5])

            self.assertTrue(pbsselect.serve(pbsselect._questions(config), lambda pieces=pieces: pieces.pop(0), write))
            self.assertEqual(b"".join(written), b"action=DUNNO\n\n" * 2)
            self.assertFalse(pbsselect.serve(pbsselect._questions(config), lambda: b"x" * 2**20, write))

        def broken(octets: bytes) -> int:
            raise BrokenPipeError

        self.assertFalse(pbsselect.serve(None, lambda: request, broken))
