"""Secrets in lookup tables: made by the real postmap and dbm libraries, used over real connections."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import subprocess
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.server import PATIENCE_SECONDS, RunningServer, program, temporary, wait_until
from tests.integration.test_unix_accounts import PROGRAMS, UnixAccount
from tests.integration.wire import Wire
from tests.support import need, need_root
from tpops.cred.tables import berkeley, texthash
from tpops.cred.watched import LOOK_SECONDS

#: Where it is installed for users that are not root.
_PATH = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}

_WRONG = b"-ERR [AUTH] authentication failed"
_UNAVAILABLE = b"-ERR [SYS/TEMP]"

#: What a text for postmap may look like.
_ODD_TEXT = """
# a comment
joe  two words\x20\x20
  and more # no comment
   # a comment in between
\tthe end
Upper CASE
"quoted key"   "value"
"a\\"b" c
x\\ y z
missing
"open v
twice 1
twice 2
k\tv\r
"""

#: Makes a table with a library of dbm: keys and values are the lines that it is given, in turn.
_PERL = (
    "use Fcntl; my ($library, $path) = @ARGV; eval qq(require $library) or die $@; "
    'tie(my %table, $library, $path, O_RDWR | O_CREAT, 0600) or die "$path: $!"; '
    "chomp(my @lines = <STDIN>); %table = @lines;"
)


class TableCase(SynchronousTestCase):
    """A server whose accounts are in a table; it is not started."""

    timeout = 240

    def setUp(self) -> None:
        self.directory = temporary(self)
        self.table = self.directory / "apop"

    def server(self, kind: str, **settings: object) -> RunningServer:
        """A server on that table; joe has a message."""
        server = RunningServer(
            self,
            self.directory,
            {"joe": ""},
            protocol={"auth_delay_seconds": 0.05, "auth_delay_max_seconds": 0.05, "auth_tries": 100},
            mail={"location": f"maildir:{self.directory}/$(user)/Maildir"},
        )
        server.configuration["accounts"] = [{"driver": "apop_db", "table": f"{kind}:{self.table}", **settings}]
        server.deliver("1.host", corpus.ALL["lf"])
        return server

    def write(self, text: str, mode: int = 0o600) -> None:
        """Write the text that a table is made of, or that is one."""
        self.table.write_text(text)
        self.table.chmod(mode)

    def postmap(self, kind: str, *options: str) -> str:
        """Run the real one, with a configuration of its own; gives what it prints."""
        configuration = self.directory / "postfix"
        configuration.mkdir(exist_ok=True)
        (configuration / "main.cf").write_text("")
        return self.run_program("postmap", "-c", str(configuration), *options, f"{kind}:{self.table}")

    def run_program(self, *command: str, given: str = "") -> str:
        """What a program prints that must succeed."""
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            env={**os.environ, **_PATH},
        )
        self.assertEqual(done.returncode, 0, f"{command}: {done.stderr}")
        return done.stdout

    # Logins, each on a connection of its own; they give the answer.

    def last(self, wire: Wire, line: bytes) -> bytes:
        """The answer to a line, after which the session has ended."""
        answer = wire.command(line)
        wire.command(b"QUIT")
        wire.rest()
        return answer

    def by_password(self, server: RunningServer, name: str, password: str) -> bytes:
        wire = server.connect()
        wire.line()
        wire.command(f"USER {name}".encode())
        return self.last(wire, f"PASS {password}".encode())

    def by_apop(self, server: RunningServer, name: str, password: str) -> bytes:
        wire = server.connect()
        stamp = re.search(rb"<[^>]+>", wire.line())
        assert stamp is not None
        digest = hashlib.md5(stamp[0] + password.encode()).hexdigest()
        return self.last(wire, f"APOP {name} {digest}".encode())

    def by_cram_md5(self, server: RunningServer, name: str, password: str) -> bytes:
        wire = server.connect()
        wire.line()
        challenge = base64.b64decode(wire.command(b"AUTH CRAM-MD5").removeprefix(b"+ "))
        digest = hmac.digest(password.encode(), challenge, "md5").hex()
        return self.last(wire, base64.b64encode(f"{name} {digest}".encode()))

    def check_logins(self, server: RunningServer, name: str, right: str, wrong: str) -> None:
        """By every means, one password gets in and the other does not."""
        for log_in in (self.by_password, self.by_apop, self.by_cram_md5):
            answer = log_in(server, name, right)
            self.assertTrue(answer.startswith(b"+OK"), (log_in, answer))
            self.assertEqual(log_in(server, name, wrong), _WRONG, log_in)

    def wait_for_a_look(self) -> None:
        """Until the server must have looked at the file again."""
        time.sleep(LOOK_SECONDS + 0.1)


class PostmapTests(TableCase):
    """Tables of Postfix."""

    def setUp(self) -> None:
        super().setUp()
        self.skip_without("postmap", "postconf")

    def skip_without(self, *programs: str) -> None:
        """See L{need}; with the directories of root's programs."""
        self.patch(os, "environ", {**os.environ, **_PATH})
        need(self, *programs)

    def need_kind(self, kind: str) -> None:
        """Some kinds are packages of their own."""
        configuration = self.directory / "postfix"
        configuration.mkdir()
        (configuration / "main.cf").write_text("")
        if kind not in self.run_program("postconf", "-c", str(configuration), "-m").split():
            need(self, f"postfix-{kind}")

    def check_kind(self, kind: str) -> None:
        """Promise: logins by all means, and a table made again counts without a restart."""
        self.need_kind(kind)
        self.write("joe  secret of joe\nAnn {PLAIN}!x\n")
        self.postmap(kind)
        server = self.server(kind).start()
        self.check_logins(server, "joe", "secret of joe", "secret")
        self.assertTrue(self.by_apop(server, "ann", "!x").startswith(b"+OK"))
        self.assertEqual(self.by_password(server, "bob", "secret of joe"), _WRONG)
        self.write("joe changed\n" + "".join(f"user{number}  secret {number}\n" for number in range(5000)))
        self.postmap(kind)
        # A table of this size is read in a thread.
        wait_until(lambda: self.by_password(server, "joe", "changed").startswith(b"+OK"))
        self.check_logins(server, "joe", "changed", "secret of joe")
        self.check_logins(server, "user4999", "secret 4999", "changed")
        self.assertEqual(self.by_password(server, "ann", "!x"), _WRONG)

    def test_hash(self) -> None:
        """Berkeley DB, hash."""
        self.check_kind("hash")

    def test_btree(self) -> None:
        """Berkeley DB, btree."""
        self.check_kind("btree")

    def test_lmdb(self) -> None:
        """LMDB."""
        self.check_kind("lmdb")

    def test_cdb(self) -> None:
        """Constant database, which postmap replaces."""
        self.check_kind("cdb")

    def test_truncated_tables_are_no_wrong_passwords(self) -> None:
        """RFC 3206: [SYS/TEMP], the reason in the log, and all is well when the table is whole again."""
        for kind, ending in (("hash", ".db"), ("lmdb", ".lmdb")):
            self.directory = temporary(self)
            self.table = self.directory / "apop"
            self.need_kind(kind)
            self.write("".join(f"user{number}  secret {number}\n" for number in range(500)) + "joe pw\n")
            self.postmap(kind)
            server = self.server(kind).start()
            self.check_logins(server, "joe", "pw", "x")
            file = Path(f"{self.table}{ending}")
            os.truncate(file, file.stat().st_size // 2)
            self.wait_for_a_look()
            for log_in in (self.by_password, self.by_apop, self.by_cram_md5):
                answer = log_in(server, "joe", "pw")
                self.assertTrue(answer.startswith(_UNAVAILABLE), answer)
            why = f"{file} is damaged, or is being written: it ends before its last entry"
            server.event("login-failed", detail=f"LookupUnavailable: {why}")
            file.unlink()
            self.postmap(kind)
            self.wait_for_a_look()
            self.check_logins(server, "joe", "pw", "x")
            server.stop()

    def test_text_is_read_as_postmap_reads_it(self) -> None:
        """Comments, continued lines, quotation marks, folding: the same entries."""
        self.table.write_bytes(_ODD_TEXT.encode())
        self.postmap("hash")
        octets = Path(f"{self.table}.db").read_bytes()
        made = {key.removesuffix(b"\0"): value.removesuffix(b"\0") for key, value in berkeley.read(octets)}
        self.assertEqual(len(made), 7)
        read = dict(one for one in texthash.read(_ODD_TEXT.encode()) if isinstance(one, tuple))
        self.assertEqual(read, made)


class OtherTablesTests(TableCase):
    """Tables that need no Postfix."""

    def check_dbm(self, kind: str, library: str) -> None:
        """Promise: what that library writes is a table, with or without a NUL behind keys and values."""
        need(self, "perl")

        def make(*lines: str) -> None:
            given = "".join(line + "\n" for line in lines)
            self.run_program("perl", "-e", _PERL, library, str(self.table), given=given)

        make("joe", "secret of joe", "ann\0", "other\0")
        server = self.server(kind).start()
        self.check_logins(server, "joe", "secret of joe", "x")
        self.assertTrue(self.by_apop(server, "ann", "other").startswith(b"+OK"))
        make("joe", "changed", *(f"{what}{number}" for number in range(3000) for what in ("user", "secret ")))
        # A table of this size is read in a thread.
        wait_until(lambda: self.by_password(server, "joe", "changed").startswith(b"+OK"))
        self.check_logins(server, "joe", "changed", "secret of joe")
        self.check_logins(server, "user2999", "secret 2999", "changed")

    def test_ndbm_of_gnu(self) -> None:
        """What TPOPS 0.6 and later had on Linux."""
        self.check_dbm("dbm", "NDBM_File")

    def test_sdbm(self) -> None:
        """The pages of ndbm."""
        self.check_dbm("sdbm", "SDBM_File")

    def test_texthash(self) -> None:
        """A text, and no tool."""
        self.write("joe\tsecret of joe\n")
        server = self.server("texthash").start()
        self.check_logins(server, "joe", "secret of joe", "x")
        self.write("joe\tchanged\n")
        self.wait_for_a_look()
        self.check_logins(server, "joe", "changed", "secret of joe")

    def test_accounts_of_the_machine(self) -> None:
        """As ipop3d with APOP: a secret for mail beside the machine's password, and the mail in ~/Maildir."""
        need_root(self, "making an account of this machine")
        need(self, *PROGRAMS)
        account = UnixAccount(self)
        self.write(f"{account.name} for mail only\nroot secret\n")
        server = self.server("texthash", system_users=True)
        server.configuration["mail"] = {"location": "maildir:~/Maildir"}
        server.start()
        self.check_logins(server, account.name, "for mail only", account.password)
        self.assertEqual(self.by_password(server, "root", "secret"), _WRONG)
        wire = server.session(account.name, "for mail only")
        self.assertEqual(wire.multi_line(b"RETR 1")[1], corpus.wire(corpus.ALL["lf"]))


class CheckTests(TableCase):
    """What "tpops check" says."""

    def check(self, kind: str) -> tuple[int, str]:
        """Exit status and text."""
        server = self.server(kind)
        server.write_configuration()
        command = (program("tpops"), "-c", str(server.configuration_file), "check")
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        return done.returncode, done.stdout + done.stderr

    def test_says_what_is_wrong_and_what_to_do(self) -> None:
        """A table that is missing, open to everybody, damaged, or has bad lines; an unknown kind."""
        for kind, text, mode, said in (
            ("texthash", "joe secret\n", 0o640, "is right"),
            ("texthash", "joe secret\n", 0o644, "everybody on this machine may read it; chmod 0640"),
            ("texthash", "joe secret\nann\n", 0o640, "apop:2: there is no value after the key"),
            ("sdbm", "", 0o640, "apop.pag: No such file or directory"),
            ("ldap", "", 0o640, 'must be "hash:", "btree:"'),
        ):
            self.directory = temporary(self)
            self.table = self.directory / "apop"
            self.write(text, mode)
            status, output = self.check(kind)
            self.assertIn(said, output)
            self.assertEqual(status == 0, said == "is right")
            self.assertNotIn("secret", output.replace("secrets", ""))
