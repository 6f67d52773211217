"""The sources of tpops.cred that ask programs, in this process: accounts, pauses, what nobody sees from outside."""

from __future__ import annotations

import os
import pwd
import select
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.cred.fakes import login, means
from tpops.cred import identities
from tpops.cred.checkpassword import CheckpasswordAccounts
from tpops.cred.external import ExternalAccounts
from tpops.cred.keeper import Settings
from tpops.cred.pairs import Unpacking
from tpops.cred.programs import PATH, Programs, printable
from tpops.cred.workers import Workers
from tpops.credentials import CRAMMD5Credentials
from tpops.errors import BadCredentials, ConfigError, LookupUnavailable, UnknownUser
from tpops.model import Account

_ROOT = os.geteuid() == 0
_OWNER = pwd.getpwnam("nobody") if _ROOT else pwd.getpwuid(os.geteuid())


class ProgramsCase(TestCase):
    """A directory with programs."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tpops-"))
        self.directory.chmod(0o777)
        self.addCleanup(shutil.rmtree, self.directory)

    def program(self, script: str) -> tuple[str, ...]:
        """A program of shell."""
        path = self.directory / "program"
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(0o755)
        return (str(path),)

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Until it is so."""
        while not condition():
            await deferLater(reactor, 0.01, lambda: None)


class CheckpasswordTests(ProgramsCase):
    """Accounts of a checkpassword program, here one that always says yes."""

    def source(self, before: str) -> CheckpasswordAccounts:
        """A source that runs until the test ends."""
        command = self.program(before + '\nexec "$@"\n')
        source = CheckpasswordAccounts("cp", means(reactor=reactor, seconds=reactor.seconds), command)
        source.start()
        self.addCleanup(source.stop)
        return source

    async def test_identity_of_the_process(self) -> None:
        """Promise: uid and gid are those that the program has taken on, whatever the environment calls itself."""
        become = f"exec setpriv --reuid={_OWNER.pw_uid} --regid={_OWNER.pw_gid} --clear-groups"
        if not _ROOT:
            become = "exec"
        source = self.source(f'export HOME=/home/joe USER=other uid=0 gid=0\n{become} "$@"')
        account = await source.verify(login("joe"))
        self.assertEqual(account, Account("joe", "cp", home="/home/joe", uid=_OWNER.pw_uid, gid=_OWNER.pw_gid))

    async def test_environment(self) -> None:
        """Promise: userdb_* goes before the process's own; a MAILDIR begins at the home; values may have any octets."""
        source = self.source(
            "export HOME=/home/joe userdb_uid=root userdb_gid=77 userdb_home='/home/two\nlines' MAILDIR=./Mail/\n"
            "export userdb_quota_rule='a=b'"
        )
        account = await source.verify(login("joe"))
        self.assertEqual((account.uid, account.gid, account.home), (0, 77, "/home/two\nlines"))
        self.assertEqual(account.maildrop, "maildir:/home/two\nlines/Mail")
        source = self.source("export userdb_mail=maildir:~/elsewhere MAILDIR=/x")
        self.assertEqual((await source.verify(login("joe"))).maildrop, "maildir:~/elsewhere")

    async def test_replies_that_cannot_be_used(self) -> None:
        """Promise: a user that does not exist, an endless reply and one that is cut off let nobody in."""
        for before, reason in (
            ("export userdb_uid=no-such-user", "no user 'no-such-user'"),
            ("export X=$(head -c 100000 /dev/zero | tr '\\0' x)", "did not run"),
            ("printf 'uid=0\\000gid=0\\000' >&4; exit 0", "did not run"),
        ):
            with self.assertRaisesRegex(LookupUnavailable, reason):
                await self.source(before).verify(login("joe"))

    async def test_names_without_a_password(self) -> None:
        """Promise: they are nobody's; after a login the account is at hand."""
        source = self.source("")
        with self.assertRaises(UnknownUser):
            await source.account("joe")
        self.assertEqual(await source.requestAvatarId(login("joe")), b"cp:joe")
        self.assertEqual((await source.account("joe")).name, "joe")


class ExternalTests(ProgramsCase):
    """A program of tpop3d's format."""

    def source(self, script: str, **more: object) -> ExternalAccounts:
        """A source that runs until the test ends."""
        command = self.program(script)
        user = "nobody" if _ROOT else ""
        settings = {"user": user, "timeout_seconds": 20.0, **more}
        source = ExternalAccounts("ext", means(reactor=reactor, seconds=reactor.seconds), command, **settings)
        source.start()
        self.addCleanup(source.stop)
        return source

    def ask(self, source: ExternalAccounts, name: str = "joe") -> Deferred[Account]:
        """Verify a password."""
        return Deferred.fromCoroutine(source.verify(login(name)))

    async def test_accounts(self) -> None:
        """Promise: a uid brings home and group, a gid of its own goes before that, and neither need be there."""
        for reply, account in (
            ("uid\\000nobody\\000", Account("joe", "ext", *_named("nobody"))),
            ("uid\\0000\\000gid\\00077\\000", Account("joe", "ext", pwd.getpwuid(0).pw_dir, None, 0, 77)),
            ("uid\\0003999999\\000", Account("joe", "ext", uid=3999999)),
            ("mailbox\\000/m\\000", Account("joe", "ext", maildrop="maildir:/m")),
            ("mailbox\\000/m\\000mboxtype\\000bsd\\000", Account("joe", "ext", maildrop="mbox:/m")),
        ):
            source = self.source(f"head -c 12 >/dev/null; printf 'result\\000YES\\000{reply}\\000'; cat >/dev/null\n")
            self.assertEqual(await self.ask(source), account)

    async def test_pauses(self) -> None:
        """Promise: a program that ends before it has answered is started after longer and longer pauses."""
        source = self.source(f"echo >>{self.directory}/starts; exit 1\n")
        reasons = set()
        while len(reasons) < 2:
            with self.assertRaises(LookupUnavailable) as caught:
                await self.ask(source)
            reasons.add(str(caught.exception))
        self.assertEqual(
            reasons,
            {"ext: the program has ended with status 1", "ext: the program is not running, it is started again soon"},
        )
        starts = self.directory / "starts"
        before = len(starts.read_text())
        await self.wait(lambda: len(starts.read_text()) > before)

    async def test_names_without_a_password(self) -> None:
        """Promise: they are looked for among the accounts of the machine, those of people only."""
        source = self.source("cat >/dev/null\n")
        account = await source.account("nobody")
        self.assertEqual((account.uid, account.home), (pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_dir))
        for name in ("root", "no-such-user"):
            with self.assertRaises(UnknownUser):
                await source.account(name)

    async def test_digests(self) -> None:
        """Promise: CRAM-MD5 is never judged, and APOP is offered only where the configuration says so."""
        source = self.source("cat >/dev/null\n", apop=True)
        with self.assertRaises(UnknownUser):
            await source.requestAvatarId(CRAMMD5Credentials(b"joe", b"<1@x>", b"0" * 32))
        self.assertEqual(list(source.mechanisms()), [frozenset({"APOP"})])

    async def test_keeper_that_dies(self) -> None:
        """Promise: it is started again; but never with fewer rights, with which right passwords would look wrong."""
        source = self.source(
            "while head -c 12 >/dev/null; do printf 'result\\000YES\\000\\000'; cat >/dev/null; done\n"
        )
        programs = source._workers._programs
        self.assertEqual((await self.ask(source)).name, "joe")
        programs._keeper.kill()
        await self.wait(lambda: programs._channel is None)
        with self.assertRaises(LookupUnavailable):
            await self.ask(source)
        await self.wait(lambda: programs._channel is not None and bool(source._workers._idle))
        self.assertEqual((await self.ask(source)).name, "joe")
        programs._rights = -1
        programs._keeper.kill()
        await self.wait(lambda: programs._channel is None)
        await deferLater(reactor, 1.5, lambda: None)
        with self.assertRaises(LookupUnavailable):
            await self.ask(source)
        self.assertIsNone(programs._channel)

    async def test_wrong_answers(self) -> None:
        """Promise: too long an answer, none in time, and one that nobody asked for end the program."""
        for script, reason in (
            ("head -c 12 >/dev/null; head -c 5000 /dev/zero | tr '\\0' x; cat >/dev/null", "more than 4096 octets"),
            ("cat >/dev/null", "no answer in 0.3 seconds"),
            ("exec <&-; sleep 1000", "does not read|no answer"),
            ("head -c 12 >/dev/null; printf 'result\\000NO\\000\\000x'; cat >/dev/null", "goes on|says no"),
        ):
            with self.assertRaisesRegex((LookupUnavailable, BadCredentials), reason):
                await self.ask(self.source(script + "\n", timeout_seconds=0.3))
        source = self.source("printf x; cat >/dev/null\n", timeout_seconds=0.3)
        reason = ""
        while "is started again soon" not in reason:
            await deferLater(reactor, 0.05, lambda: None)
            with self.assertRaises(LookupUnavailable) as caught:
                await self.ask(source)
            reason = str(caught.exception)

    def test_check(self) -> None:
        """Promise: programs that cannot be run are named, by the check and by the start."""
        for source in (
            ExternalAccounts("e", means(), ("/no/such",), user="nobody"),
            CheckpasswordAccounts("c", means(), ("/no/such",)),
        ):
            self.assertIn("there is no program /no/such", source.check()[0])
            self.assertRaises(ConfigError, source.start)
        (path,) = self.program("true\n")
        os.chmod(path, 0o644)
        (problem,) = CheckpasswordAccounts("c", means(), (path,)).check()
        self.assertIn(f"{path} is not executable; chmod +x {path}", problem)

    async def test_cancelled(self) -> None:
        """Promise: who does not wait any more leaves no late answer behind: the program is ended."""
        source = self.source(f"echo $$ >>{self.directory}/pids; head -c 12 >/dev/null; exec sleep 1000\n")
        asked = self.ask(source)
        pids = self.directory / "pids"
        await self.wait(lambda: pids.exists() and bool(pids.read_text()))
        asked.addErrback(lambda _: None)
        asked.cancel()
        pid = int(pids.read_text().split()[0])
        await self.wait(lambda: not Path(f"/proc/{pid}").exists())
        self.assertNotIn(str(pid), pids.read_text().split()[1:])


class WorkersTests(ProgramsCase):
    """Programs that stay."""

    async def test_replaced_after_some_answers(self) -> None:
        """Promise: after so many answers a new program takes the place, and nobody waits in vain."""
        (path,) = self.program('while head -c 1 >/dev/null && printf "pid\\000$$\\000\\000"; do :; done\n')
        programs = Programs("w", Settings([path], [0, 1, 2], {"PATH": PATH}, []), reactor)
        workers = Workers(programs, Unpacking, 1, 20.0, answers=2)
        workers.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(workers.stop()))
        asked = [Deferred.fromCoroutine(workers.ask(b"x")) for _ in range(6)]
        pids = [(await one)["pid"] for one in asked]
        self.assertEqual([pids.count(pid) for pid in dict.fromkeys(pids)], [2, 2, 2])

    async def test_stale_octets_are_no_answer(self) -> None:
        """Promise: what was written before a question is not taken for its answer, read or not."""
        (path,) = self.program("head -c 1 >/dev/null; printf 'a\\0001\\000\\000'; cat >/dev/null\n")
        programs = Programs("w", Settings([path], [0, 1, 2], {"PATH": PATH}, []), reactor)
        workers = Workers(programs, Unpacking, 1, 20.0)
        workers.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(workers.stop()))
        (worker,) = workers._idle
        os.write(worker._program._input, b"x")
        # The reactor does not get its turn: the answer is there, and nobody has read it.
        os.set_blocking(worker._program._output.fileno(), True)
        select.select([worker._program._output.fileno()], [], [])
        self.assertEqual(await Deferred.fromCoroutine(workers.ask(b"x")), {"a": b"1"})
        self.assertFalse(worker.usable)
        self.assertTrue(all(one is not worker for one in workers._idle))


def _named(name: str) -> tuple[str, None, int, int]:
    entry = pwd.getpwnam(name)
    return entry.pw_dir, None, entry.pw_uid, entry.pw_gid


class SmallTests(SynchronousTestCase):
    """Identities and texts."""

    def test_identities(self) -> None:
        """Promise: names and numbers, and a group of its own."""
        nobody = pwd.getpwnam("nobody")
        self.assertEqual(identities.find("", ""), identities.Identity())
        for user in ("nobody", str(nobody.pw_uid)):
            self.assertEqual(identities.find(user, "").uid, nobody.pw_uid)
            self.assertEqual(identities.find(user, "0").gid, 0)
        self.assertEqual(identities.find("3999999", "77"), identities.Identity(3999999, 77, (77,)))
        for user, group, reason in (
            ("no-such-user", "", "user: there is no user"),
            ("nobody", "no-such-group", "group: there is no group"),
            ("", "0", "group is given without user"),
            ("3999999", "", "group: must be given"),
            ("99999999999", "", "too high"),
        ):
            with self.assertRaisesRegex(ValueError, reason):
                identities.find(user, group)

    def test_who_may_start_whom(self) -> None:
        """Promise: only root runs programs as others."""
        self.assertEqual(identities.Identity().problem(), "")
        self.assertEqual(bool(identities.Identity(3999999, 77).problem()), not _ROOT)

    def test_printable(self) -> None:
        """Promise: no control characters, no secrets, no long lines."""
        self.assertEqual(printable(b"a\tb\x1b[1m\xff\xe2\x80\xa8", ()), r"a\tb\x1b[1m\xff\u2028")
        self.assertEqual(printable(b"it is 1234", (b"1234", b"")), "it is (left out)")
        self.assertEqual(len(printable(b"x" * 1000)), 500)

    def test_users_that_do_not_exist(self) -> None:
        """Promise: a configuration error names the source and the key."""
        with self.assertRaisesRegex(ConfigError, "accounts source x: user: there is no user"):
            ExternalAccounts("x", means(), ("/bin/true",), user="no-such-user")
