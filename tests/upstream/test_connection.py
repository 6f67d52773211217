"""One connection to another server, with a script at its other end."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import chunkings, messages
from tests.upstream.fakes import Gone, Script, connection
from tpops.errors import StorageUnavailable
from tpops.protocol.transparency import TERMINATOR, Encoder
from tpops.upstream.readers import MOST_OCTETS, Message, take_lines, take_text, together
from tpops.upstream.reasons import reason_text
from tpops.upstream.replies import Status

_unhurried = settings(deadline=None, suppress_health_check=list(HealthCheck))


class ConnectionCase(SynchronousTestCase):
    """Words for these tests."""

    def setUp(self) -> None:
        """A clock."""
        self.clock = Clock()

    def open(self, timeout_seconds: float = 60.0, keepalive: float = 120.0, **answers: Any) -> Any:
        """A greeted connection; its server is self.script."""
        self.script = Script(**answers)
        made = connection(self.script, self.clock, timeout_seconds, keepalive)
        self.successResultOf(made.greeting)
        return made

    def result(self, coroutine: Any) -> Any:
        """What it gives at once."""
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def problem(self, waiting: Any) -> str:
        """Why it failed."""
        deferred = waiting if isinstance(waiting, Deferred) else Deferred.fromCoroutine(waiting)
        return str(self.failureResultOf(deferred, StorageUnavailable).value)


class AnswerTests(ConnectionCase):
    """Commands and answers."""

    def test_answers_go_to_who_asked(self) -> None:
        """RFC 2449 §6.6: pipelined answers come in order, whatever the pieces."""
        made = self.open(LIST=b"+OK\r\n1 5\r\n.\r\n", STAT=b"+OK 1 5\r\n", UIDL=b"-ERR no\r\n")
        self.script.pipe.pieces = lambda data: [data[at : at + 1] for at in range(len(data))]
        lines: list[bytes] = []

        async def status(command: bytes) -> Status:
            result: Status = await made.send(command)
            return result

        asked = [status(b"STAT"), take_lines(made, b"LIST", lines.append), take_lines(made, b"UIDL", lines.append)]
        found = self.result(together(asked))
        self.assertEqual([one.positive for one in found], [True, True, False])
        self.assertEqual(lines, [b"1 5"])

    def test_no_command_has_a_line_end_in_it(self) -> None:
        """Promise: nothing that a client sends becomes a command of its own."""
        made = self.open()
        for octet in (b"\r", b"\n", b"\0"):
            self.assertRaises(ValueError, made.send, b"PASS a" + octet + b"DELE 1")
        self.assertEqual(self.script.said, [])

    def test_a_server_that_speaks_unasked_is_cut(self) -> None:
        """Promise: an answer that nobody asked for is taken for nobody's."""
        made = self.open()
        self.script.pipe.come(b"+OK surprise\r\n")
        self.assertFalse(made.alive)
        self.assertIn("without being asked", self.problem(made.send(b"NOOP")))

    def test_lines_and_texts_are_bounded(self) -> None:
        """Promise: an endless status line, an endless text or a malformed answer ends the connection, and is told."""
        cases = (
            (b"x" * 9000, "without an end"),
            (b"+OK " + b"x" * 9000 + b"\r\n", "without an end"),
            (b"220 hello\r\n", "220"),
        )
        for octets, why in cases:
            made = self.open(NOOP=octets)
            self.assertIn(why, self.problem(made.send(b"NOOP")))
            self.assertEqual(self.script.pipe.ended, "aborted")
        made = self.open(CAPA=b"+OK\r\n" + b"X\r\n" * 100 + b".\r\n")
        self.assertIn("more than 50 octets", self.problem(take_text(made, b"CAPA", 50)))

    def test_lost_connection_fails_all_that_wait(self) -> None:
        """Promise: whoever waits for an answer, or for more of one, gets to know."""
        made = self.open(STAT=b"", LIST=b"")
        waiting = [made.send(b"STAT"), Deferred.fromCoroutine(take_lines(made, b"LIST", lambda line: None))]
        self.script.pipe.come(b"+OK 1 1\r\n+OK\r\n1 ")
        self.assertTrue(self.successResultOf(waiting.pop(0)).positive)
        self.script.pipe.lose()
        self.assertEqual(self.problem(waiting[0]), "pop.example:110: the server has closed the connection")
        self.assertIn("closed", self.problem(made.send(b"NOOP")))
        made = self.open(STAT=Gone())

        async def status() -> Status:
            result: Status = await made.send(b"STAT")
            return result

        self.assertIn("closed", self.problem(together([status(), status()])))

    def test_given_up_waiting_does_no_harm(self) -> None:
        """Promise: an answer that nobody waits for any more is read and forgotten."""
        made = self.open(STAT=b"", LIST=b"")
        both = Deferred.fromCoroutine(together([take_lines(made, b"LIST", print), take_text(made, b"STAT", 5)]))
        both.cancel()
        self.failureResultOf(both)
        self.script.pipe.come(b"+OK\r\n.\r\n-ERR\r\n")
        self.assertTrue(self.successResultOf(made.send(b"NOOP")).positive)

    def test_reasons_in_words(self) -> None:
        """Promise: the log says why a connection could not be made or has ended."""
        cases: tuple[tuple[Exception, str], ...] = (
            (ConnectionDone(), "the server has closed the connection"),
            (VerificationError([]), "the server's certificate is for another name"),
            (SSL.Error([("a", "b", "certificate verify failed")]), "TLS failed: certificate verify failed"),
            (SSL.Error(), "TLS failed: the server has closed the connection"),
            (ConnectionLost(), "Connection to the other side was lost in a non-clean fashion."),
            (ValueError(), "ValueError"),
        )
        for error, text in cases:
            self.assertEqual(reason_text(Failure(error)), text)


class TimeTests(ConnectionCase):
    """Timeouts and NOOP."""

    def test_an_answer_must_come_in_time(self) -> None:
        """Promise: a server that says nothing is given up; any octet is a sign of life."""
        made = self.open(LIST=b"+OK\r\n", timeout_seconds=10)
        waiting = Deferred.fromCoroutine(take_lines(made, b"LIST", lambda line: None))
        for _ in range(5):
            self.clock.advance(9)
            self.script.pipe.come(b"1")
        self.assertNoResult(waiting)
        self.clock.advance(10)
        self.assertIn("no answer within 10 seconds", self.problem(waiting))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_quit_may_take_longer(self) -> None:
        """Promise: a server may need its time to remove."""
        made = self.open(QUIT=b"", timeout_seconds=10)
        waiting = made.send(b"QUIT", patience=5)
        self.clock.advance(49)
        self.assertNoResult(waiting)
        self.clock.advance(1)
        self.assertIn("within 50 seconds", self.problem(waiting))

    def test_idle_session_is_kept_alive(self) -> None:
        """Promise: a NOOP goes out while the client does nothing, and none while it works."""
        made = self.open()
        self.clock.advance(100)
        self.successResultOf(made.send(b"STAT"))
        self.clock.advance(100)
        self.assertEqual(self.script.said, [b"STAT"])
        self.clock.advance(20)
        self.clock.advance(120)
        self.assertEqual(self.script.said, [b"STAT", b"NOOP", b"NOOP"])
        made = self.open(keepalive=0)
        self.clock.advance(10000)
        self.assertEqual(self.script.said, [])

    def test_no_answer_to_noop_ends_it(self) -> None:
        """Promise: a dead server is noticed while the client idles."""
        made = self.open(NOOP=b"")
        self.clock.advance(120)
        self.clock.advance(60)
        self.assertFalse(made.alive)
        self.assertIn("no answer", str(made.problem()))

    def test_closing(self) -> None:
        """Promise: an idle connection ends in good order, one that waits for something is cut."""
        made = self.open()
        made.close()
        made.close()
        self.assertEqual(self.script.pipe.ended, "closed")
        made = self.open(STAT=b"")
        waiting = made.send(b"STAT")
        made.close()
        self.assertEqual(self.script.pipe.ended, "aborted")
        self.problem(waiting)

    def test_plain_text_behind_stls(self) -> None:
        """RFC 2595 §4: octets that came before TLS are nobody's answer."""
        secured: list[Any] = []
        made = self.open(STLS=b"")
        asked = made.send(b"STLS")
        asked.addCallback(lambda _: secured.append(made.secure(None)))
        self.script.pipe.come(b"+OK go\r\n+OK injected\r\n")
        self.assertIn("plain text behind", self.problem(secured[-1]))

    def test_handshake_must_come_to_its_end(self) -> None:
        """Promise: neither a slow nor a broken handshake is waited for for ever."""
        made = self.open(timeout_seconds=10)
        self.script.pipe.startTLS = lambda context: None
        waiting = made.secure(None)
        self.clock.advance(10)
        self.assertIn("TLS was not on within 10 seconds", self.problem(waiting))
        self.assertIn("TLS was not on", self.problem(made.secure(None)))
        made = self.open()
        self.script.pipe.startTLS = lambda context: made.handshakeCompleted()
        self.successResultOf(made.secure(None))
        self.assertTrue(made.secured)


class MessageTests(ConnectionCase):
    """Messages that come as they are read."""

    def message(self, made: Any, most_unwanted: int = 1000) -> Message:
        """An open message."""
        found = Message(made, most_unwanted)
        self.assertTrue(self.successResultOf(made.send(b"RETR 1", found)).positive)
        return found

    def everything(self, message: Message, octets: int = 1 << 16) -> bytes:
        """All of it."""
        found = b""
        while chunk := self.chunk(message, octets):
            found += chunk
        return found

    def chunk(self, message: Message, octets: int) -> bytes:
        """A read."""
        answer: Any = message.read(octets)
        chunk: bytes = answer if isinstance(answer, bytes) else self.successResultOf(answer)
        return chunk

    @_unhurried
    @given(st.data(), messages(), st.integers(1, 100))
    def test_any_pieces_any_reads(self, data: st.DataObject, message: bytes, octets: int) -> None:
        """Promise: what is read is what was sent, for all pieces that it comes in and all reads."""
        encoder = Encoder()
        stuffed = encoder.feed(message) + encoder.finish()
        made = self.open(RETR=b"+OK\r\n" + stuffed + TERMINATOR)
        self.script.pipe.pieces = lambda octets: data.draw(chunkings(octets))
        again = Encoder()
        self.assertEqual(again.feed(self.everything(self.message(made), octets)) + again.finish(), stuffed)

    def test_server_waits_for_a_slow_reader(self) -> None:
        """Promise: a message of any size takes a bounded buffer; the connection is paused meanwhile, for any time."""
        big = b"0123456789abcde\r\n" * 200_000
        made = self.open(RETR=b"")
        stuffed = b"+OK\r\n" + big + TERMINATOR
        pipe = self.script.pipe
        pipe.pieces = lambda data: [data[at : at + 65536] for at in range(0, len(data), 65536)]
        message = Message(made, 0)
        asked = made.send(b"RETR 1", message)
        pipe.come(stuffed)
        self.successResultOf(asked)
        self.assertEqual(pipe.producerState, "paused")
        self.assertLess(message._buffered, MOST_OCTETS + 70000)
        self.clock.advance(100000)
        most = 0
        found = b""
        while chunk := self.chunk(message, 1 << 18):
            found += chunk
            most = max(most, message._buffered)
        self.assertEqual(found, big)
        self.assertLess(most, MOST_OCTETS + 70000)
        self.assertEqual(pipe.producerState, "producing")

    def test_lost_in_the_middle(self) -> None:
        """Promise: what has come is read, then the loss is told; no end is made up."""
        made = self.open(RETR=Gone(b"+OK\r\nSubject: x\r\n"))
        message = self.message(made)
        self.assertEqual(message.read(100), b"Subject: x\r\n"[:-2])
        self.assertRaises(StorageUnavailable, message.read, 100)
        made = self.open(RETR=b"+OK\r\nSubject")
        message = self.message(made)
        reading: Any = message.read(100)
        self.assertNoResult(reading)
        self.script.pipe.lose()
        self.assertEqual(self.successResultOf(reading), b"Subject")
        self.assertRaises(StorageUnavailable, message.read, 100)
        made = self.open(RETR=b"+OK\r\n")
        waiting: Any = self.message(made).read(100)
        self.script.pipe.lose()
        self.problem(waiting)

    def test_what_nobody_wants_is_thrown_away(self) -> None:
        """Promise: the session goes on behind a message that was not read to its end; one without an end is cut."""
        made = self.open(RETR=b"+OK\r\nSubject: x\r\n")
        message = self.message(made)
        message.close()
        message.close()
        noop = made.send(b"NOOP")
        self.script.pipe.come(b"more\r\n" * 20 + TERMINATOR + b"+OK\r\n")
        self.assertTrue(self.successResultOf(noop).positive)
        made = self.open(RETR=b"+OK\r\nSubject: x\r\n")
        self.message(made).close()
        self.script.pipe.come(b"more\r\n" * 200)
        self.assertEqual(self.script.pipe.ended, "aborted")

    def test_closing_lets_a_paused_server_go_on(self) -> None:
        """Promise: who goes away in the middle does not leave the connection paused."""
        made = self.open(RETR=b"+OK\r\n" + b"x" * (MOST_OCTETS + 10) + b"\r\n")
        message = self.message(made)
        self.assertEqual(self.script.pipe.producerState, "paused")
        message.close()
        self.assertEqual(self.script.pipe.producerState, "producing")

    def test_given_up_reading(self) -> None:
        """Promise: a read that was cancelled takes nothing."""
        made = self.open(RETR=b"+OK\r\n")
        message = self.message(made)
        reading: Any = message.read(5)
        reading.cancel()
        self.failureResultOf(reading)
        self.script.pipe.come(b"abc\r\n" + TERMINATOR)
        self.assertEqual(message.read(5), b"abc\r\n")
