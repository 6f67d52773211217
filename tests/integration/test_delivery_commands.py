"""tpops-pipe, tpops-store and tpops-useradd as processes: exit statuses, and what is in the maildrop then."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.server import PASSWORD, PATIENCE_SECONDS, USER, RunningServer, program, wait_until
from tests.support import caught_stderr
from tpops.admin import cli
from tpops.delivery import pipe

LETTER = b"Subject: letter\n\ntext\n"


def run(
    server: RunningServer, name: str, *arguments: str | bytes | Path, given: bytes = LETTER, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run one of the commands with a server's configuration."""
    environment = {**os.environ, "TPOPS_CONFIG": str(server.configuration_file)}
    return subprocess.run(
        [*program(name.split()[0]).split(), *name.split()[1:], *arguments],
        input=given,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env=environment,
        **options,
    )


class CommandCase(SynchronousTestCase):
    """A configuration with joe and ann; no server runs."""

    timeout = 240

    def setUp(self) -> None:
        self.server = RunningServer(self, users={USER: PASSWORD, "ann": PASSWORD})
        self.server.write_configuration()

    def delivered(self, *arguments: str | bytes | Path, given: bytes = LETTER, name: str = "tpops-pipe") -> None:
        """Deliver with success and without a word."""
        done = run(self.server, name, *arguments, given=given)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))

    def refused(self, status: int, *arguments: str | bytes | Path, name: str = "tpops-pipe", **options: Any) -> str:
        """Deliver without success; what is said."""
        done = run(self.server, name, *arguments, **options)
        said = done.stderr.decode()
        self.assertEqual((done.returncode, done.stdout), (status, b""), said)
        self.assertNotIn("Traceback", said)
        return said

    def mail(self, user: str = USER) -> list[bytes]:
        """What is stored, the oldest first."""
        stored = self.server.stored(user)
        return [stored[name] for name in sorted(stored)]


class StatusTests(CommandCase):
    """The exit statuses of TPOPS."""

    def test_delivered(self) -> None:
        """Promise: 0, and the octets are those of the message, whatever is in it."""
        files = []
        for number, octets in enumerate(corpus.ALL.values()):
            files.append(self.server.directory / f"message{number}")
            files[-1].write_bytes(octets)
        self.delivered(USER, *files, name="tpops-store")
        self.delivered(USER, given=corpus.ALL["lf"])
        self.assertEqual(self.mail(), [*corpus.ALL.values(), corpus.ALL["lf"]])

    def test_several_recipients(self) -> None:
        """Promise: everybody gets it; the failure of one does not stop the others; the worst status counts."""
        self.delivered(USER, "ann")
        said = self.refused(67, "nobody", USER, "nobody2", "ann")
        self.assertEqual(said.splitlines()[0], "5.1.1 nobody: there is no such user here")
        self.assertEqual(len(said.splitlines()), 2)
        self.assertEqual((len(self.mail()), len(self.mail("ann"))), (2, 2))

    def test_over_quota(self) -> None:
        """Promise: 73 when the message does not fit to the octet."""
        self.server.configuration["quota"] = {"octets": len(LETTER) * 2 - 1, "messages": 5}
        self.server.write_configuration()
        self.delivered(USER)
        self.assertEqual(self.refused(73, "nobody", USER).splitlines()[0], "5.2.2 joe: the mailbox is full")
        self.assertEqual(self.mail(), [LETTER])
        self.delivered("ann")

    def test_configuration_errors(self) -> None:
        """Promise: 75 for whatever is wrong with the configuration."""
        path = self.server.configuration_file
        whole = path.read_text()
        for text in ("this is no TOML", "[nonsense]\nx = 1\n", whole.replace("passwd_file", "nothing")):
            path.write_text(text)
            self.assertTrue(self.at_once("-c", str(path), USER).startswith("4.3.0 tpops-pipe: ConfigError: "))
        path.unlink()
        self.assertIn("no such configuration file", self.refused(75, USER))
        self.assertIn("no such configuration file", self.at_once("-c", "/nowhere", USER))
        self.assertEqual(self.mail(), [])

    def at_once(self, *arguments: str) -> str:
        """What is said where it does not come to a delivery."""
        with caught_stderr() as said:
            self.assertEqual(pipe.command(arguments), 75)
        return said()

    def test_lost_accounts(self) -> None:
        """Promise: 75 when a source cannot say, for known and unknown names alike."""
        (self.server.directory / "users").rename(self.server.directory / "away")
        (self.server.directory / "away").rename(self.server.directory / "users")
        with open(self.server.directory / "users", "a") as users:
            users.write("bob:{PLAIN}x:no-such-user:::/home/bob:\n")
        self.assertIn("passwd_file has a line for bob that cannot be used", self.refused(75, "bob", "nobody"))
        (self.server.directory / "users").unlink()
        said = self.refused(75, USER, "nobody").splitlines()
        self.assertEqual([line[:11] for line in said], ["4.3.0 joe: ", "4.3.0 nobod"])

    def test_sources_that_judge_passwords(self) -> None:
        """Promise: 75 for an address that a program may know by its password, 67 where it is said that it may not."""
        judge = {"driver": "strcred", "name": "judge", "checker": f"file:{self.server.directory / 'users'}"}
        self.server.configuration["accounts"].append(judge)
        self.server.write_configuration()
        self.delivered(USER)
        self.assertIn("judge may know somebody by his password only", self.refused(75, "nobody"))
        self.server.configuration["delivery"] = {"extension_separator": "+"}
        self.server.write_configuration()
        (self.server.directory / "users").chmod(0o600)
        check = run(self.server, "tpops check")
        self.assertEqual(check.returncode, 0, check.stderr)
        self.assertIn(b"warning: delivery: the accounts source judge may know", check.stdout)
        self.server.configuration["delivery"] = {"complete_sources": ["judge"]}
        self.server.write_configuration()
        self.refused(67, "nobody")
        self.server.configuration["delivery"] = {"complete_sources": ["jugde"]}
        self.server.write_configuration()
        said = self.at_once("-c", str(self.server.configuration_file), "nobody")
        self.assertIn("complete_sources names jugde; there are passwd_file, judge", said)

    def test_full_disk(self) -> None:
        """Promise: 75 when the disk is full, and nothing is left; also when there is no room to keep the message."""
        limit = 100_000

        def small_files() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        for octets in (200_000, 3_000_000):
            said = self.refused(75, USER, given=b"x" * octets, preexec_fn=small_files)
            self.assertIn("File too large", said)
        self.assertEqual(self.mail(), [])
        self.assertEqual(os.listdir(self.server.maildir(part="tmp")), [])

    def test_missing_maildir(self) -> None:
        """Promise: 75 and what to do, or the Maildir is made."""
        with open(self.server.directory / "users", "a") as users:
            users.write(f"new:{{PLAIN}}x::::{self.server.directory}/new:\n")
        self.assertIn("maildir.create", self.refused(75, "new"))
        self.server.configuration["maildir"] = {"create": True}
        self.server.write_configuration()
        self.delivered("new")
        self.assertEqual(len(self.server.stored("new")), 1)

    def test_tpops_pipe_and_store(self) -> None:
        """Promise: "tpops pipe" and "tpops store" do the same with the same statuses."""
        self.refused(67, "--", "-nobody", USER, name="tpops pipe")
        self.assertEqual(len(self.mail()), 1)
        for words, status, said in (
            (["store", "-x", USER], 64, "there is no option -x"),
            (["pipe"], 64, "no address is given"),
            (["-c", "/nowhere", "pipe", USER], 75, "/nowhere"),
            (["-c", "/nowhere", "store", USER, "file"], 75, "/nowhere"),
        ):
            with caught_stderr() as told:
                result = CliRunner().invoke(cli.tpops, words)
            self.assertEqual(result.exit_code, status)
            self.assertIn(said, told())
        self.assertIn("Deliver the message on standard input", CliRunner().invoke(cli.tpops, ["pipe", "-h"]).output)

    def test_killed(self) -> None:
        """Promise: kill -9 and TERM at any moment leave the message whole or not at all, and TERM says "again"."""
        for number in (signal.SIGKILL, signal.SIGTERM):
            environment = {**os.environ, "TPOPS_CONFIG": str(self.server.configuration_file)}
            process = subprocess.Popen(
                [program("tpops-pipe"), USER], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
            )
            assert process.stdin is not None
            assert process.stderr is not None
            process.stdin.write(b"Subject: half\n\n" + b"x" * 2_000_000)
            process.stdin.flush()
            fds = Path(f"/proc/{process.pid}/fd")
            wait_until(lambda fds=fds: any("(deleted)" in os.readlink(one) for one in fds.iterdir()), "it is kept")
            process.send_signal(number)
            process.stdin.close()
            status = process.wait(PATIENCE_SECONDS)
            process.stderr.close()
            self.assertIn(status, (-signal.SIGKILL,) if number == signal.SIGKILL else (75, -signal.SIGTERM))
            self.assertLessEqual({len(one) for one in self.mail()}, {2_000_015})


class MessageTests(CommandCase):
    """What is done to messages."""

    def test_memory(self) -> None:
        """Promise: 100 MB take hardly more memory than a small message."""
        most = []
        for octets in (1000, 100_000_000):
            command = [program("tpops-pipe"), "-c", str(self.server.configuration_file), USER]
            head = subprocess.Popen(["head", "-c", str(octets), "/dev/zero"], stdout=subprocess.PIPE)
            process = subprocess.Popen(command, stdin=head.stdout)
            assert head.stdout is not None
            head.stdout.close()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.assertEqual((head.wait(PATIENCE_SECONDS), process.returncode), (0, 0))
            most.append(usage.ru_maxrss)
        self.assertLess(most[1], most[0] + 20_000)
        self.assertEqual(sorted(map(len, self.mail())), [1000, 100_000_000])

    def test_addresses(self) -> None:
        """Promise: letters large or small, extensions, UTF-8; other octets are nobody's."""
        self.server.configuration["delivery"] = {"extension_separator": "+"}
        self.server.configuration["names"] = {"default_domain": "example.org"}
        self.server.write_configuration()
        for name in ("joe", "jürgen"):
            with open(self.server.directory / "users", "a") as users:
                users.write(f"{name}@example.org:{{PLAIN}}x::::{self.server.directory / USER}:\n")
        self.delivered("JOE@example.org", "joe", "joe+a+b@example.org", "Jürgen@example.org", "jürgen".encode())
        self.assertEqual(len(self.mail()), 5)
        said = self.refused(67, b"j\xfcrgen@example.org", "../joe@example.org")
        self.assertEqual(said.count("5.1.1"), 2)
        for environment in ({"LC_ALL": "C"}, {}):
            command = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
            command += [program("tpops-pipe"), "-c", str(self.server.configuration_file), "jürgen@example.org"]
            done = subprocess.run(command, input=LETTER, timeout=PATIENCE_SECONDS, check=False)
            self.assertEqual(done.returncode, 0)

    def test_spools(self) -> None:
        """Promise: the same into a spool, with the sender in its separator, while a session is open."""
        spools = self.server.directory / "spools"
        spools.mkdir()
        self.server.configuration["mail"] = {"location": f"mbox:{spools}/$(user)"}
        self.server.configuration["quota"] = {"messages": 2}
        self.server.start()
        self.delivered("-f", "bob@example.org", USER, given=b"Subject: one\n\nFrom me\n")
        client = self.server.poplib()
        self.delivered(USER)
        self.assertEqual(b"\n".join(client.retr(1)[1]), b"Subject: one\n\n>From me")
        client.dele(1)
        client.quit()
        text = (spools / USER).read_bytes()
        self.assertRegex(text, rb"\AFrom MAILER-DAEMON  \w{3} \w{3} [ \d]\d [\d:]{8} \d{4}\n" + LETTER + rb"\n\Z")
        self.delivered(USER)
        self.assertIn("the mailbox is full", self.refused(73, USER))

    def test_sessions_see_it(self) -> None:
        """Promise: mail that arrives during a session is there in the next one, and the session keeps its own."""
        self.server.start()
        client = self.server.poplib()
        self.delivered(USER)
        self.assertEqual(client.stat()[0], 0)
        client.quit()
        client = self.server.poplib()
        self.assertEqual(b"\n".join(client.retr(1)[1]) + b"\n", LETTER)
        client.dele(1)
        self.delivered(USER, given=corpus.ALL["lf"])
        client.quit()
        self.assertEqual(self.mail(), [corpus.ALL["lf"]])
