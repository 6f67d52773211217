"""LMTP dialogs: the whole protocol over a transport in memory."""

from __future__ import annotations

import errno

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.delivery.lmtp_harness import BEGIN, END, GREETING, MESSAGE, NOW, STORED, Server
from tpops.delivery import lmtp_replies as replies
from tpops.delivery.lmtp_header import Headers
from tpops.errors import (
    AccountDisabled,
    BadCredentials,
    LookupUnavailable,
    MaildropBroken,
    QuotaExceeded,
    StorageUnavailable,
)
from tpops.model import Account

LHLO = replies.lhlo("mail.example.org", 1 << 22)


def caused(error: Exception, cause: OSError) -> Exception:
    """An error with what was behind it."""
    error.__cause__ = cause
    return error


class CommandTests(SynchronousTestCase):
    """Lines and their replies."""

    def test_transcript(self) -> None:
        """RFC 2033 section 4.4: the example of the standard, one command at a time."""
        server = Server()
        client = server.client()
        self.assertEqual(client.said(), GREETING)
        for line, reply in (
            (b"LHLO foo.edu", LHLO),
            (b"MAIL FROM:<chris@bar.com>", replies.SENDER_OK),
            (b"RCPT TO:<pat@foo.edu>", replies.RECIPIENT_OK),
            (b"RCPT TO:<nobody@foo.edu>", replies.UNKNOWN_USER),
            (b"RCPT TO:<green@foo.edu>", replies.RECIPIENT_OK),
            (b"DATA", replies.SEND_DATA),
        ):
            self.assertEqual(client.say(line + b"\r\n"), reply)
        server.maildrops.errors["green"] = QuotaExceeded("full")
        self.assertEqual(client.say(MESSAGE + END), b"250 2.1.5 abcdef1.1 stored\r\n" + replies.OVER_QUOTA)
        self.assertEqual(client.say(b"QUIT\r\n"), replies.BYE)
        self.assertTrue(client.closed)
        self.assertEqual(server.maildrops.octets("pat"), [STORED])
        self.assertEqual(server.maildrops.octets("green"), [])

    def test_all_in_one_segment(self) -> None:
        """RFC 2920: a whole session in one write has its replies in one write, and several messages in it."""
        server = Server()
        client = server.client()
        client.said()
        one = b"MAIL FROM:<>\r\nRCPT TO:<joe>\r\nDATA\r\n" + MESSAGE + END
        said = client.say(b"LHLO x\r\n" + one + b"NOOP\r\n" + one + b"QUIT\r\n")
        answer = replies.SENDER_OK + replies.RECIPIENT_OK + replies.SEND_DATA
        self.assertEqual(
            said,
            LHLO
            + answer
            + b"250 2.1.5 abcdef1.1 stored\r\n"
            + replies.OK
            + answer
            + b"250 2.1.5 abcdef1.2 stored\r\n"
            + replies.BYE,
        )
        self.assertEqual(server.maildrops.octets("joe"), [STORED, STORED])

    def test_lines_that_are_none(self) -> None:
        """RFC 5321 section 2.3.8: a command ends with CRLF; with LF alone it is refused and not carried out."""
        client = Server().client()
        client.said()
        self.assertEqual(client.say(b"LHLO x\n"), replies.BAD_LINE_END)
        self.assertEqual(client.say(b"\n\r\n"), replies.BAD_LINE_END + replies.UNKNOWN_COMMAND)
        self.assertEqual(client.say(b"MAIL FROM:<>\r\n"), replies.NEEDS_LHLO)

    def test_long_lines(self) -> None:
        """Promise: a line that is too long is refused once, in whatever pieces; one without end ends the session."""
        line = b"NOOP " + b"x" * 2043
        client = Server().client()
        client.said()
        self.assertEqual(client.say(line + b"\r\n"), replies.OK)
        self.assertEqual(client.say(line + b"x\r\nNOOP\r\n"), replies.LINE_TOO_LONG + replies.OK)
        self.assertEqual(client.say(line), b"")
        self.assertEqual(client.say(line), b"")
        self.assertEqual(client.say(b"x" * 100), b"")
        self.assertEqual(client.say(b"\r\nNOOP\r\n"), replies.LINE_TOO_LONG + replies.OK)
        self.assertEqual(client.say(b"x" * 65537), replies.LINE_TOO_LONG)
        self.assertTrue(client.closed)

    def test_too_many_errors(self) -> None:
        """Promise: a client that speaks something else is sent away."""
        client = Server().client()
        self.assertTrue(client.say(b"GET / HTTP/1.1\r\n" * 30).endswith(replies.TOO_MANY_ERRORS))
        self.assertTrue(client.closed)

    def test_commands_wait_for_a_lookup(self) -> None:
        """RFC 2920: what is pipelined behind a RCPT that waits is answered afterwards, in order."""
        server = Server()
        waiting: Deferred[Account] = Deferred()
        server.lookups["slow"] = waiting
        client = server.client()
        client.said()
        said = client.say(BEGIN + b"RCPT TO:<slow>\r\nRCPT TO:<joe>\r\nDATA\r\n" + MESSAGE + END + b"QUIT\r\n")
        self.assertEqual(said, LHLO + replies.SENDER_OK)
        client.said()
        waiting.callback(Account("slow", "test"))
        stored = b"250 2.1.5 abcdef1.1 stored\r\n"
        self.assertEqual(client.said(), replies.RECIPIENT_OK * 2 + replies.SEND_DATA + stored * 2 + replies.BYE)
        self.assertEqual((server.maildrops.octets("slow"), server.maildrops.octets("joe")), ([STORED], [STORED]))


class RecipientTests(SynchronousTestCase):
    """Who gets mail, and what the client is told of the others."""

    def test_at_rcpt(self) -> None:
        """RFC 3463: unknown is 5.1.1, "cannot say" is never that; nobody else is touched."""
        server = Server()
        server.lookups = {
            "bad": BadCredentials("no name"),
            "away": LookupUnavailable("database down"),
            "off": AccountDisabled("locked"),
            "odd": RuntimeError("bug"),
        }
        client = server.client()
        client.said()
        client.say(BEGIN)
        for name, reply in (
            ("nobody", replies.UNKNOWN_USER),
            ("bad", replies.UNKNOWN_USER),
            ("away", replies.UNAVAILABLE),
            ("off", replies.DISABLED),
            ("odd", replies.UNAVAILABLE),
            ("joe", replies.RECIPIENT_OK),
        ):
            self.assertEqual(client.say(f"RCPT TO:<{name}@example.org>\r\n".encode()), reply)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(client.say(b"DATA\r\n" + MESSAGE + END), replies.SEND_DATA + b"250 2.1.5 abcdef1.1 stored\r\n")
        self.assertEqual(list(server.maildrops.stored), ["joe"])

    def test_behind_the_message(self) -> None:
        """RFC 2033 section 4.2: one reply for each recipient, in order; the failure of one never touches another."""
        server = Server()
        server.maildrops.errors = {
            "full": QuotaExceeded("full"),
            "away": StorageUnavailable("database down"),
            "disk": caused(StorageUnavailable("cannot write"), OSError(errno.ENOSPC, "No space left on device")),
            "raw": OSError(errno.EDQUOT, "Disk quota exceeded"),
            "broken": MaildropBroken("not a Maildir"),
            "odd": RuntimeError("bug"),
        }
        said = server.client().begin("full", "joe", "away", "disk", "raw", "broken", "odd", "eva").say(MESSAGE + END)
        stored = b"250 2.1.5 abcdef1.1 stored\r\n"
        self.assertEqual(
            said,
            replies.OVER_QUOTA
            + stored
            + replies.UNAVAILABLE
            + replies.NO_ROOM * 2
            + replies.BROKEN
            + replies.UNAVAILABLE
            + stored,
        )
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual({name for name, mail in server.maildrops.stored.items() if mail}, {"joe", "eva"})

    def test_every_outcome_is_told(self) -> None:
        """Promise: one event for each recipient, with what an operator asks for."""
        server = Server()
        server.maildrops.errors["full"] = QuotaExceeded("full has 9 octets")
        client = server.client()
        client.say(BEGIN + b"RCPT TO:<nobody>\r\nRCPT TO:<full>\r\nRCPT TO:<joe>\r\nDATA\r\n" + MESSAGE + END)
        common = {"peer": "unix", "sender": "a@example.org"}
        each = {**common, "delivery": "abcdef1.1", "octets": len(STORED), "seconds": 0.0}
        self.assertEqual(
            server.told,
            [
                {
                    **common,
                    "event": "recipient-refused",
                    "delivery": "abcdef1",
                    "recipient": "nobody",
                    "reply": "550 5.1.1 no such user here",
                    "detail": "no source has this name",
                },
                {
                    **each,
                    "event": "bounced",
                    "recipient": "full",
                    "account": "full",
                    "unique_id": "",
                    "reply": "552 5.2.2 mailbox is full",
                    "detail": "full has 9 octets",
                },
                {
                    **each,
                    "event": "delivered",
                    "recipient": "joe",
                    "account": "joe",
                    "unique_id": "1",
                    "reply": "250 2.1.5 abcdef1.1 stored",
                    "detail": "",
                },
            ],
        )

    def test_full_maildrops_may_be_a_reason_to_wait(self) -> None:
        """RFC 3463: 4.2.2 where that is configured."""
        server = Server(defers=True)
        server.maildrops.errors["full"] = QuotaExceeded("full")
        self.assertEqual(server.client().begin("full").say(MESSAGE + END), replies.OVER_QUOTA_FOR_NOW)

    def test_the_same_twice(self) -> None:
        """RFC 2033: each RCPT is a delivery, also where two addresses are one account."""
        server = Server()
        server.lookups["alias"] = account = Deferred()
        account.callback(Account("joe", "test"))
        said = server.client().begin("joe", "alias").say(MESSAGE + END)
        self.assertEqual(said.count(b"250 2.1.5"), 2)
        self.assertEqual(server.maildrops.octets("joe"), [STORED, STORED])

    def test_many_at_a_time(self) -> None:
        """Promise: recipients wait for a turn, not for each other; replies come in order, as soon as they can."""
        server = Server(at_a_time=2)
        server.maildrops.holds = {"a", "b", "c"}
        client = server.client().begin("a", "b", "c")
        self.assertEqual(client.say(MESSAGE + END + b"NOOP\r\n"), b"")
        self.assertEqual([name for name, _ in server.maildrops.held], ["a", "b"])
        server.maildrops.release("b")
        self.assertEqual(client.said(), b"")
        server.maildrops.errors["c"] = StorageUnavailable("down")
        server.maildrops.release("c")
        self.assertEqual(client.said(), b"")
        server.maildrops.release("a")
        stored = b"250 2.1.5 abcdef1.1 stored\r\n"
        self.assertEqual(client.said(), stored * 2 + replies.UNAVAILABLE + replies.OK)
        self.assertEqual(server.maildrops.most, 2)

    def test_the_bound_is_for_all_connections(self) -> None:
        """Promise: deliveries at the same time are bounded, however many connections there are."""
        server = Server(at_a_time=1)
        server.maildrops.holds = {"a"}
        for _ in range(3):
            server.client().begin("a").say(MESSAGE + END)
        self.assertEqual(len(server.maildrops.held), 1)
        for _ in range(3):
            server.maildrops.release("a")
        self.assertEqual(len(server.maildrops.octets("a")), 3)
        self.assertEqual(server.maildrops.most, 1)

    def test_header(self) -> None:
        """RFC 5321 section 4.4: Return-Path, Delivered-To and Received stand before the message, for each his own."""
        server = Server(Headers())
        server.client("127.0.0.1").begin("joe", "eva").say(MESSAGE + END)
        (message,) = server.maildrops.octets("eva")
        header, _, rest = message.partition(b"Subject:")
        self.assertEqual(b"Subject:" + rest, STORED)
        self.assertRegex(
            header,
            rb"\AReturn-Path: <a@example.org>\nDelivered-To: eva@example.org\n"
            rb"Received: from mx.example.org \(\[127.0.0.1\]\)\n"
            rb"\tby mail.example.org \(tpops\) with LMTP id abcdef1.1\n"
            rb"\tfor <eva@example.org>; \w{3}, \d\d Nov 2026 \d\d:\d\d:\d\d [+-]\d{4}\n\Z",
        )
        self.assertIn(b"Delivered-To: joe@", server.maildrops.octets("joe")[0])
        self.assertEqual([one.recipient for one in server.maildrops.envelopes], ["joe@example.org", "eva@example.org"])
        self.assertEqual({(one.sender, one.at) for one in server.maildrops.envelopes}, {("a@example.org", NOW)})

    def test_header_of_strange_clients(self) -> None:
        """Promise: what a client calls himself cannot break the header; UTF-8 is told (RFC 6531 section 4.3)."""
        server = Server(Headers(received=True, return_path=True, delivered_to=False))
        client = server.client()
        client.say("LHLO ((\\é\r\nMAIL FROM:<jörg@example.org> SMTPUTF8\r\nRCPT TO:<joe>\r\nDATA\r\n".encode() + END)
        (message,) = server.maildrops.octets("joe")
        self.assertTrue(
            message.startswith("Return-Path: <jörg@example.org>\nReceived: from unknown (local)\n".encode())
        )
        self.assertIn(b"with UTF8LMTP id", message)
