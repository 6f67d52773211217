"""The command line: what an operator types and reads."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import pwd
import subprocess
import sys

from click.testing import CliRunner, Result
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

import tpops
from tests.cred.fakes import login, means, verifier
from tpops.admin import check, cli, sources
from tpops.cred.sqlite import SQLiteAccounts, create
from tpops.errors import LoginError

ROOT = pathlib.Path(tpops.__file__).resolve().parents[1]


class CommandCase(SynchronousTestCase):
    """Runs commands on a configuration of the test's own."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        self.config = os.path.join(self.directory, "tpops.toml")
        self.runner = CliRunner()

    def run_command(self, *arguments: str, stdin: str | bytes = "") -> Result:
        return self.runner.invoke(cli.tpops, arguments, input=stdin)

    def tpops(self, *arguments: str, stdin: str | bytes = "") -> str:
        """A command that works."""
        result = self.run_command("-c", self.config, *arguments, stdin=stdin)
        self.assertEqual((result.exit_code, result.stderr), (0, ""), result.output)
        return result.stdout

    def refused(self, *arguments: str, stdin: str | bytes = "") -> str:
        """A command that ends with status 1 and a message."""
        result = self.run_command("-c", self.config, *arguments, stdin=stdin)
        self.assertEqual(result.exit_code, 1, result.output)
        self.assertNotIn("Traceback", result.output)
        return result.stderr

    def init(self) -> None:
        self.assertEqual(self.run_command("init", self.directory).exit_code, 0)

    def configure(self, text: str) -> None:
        os.makedirs(self.directory, exist_ok=True)
        pathlib.Path(self.config).write_text(text, "utf-8")

    def lets_in(self, name: str, password: str) -> bool:
        """Whether the server would."""
        database = SQLiteAccounts("sqlite", means(), os.path.join(self.directory, "accounts.sqlite"))
        self.addCleanup(database.close)
        try:
            answer = database.requestAvatarId(login(name, password))
        except LoginError:
            return False
        assert isinstance(answer, Deferred)
        results: list[object] = []
        answer.addBoth(results.append)
        return results == [f"sqlite:{name}".encode()]


class UserTests(CommandCase):
    """tpops user."""

    def setUp(self) -> None:
        super().setUp()
        self.init()

    def test_adds_an_account_with_a_password_from_stdin(self) -> None:
        """The name is made canonical; the hash is argon2id; the server lets him in."""
        said = self.tpops("user", "add", "Joe", "--stdin", stdin=b"s\xe9cret \r\nnot this\n")
        self.assertIn(f"added joe; mail in {self.directory}/mail/joe/Maildir", said)
        database = SQLiteAccounts("sqlite", means(), os.path.join(self.directory, "accounts.sqlite"))
        self.addCleanup(database.close)
        (record,) = database.records()
        self.assertTrue(record.password_hash.startswith("{ARGON2ID}"))
        right = verifier().verify(b"s\xe9cret ", record.password_hash)
        assert not isinstance(right, bool)
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(right)))

    def test_asks_for_the_password_twice_and_hides_it(self) -> None:
        """Typed twice alike; otherwise it asks again."""
        said = self.tpops("user", "add", "joe", stdin="one\ntwo\nsecret\nsecret\n")
        self.assertNotIn("secret", said)
        self.assertTrue(self.lets_in("joe", "secret"))

    def test_takes_no_password_from_the_command_line(self) -> None:
        """There is no place for one."""
        self.assertEqual(self.run_command("-c", self.config, "user", "add", "joe", "secret").exit_code, 2)

    def test_adds_with_scheme_home_and_maildrop(self) -> None:
        """What is given is stored."""
        said = self.tpops(
            "user", "add", "joe", "--stdin", "--scheme", "blf-crypt", "--maildrop", "maildir:~/M", "--home", "/h",
            stdin="secret\n",
        )  # fmt: skip
        self.assertIn("mail in /h/M", said)
        self.assertTrue(self.lets_in("joe", "secret"))

    def test_refuses_what_would_not_work(self) -> None:
        """Names, passwords, schemes, locations: one line each, and nothing is stored."""
        self.tpops("user", "add", "joe", "--stdin", stdin="secret\n")
        for arguments, stdin, words in (
            (("add", "JOE"), "x\n", "there is already an account joe"),
            (("add", "a/b"), "x\n", "cannot be a login name"),
            (("add", "ann"), "\n", "a password has 1 to 4096 octets"),
            (("add", "ann", "--scheme", "ROT13"), "x\n", "unknown password scheme 'ROT13'"),
            (("add", "ann", "--maildrop", "mbx:/x"), "x\n", "'maildir:'"),
            (("add", "ann", "--maildrop", "maildir:~/x"), "x\n", "give --home"),
            (("add", "ann", "--source", "other"), "x\n", "no writable accounts source 'other'"),
            (("passwd", "ann"), "x\n", "there is no account ann"),
        ):
            message = self.refused("user", *arguments, "--stdin", stdin=stdin)
            self.assertIn(words, message)
            self.assertEqual(message.count("\n"), 1, message)
        self.assertEqual(len(json.loads(self.tpops("user", "list", "--json"))), 1)

    def test_changes_a_password(self) -> None:
        """The new one counts, the old one does not."""
        self.tpops("user", "add", "joe", "--stdin", stdin="old\n")
        self.tpops("user", "passwd", "JOE", "--stdin", stdin="new\n")
        self.assertFalse(self.lets_in("joe", "old"))
        self.assertTrue(self.lets_in("joe", "new"))

    def test_disables_and_enables(self) -> None:
        """Logins are refused and allowed again."""
        self.tpops("user", "add", "joe", "--stdin", stdin="secret\n")
        self.tpops("user", "disable", "joe")
        self.assertFalse(self.lets_in("joe", "secret"))
        self.assertIn("refused", self.tpops("user", "list"))
        self.tpops("user", "enable", "joe")
        self.assertTrue(self.lets_in("joe", "secret"))

    def test_removes_after_asking_and_leaves_the_mail(self) -> None:
        """No means no; --yes does not ask."""
        self.tpops("user", "add", "joe", "--stdin", stdin="secret\n")
        mail = os.path.join(self.directory, "mail/joe/Maildir")
        os.makedirs(mail)
        self.assertIn("Aborted", self.refused("user", "remove", "joe", stdin="n\n"))
        self.tpops("user", "remove", "joe", stdin="y\n")
        self.assertEqual(json.loads(self.tpops("user", "list", "--json")), [])
        self.assertTrue(os.path.isdir(mail))
        self.tpops("user", "add", "joe", "--stdin", stdin="secret\n")
        self.tpops("user", "remove", "--yes", "joe")

    def test_lists_as_table_and_as_json(self) -> None:
        """For people and for programs."""
        self.tpops("user", "add", "joe@[x]", "--stdin", stdin="secret\n")
        self.assertIn("joe@[x]", self.tpops("user", "list"))
        self.assertEqual(
            json.loads(self.tpops("user", "list", "--json")),
            [{"name": "joe@[x]", "enabled": True, "source": "sqlite"}],
        )

    def test_several_sources_need_a_choice(self) -> None:
        """--source says which; a passwd-file is edited by hand."""
        for name in "ab":
            create(os.path.join(self.directory, name))
        two = "".join(f'[[accounts]]\ndriver = "sqlite"\nname = "{name}"\npath = "{name}"\n' for name in "ab")
        self.configure(f'{two}[mail]\nlocation = "maildir:$(user)"\n')
        message = self.refused("user", "add", "joe", "--stdin", stdin="x\n")
        self.assertIn("--source: a, b", message)
        self.tpops("user", "add", "joe", "--stdin", "--source", "b", stdin="x\n")
        self.assertEqual([row["source"] for row in json.loads(self.tpops("user", "list", "--json"))], ["b"])
        self.configure('[[accounts]]\ndriver = "passwd_file"\npath = "users"\n')
        self.assertIn("edit its file", self.refused("user", "add", "joe", "--stdin", stdin="x\n"))

    def test_a_missing_database_is_told(self) -> None:
        """One line, no traceback."""
        os.remove(os.path.join(self.directory, "accounts.sqlite"))
        message = self.refused("user", "list")
        self.assertIn("accounts.sqlite: No such file", message)
        self.assertEqual(message.count("\n"), 1)


class CheckTests(CommandCase):
    """tpops check."""

    def test_tells_every_mistake_of_the_file(self) -> None:
        """Each on a line of stderr, status 1."""
        self.configure("[limits]\nconections = 1\nipv6_prefix = 0\n")
        self.assertEqual(len(self.refused("check").splitlines()), 2)

    def test_tells_a_missing_file(self) -> None:
        """And what makes one."""
        self.assertIn("'tpops init' makes one", self.refused("check"))

    def test_warnings_are_no_problems(self) -> None:
        """They are shown, and the status is 0."""
        self.init()
        text = pathlib.Path(self.config).read_text("utf-8").replace('# sizes = "exact"', 'sizes = "file"')
        self.configure(text)
        self.assertIn("warning: maildir.sizes", self.tpops("check"))

    def test_looks_at_sources_logs_and_locations(self) -> None:
        """What a start or a login would stumble over."""
        os.makedirs(self.directory)
        pathlib.Path(self.directory, "users").write_text(
            "bad line\n" + "".join(f"user{number}:{{PLAIN}}x\n" for number in range(7)), "utf-8"
        )
        self.configure(
            '[[accounts]]\ndriver = "passwd_file"\npath = "users"\n[[accounts]]\ndriver = "sqlite"\npath = "none"\n'
            '[log]\naccess_log = "nowhere/access.log"\njson_log = "."\n'
        )
        message = self.refused("check")
        for words in (
            "users:1: no colon",
            "needs $(home), and 'user0' has none",
            "2 more accounts without a usable mail location",
            "accounts source sqlite: cannot use",
            f"log.access_log: there is no directory {self.directory}/nowhere",
            f"log.json_log: {self.directory} is a directory",
        ):
            self.assertIn(words, message)

    def test_looks_at_unix_accounts(self) -> None:
        """Both files are opened, and bad lines are told; accounts without a home have no mail location."""
        os.makedirs(self.directory)
        settings = '[[accounts]]\ndriver = "shadow"\npasswd_path = "passwd"\nshadow_path = "shadow"\n'
        self.configure(settings)
        self.assertIn("accounts source shadow: cannot read", self.refused("check"))
        pathlib.Path(self.directory, "passwd").write_text("joe:x:1000:100::/home/joe:/bin/sh\n", "utf-8")
        self.assertIn(f"cannot read {self.directory}/shadow: No such file", self.refused("check"))
        pathlib.Path(self.directory, "shadow").write_text("joe:!:::::::\n", "utf-8")
        self.tpops("check")
        with open(os.path.join(self.directory, "passwd"), "a", encoding="utf-8") as file:
            file.write("bad\nann:x:1001:100:::\nsys:x:1:1:::\n")
        message = self.refused("check")
        self.assertIn(f"{self.directory}/passwd:2: 1 fields instead of 7", message)
        self.assertIn("'ann' has none", message)
        self.assertNotIn("'sys'", message)

    def test_looks_at_the_servers_user(self) -> None:
        """An unknown one, and files that he may not use."""
        self.init()
        original = pathlib.Path(self.config).read_text("utf-8")
        self.configure(original.replace('# user = "mail"', 'user = "nobody-here"'))
        self.assertIn("nobody-here", self.refused("check"))
        nobody = next(entry.pw_name for entry in pwd.getpwall() if entry.pw_uid not in (0, os.geteuid()))
        os.chmod(self.directory, 0o755)
        with_user = original.replace('# user = "mail"', f'user = "{nobody}"')
        with_log = with_user.replace('# json_log = "/var/log/tpops/events.json"', 'json_log = "x.json"')
        self.configure(with_log)
        message = self.refused("check")
        self.assertIn("may not write", message)
        self.assertIn("accounts.sqlite", message)
        self.assertIn("log.json_log: the server's user may not write", message)
        os.chmod(os.path.join(self.directory, "accounts.sqlite"), 0o666)
        self.assertIn(f"may not write in {self.directory}", self.refused("check"))
        self.configure(with_user.replace('# group = "mail"', 'group = "no-such-group"'))
        self.assertIn("no-such-group", self.refused("check"))

    def test_rights_are_judged_as_the_kernel_does(self) -> None:
        """Owner first, then group, then the others; root may all."""
        path = self.mktemp()
        pathlib.Path(path).write_text("x", "utf-8")
        os.chmod(path, 0o640)
        facts = os.stat(path)
        other = facts.st_uid + 1
        self.assertTrue(check.RunsAs(0, frozenset()).may(path, os.W_OK))
        if facts.st_uid:
            self.assertTrue(check.RunsAs(facts.st_uid, frozenset()).may(path, os.W_OK))
        self.assertTrue(check.RunsAs(other, frozenset((facts.st_gid,))).may(path, os.R_OK))
        self.assertFalse(check.RunsAs(other, frozenset((facts.st_gid,))).may(path, os.W_OK))
        self.assertFalse(check.RunsAs(other, frozenset()).may(path, os.R_OK))


class ConfigTests(CommandCase):
    """tpops config."""

    def test_shows_values_with_their_origin(self) -> None:
        """As a table and as JSON; nothing is cut off in a pipe."""
        self.configure("[limits]\nconnections = 7\n")
        values = json.loads(self.tpops("config", "--json"))
        self.assertEqual(values["limits.connections"], {"value": 7, "origin": f"{self.config}:2"})
        self.assertEqual(values["limits.exempt"], {"value": [], "origin": "default"})
        table = self.tpops("config")
        self.assertIn(f"{self.config}:2", table)
        self.assertIn("limits.connections_per_address", table)


class EntryTests(CommandCase):
    """The program itself."""

    def test_shows_its_version_and_help(self) -> None:
        """tpops --version, tpops -h."""
        self.assertTrue(self.run_command("--version").stdout.startswith("tpops "))
        self.assertIn("Administer tpops", self.run_command("-h").stdout)

    def test_runs_as_a_program(self) -> None:
        """A real process: init, a user, TPOPS_CONFIG, an error in one line on stderr."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TPOPS_CONFIG": self.config}

        def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "tpops.admin.cli", *arguments],
                env=environment, input=stdin, capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip

        self.assertEqual(run("init", self.directory).returncode, 0)
        self.assertEqual(run("user", "add", "joe", "--stdin", stdin="secret\n").returncode, 0)
        again = run("user", "add", "joe", "--stdin", stdin="secret\n")
        self.assertEqual((again.returncode, again.stdout), (1, ""))
        self.assertEqual(again.stderr, "Error: there is already an account joe\n")
        self.assertEqual(run("check").returncode, 0)

    def test_a_mistake_of_ours_is_one_line_too(self) -> None:
        """What nobody expected is told without a traceback."""
        self.init()

        def broken(config: object) -> list[object]:
            raise RuntimeError("oops")

        self.patch(sources, "open_all", broken)
        self.patch(sys, "argv", ["tpops", "-c", self.config, "user", "list"])
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(self.assertRaises(SystemExit, cli.main).code, 1)
        self.assertEqual(said.getvalue(), "Error: RuntimeError: oops; please report this\n")

    def test_a_source_tree_has_no_version(self) -> None:
        """Where tpops is not installed, --version says so."""
        self.patch(cli.metadata, "version", _not_installed)
        self.assertIn("not installed", cli._version())


def _not_installed(name: str) -> str:
    raise cli.metadata.PackageNotFoundError(name)
