"""What the tests of mbox share: spools written as delivery agents write them, and a reader that is not ours."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from itertools import count
from typing import Any

from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.mailbox.support import at_once
from tpops.interfaces import IAppendable, IMaildropDriver
from tpops.mailbox.locations import Maildrops
from tpops.mailbox.mbox import MboxDriver, MboxOptions
from tpops.model import Account

JOE = Account("joe", "test")

_numbers = count()


def separator(number: int = 0) -> bytes:
    """A separator as Postfix writes it."""
    return b"From sender%d@example.org  Tue Nov 24 07:%02d:%02d 2026\n" % (number, number // 60 % 60, number % 60)


def quoted(message: bytes) -> bytes:
    """A message as a delivery agent puts it into a spool (mboxo): "From " at line starts is quoted."""
    text = re.sub(rb"^From ", b">From ", message, flags=re.MULTILINE)
    return text if not text or text.endswith(b"\n") else text + b"\n"


def spool_of(messages: Sequence[bytes], first: int = 0) -> bytes:
    """The octets of a spool."""
    return b"".join(separator(first + at) + quoted(message) + b"\n" for at, message in enumerate(messages))


def split_spool(octets: bytes) -> list[bytes]:
    """The messages of a spool, found in another way than ours; for tests whose messages are harmless."""
    parts = re.split(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From sender\d*@example.org .*\n", octets)[1:]
    return [part[:-1] for part in parts]


@implementer(IMaildropDriver, IAppendable)
class SpoolDriver(MboxDriver):
    """One spool for all accounts."""

    def __init__(self, spool: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        there = Maildrops(f"mbox:{spool}", lambda name: (name, ""), {"mbox": self})
        self.open_maildrop, self.append = there.open_maildrop, there.append


class SpoolCase(SynchronousTestCase):
    """A test with a spool and drivers over it."""

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.spool = os.path.join(self.directory, "joe")
        self.path = os.fsencode(self.spool)
        self.index_dir = os.path.join(self.directory, "index")
        os.mkdir(self.index_dir)
        self.clock = Clock()

    def options(self, **others: Any) -> MboxOptions:
        """Options of a driver."""
        given = {"directory": self.index_dir, "lock_wait_seconds": 0.0, **others}
        return MboxOptions(**given)

    def driver(self, run: Any = at_once, **others: Any) -> SpoolDriver:
        """A driver as another process has it."""

        def sleep(seconds: float) -> Any:
            return deferLater(self.clock, seconds, lambda: None)

        return SpoolDriver(self.spool, self.options(**others), run, sleep, self.clock.seconds)

    def waiting_driver(self, **others: Any) -> SpoolDriver:
        """A driver that waits for locks as long as it has to."""

        def sleep(seconds: float) -> Any:
            time.sleep(seconds / 10)
            return at_once(float)

        options = self.options(**{"lock_wait_seconds": 60.0, **others})
        return SpoolDriver(self.spool, options, at_once, sleep, time.monotonic)

    def write(self, octets: bytes) -> None:
        """The whole spool."""
        with open(self.spool, "wb") as file:
            file.write(octets)

    def append(self, *messages: bytes) -> None:
        """Deliver as a delivery agent does."""
        with open(self.spool, "ab") as file:
            for message in messages:
                file.write(spool_of([message], next(_numbers)))

    def octets(self) -> bytes:
        """What is in the spool."""
        with open(self.spool, "rb") as file:
            return file.read()

    def messages(self) -> list[bytes]:
        """Its messages."""
        return split_spool(self.octets())
