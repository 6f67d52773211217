"""Delivery into spools, beyond what every driver promises (tests/contracts/append.py): killed at any point."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from tests.contracts.append import ENVELOPE, Incoming
from tests.mailbox.spools import JOE, SpoolCase, quoted, spool_of
from tests.mailbox.support import killed_at, public_folder, unhurried
from tests.support import need_root
from tpops.errors import MaildropBroken, StorageUnavailable
from tpops.mailbox import mbox_append
from tpops.mailbox.mbox_append import Addition, Quoting, separator
from tpops.model import Account

MAIL = [b"Subject: one\n\nFrom here\n", b"Subject: two\n\ntext\n"]

LETTER = b"Subject: letter\n\nFrom there\n" + b"x" * 300 + b"\n"

_MEMORY = """
import os, resource, sys
from tests.contracts.append import ENVELOPE
from tpops.mailbox import mbox_append

class Big:
    octets = 0
    def chunks(self):
        piece = b"From " + b"x" * 99_994 + b"\\n"
        for _ in range(int(sys.argv[2])):
            yield piece

spool = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
mbox_append.append(spool, Big(), ENVELOPE, True, os.fsencode(sys.argv[1]) + b".append")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def from_others(number: int = 7) -> bytes:
    """What another program appends."""
    return spool_of([b"Subject: foreign\n\ntext\n"], number)


class QuotingTests(SpoolCase):
    """Lines that look like separators."""

    def quoted(self, text: bytes, pieces: int, again: bool) -> bytes:
        """The text, in pieces of that size."""
        quoting = Quoting(again)
        parts = [quoting.feed(text[at : at + pieces]) for at in range(0, len(text), pieces)]
        return b"".join((*parts, quoting.finish()))

    @unhurried
    @given(
        st.lists(st.sampled_from([b"From ", b">From ", b">", b"F", b"Fro", b"\n", b" x", b"From\n", b"\r\n"])),
        st.integers(1, 12),
    )
    def test_whatever_the_pieces(self, parts: list[bytes], pieces: int) -> None:
        """RFC 4155, mboxo and mboxrd: each line at its beginning, and no other."""
        text = b"".join(parts)
        expected = re.sub(rb"^From ", rb">From ", text, flags=re.MULTILINE)
        self.assertEqual(self.quoted(text, pieces, again=False), expected)
        expected = re.sub(rb"^(>*From )", rb">\1", text, flags=re.MULTILINE)
        self.assertEqual(self.quoted(text, pieces, again=True), expected)

    def test_separator(self) -> None:
        """RFC 4155: sender and date; what is in a sender cannot end the line or add another word."""
        for sender, shown in (
            ("ann@example.org", b"ann@example.org"),
            ("", b"MAILER-DAEMON"),
            ("a b\n\tFrom c", b"abFromc"),
            ("jörg@example.org", "jörg@example.org".encode()),
            ("\udcff", b"\xff"),
        ):
            made = separator(attrs.evolve(ENVELOPE, sender=sender))
            self.assertEqual(made, b"From " + shown + b"  Mon Nov 24 16:00:00 2025\n")


class DeliveryCase(SpoolCase):
    """A spool with two messages."""

    def setUp(self) -> None:
        super().setUp()
        self.whole = spool_of(MAIL)
        self.write(self.whole)

    def deliver(self, message: bytes = LETTER, account: Account = JOE, **options: Any) -> None:
        """Deliver."""
        coroutine = self.driver(**options).append(account, Incoming(message, 50), ENVELOPE)
        self.successResultOf(self.started(coroutine))

    def refused(self, *errors: type[Exception], account: Account = JOE, **options: Any) -> Any:
        """Deliver what cannot be; gives the exception."""
        coroutine = self.driver(**options).append(account, Incoming(LETTER, 50), ENVELOPE)
        return self.failureResultOf(self.started(coroutine), *errors).value

    def started(self, coroutine: Any) -> Any:
        """The coroutine's Deferred."""
        return Deferred.fromCoroutine(coroutine)

    def look(self) -> int:
        """Open it as a session does; how many messages there are."""
        maildrop = self.successResultOf(self.started(self.driver().open_maildrop(JOE)))
        self.successResultOf(self.started(maildrop.close()))
        count: int = maildrop.messages.count
        return count

    def journals(self) -> list[str]:
        """What is in the directory of indexes, beside those, locks, and journals that were not finished."""
        return [one for one in os.listdir(self.index_dir) if not one.endswith((".index", ".lock", ".tmp"))]


class AppendTests(DeliveryCase):
    """When all goes well, and when it does not."""

    def test_form(self) -> None:
        """Promise: separator, quoted lines, and an empty line at the end."""
        self.deliver()
        expected = self.whole + separator(ENVELOPE) + quoted(LETTER) + b"\n"
        self.assertEqual(self.octets(), expected)
        self.assertEqual((self.look(), self.journals()), (3, []))

    def test_ends_that_are_missing(self) -> None:
        """Promise: whatever the spool ends with, the new message does not become part of the last one."""
        for end in (b"", b"\n", b"\n\n", b"x", b"x\n", b"\r\n\r\n", b"\r\n"):
            self.write(self.whole.rstrip(b"\n") + end)
            self.deliver()
            self.assertEqual(self.look(), 3, end)

    def test_new_spool(self) -> None:
        """Promise: a spool that is not there is made, for its owner alone; a directory is not."""
        os.unlink(self.spool)
        self.deliver()
        self.assertEqual(os.stat(self.spool).st_mode & 0o7777, 0o600)
        self.assertEqual(self.look(), 1)
        self.spool = os.path.join(self.directory, "nowhere", "joe")
        self.assertIn("there is no directory", str(self.refused(MaildropBroken)))

    def test_locked(self) -> None:
        """Promise: another program's lock is waited for, and then mail is tried again."""
        Path(self.spool + ".lock").write_text(str(os.getpid()))
        self.refused(StorageUnavailable)
        self.assertEqual(self.octets(), self.whole)
        os.unlink(self.spool + ".lock")
        self.deliver()

    def test_failing_at_every_call(self) -> None:
        """Promise: a disk that is full or broken at any point leaves the old spool, and no journal."""
        for name, number, nth in (
            ("posix_fallocate", errno.ENOSPC, 0),
            *(("pwrite", errno.ENOSPC, nth) for nth in range(3)),
            *(("fsync", errno.EIO, nth) for nth in range(3)),
            ("ftruncate", errno.EFBIG, 0),
            ("rename", errno.EIO, 0),
            ("write", errno.ENOSPC, 1),
        ):
            real, count = getattr(os, name), iter(range(1000))

            def failing(*given: Any, real: Any = real, count: Any = count, nth: int = nth, number: int = number) -> Any:
                if next(count) == nth:
                    raise OSError(number, os.strerror(number))
                return real(*given)

            with mock.patch.object(os, name, failing):
                self.refused(StorageUnavailable)
            self.assertEqual((self.octets(), self.journals()), (self.whole, []), (name, nth))
        self.deliver()
        self.assertEqual(self.look(), 3)

    def test_without_reserving(self) -> None:
        """Promise: file systems that cannot reserve room are served, too."""
        with mock.patch("os.posix_fallocate", side_effect=OSError(errno.EOPNOTSUPP, "no")):
            self.deliver()
        self.assertEqual(self.look(), 3)

    def test_message_that_changes(self) -> None:
        """Promise: one that is not the same when it is read again is not appended."""
        texts = iter([b"Subject: a\n\n", b"Subject: longer\n\n"])

        class Changing:
            octets = 10

            def chunks(self) -> Any:
                yield next(texts)

        descriptor = os.open(self.spool, os.O_RDWR)
        self.addCleanup(os.close, descriptor)
        journal = os.fsencode(self.index_dir + "/j")
        self.assertRaises(OSError, mbox_append.append, descriptor, Changing(), ENVELOPE, False, journal)
        self.assertEqual(self.octets(), self.whole)

    def test_memory(self) -> None:
        """Promise: 100 MB take no more memory than a small message."""

        def measure(pieces: int) -> int:
            command = [sys.executable, "-c", _MEMORY, self.spool, str(pieces)]
            root = str(Path(__file__).resolve().parents[2])
            done = subprocess.run(command, capture_output=True, check=True, timeout=120, cwd=root)
            return int(done.stdout)

        self.assertLess(measure(1000), measure(1) + 10_000)
        self.assertGreater(os.stat(self.spool).st_size, 100_000_000)


class KilledTests(DeliveryCase):
    """Killed at any point."""

    def kills(self, what: Any = None) -> Any:
        """A delivery is killed at each of its calls, before and after; yields after each."""
        for after in (False, True):
            call = 0
            while True:
                self.write(self.whole)
                for one in self.journals():
                    os.unlink(os.path.join(self.index_dir, one))
                if not killed_at(call, after, what or self.deliver):
                    break
                yield call
                call += 1
        self.assertGreater(call, 12)

    def test_next_session(self) -> None:
        """Promise: the next session sees the old mail, and the new message whole or not at all."""
        delivered = self.whole + separator(ENVELOPE) + quoted(LETTER) + b"\n"
        for call in self.kills():
            count = self.look()
            self.assertEqual((self.octets(), self.journals()), ((self.whole, delivered)[count - 2], []), call)

    def test_others_append_before_the_next_session(self) -> None:
        """Promise: half a message swallows none that another program appends, and is cut out; the others stay."""
        delivered = self.whole + separator(ENVELOPE) + quoted(LETTER) + b"\n"
        for call in self.kills():
            with open(self.spool, "ab") as file:
                file.write(from_others())
            count = self.look()
            expected = (self.whole, delivered)[count - 3] + from_others()
            self.assertEqual((self.octets(), self.journals()), (expected, []), call)

    def test_next_delivery(self) -> None:
        """Promise: a delivery recovers, too; the message that is tried again is there once."""
        delivered = separator(ENVELOPE) + quoted(LETTER) + b"\n"
        for call in self.kills():
            self.deliver()
            self.assertIn(self.octets(), (self.whole + delivered, self.whole + 2 * delivered), call)
            self.assertEqual(self.journals(), [])

    def test_recovery_is_killed(self) -> None:
        """Promise: who is killed while he cuts half a message out does no harm either."""
        # Killed when the new length is there and half of it is written.
        with mock.patch.object(mbox_append, "_write_all", side_effect=lambda file, octets, at: os._exit(1)):
            child = os.fork()
            if child == 0:
                self.deliver()
                os._exit(0)
            os.waitpid(child, 0)
        half, journal = self.octets(), Path(self.index_dir, self.journals()[0])
        kept = journal.read_bytes()
        for others in (b"", from_others()):
            for after in (False, True):
                call = 0
                while True:
                    self.write_in_place(half + others)
                    journal.write_bytes(kept)
                    if not killed_at(call, after, self.look):
                        break
                    self.look()
                    self.assertEqual((self.octets(), self.journals()), (self.whole + others, []), (others, call))
                    call += 1
                self.assertGreater(call, 2)

    def write_in_place(self, octets: bytes) -> None:
        """The spool's octets, in the same file."""
        self.write(octets)

    def test_session_at_its_end(self) -> None:
        """Promise: half a message that came during a session does not disturb its deletions."""
        session = self.successResultOf(self.started(self.driver().open_maildrop(JOE)))
        killed_at(12, False, self.deliver)
        self.successResultOf(self.started(session.remove([1])))
        self.successResultOf(self.started(session.close()))
        self.assertTrue(self.octets().startswith(spool_of(MAIL[1:], 1)))
        self.look()
        self.assertEqual(self.octets(), spool_of(MAIL[1:], 1))

    def test_rewritten_by_others(self) -> None:
        """Promise: a journal of a spool that another program has rewritten changes nothing, and is put aside."""
        facts = os.stat(self.spool)
        end = facts.st_size
        path = Path(os.fsdecode(self.driver().listings.path(self.path, b".append")))
        for addition in (
            Addition(facts.st_ino + 1, 0, end, b"From "),
            Addition(facts.st_ino, end + 10, end + 20, b"From "),
            Addition(facts.st_ino, end - 20, end, b"From nobody"),
            Addition(facts.st_ino, 0, 30, self.whole[:10]),
        ):
            path.write_bytes(addition.pack())
            with capturedLogs() as logs:
                self.look()
            self.assertEqual([one["log_level"].name for one in logs], ["error"])
            self.assertEqual((self.octets(), self.journals()), (self.whole, [path.name + ".unused"]))
        for octets in (b"", b"nonsense", addition.pack()[:-1]):
            path.write_bytes(octets)
            self.look()
            self.assertEqual(self.octets(), self.whole)


class OwnerTests(SpoolCase):
    """Deliveries by root."""

    def setUp(self) -> None:
        super().setUp()
        need_root(self, "becoming other users")

    def test_owner(self) -> None:
        """Promise: a new spool is the account's; one that is somebody else's, or has a second name, is not written."""
        account = Account("joe", "test", uid=4001, gid=4002)
        with public_folder() as folder:
            self.spool = folder + "/joe"

            def deliver() -> Any:
                return Deferred.fromCoroutine(self.driver().append(account, Incoming(LETTER), ENVELOPE))

            self.successResultOf(deliver())
            facts = os.stat(self.spool)
            self.assertEqual((facts.st_uid, facts.st_gid), (4001, 4002))
            os.link(self.spool, folder + "/other")
            self.failureResultOf(deliver(), MaildropBroken)
            os.unlink(folder + "/other")
            os.chown(self.spool, 4003, -1)
            self.failureResultOf(deliver(), MaildropBroken)
            os.chown(self.spool, 4001, -1)
            self.successResultOf(deliver())
