"""What separates messages in a spool, what belongs to them, and their unique-ids."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.mailbox.spools import quoted, separator, spool_of
from tests.mailbox.support import unhurried
from tests.strategies import messages
from tpops.mailbox import mbox_scan
from tpops.mailbox.mbox_scan import HASH, TPOP3D, X_UID, Found, NoSpool, Place, made_unique, scan
from tpops.mailbox.unquoted import Unquoting

BODY = b"Subject: x\n\ntext\n"


def found(spool: bytes, style: str = HASH, start: int = 0, unquote: bool = False) -> list[Found]:
    """What is in a spool."""
    return list(scan(lambda at, octets: spool[at : at + octets], start, len(spool), style, unquote))


def texts(spool: bytes) -> list[bytes]:
    """The messages of a spool."""
    return [spool[one.place.body : one.place.end] for one in found(spool)]


class SeparatorTests(SynchronousTestCase):
    """RFC 4155 and what programs write."""

    def test_separators_as_programs_write_them(self) -> None:
        """Seconds, zones, comments and senders of all kinds."""
        for line in (
            b"From joe@example.org Tue Nov 24 07:02:15 2026",
            b"From joe@example.org  Tue Nov  4 07:02:15 2026",
            b"From MAILER-DAEMON Tue Nov 24 07:02 2026",
            b"From - Tue Nov 24 07:02:15 2026",
            b"From joe Tue Nov 24 07:02:15 GMT 2026",
            b"From joe Tue Nov 24 07:02:15 2026 +0100",
            b"From joe Tue Nov 24 07:02:15 CET +0100 2026",
            b"From joe@x Tue Nov 24 07:02:15 2026 remote from uucp",
            b'From "joe doe"@x Tue, Nov 24 07:02:15 2026',
            b"From  Tue Nov 24 07:02:15 2026",
        ):
            for end in (b"\n", b"\r\n"):
                spool = line + end + BODY + b"\n" + line + end + BODY + b"\n"
                self.assertEqual(texts(spool), [BODY, BODY], line)

    def test_what_separates_nothing(self) -> None:
        """No date, no empty line before, or not at the line's beginning."""
        for line in (
            b"\nFrom here to eternity\n",
            b"From joe Tue Nov 24 07:02:15 2026\n",
            b"\n From joe Tue Nov 24 07:02:15 2026\n",
            b"\n>From joe Tue Nov 24 07:02:15 2026\n",
            b"\nFrom joe Tue Nov 24 2026\n",
            b"\nFrom joe Foo Nov 24 07:02:15 2026\n",
            b"\nFrom joe Tue Nov 24 07:02:15 2026 and more\n",
            b"\nfrom joe Tue Nov 24 07:02:15 2026\n",
        ):
            self.assertEqual(texts(separator() + BODY + line + b"rest\n\n"), [BODY + line + b"rest\n"], line)

    def test_a_file_of_another_format_is_no_empty_spool(self) -> None:
        """An administrator has to look."""
        for octets in (b"Subject: x\n\n", b"\n" + spool_of([BODY]), b"From here\n", b"\0" * 100, b"F"):
            self.assertRaises(NoSpool, found, octets)
        self.assertEqual(found(b""), [])

    def test_the_last_message_may_lack_its_empty_line(self) -> None:
        """Nothing of it is lost, whatever its end is."""
        for end, text in ((b"", b"text"), (b"\n", b"text\n"), (b"\n\n", b"text\n"), (b"\r\n\r\n", b"text\r\n")):
            self.assertEqual(texts(separator() + b"text" + end), [text])
        self.assertEqual(texts(separator()), [b""])
        self.assertEqual(texts(separator() + b"\n"), [b""])

    def test_places_meet(self) -> None:
        """Each ends where the next begins, the last at the end of the spool."""
        spool = spool_of([BODY, b"", b"x", BODY * 3])
        places = [one.place for one in found(spool)]
        self.assertEqual([place.next for place in places], [*(place.start for place in places[1:]), len(spool)])
        self.assertEqual([Place.unpack(place.pack()) for place in places], places)

    @unhurried
    @given(st.lists(messages(), max_size=6), st.integers(20, 300))
    def test_the_same_for_every_window(self, mail: list[bytes], window: int) -> None:
        """What is read at once makes no difference, and everything comes back as it was delivered."""
        spool = spool_of(mail)
        self.patch(mbox_scan, "_MOST_LINE", 100)
        whole = found(spool)
        self.patch(mbox_scan, "_WINDOW", max(window, 200))
        self.assertEqual(found(spool), whole)
        ends = [quoted(one)[:-1] if quoted(one).endswith((b"\n\n", b"\n\r\n")) else quoted(one) for one in mail]
        self.assertEqual([one.rstrip(b"\r\n") for one in texts(spool)], [one.rstrip(b"\r\n") for one in ends])

    def test_a_scan_from_any_separator_on(self) -> None:
        """As after an append."""
        spool = spool_of([BODY, b"two\n", b"three\n"])
        whole = found(spool)
        self.assertEqual(found(spool, start=whole[1].place.start), whole[1:])


class UniqueIdTests(SynchronousTestCase):
    """RFC 1939 section 7."""

    def one(self, spool: bytes, style: str = HASH) -> bytes:
        """The unique-id of the first message."""
        return found(spool, style)[0].unique_id

    def test_marks_of_mail_programs_do_not_change_the_hash(self) -> None:
        """Status and the like, also folded, also at the header's end; anything else does."""
        plain = separator() + b"Subject: x\nTo: y\n\nStatus: text\n\n"
        for field in (
            b"Status: RO\n",
            b"X-Status: A\n",
            b"x-uid: 17\n",
            b"X-Keywords: a\n b\n",
            b"Content-Length: 9\n",
        ):
            marked = separator() + b"Subject: x\n" + field + b"To: y\n\nStatus: text\n\n"
            self.assertEqual(self.one(marked), self.one(plain), field)
            self.assertEqual(self.one(separator() + field + plain[len(separator()) :]), self.one(plain), field)
        self.assertNotEqual(self.one(plain.replace(b"Status: text", b"Status: t")), self.one(plain))
        self.assertNotEqual(self.one(plain.replace(b"To: y", b"To: z")), self.one(plain))
        self.assertNotEqual(self.one(plain.replace(b"sender0", b"sender1")), self.one(plain))

    def test_what_tpop3d_had(self) -> None:
        """MD5 over 512 octets from the separator on, with the empty line where the message is shorter."""
        for text in (BODY, BODY + b"x" * 1000):
            spool = spool_of([text, BODY])
            end = found(spool)[0].place.next
            expected = hashlib.md5(spool[: min(512, end)]).hexdigest().encode()
            self.assertEqual(self.one(spool, TPOP3D), expected)

    def test_what_uw_ipop3d_had(self) -> None:
        """UID validity and UID in eight hexadecimal digits each; without them the hash."""
        internal = b"X-IMAP: 1700000000 0000000042\n\nThis text is part of the internal format.\n"
        spool = spool_of([internal, b"X-UID: 17\n" + BODY, BODY])
        one, two = found(spool, X_UID)
        self.assertEqual(one.unique_id, b"6553f10000000011")
        self.assertEqual(two.unique_id, found(spool, HASH)[1].unique_id)
        based = spool_of([b"X-IMAPbase: 1700000000 17\nX-UID: 1\n" + BODY])
        self.assertEqual(self.one(based, X_UID), b"6553f10000000001")
        self.assertEqual(self.one(spool_of([b"X-UID: 1\n" + BODY]), X_UID), self.one(spool_of([BODY])))

    def test_the_internal_message_is_none(self) -> None:
        """DON'T DELETE THIS MESSAGE: only where it is the first, and only by its field."""
        internal = b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\ntext\n"
        self.assertEqual(texts(spool_of([internal, BODY])), [BODY])
        self.assertEqual(len(texts(spool_of([BODY, internal]))), 2)
        self.assertEqual(len(texts(spool_of([internal.replace(b"X-IMAP: 1 2\n", b"")]))), 1)

    def test_copies_get_numbers(self) -> None:
        """No two messages have the same unique-id."""
        first = made_unique(b"abc", {b"abc"})
        self.assertEqual(made_unique(b"abc", ()), b"abc")
        self.assertNotIn(made_unique(b"abc", {b"abc", first}), (b"abc", first))
        self.assertEqual(len(first), 40)


class SizeTests(SynchronousTestCase):
    """RFC 1939 section 11."""

    def test_a_long_header_and_a_long_message(self) -> None:
        """Longer than what is looked at in one piece."""
        for text in (b"A: " + b"x" * (3 << 20) + b"\n\nbody\n", b"A: b\n\n" + b"line\n" * (1 << 19)):
            (one,) = found(spool_of([text]))
            self.assertEqual(one.size, len(text) + text.count(b"\n"))

    def test_unquoted_sizes(self) -> None:
        """What is sent without signs is announced without them."""
        spool = separator() + b"A: b\n\n>From x\n>>From y\n>from z\n\n"
        self.assertEqual(found(spool)[0].size - found(spool, unquote=True)[0].size, 2)


class UnquotingTests(SynchronousTestCase):
    """mboxrd."""

    @unhurried
    @given(
        st.lists(
            st.sampled_from((b"From ", b">", b">>", b"\n", b"\r\n", b"Fro", b"m", b" x", b"F", b">From ")), max_size=30
        ),
        st.lists(st.integers(1, 9), min_size=1, max_size=9),
    )
    def test_the_same_for_every_cut(self, pieces: list[bytes], cuts: list[int]) -> None:
        """Chunks of any size give what the whole gives; nothing else changes."""
        text = b"".join(pieces)
        expected = b"\n".join(
            line[1:] if line.lstrip(b">").startswith(b"From ") and line.startswith(b">") else line
            for line in text.split(b"\n")
        )
        unquoting = Unquoting()
        got, at, turn = [], 0, 0
        while at < len(text):
            step = cuts[turn % len(cuts)]
            got.append(unquoting.feed(text[at : at + step]))
            at, turn = at + step, turn + 1
        self.assertEqual(b"".join((*got, unquoting.finish())), expected)

    def test_a_line_of_nothing_but_signs_is_not_kept_for_ever(self) -> None:
        """Memory is bounded."""
        unquoting = Unquoting()
        unquoting.feed(b">" * 5000)
        self.assertEqual(len(unquoting.feed(b">")), 1)
