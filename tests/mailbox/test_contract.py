"""The drivers keep to the contract of maildrops."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.contracts.append import AppendContract
from tests.contracts.maildrop import MaildropContract
from tests.mailbox.spools import SpoolCase, quoted, spool_of
from tests.mailbox.support import Maildir, MaildirTestCase
from tpops.interfaces import IAppendable, IMaildrop, IMaildropDriver
from tpops.mailbox.memory import MemoryDriver
from tpops.mailbox.view import Mailbox
from tpops.model import Account
from tpops.server.foreign import ForeignMaildrop, open_foreign


class MemoryTests(AppendContract, MaildropContract, SynchronousTestCase):
    """Maildrops in memory."""

    def setUp(self) -> None:
        """One driver: there is no other process."""
        self.driver = MemoryDriver({"joe": {}})
        self.numbers = count(1)

    def make_driver(self) -> Any:
        """See MaildropContract."""
        return self.driver

    def store(self, message: bytes) -> None:
        """See MaildropContract."""
        self.driver.stored["joe"][b"id%d" % next(self.numbers)] = message

    def stored(self) -> list[bytes]:
        """See MaildropContract."""
        return list(self.driver.stored["joe"].values())

    def take_away(self, index: int) -> None:
        """See MaildropContract."""
        del self.driver.stored["joe"][list(self.driver.stored["joe"])[index]]

    def race(self, jobs: list[Callable[[], str]]) -> list[str]:
        """See AppendContract: there are no other processes."""
        answers = []
        for job in jobs:
            try:
                answers.append(job())
            except Exception as problem:
                answers.append(f"{type(problem).__name__}: {problem}")
        return answers

    def test_unknown_account_has_no_mail(self) -> None:
        """Promise: a maildrop that nobody has delivered to is empty."""
        maildrop = self.wait(MemoryDriver().open_maildrop(Account("ann", "test")))
        self.assertEqual(maildrop.messages.count, 0)


class ForeignSession(ForeignMaildrop):
    """Its close is the portal's logout."""

    async def close(self) -> None:
        """Log out."""
        await self._mailbox.logout()


@implementer(IMaildropDriver, IAppendable)
class ForeignDriver:
    """
    Maildrops of a realm written for Twisted: plain IMailboxPOP3 avatars, here our own facade over memory.

    Its new mail goes to the store below.
    """

    def __init__(self, below: MemoryDriver) -> None:
        self._below = below
        self.append = below.append

    async def open_maildrop(self, account: Account) -> IMaildrop:
        """The avatar's maildrop."""
        avatar = Mailbox(await self._below.open_maildrop(account), account)
        return ForeignSession(avatar, (await open_foreign(avatar)).messages)


class ForeignTests(MemoryTests):
    """Maildrops that are any IMailboxPOP3, and our own as such a one: both seams at once."""

    keeps_line_ends = False

    def make_driver(self) -> Any:
        """See MaildropContract."""
        return ForeignDriver(self.driver)


class MaildirTests(AppendContract, MaildropContract, MaildirTestCase):
    """Maildirs, each session by a driver that knows nothing but the index."""

    options: dict[str, Any] = {"lock_wait_seconds": 0.0}

    def setUp(self) -> None:
        """Messages are numbered by the order of delivery."""
        super().setUp()
        self.numbers = count(1)

    def make_driver(self) -> Any:
        """See MaildropContract."""
        return self.driver(**self.options)

    def store(self, message: bytes) -> None:
        """See MaildropContract."""
        self.maildir.deliver(f"{1700000000 + next(self.numbers)}.M1P2.host", message)

    def paths(self) -> list[str]:
        """The messages in order."""
        return [os.path.join(self.maildir.root, name) for name in self.maildir.files()]

    def stored(self) -> list[bytes]:
        """See MaildropContract."""
        found = []
        for path in self.paths():
            with open(path, "rb") as file:
                found.append(file.read())
        return found

    def take_away(self, index: int) -> None:
        """See MaildropContract."""
        os.unlink(self.paths()[index])
        self.maildir.touch("new")


class MaildirWithoutIndexTests(MaildirTests):
    """The same without an index file."""

    options = {"lock_wait_seconds": 0.0, "index": False}


class MaildirInThreadsTests(MaildirTests):
    """The same where the driver's blocking work answers with a Deferred."""

    def make_driver(self) -> Any:
        """See MaildropContract."""

        def run(f: Any, *arguments: Any) -> Any:
            return succeed(None).addCallback(lambda _: f(*arguments))

        return self.driver(run, lock_wait_seconds=0.0)


class FolderTests(MaildropContract, MaildirTestCase):
    """A folder of a Maildir that has mail in itself and in another folder, too; alone, or beside sessions with all."""

    account = Account("joe", "test", folder="Lists/tpops")
    options: dict[str, Any] = {"lock_wait_seconds": 0.0}

    def setUp(self) -> None:
        """Mail that is none of the folder's."""
        super().setUp()
        self.numbers = count(1)
        self.folders = [Maildir(f"{self.maildir.root}/{name}") for name in (".Lists.tpops", ".Lists")]
        for other in (self.maildir, self.folders[1]):
            other.deliver("1700000001.M1P2.host", b"not here\n")

    def make_driver(self) -> Any:
        """See MaildropContract."""
        return self.driver(**self.options)

    def store(self, message: bytes) -> None:
        """See MaildropContract."""
        self.folders[0].deliver(f"{1700000000 + next(self.numbers)}.M1P2.host", message)

    def paths(self) -> list[tuple[Maildir, str]]:
        """The messages in order."""
        return [(self.folders[0], name) for name in self.folders[0].files()]

    def stored(self) -> list[bytes]:
        """See MaildropContract."""
        found = []
        for maildir, name in self.paths():
            with open(os.path.join(maildir.root, name), "rb") as file:
                found.append(file.read())
        return found

    def take_away(self, index: int) -> None:
        """See MaildropContract."""
        maildir, name = self.paths()[index]
        os.unlink(os.path.join(maildir.root, name))
        maildir.touch("new")


class FolderOfRecursiveTests(FolderTests):
    """The same where others may have all folders."""

    options = {"lock_wait_seconds": 0.0, "recursive": True}


class RecursiveTests(FolderTests):
    """A Maildir and its folders as one maildrop; each message is in the next folder."""

    account = Account("joe", "test")
    options = {"lock_wait_seconds": 0.0, "recursive": True, "ignored_folders": ("Trash",)}

    def setUp(self) -> None:
        """Nothing but an ignored folder has mail."""
        MaildirTestCase.setUp(self)
        self.numbers = count()
        self.folders = [self.maildir]
        self.folders += [Maildir(f"{self.maildir.root}/{name}") for name in (".Lists", "sub", ".Lists/.in")]
        Maildir(f"{self.maildir.root}/.Trash").deliver("1700000001.M1P2.host", b"not here\n")

    def store(self, message: bytes) -> None:
        """See MaildropContract."""
        number = next(self.numbers)
        self.folders[number % 4].deliver(f"{1700000000 + number}.M1P2.host", message)

    def paths(self) -> list[tuple[Maildir, str]]:
        """See FolderTests."""
        return sorted(
            ((maildir, name) for maildir in self.folders for name in maildir.files()), key=lambda pair: pair[1]
        )


class RecursiveWithoutIndexTests(RecursiveTests):
    """The same without index files, with tpop3d's unique-ids."""

    options = {**RecursiveTests.options, "index": False, "tpop3d": True}


class RecursiveAppendTests(MaildirTests):
    """A Maildir that has folders takes mail, which has its unique-id among all messages then."""

    options = {"lock_wait_seconds": 0.0, "recursive": True, "tpop3d": True}

    def setUp(self) -> None:
        """An empty folder."""
        super().setUp()
        Maildir(f"{self.maildir.root}/.Lists")


class MboxTests(AppendContract, MaildropContract, SpoolCase):
    """Spools, each session by a driver that knows nothing but the index."""

    settings: dict[str, Any] = {}

    def race(self, jobs: list[Callable[[], str]]) -> list[str]:
        """See AppendContract; with drivers that wait for each other."""
        self.make_driver = lambda: self.waiting_driver(**self.settings)
        try:
            return super().race(jobs)
        finally:
            del self.make_driver

    def as_stored(self, message: bytes) -> bytes:
        """See MaildropContract."""
        return quoted(message)

    def make_driver(self) -> Any:
        """See MaildropContract."""
        return self.driver(**self.settings)

    def store(self, message: bytes) -> None:
        """See MaildropContract."""
        SpoolCase.append(self, message)

    def stored(self) -> list[bytes]:
        """See MaildropContract."""
        return self.messages()

    def take_away(self, index: int) -> None:
        """See MaildropContract."""
        separators = self.octets().split(b"From sender")[1:]
        del separators[index]
        self.write(b"".join(b"From sender" + part for part in separators))


class MboxWithoutIndexTests(MboxTests):
    """The same without an index file."""

    settings = {"index": False}


class MboxInThreadsTests(MboxTests):
    """The same where the driver's blocking work answers with a Deferred."""

    def make_driver(self) -> Any:
        """See MaildropContract."""

        def run(f: Any, *arguments: Any) -> Any:
            return succeed(None).addCallback(lambda _: f(*arguments))

        return self.driver(run)


class MboxrdTests(MboxTests):
    """The same with quoting that is taken back."""

    settings = {"unquote": True}

    def as_stored(self, message: bytes) -> bytes:
        """See MaildropContract."""
        return message if not message or message.endswith(b"\n") else message + b"\n"

    def store(self, message: bytes) -> None:
        """See MaildropContract."""
        with open(self.spool, "ab") as file:
            file.write(spool_of([re.sub(rb"^(>+From )", rb">\1", message, flags=re.MULTILINE)]))

    def stored(self) -> list[bytes]:
        """See MaildropContract."""
        return [re.sub(rb"^>(>*From )", rb"\1", one, flags=re.MULTILINE) for one in self.messages()]
