"""Parts of "tpops mailbox": headers of strangers, choosing, removing, quoting, who holds a lock."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Awaitable, Collection
from typing import Any, TypeVar

import click
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.mailbox.support import unhurried
from tpops.admin import cli, mailbox_choice, mailbox_expunge, mailbox_header
from tpops.admin import mailbox as commands
from tpops.admin.export_targets import About, EmlDirectory, MaildirDirectory, MboxFile, Quoting, Taken
from tpops.admin.lock_holders import holders
from tpops.admin.mailbox_choice import Age, Choice, Octets
from tpops.admin.mailbox_header import parse, printable
from tpops.admin.mailbox_open import Mailbox
from tpops.errors import MessageVanished, RemoveFailed, StorageUnavailable
from tpops.interfaces import IStoredMessage
from tpops.mailbox.memory import MemoryDriver, MemoryMaildrop
from tpops.mailbox.unquoted import Unquoting
from tpops.model import Account

_T = TypeVar("_T")

#: Of lines that begin with "From ", or nearly.
PIECES = [b"\n", b"From ", b"F", b"ro", b"m ", b">", b">From ", b"\r", b"x"]

NOON = "Thu, 1 Jan 2026 12:00:00 +0000"
NOON_SECONDS = 1767268800.0


class HeaderTests(SynchronousTestCase):
    """What a message says of itself, believed as far as it goes."""

    def test_arrival_is_what_the_last_server_says(self) -> None:
        """The first Received field; Date, which the sender wrote, only without one that has a date."""
        received = b"Received: from x (y)\n\tby z;\n\t%s\nReceived: by w; Wed, 1 Jan 2020 0:0:0 +0000\n" % NOON.encode()
        for text, arrived in (
            (received + b"Date: Fri, 1 Jan 1999 00:00:00 +0000\n\n", NOON_SECONDS),
            (b"date : " + NOON.encode() + b"\r\n\r\nReceived: by w; Wed, 1 Jan 2020 0:0:0 +0000\n", NOON_SECONDS),
            (b"Received: by z\nDate: Thu, 1 Jan 2026 12:00:00 -0000\n\n", NOON_SECONDS),
            (b"Received: by z; yesterday\nDate: " + NOON.encode(), NOON_SECONDS),
            (b"\nDate: " + NOON.encode() + b"\n", None),
            (b"Date: Thu, 99 Jan 2026 12:00:00 +0000\n\n", None),
            (b"Date: Fri, 31 Dec 9999 23:59:00 -2359\n\n", None),
            (b"Date: \xff\n\n", None),
            (b"", None),
        ):
            self.assertEqual(parse(text).arrived, arrived, text)

    def test_encoded_words(self) -> None:
        """RFC 2047; what is wrong with them is shown as it is."""
        for text, shown in (
            (b"=?utf-8?q?J=C3=BCrgen?= <a@b>", "Jürgen <a@b>"),
            (b"=?iso-8859-1?b?5Ok=?=\n =?utf-8?q?!?=", "äé!"),
            ("Grüße".encode(), "Grüße"),
            (b"Gr\xfc\xdfe", "Gr\\xfc\\xdfe"),
            (b"=?nonsense?q?x?=", "=?nonsense?q?x?="),
            (b"=?utf-8?q?=FF?=", "=?utf-8?q?=FF?="),
            (b"=?utf-8?b?a?=", "=?utf-8?b?a?="),
            (b"x" * 900, "x" * 500),
        ):
            self.assertEqual(parse(b"Subject: " + text + b"\n\n").subject, shown)

    def test_senders_that_may_stand_in_a_separator(self) -> None:
        """An address without spaces, or none."""
        for text, sender in ((b"<a@b>", b"a@b"), (b"<>", b""), (b"<a b@c>", b""), (b"a@b", b""), (b"<a\n b>", b"")):
            self.assertEqual(parse(b"Return-Path: %s\n\n" % text).sender, sender)

    @unhurried
    @given(st.binary(max_size=300))
    def test_nothing_raises(self, octets: bytes) -> None:
        """Whatever strangers write."""
        for name in (b"", b"Date: ", b"Subject: =?utf-8?b?", b"Received: x;", b"From: =?"):
            header = parse(name + octets)
            self.assertTrue(printable(header.author + header.subject).isprintable())

    def test_a_header_without_end(self) -> None:
        """Only its beginning is looked at."""
        self.assertEqual(len(self.read(b"X: y\n" * 100_000)), mailbox_header.MOST_OCTETS)
        self.assertEqual(self.read(b"Subject: x\n\ntext"), b"Subject: x\n\ntext")

    def read(self, octets: bytes) -> bytes:
        maildrop = self.successResultOf(
            Deferred.fromCoroutine(MemoryDriver({"joe": {b"1": octets}}).open_maildrop(JOE))
        )
        message = self.successResultOf(Deferred.fromCoroutine(maildrop.open(1)))
        return self.successResultOf(Deferred.fromCoroutine(mailbox_header.beginning(message)))


JOE = Account("joe", "test")


class Failing(MemoryMaildrop):
    """Of which some messages have gone, cannot be read, or stay."""

    gone: Collection[int] = ()
    unreadable: Collection[int] = ()
    stubborn: Collection[int] = ()

    async def open(self, number: int) -> IStoredMessage:
        if number in self.gone:
            raise MessageVanished("gone")
        if number in self.unreadable:
            raise StorageUnavailable("cannot be read")
        return await super().open(number)

    async def remove(self, numbers: Collection[int]) -> None:
        await super().remove([number for number in numbers if number not in self.stubborn])
        kept = [number for number in numbers if number in self.stubborn]
        if kept:
            raise RemoveFailed(kept, "the disk says no")


class ChoiceTests(SynchronousTestCase):
    """Which messages are meant, and what becomes of them."""

    def setUp(self) -> None:
        at = "Date: Thu, 1 Jan 2026 %02d:00:00 +0000\n\n"
        mail = {b"id%d" % hour: (at % hour).encode() + b"x" * hour for hour in range(1, 6)}
        self.driver = MemoryDriver({"joe": mail})
        self.maildrop = Failing(self.driver, "joe")

    def now(self, work: Awaitable[_T]) -> _T:
        async def wait() -> _T:
            return await work

        return self.successResultOf(Deferred.fromCoroutine(wait()))

    def chosen(self, choice: Choice, headers: bool = False) -> mailbox_choice.Chosen:
        return self.now(mailbox_choice.choose(self.maildrop, choice, NOON_SECONDS, headers))

    def test_by_age(self) -> None:
        """Older than 9 hours at noon: what came before 3 o'clock, and not at 3."""
        found = self.chosen(Choice(older_than_seconds=9 * 3600))
        self.assertEqual([row.unique_id for row in found.rows], ["id1", "id2"])

    def test_by_size(self) -> None:
        """Larger than one: not that one."""
        third = self.maildrop.messages.sizes[2]
        found = self.chosen(Choice(larger_than_octets=third))
        self.assertEqual([row.number for row in found.rows], [4, 5])
        self.assertEqual(found.octets, sum(self.maildrop.messages.sizes[3:]))

    def test_what_is_gone_or_cannot_be_read(self) -> None:
        """The one is left out; the other is listed, and is never old."""
        self.maildrop.gone, self.maildrop.unreadable = {1}, {2}
        self.assertEqual([row.number for row in self.chosen(Choice(), headers=True).rows], [2, 3, 4, 5])
        found = self.chosen(Choice(older_than_seconds=3600))
        self.assertEqual(([row.number for row in found.rows], found.undated), ([3, 4, 5], 1))

    def test_unknown_unique_ids(self) -> None:
        """Are named, some of them, and nothing is chosen."""
        work = mailbox_choice.choose(self.maildrop, Choice(tuple("abcdefg\x1b")), NOON_SECONDS, False)
        failure = self.failureResultOf(Deferred.fromCoroutine(work), click.ClickException)
        self.assertIn("'\\x1b', 'a', 'b', 'c', 'd' and 3 more", str(failure.value))

    def test_what_stays_is_told(self) -> None:
        """And what was removed, and what had gone."""
        rows = self.chosen(Choice(("id2", "id3", "id5"))).rows
        del self.driver.stored["joe"][b"id2"]
        again = Failing(self.driver, "joe")
        again.stubborn = {4}
        outcome = self.now(mailbox_expunge._remove(Mailbox(JOE, None, None, None), again, rows))
        groups = (outcome.removed, outcome.stayed, outcome.gone)
        self.assertEqual([[row.unique_id for row in rows] for rows in groups], [["id3"], ["id5"], ["id2"]])
        self.assertEqual((outcome.why, outcome.left), ("the disk says no", 3))
        self.assertEqual(list(self.driver.stored["joe"]), [b"id1", b"id4", b"id5"])

    def test_numbers_that_are_unique_ids_as_well(self) -> None:
        """Are not guessed at."""
        messages = MemoryMaildrop(MemoryDriver({"joe": {b"7": b"", b"2": b"", b"1": b""}}), "joe").messages
        for text, kind, number in (
            ("3", None, 3),
            ("7", None, 1),
            ("2", None, 2),
            ("1", "number", 1),
            ("1", "unique-id", 3),
        ):
            self.assertEqual(commands._number(messages, text, kind), number)
        for text, kind, why in (
            ("1", None, "say --number or"),
            ("4", None, "no message 4"),
            ("7", "number", "no message 7"),
        ):
            problem = self.assertRaises(click.ClickException, commands._number, messages, text, kind)
            self.assertIn(why, problem.message)

    def test_ages_and_sizes(self) -> None:
        """What is typed, in seconds and octets; anything else is told what would be right."""
        for text, seconds in (("12h", 43200), ("30d", 2592000), ("8w", 4838400)):
            self.assertEqual(Age().convert(text, None, None), seconds)
        for text, octets in (("7", 7), ("2K", 2048), ("10M", 10 << 20), ("1G", 1 << 30)):
            self.assertEqual(Octets().convert(text, None, None), octets)
        for kind, text, right in (
            (Age(), "30", "30d"),
            (Age(), "1m", "12h"),
            (Age(), "-1d", "8w"),
            (Octets(), "1k", "500K"),
        ):
            self.assertIn(right, self.assertRaises(click.BadParameter, kind.convert, text, None, None).message)


class TargetTests(SynchronousTestCase):
    """Whole or not at all."""

    @unhurried
    @given(
        st.lists(st.sampled_from([b"\n", b"From ", b"F", b"ro", b"m ", b">", b">From ", b"\r", b"x"]), max_size=12),
        st.data(),
    )
    def test_quoting_is_undone(self, pieces: list[bytes], data: Any) -> None:
        """However it is cut: no line begins with "From ", and without the signs it is what it was."""
        octets = b"".join(pieces)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=5)))
        quoting, unquoting = Quoting(), Unquoting()
        edges = zip([0, *cuts], [*cuts, len(octets)], strict=True)
        quoted = b"".join(quoting.feed(octets[start:end]) for start, end in edges) + quoting.finish()
        self.assertFalse((b"\n" + quoted).count(b"\nFrom "))
        self.assertEqual(unquoting.feed(quoted) + unquoting.finish(), octets)

    def test_what_is_there_is_never_touched(self) -> None:
        """Not even when it comes at the last moment."""
        about = About(1, b"id", NOON_SECONDS, b"")
        for kind in (MboxFile, EmlDirectory, MaildirDirectory):
            directory = self.mktemp()
            os.mkdir(directory)
            path = os.path.join(directory, "out")
            target = kind(path)
            target.open()
            target.begin(about)
            target.write(b"Subject: x\n")
            target.end()
            os.mkdir(path)
            with open(os.path.join(path, "precious"), "w"):
                pass
            self.assertRaises(Taken, target.publish)
            self.assertRaises(Taken, kind(path).open)
            target.discard()
            target.discard()
            self.assertEqual((os.listdir(directory), os.listdir(path)), (["out"], ["precious"]))


class LockHolderTests(SynchronousTestCase):
    """Who is to be waited for."""

    def test_names_the_process(self) -> None:
        """With flock, and with the lock of POSIX."""
        with tempfile.NamedTemporaryFile() as file:
            path = os.fsencode(file.name)
            self.assertEqual(holders(path), [])
            with open(f"/proc/{os.getpid()}/comm") as own:
                name = own.read().strip()
            for lock in (fcntl.flock, fcntl.lockf):
                lock(file, fcntl.LOCK_EX)
                self.assertEqual(holders(path), [f"process {os.getpid()} ({name})"])
                lock(file, fcntl.LOCK_UN)
        self.assertEqual(holders(path), [])


class CommandLineTests(SynchronousTestCase):
    """What is asked for must be clear before anything is opened."""

    def test_what_makes_no_sense(self) -> None:
        """Is told, with what would make some."""
        for arguments, why in (
            (("expunge", "joe"), "say which: UNIQUE-IDs"),
            (("expunge", "joe", "--all", "--older-than", "1d"), "or --all alone"),
            (("expunge", "joe", "--older-than", "1m"), "is no age; write 12h, 30d or 8w"),
            (("expunge", "joe", "--larger-than", "much"), "is no size; write 500000"),
            (("expunge", "joe", "--all", "--json"), "add --yes or --dry-run"),
            (("export", "joe", "-", "--format", "eml"), "give --format eml a TARGET"),
            (("export", "joe", "//"), "must be the name of a file"),
            (("show", "joe", "1", "--top", "-1"), "x>=0"),
        ):
            result = CliRunner().invoke(cli.tpops, ("mailbox", *arguments))
            self.assertEqual(result.exit_code, 2, arguments)
            self.assertIn(why, " ".join(result.stderr.split()))
