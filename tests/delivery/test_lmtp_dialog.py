"""What may be said when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.delivery import lmtp_replies as replies
from tpops.delivery.lmtp_dialog import MOST_ERRORS, Dialog, Find, Say, Step, TakeChunk, TakeData

LHLO, MAIL, RCPT, DATA = b"LHLO mx", b"MAIL FROM:<a@example.org>", b"RCPT TO:<joe@example.org>", b"DATA"


def dialog(*lines: bytes, most_octets: int = 1000, most_recipients: int = 3) -> Dialog[str]:
    """A dialog in which this was said, and every recipient was accepted."""
    begun: Dialog[str] = Dialog("mail.example.org", most_octets, most_recipients)
    for line in lines:
        step = begun.line(line)
        if isinstance(step, Find):
            begun.accept(step.address)
    return begun


class DialogTests(SynchronousTestCase):
    """See the module."""

    def test_the_usual(self) -> None:
        """RFC 2033 section 4: LHLO, MAIL, RCPT, DATA."""
        talk = dialog()
        said = talk.line(LHLO)
        assert isinstance(said, Say)
        self.assertEqual(
            said.reply.split(b"\r\n"),
            [
                b"250-mail.example.org",
                b"250-PIPELINING",
                b"250-SIZE 1000",
                b"250-8BITMIME",
                b"250-SMTPUTF8",
                b"250-ENHANCEDSTATUSCODES",
                b"250 CHUNKING",
                b"",
            ],
        )
        self.assertEqual(talk.line(MAIL), Say(replies.SENDER_OK))
        self.assertEqual(talk.line(RCPT), Find("joe@example.org"))
        talk.accept("joe")
        self.assertEqual(talk.line(DATA), TakeData())
        assert talk.transaction is not None
        self.assertEqual(talk.transaction.recipients, ["joe"])

    ORDER: tuple[tuple[tuple[bytes, ...], bytes, Step], ...] = (
        ((), MAIL, Say(replies.NEEDS_LHLO)),
        ((), RCPT, Say(replies.NEEDS_SENDER)),
        ((), DATA, Say(replies.NEEDS_SENDER)),
        ((), b"BDAT 5 LAST", TakeChunk(5, True, replies.NEEDS_SENDER)),
        ((LHLO,), RCPT, Say(replies.NEEDS_SENDER)),
        ((LHLO,), DATA, Say(replies.NEEDS_SENDER)),
        ((LHLO, MAIL), MAIL, Say(replies.NESTED)),
        ((LHLO, MAIL), DATA, Say(replies.NO_RECIPIENTS)),
        ((LHLO, MAIL), b"BDAT 5", TakeChunk(5, False, replies.NO_RECIPIENTS)),
        ((LHLO, MAIL, RCPT), b"BDAT 5", TakeChunk(5, False)),
        ((LHLO, MAIL, RCPT, b"BDAT 5"), b"BDAT 0 LAST", TakeChunk(0, True)),
        ((LHLO, MAIL, RCPT, b"BDAT 5"), DATA, Say(replies.CHUNKS_BEGUN)),
        ((LHLO, MAIL, RCPT, b"BDAT 5"), RCPT, Say(replies.CHUNKS_BEGUN)),
        ((LHLO, MAIL, RCPT, b"BDAT 5", b"RSET"), b"BDAT 5", TakeChunk(5, False, replies.NEEDS_SENDER)),
        ((LHLO, MAIL, RCPT, b"RSET"), DATA, Say(replies.NEEDS_SENDER)),
        ((LHLO, MAIL, RCPT, LHLO), DATA, Say(replies.NEEDS_SENDER)),
        ((LHLO, MAIL, b"EHLO x"), RCPT, Find("joe@example.org")),
        ((LHLO,), b"MAIL FROM:<> SIZE=1000", Say(replies.SENDER_OK)),
        ((LHLO,), b"MAIL FROM:<> SIZE=1001", Say(replies.TOO_BIG)),
        ((LHLO,), "MAIL FROM:<jörg@example.org>".encode(), Say(replies.NEEDS_UTF8)),
        ((LHLO, MAIL), "RCPT TO:<jörg@example.org>".encode(), Say(replies.NEEDS_UTF8)),
        ((LHLO, MAIL + b" SMTPUTF8"), "RCPT TO:<jörg@example.org>".encode(), Find("jörg@example.org")),
        ((LHLO, MAIL, RCPT, RCPT, RCPT), RCPT, Say(replies.TOO_MANY_RECIPIENTS)),
        ((), b"NOOP", Say(replies.OK)),
        ((), b"RSET", Say(replies.OK)),
        ((), b"VRFY joe", Say(replies.CANNOT_VERIFY)),
        ((), b"HELP", Say(replies.HELP)),
        ((LHLO, MAIL), b"QUIT", Say(replies.BYE, closes=True)),
        ((), b"BDAT x", Say(replies.BAD_BDAT, closes=True)),
        ((), b"HELO x", Say(replies.NOT_SMTP)),
    )

    def test_order(self) -> None:
        """RFC 5321 section 4.1.4: each command has its place; 503 in all others, and nothing is lost by it."""
        for said, line, step in self.ORDER:
            self.assertEqual(dialog(*said).line(line), step, (said, line))

    def test_any_size(self) -> None:
        """RFC 1870 section 3: SIZE 0 announces that there is no limit."""
        talk = dialog(LHLO, most_octets=0)
        self.assertEqual(talk.line(b"MAIL FROM:<> SIZE=99999999999999999999"), Say(replies.SENDER_OK))

    def test_too_many_errors(self) -> None:
        """Promise: a client that speaks something else is not listened to for ever."""
        talk = dialog(LHLO)
        for _ in range(MOST_ERRORS - 1):
            self.assertEqual(talk.line(b"GET / HTTP/1.1"), Say(replies.UNKNOWN_COMMAND))
        self.assertEqual(talk.line(b"GET /"), Say(replies.UNKNOWN_COMMAND + replies.TOO_MANY_ERRORS, closes=True))

    @given(
        st.lists(
            st.sampled_from(
                [LHLO, MAIL, RCPT, DATA, b"RSET", b"NOOP", b"BDAT 3", b"BDAT 3 LAST", b"junk", b"MAIL FROM:x"]
            )
        )
    )
    def test_any_history(self, lines: list[bytes]) -> None:
        """Promise: a message is taken only for recipients that were accepted since the last MAIL, RSET or LHLO."""
        talk = dialog()
        expected: list[str] | None = None
        for line in lines:
            step = talk.line(line)
            if line in (b"RSET", LHLO):
                expected = None
            elif step == Say(replies.SENDER_OK):
                expected = []
            elif isinstance(step, Find):
                assert expected is not None
                expected.append(step.address)
                talk.accept(step.address)
            elif isinstance(step, TakeChunk) and step.refusal == replies.NO_RECIPIENTS:
                expected = None
            if isinstance(step, TakeData) or (isinstance(step, TakeChunk) and not step.refusal):
                assert talk.transaction is not None
                self.assertTrue(expected)
                self.assertEqual(talk.transaction.recipients, expected)
            if isinstance(step, TakeData) or (isinstance(step, TakeChunk) and step.last and not step.refusal):
                talk.reset()
                expected = None
