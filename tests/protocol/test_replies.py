"""What the server says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops import errors
from tpops.protocol import replies


class StatusLineTests(SynchronousTestCase):
    """RFC 2449 §4: a status line has at most 512 octets."""

    @given(st.text(max_size=700))
    def test_lines_are_short_and_single(self, text: str) -> None:
        """Whatever comes in, one line of at most 512 octets goes out."""
        for line in (replies.error(text, "AUTH"), replies.greeting(text, b"<1.2@host.example>")):
            self.assertLessEqual(len(line), 512)
            self.assertTrue(line.endswith(b"\r\n"))
            self.assertNotIn(b"\n", line[:-2])
            self.assertNotIn(b"\r", line[:-2])

    def test_long_greeting_keeps_the_timestamp_whole(self) -> None:
        """RFC 1939 §7: the timestamp ends the greeting and is never cut."""
        self.assertTrue(replies.greeting("x" * 600, b"<1.2@host>").endswith(b" <1.2@host>\r\n"))

    @given(st.text(max_size=5000))
    def test_login_reply_never_shows_strange_names(self, name: str) -> None:
        """A name that is not printable ASCII, or long, is not echoed."""
        line = replies.logged_in(name, 2, 300)
        self.assertLessEqual(len(line), 512)
        self.assertTrue(line.isascii())
        self.assertTrue(line.endswith(b" has 2 messages (300 octets)\r\n"))

    def test_login_where_another_program_serves(self) -> None:
        """Promise: the name where it can be shown, and nothing of messages that only the program knows."""
        self.assertEqual(replies.program_serves("joe@example.org"), b"+OK joe@example.org logged in\r\n")
        for name in ("jö", "x" * 129, "a\r\n-ERR"):
            self.assertEqual(replies.program_serves(name), b"+OK maildrop logged in\r\n")

    def test_login_reply_is_that_of_tpops(self) -> None:
        """TPOPS: USER has N messages (M octets)."""
        self.assertEqual(
            replies.logged_in("joe@example.org", 1, 5), b"+OK joe@example.org has 1 message (5 octets)\r\n"
        )


class ErrorTests(SynchronousTestCase):
    """Errors become replies in one place."""

    matrix = (
        (errors.BadCredentials, b"[AUTH]"),
        (errors.UnknownUser, b"[AUTH]"),
        (errors.AccountDisabled, b"[AUTH]"),
        (errors.MaildropBusy, b"[IN-USE]"),
        (errors.TooSoon, b"[LOGIN-DELAY]"),
        (errors.LookupUnavailable, b"[SYS/TEMP]"),
        (errors.StorageUnavailable, b"[SYS/TEMP]"),
        (errors.MaildropBroken, b"[SYS/PERM]"),
        (errors.NeedsUTF8, b"[UTF8]"),
    )

    def test_response_codes(self) -> None:
        """RFC 2449 §8, RFC 3206, RFC 6856 §6: each refusal has its code."""
        for error, code in self.matrix:
            self.assertTrue(replies.from_error(error("secret detail")).startswith(b"-ERR " + code + b" "), error)

    def test_detail_stays_inside(self) -> None:
        """The text of an exception never reaches the client."""
        for error, _ in self.matrix:
            self.assertNotIn(b"secret", replies.from_error(error("secret detail")))

    def test_unknown_user_and_wrong_password_look_the_same(self) -> None:
        """Nobody learns which names exist."""
        self.assertEqual(
            replies.from_error(errors.UnknownUser("joe")), replies.from_error(errors.BadCredentials("wrong password"))
        )

    def test_missing_and_deleted_messages_have_no_code(self) -> None:
        """Plain command errors carry no response code."""
        for error in (errors.NoSuchMessage, errors.MessageDeleted, errors.WrongState, errors.MessageVanished):
            self.assertNotIn(b"[", replies.from_error(error("x")))

    def test_limits_and_failed_removal_are_temporary(self) -> None:
        """RFC 3206: the client may try again later."""
        self.assertIn(b"[SYS/TEMP]", replies.from_error(errors.LimitReached("connections", "2000 are open")))
        self.assertEqual(
            replies.from_error(errors.RemoveFailed({3})), b"-ERR [SYS/TEMP] some deleted messages not removed\r\n"
        )
        self.assertIn(b"[SYS/PERM]", replies.from_error(errors.QuotaExceeded("x")))


class TransactionReplyTests(SynchronousTestCase):
    """RFC 1939 §5 and §6: answers that need numbers."""

    def test_size_before_a_message(self) -> None:
        """RETR says how many octets follow."""
        self.assertEqual(replies.retr(120), b"+OK 120 octets\r\n")

    def test_farewell_says_what_is_left(self) -> None:
        """QUIT after UPDATE."""
        self.assertEqual(replies.bye(1), b"+OK bye (1 message left)\r\n")
        self.assertEqual(replies.bye(0), b"+OK bye (0 messages left)\r\n")
