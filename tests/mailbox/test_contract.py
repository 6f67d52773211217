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
from tests.mailbox.support import MaildirTestCase
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


class MboxTests(MaildropContract, SpoolCase):
    """Spools, each session by a driver that knows nothing but the index."""

    settings: dict[str, Any] = {}

    def as_stored(self, message: bytes) -> bytes:
        """See MaildropContract."""
        return quoted(message)

    def make_driver(self) -> Any:
        """See MaildropContract."""
        return self.driver(**self.settings)

    def store(self, message: bytes) -> None:
        """See MaildropContract."""
        self.append(message)

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
