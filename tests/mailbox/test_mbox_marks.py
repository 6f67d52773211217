"""Marking messages of a spool as read: which octets, and killed at any point the spool has the old ones or the new."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.mailbox.spools import JOE, SpoolCase, separator, spool_of
from tpops.config.mailboxes import Mbox
from tpops.interfaces import INotesRetrieval
from tpops.mailbox import mbox_rewrite
from tpops.mailbox.mbox_listings import pread
from tpops.mailbox.mbox_marks import read_mark
from tpops.mailbox.mbox_rewrite import Edit, recover, replace
from tpops.mailbox.mbox_scan import HASH, X_UID, scan
from tpops.protocol.transparency import Octets

#: A body of nothing but line ends: moved by a few octets, it looks the same.
MAIL = [
    b"Subject: one\n\n" + b"text " * 60 + b"\n",
    b"Subject: two\nStatus: O\nX-Status: A\n\n" + b"\n" * 700,
    b"Status:       \nSubject: three\n\ntext\n",
    b"Subject: four\nStatus: RO\n\ntext\n",
    b"\ntext without a header\n",
    b"Subject: six\r\n\r\ntext\r\n",
]

MARKED = [
    MAIL[0].replace(b"\n\n", b"\nStatus: RO\n\n", 1),
    MAIL[1].replace(b"Status: O\n", b"Status: RO\n", 1),
    MAIL[2].replace(b"Status:       \n", b"Status: RO    \n", 1),
    MAIL[3],
    b"Status: RO\n" + MAIL[4],
    MAIL[5].replace(b"\r\n\r\n", b"\r\nStatus: RO\r\n\r\n", 1),
]

CALLS = ("pwrite", "ftruncate", "fsync", "rename", "unlink", "utime")


class Killed(BaseException):
    """The process ends here."""


def spool_from(messages: Sequence[bytes]) -> bytes:
    """As L{spool_of}, with every octet as it is."""
    return b"".join(separator(at) + message + b"\n" for at, message in enumerate(messages))


class MarkTests(SynchronousTestCase):
    """What is changed in a message."""

    def test_every_kind_of_message(self) -> None:
        """The field is made at the end of the header, or its letters are; wire octets are told right."""
        for before, after in (
            *zip(MAIL, MARKED, strict=True),
            (b"status:N\n\n", b"status: RO\n\n"),
            (b"Status: OD\n\n", b"Status: ROD\n\n"),
            (b"Status: R\n\n", b"Status: R\n\n"),
            (b"Subject: x\nstatus of it: O\n\n", b"Subject: x\nstatus of it: O\nStatus: RO\n\n"),
            (b"Subject: x\n\nStatus: O\n", b"Subject: x\nStatus: RO\n\nStatus: O\n"),
            (b"no header, no empty line\n", b"no header, no empty line\n"),
            (b"", b""),
            (b"X: %s\n\n" % (b"x" * (1 << 20)), b"X: %s\n\n" % (b"x" * (1 << 20))),
        ):
            spool = separator() + before + b"\n"
            (place,) = [found.place for found in scan(lambda at, n, s=spool: s[at : at + n], 0, len(spool), HASH)]
            mark = read_mark(lambda at, n, s=spool: s[at : at + n], place)
            if mark is None:
                self.assertEqual(before, after)
                continue
            edit = mark.edit
            self.assertEqual(spool[: edit.start] + edit.octets + spool[edit.end :], separator() + after + b"\n")
            self.assertEqual(mark.stored, len(after) - len(before))
            self.assertEqual(mark.wire, self.octets(after) - self.octets(before))

    def octets(self, message: bytes) -> int:
        octets = Octets()
        octets.feed(message)
        return octets.total()

    def test_unique_ids_stay(self) -> None:
        """In the styles that may be marked; the configuration refuses the one in which they would not."""
        mail = [b"X-IMAPbase: 1700000000 5\n" + MAIL[0], b"X-UID: 4\n" + MAIL[1], *MAIL[2:]]
        marked = [b"X-IMAPbase: 1700000000 5\n" + MARKED[0], b"X-UID: 4\n" + MARKED[1], *MARKED[2:]]
        for style in (HASH, X_UID):
            before, after = ([one.unique_id for one in self.scan(spool_from(mail), style)] for mail in (mail, marked))
            self.assertEqual(before, after)
            Mbox(unique_ids=style, mark_seen="retr")
        problem = self.assertRaises(ValueError, Mbox, unique_ids="tpop3d", mark_seen="retr")
        self.assertIn('must be "never" with unique_ids = "tpop3d"', str(problem))

    def scan(self, spool: bytes, style: str) -> list:
        return list(scan(lambda at, n: spool[at : at + n], 0, len(spool), style))


class ReplaceCase(SpoolCase):
    """The spool of MAIL, and a journal's path."""

    def setUp(self) -> None:
        super().setUp()
        self.journal = os.fsencode(os.path.join(self.index_dir, "journal"))
        self.write(spool_from(MAIL))
        self.places = [found.place for found in self.found()]
        # Many small writes: many places to be killed at.
        self.patch(mbox_rewrite, "_CHUNK", 256)

    def found(self) -> list:
        octets = self.octets()
        return list(scan(lambda at, n: octets[at : at + n], 0, len(octets), HASH))

    def edits(self, *indexes: int) -> list[Edit]:
        """How messages, 0-based, get the mark."""
        with open(self.spool, "rb") as file:
            marks = [read_mark(partial(pread, file.fileno()), self.places[index]) for index in indexes]
        return [mark.edit for mark in marks if mark is not None]

    def expected(self, *indexes: int) -> bytes:
        """The spool with these marked."""
        return spool_from([MARKED[index] if index in indexes else MAIL[index] for index in range(len(MAIL))])

    def with_spool(self, act: Callable[[int], None]) -> None:
        descriptor = os.open(self.spool, os.O_RDWR)
        try:
            act(descriptor)
        finally:
            os.close(descriptor)

    def mark(self, *indexes: int) -> None:
        edits = self.edits(*indexes)
        self.with_spool(lambda descriptor: replace(descriptor, edits, self.journal))

    def recover(self) -> None:
        """As the next session does."""
        self.with_spool(lambda descriptor: recover(descriptor, self.journal))

    def killed_at(self, call: int, how: str, act: Callable[[], None]) -> bool:
        """Act, and die at the call of that number: "before", "after" or in the "middle"; whether there was one."""
        numbers = count()

        def dying(real, name):
            def run(*arguments, **named):
                if next(numbers) != call:
                    return real(*arguments, **named)
                with contextlib.suppress(FileNotFoundError):
                    if how == "middle" and name == "pwrite":
                        file, octets, at = arguments
                        real(file, octets[: len(octets) // 2], at)
                    elif how == "after":
                        real(*arguments, **named)
                raise Killed

            return run

        patches = [mock.patch.object(mbox_rewrite.os, name, dying(getattr(os, name), name)) for name in CALLS]
        for patch in patches:
            patch.start()
        try:
            act()
        except Killed:
            return True
        finally:
            for patch in patches:
                patch.stop()
        return False


class ReplaceTests(ReplaceCase):
    """When all goes well, and when there is no room."""

    def test_every_choice_of_messages(self) -> None:
        """All 64: exactly these are marked, no journal stays, and neither do owner, mode and times change."""
        for chosen in range(1, 64):
            self.write(spool_from(MAIL))
            indexes = [index for index in range(6) if chosen & 1 << index]
            edits = self.edits(*indexes)
            os.utime(self.spool, ns=(1_600_000_000_000_000_001, 1_600_000_001_000_000_002))
            before = os.stat(self.spool)
            if edits:
                self.with_spool(lambda descriptor, edits=edits: replace(descriptor, edits, self.journal))
            after = os.stat(self.spool)
            self.assertEqual(self.octets(), self.expected(*indexes))
            self.assertEqual(os.listdir(self.index_dir), [])
            for name in ("st_ino", "st_mode", "st_uid", "st_gid", "st_atime_ns", "st_mtime_ns"):
                self.assertEqual(getattr(after, name), getattr(before, name), name)

    def test_letters_that_fit_need_no_journal(self) -> None:
        """They are written over those that are there."""
        self.patch(mbox_rewrite, "_write_journal", mock.Mock(side_effect=AssertionError))
        self.mark(2)
        self.assertEqual(self.octets(), self.expected(2))

    def test_no_room(self) -> None:
        """Neither for the journal nor for the spool: nothing is changed and nothing stays behind."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard))
        edits = self.edits(4)
        length = len(self.octets())
        for most in (64, length, length + 5):
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
            problem = self.assertRaises(OSError, self.with_spool, lambda spool: replace(spool, edits, self.journal))
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            self.assertEqual(problem.errno, errno.EFBIG)
            self.assertEqual(self.octets(), spool_from(MAIL))
            self.assertEqual(os.listdir(self.index_dir), [])

    def test_quota_exceeded_when_the_spool_is_made_longer(self) -> None:
        """Also when only fsync tells it, as over NFS; and when a killed one is brought to its end."""
        real = os.fsync
        edits = self.edits(0, 1)
        self.assertTrue(self.killed_at(4, "before", lambda: self.mark(0, 1)))
        self.assertEqual(os.listdir(self.index_dir), ["journal"])

        def failing(descriptor: int) -> None:
            if os.fstat(descriptor).st_ino == os.stat(self.spool).st_ino:
                raise OSError(errno.EDQUOT, "Disk quota exceeded")
            real(descriptor)

        with mock.patch.object(mbox_rewrite.os, "fsync", failing):
            with capturedLogs() as logs:
                self.recover()
            self.assertIn("are lost", logs[-1]["log_format"])
            self.assertRaises(OSError, self.with_spool, lambda spool: replace(spool, edits, self.journal))
        self.assertEqual(self.octets(), spool_from(MAIL))
        self.assertEqual(os.listdir(self.index_dir), [])


class KilledTests(ReplaceCase):
    """Killed at every system call that changes something, and in the middle of it."""

    def check(self, indexes: tuple[int, ...], appended: bytes) -> int:
        """Every place to die at, with mail delivered to what is left; how many there were."""
        calls = 0
        for how in ("before", "middle", "after"):
            calls = 0
            while True:
                self.write(spool_from(MAIL))
                if not self.killed_at(calls, how, lambda: self.mark(*indexes)):
                    break
                calls += 1
                with open(self.spool, "ab") as file:
                    file.write(appended)
                self.recover()
                self.is_whole(indexes, appended, (calls, how))
                self.recover()
                self.is_whole(indexes, appended, (calls, how))
        return calls

    def is_whole(self, indexes: tuple[int, ...], appended: bytes, where: object) -> None:
        allowed = (spool_from(MAIL) + appended, self.expected(*indexes) + appended)
        self.assertIn(self.octets(), allowed, where)
        self.assertFalse(os.path.exists(self.journal), where)

    def test_old_or_new_spool(self) -> None:
        """Promise: octet by octet, after the next session has looked."""
        self.assertGreater(self.check((0, 1, 2, 4, 5), b""), 15)
        self.check((1,), b"")
        self.check((5,), b"")

    def test_mail_that_is_delivered_to_a_torn_spool(self) -> None:
        """Promise: it is there, behind the others, whatever it looks like but NULs."""
        for appended in (
            spool_of([b"Subject: new\n\n"], 20),
            spool_of([b"X: y\n\n" + b"x" * 3000], 20),
            b"\n",
            b"From x",
        ):
            self.check((0, 1, 4), appended)
        self.check((5,), spool_of([b"Subject: new\n\n"], 20))

    def test_letters_in_place(self) -> None:
        """Promise: each message has the mark or has it not."""
        self.assertEqual(self.check((2,), spool_of([b"Subject: new\n\n"], 20)), 3)

    def test_killed_while_recovering(self) -> None:
        """Promise: as often as one likes, with mail in between."""
        for first in range(3, 16):
            for second in range(60):
                self.write(spool_from(MAIL))
                if not self.killed_at(first, "middle", lambda: self.mark(0, 1, 4)):
                    break
                new, newer = spool_of([b"Subject: new\n\n" + b"y" * 700], 20), b""
                with open(self.spool, "ab") as file:
                    file.write(new)
                died = self.killed_at(second, "middle", self.recover)
                if died:
                    newer = spool_of([b"Subject: newer\n\n"], 30)
                    with open(self.spool, "ab") as file:
                        file.write(newer)
                    self.recover()
                self.is_whole((0, 1, 4), new + newer, (first, second))
                if not died:
                    break

    def test_another_program_has_rewritten_the_spool(self) -> None:
        """Its octets stay, and the journal is put aside."""
        for call, how in ((4, "before"), (6, "after"), (8, "after")):
            self.write(spool_from(MAIL))
            self.assertTrue(self.killed_at(call, how, lambda: self.mark(0, 1)))
            for other in (spool_from(MAIL[:1]), spool_from([*MAIL[:5], b"Subject: other\n\n" + b"z" * 5000])):
                with open(self.journal, "rb") as file:
                    kept = file.read()
                self.write(other)
                with capturedLogs():
                    self.recover()
                self.assertEqual(self.octets(), other)
                os.rename(self.journal + b".unused", self.journal)
                with open(self.journal, "wb") as file:
                    file.write(kept)
            os.unlink(self.journal)


class SessionTests(SpoolCase):
    """Sessions that retrieve and keep."""

    def setUp(self) -> None:
        super().setUp()
        self.write(spool_from(MAIL))

    def session(self, seen: Sequence[int], removed: Sequence[int] = (), **options) -> list[tuple[int, bytes]]:
        """One session; the sizes and unique-ids that it saw."""
        maildrop = self.successResultOf(Deferred.fromCoroutine(self.driver(**options).open_maildrop(JOE)))
        messages = maildrop.messages
        listed = [(messages.sizes[at], messages.unique_id(at + 1)) for at in range(messages.count)]
        for number, (size, _) in enumerate(listed, 1):
            self.assertEqual(self.wire_octets(maildrop, number), size, number)
        if removed:
            self.successResultOf(Deferred.fromCoroutine(maildrop.remove(removed)))
        self.successResultOf(Deferred.fromCoroutine(INotesRetrieval(maildrop).mark_seen(seen)))
        self.successResultOf(Deferred.fromCoroutine(maildrop.close()))
        return listed

    def wire_octets(self, maildrop, number: int) -> int:
        message = self.successResultOf(Deferred.fromCoroutine(maildrop.open(number)))
        octets = Octets()
        while chunk := message.read(4096):
            octets.feed(chunk)
        message.close()
        return octets.total()

    def test_sizes_are_those_that_are_sent(self) -> None:
        """RFC 1939 §11: at the next session, with the listing that was kept, from the index file and read anew."""
        first = self.session((1, 2, 3, 5), mark_seen=True)
        expected = [MARKED[0], MARKED[1], MARKED[2], MAIL[3], MARKED[4], MAIL[5]]
        self.assertEqual(self.octets(), spool_from(expected))
        from_index = self.session((), mark_seen=True)
        anew = self.session((), mark_seen=True, index=False)
        self.assertEqual(from_index, anew)
        self.assertEqual([one for _, one in first], [one for _, one in anew])

    def test_what_is_kept_of_a_session_that_deletes(self) -> None:
        """The marks are in the right messages, mail that was delivered meanwhile is not marked."""
        self.session((2, 6), removed=(1, 3), mark_seen=True)
        left = [MARKED[1], MAIL[3], MAIL[4], MARKED[5]]
        parts = re.split(rb"(?m)^From sender\d@example.org .*\n", self.octets())[1:]
        self.assertEqual([part[:-1] for part in parts], left)
        self.assertEqual(len(self.session(())), 4)

    def test_never_by_default(self) -> None:
        """A spool is only read."""
        self.session((1, 2, 3))
        self.assertEqual(self.octets(), spool_from(MAIL))

    def test_failures_are_logged_and_never_raised(self) -> None:
        """Nor is anything changed; a journal that waits is not overwritten."""
        listings = self.driver().listings
        driver = self.driver(mark_seen=True)
        maildrop = self.successResultOf(Deferred.fromCoroutine(driver.open_maildrop(JOE)))
        journal = listings.journal(self.path)
        with open(journal, "wb") as file:
            file.write(b"a journal")
        with capturedLogs() as logs:
            self.successResultOf(Deferred.fromCoroutine(INotesRetrieval(maildrop).mark_seen([1])))
        self.assertIn("not marked as read", logs[-1]["log_format"])
        with open(journal, "rb") as file:
            self.assertEqual(file.read(), b"a journal")
        os.unlink(journal)
        os.unlink(self.spool)
        with capturedLogs() as logs:
            self.successResultOf(Deferred.fromCoroutine(INotesRetrieval(maildrop).mark_seen([1])))
        self.assertIn("not marked as read", logs[-1]["log_format"])
        self.successResultOf(Deferred.fromCoroutine(maildrop.close()))
