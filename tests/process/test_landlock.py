"""What a confined process can still do: tried by real processes of another user."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import wait_until
from tests.integration.test_twistd import reachable_directory
from tests.support import need_landlock, need_root
from tpops import file_assembly
from tpops.config.schema import Config
from tpops.errors import ConfigError, MaildropBroken
from tpops.model import Account
from tpops.process import confinement, landlock
from tpops.process.confinement import confine, in_words, version_of
from tpops.process.dotlocks import DotlocksBeside
from tpops.process.landlock import KEEP_FILES, READ_TREE, WRITE, Rule
from tpops.process.owners import Bounds, Owner, become

#: Nobody's ids.
UID, OTHER = 54_321, 54_322

_OWNER = {"server": {"user": "nobody"}, "sessions": {"run_as": "owner"}}


def attempt(work: Callable[[], object]) -> str:
    """ "done", or the name of the error."""
    try:
        work()
    except OSError as problem:
        return errno.errorcode.get(problem.errno or 0, str(problem))
    return "done"


class ConfinedCase(SynchronousTestCase):
    """
    Runs things in a process that has become somebody.

    @ivar directory: that everybody can enter
    """

    timeout = 120

    def setUp(self) -> None:
        need_root(self, "to become somebody else")
        need_landlock(self)
        self.directory = reachable_directory(self)

    def make(self, *names: str, uid: int = UID, mode: int = 0o700) -> Path:
        """Directories that belong to a user; the last one."""
        path = self.directory
        for name in names:
            path /= name
            if not path.exists():
                path.mkdir()
                path.chmod(mode)
                os.chown(path, uid, uid)
        return path

    def write(self, path: Path, text: str, uid: int = UID, mode: int = 0o600) -> Path:
        """A file that belongs to a user."""
        path.write_text(text)
        os.chown(path, uid, uid)
        path.chmod(mode)
        return path

    def as_user(self, work: Callable[[], list[str]], groups: tuple[int, ...] = ()) -> list[str]:
        """What is tried as the user, and what became of it."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                become(Owner(UID, UID, (UID, *groups), "/"), Bounds(0, 256))
                said = work()
            except BaseException as problem:
                said = [repr(problem)]
            os.write(writer, "\n".join(said).encode())
            os._exit(0)
        os.close(writer)
        with open(reader) as lines:
            said = lines.read().splitlines()
        os.waitpid(pid, 0)
        return said


class LandlockTests(ConfinedCase):
    """The system calls."""

    def test_files(self) -> None:
        """Promise: what the rules say is possible; everything else is not, whatever the modes say."""
        mine, public = self.make("mine"), self.write(self.directory / "public", "x", mode=0o666)
        one = self.write(mine / "one", "1")
        for name in ("new", "cur"):
            self.make("mine", name)
        self.write(mine / "new" / "m", "m")
        version = landlock.abi()

        def work() -> list[str]:
            landlock.restrict((Rule(os.fsencode(mine), KEEP_FILES), Rule(b"/no/such/place", READ_TREE)), version)
            return [
                attempt(one.read_text),
                attempt(lambda: one.write_text("2")),
                attempt(lambda: os.rename(mine / "new" / "m", mine / "cur" / "m:2,S")),
                attempt(lambda: os.unlink(mine / "cur" / "m:2,S")),
                attempt(lambda: os.listdir(mine)),
                attempt(lambda: os.mkdir(mine / "directory")),
                attempt(lambda: os.symlink("/", mine / "link")),
                attempt(lambda: os.mkfifo(mine / "fifo")),
                attempt(public.read_text),
                attempt(lambda: public.write_text("")),
                attempt(lambda: os.truncate(public, 0)),
                attempt(lambda: Path("/etc/passwd").read_text()),
                attempt(lambda: os.listdir("/")),
                attempt(lambda: os.execv("/bin/true", ["true"])),
                attempt(lambda: os.link(one, self.directory / "linked")),
            ]

        self.assertEqual(self.as_user(work), ["done"] * 5 + ["EACCES"] * 10)
        self.assertEqual((one.read_text(), public.read_text()), ("2", "x"))

    def test_rehearsal(self) -> None:
        """Promise: rules that are not to be enforced are made, and change nothing for this process."""
        before = len(os.listdir("/proc/self/fd"))
        rules = (Rule(os.fsencode(self.directory), READ_TREE),)
        landlock.restrict(rules, landlock.abi(), enforce=False)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        (self.directory / "made").write_bytes(b"x")

    def test_one_file(self) -> None:
        """Promise: a rule for a file is for that file, and a symbolic link is followed only where that is meant."""
        mine = self.make("mine")
        one, two = self.write(mine / "one", "1"), self.write(mine / "two", "2")
        (mine / "link").symlink_to(two)

        def work() -> list[str]:
            rules = Rule(os.fsencode(one), WRITE), Rule(os.fsencode(mine / "link"), WRITE, link=False)
            landlock.restrict(rules, landlock.abi())
            return [attempt(lambda: one.write_text("x")), attempt(two.read_text), attempt((mine / "link").read_text)]

        self.assertEqual(self.as_user(work), ["done", "EACCES", "EACCES"])

    def test_network_and_signals(self) -> None:
        """Promise: no TCP, in or out; no abstract sockets of others; no signals to others."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        abstract = socket.socket(socket.AF_UNIX)
        self.addCleanup(abstract.close)
        abstract.bind(f"\0tpops-test-{os.getpid()}")
        abstract.listen()
        victim = os.fork()
        if victim == 0:
            os.setresuid(UID, UID, UID)
            signal.pause()
            os._exit(0)

        def work() -> list[str]:
            landlock.restrict((), landlock.abi())
            with socket.socket() as client, socket.socket() as server, socket.socket(socket.AF_UNIX) as other:
                return [
                    attempt(lambda: client.connect(listener.getsockname())),
                    attempt(lambda: server.bind(("127.0.0.1", 0))),
                    attempt(lambda: other.connect(abstract.getsockname())),
                    attempt(lambda: os.kill(victim, signal.SIGKILL)),
                ]

        try:
            found = self.as_user(work)
        finally:
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
        # What older kernels than that of ABI 6 cannot do is not promised.
        version = landlock.abi()
        wanted = (["EACCES"] * 2 if version >= 4 else found[:2]) + (["EPERM"] * 2 if version >= 6 else found[2:])
        self.assertEqual(found, wanted)

    def test_older_kernels(self) -> None:
        """Promise: each ABI is asked for what it knows and no more; with less than 2 nothing is done by half."""
        mine = self.make("mine")
        one = self.write(mine / "one", "1")
        for version in range(landlock.LEAST_ABI, landlock.abi() + 1):

            def work(version: int = version) -> list[str]:
                landlock.restrict((Rule(os.fsencode(mine), KEEP_FILES),), version)
                return [attempt(one.read_text), attempt(lambda: Path("/etc/passwd").read_text())]

            self.assertEqual(self.as_user(work), ["done", "EACCES"], version)
        self.assertRaises(OSError, landlock.restrict, (), 1)
        self.assertEqual(landlock.words(1), "")
        self.assertEqual(landlock.words(3), "files elsewhere")
        self.assertEqual(landlock.words(7), "files elsewhere, TCP and signals to others")

    def test_what_is_refused_is_an_error(self) -> None:
        """Promise: a kernel that does not do what it should is never taken for one that does."""
        with mock.patch.object(landlock, "_RESTRICT_SELF", 9999):
            problem = self.assertRaises(OSError, landlock.restrict, (), landlock.abi())
        self.assertEqual(problem.errno, errno.ENOSYS)


class ConfinementTests(ConfinedCase):
    """What is given to which maildrop."""

    def confined(
        self,
        account: Account,
        work: Callable[[DotlocksBeside], list[str]],
        groups: tuple[int, ...] = (),
        **tables: object,
    ) -> list[str]:
        """Try it as the user, confined to his maildrop."""
        config = Config.model_validate({**_OWNER, **tables})

        def tried() -> list[str]:
            dotlocks = DotlocksBeside()
            remembered = str(self.directory / "home" / ".tpops" / "mbox")
            maildrops = file_assembly.file_maildrops(config, remembered, Clock(), None, dotlocks)
            confine(config, landlock.abi(), maildrops, account, dotlocks)
            return work(dotlocks)

        return self.as_user(tried, groups)

    def test_maildir(self) -> None:
        """Promise: the Maildir and its folders, and nothing else of the home; directories only with create."""
        home = self.make("home")
        self.write(home / "diary", "private")
        account = Account("joe", "x", home=str(home), maildrop="maildir:~/Maildir")
        for part in ("new", "cur", "tmp", ".lists"):
            self.make("home", "Maildir", part)
        self.make("other", uid=OTHER, mode=0o755)
        foreign = self.write(self.directory / "other" / "mail", "x", OTHER, 0o644)

        def work(_: DotlocksBeside) -> list[str]:
            maildir = home / "Maildir"
            return [
                attempt(lambda: (maildir / "tpops_lock").write_text("")),
                attempt(lambda: (maildir / ".lists" / "x").write_text("")),
                attempt(lambda: os.mkdir(maildir / ".more")),
                attempt((home / "diary").read_text),
                attempt(foreign.read_text),
                attempt(lambda: os.listdir(home)),
            ]

        refused = ["EACCES"] * 3
        self.assertEqual(self.confined(account, work), ["done", "done", "EACCES", *refused])
        self.assertEqual(self.confined(account, work, maildir={"create": True}), ["done", "done", "done", *refused])

    def test_maildir_that_is_made_and_links(self) -> None:
        """Promise: what is missing is made before; cur may be a link to another disk."""
        home, disk = self.make("home"), self.make("disk", mode=0o755)
        account = Account("joe", "x", home=str(home), maildrop="maildir:~/mail/Maildir")

        def work(_: DotlocksBeside) -> list[str]:
            cur = home / "mail" / "Maildir" / "cur"
            return [attempt(lambda: (cur / "x").write_text("")), attempt(lambda: (disk.parent / "y").write_text(""))]

        self.assertEqual(self.confined(account, work, maildir={"create": True}), ["done", "EACCES"])
        cur = home / "mail" / "Maildir" / "cur"
        (cur / "x").unlink()
        cur.rmdir()
        cur.symlink_to(disk)
        self.assertEqual(self.confined(account, work), ["done", "EACCES"])
        self.assertTrue((disk / "x").exists())

    def test_spool(self) -> None:
        """Promise: this spool and no other, though a group may write them all; its dotlock is made and taken away."""
        home, spools = self.make("home"), self.directory / "spools"
        spools.mkdir()
        os.chown(spools, 0, OTHER)
        spools.chmod(0o2775)
        mine = self.write(spools / "joe", "From x\n")
        other = self.write(spools / "ann", "From y\n", OTHER, 0o660)
        account = Account("joe", "x", home=str(home), maildrop=f"mbox:{spools}/joe")
        lock = spools / "joe.lock"

        def work(dotlocks: DotlocksBeside) -> list[str]:
            spool = os.fsencode(mine)
            made = dotlocks.make(spool, True)
            assert made is not None
            said = [str(lock.exists()), attempt(lambda: dotlocks.make(spool, True) and None)]
            dotlocks.remove(made)
            return [
                *said,
                str(lock.exists()),
                attempt(lambda: mine.write_text("From z\n")),
                attempt(lambda: (home / ".tpops" / "mbox" / "x").write_text("")),
                attempt(other.read_text),
                attempt(lambda: other.unlink()),
                attempt(lambda: (spools / "joe.lock").write_text("")),
                attempt(lambda: (home / "x").write_text("")),
            ]

        with_group = self.confined(account, work, (OTHER,))
        self.assertEqual(with_group, ["True", "done", "False", "done", "done", *["EACCES"] * 4])
        self.assertEqual((mine.read_text(), other.read_text()), ("From z\n", "From y\n"))
        lock.write_text("1\n")

        def locked(dotlocks: DotlocksBeside) -> list[str]:
            return [attempt(lambda: dotlocks.make(os.fsencode(mine), False))]

        self.assertEqual(self.confined(account, locked, (OTHER,)), ["EAGAIN"])
        lock.unlink()
        self.assertEqual(self.confined(account, locked), ["done"])
        self.assertEqual(sorted(os.listdir(spools)), ["ann", "joe"])

    def test_dotlock_of_a_session_that_was_killed(self) -> None:
        """Promise: it is taken away."""
        home, spools = self.make("home"), self.make("spools")
        mine = self.write(spools / "joe", "From x\n")
        account = Account("joe", "x", home=str(home), maildrop=f"mbox:{spools}/joe")

        def work(dotlocks: DotlocksBeside) -> list[str]:
            dotlocks.make(os.fsencode(mine), True)
            os.kill(os.getpid(), signal.SIGKILL)
            return []

        self.assertEqual(self.confined(account, work), [])
        wait_until(lambda: not (spools / "joe.lock").exists(), "the dotlock is gone")
        self.assertEqual(os.listdir(spools), ["joe"])

    def test_mail_that_is_nobody_s(self) -> None:
        """Promise: mail in a database, or on another server, is refused with the reason, confined or not."""
        config = Config.model_validate(_OWNER)
        maildrops = file_assembly.file_maildrops(config, "/nowhere", Clock(), None)
        account = Account("joe", "x", maildrop="mysql:")
        problem = self.assertRaises(MaildropBroken, confine, config, 0, maildrops, account, DotlocksBeside())
        self.assertIn("'joe' has his mail in a 'mysql:' location, which belongs to no user", str(problem))

    def test_words(self) -> None:
        """Promise: where it cannot be had, "landlock" does not start, and "auto" says so."""
        for abi, confine_, version in (
            (7, "auto", 7),
            (7, "none", 0),
            (1, "auto", 0),
            (0, "auto", 0),
            (2, "landlock", 2),
        ):
            config = Config.model_validate({**_OWNER, "sessions": {"run_as": "owner", "confine": confine_}})
            with mock.patch.object(confinement.landlock, "abi", return_value=abi):
                self.assertEqual(version_of(config), version)
        config = Config.model_validate({**_OWNER, "sessions": {"run_as": "owner", "confine": "landlock"}})
        for abi, has in ((0, "none, or keeps it from tpops"), (1, "version 1")):
            with mock.patch.object(confinement.landlock, "abi", return_value=abi):
                problem = self.assertRaises(ConfigError, version_of, config)
            wanted = f'sessions.confine is "landlock", and this kernel has {has}; version 2 (Linux 5.19) is needed'
            self.assertEqual(str(problem), wanted)
        self.assertIn("this kernel has no Landlock", in_words(config, 0))
        self.assertEqual(
            in_words(config, 4), "sessions are confined by Landlock 4: they have no files elsewhere and TCP"
        )
