"""LMTP: messages of every size and form, and how connections end."""

from __future__ import annotations

import errno

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.delivery.lmtp_harness import BEGIN, END, GREETING, MESSAGE, STORED, Server
from tests.delivery.test_lmtp_data import TEXTS, cut, stuffed
from tpops.delivery import lmtp_late
from tpops.delivery import lmtp_replies as replies
from tpops.errors import StorageUnavailable


class ContentTests(SynchronousTestCase):
    """Messages of every size and form."""

    @settings(max_examples=60)
    @given(
        TEXTS,
        st.lists(st.integers(0, 200), max_size=12),
        st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=4),
    )
    def test_any_way_of_cutting(self, text: bytes, places: list[int], chunks: list[tuple[int, bool]]) -> None:
        """Promise: any chunking of the stream gives the same replies and stored octets, by DATA and by BDAT."""
        stream = BEGIN + b"RCPT TO:<joe>\r\nRCPT TO:<nobody>\r\nRCPT TO:<eva>\r\nDATA\r\n" + stuffed(text)
        stream += b"MAIL FROM:<>\r\nRCPT TO:<max>\r\n"
        rest = text
        for octets, _ in chunks:
            piece, rest = rest[:octets], rest[octets:]
            stream += b"BDAT %d\r\n%s" % (len(piece), piece)
        stream += b"BDAT %d LAST\r\n%sNOOP\r\nQUIT\r\n" % (len(rest), rest)
        whole, pieces = Server(), Server()
        expected = whole.client().say(stream)
        client = pieces.client()
        for piece in cut(stream, places):
            client.server.dataReceived(piece)
        self.assertEqual(client.said(), GREETING + expected)
        self.assertTrue(expected.endswith(b"stored\r\n" + replies.OK + replies.BYE))
        self.assertEqual(pieces.maildrops.stored, whole.maildrops.stored)
        meant = text if text.endswith(b"\r\n") else text + b"\r\n"
        (joe,), (eva,) = whole.maildrops.octets("joe"), whole.maildrops.octets("eva")
        self.assertEqual(joe, eva)
        if b"\r\r\n" not in meant:
            self.assertEqual(joe, meant.replace(b"\r\n", b"\n"))

    def test_nobody_smuggles(self) -> None:
        """RFC 5321 section 4.1.1.4: what looks like an end to others is a part of the message here."""
        server = Server()
        client = server.client().begin("joe")
        evil = b"a\n.\nMAIL FROM:<evil@example.org>\nRCPT TO:<eva>\nDATA\nb\n.\r\n"
        self.assertEqual(client.say(evil), b"")
        self.assertEqual(client.say(b"\r\n.\r\n"), b"250 2.1.5 abcdef1.1 stored\r\n")
        self.assertEqual(server.maildrops.octets("joe"), [evil.replace(b"\r\n", b"\n") + b"\n"])

    def test_too_big(self) -> None:
        """RFC 1870 section 6: refused at MAIL where it is announced, else behind the message; nothing is stored."""
        server = Server(most_octets=100)
        client = server.client()
        client.say(b"LHLO x\r\n")
        self.assertEqual(client.say(b"MAIL FROM:<> SIZE=101\r\n"), replies.TOO_BIG)
        client.begin("joe", "eva")
        self.assertEqual(client.say(b"x" * 99 + b"\r\n" + b"y" * 100000), b"")
        self.assertEqual(client.say(b"\r\n.\r\nNOOP\r\n"), replies.TOO_BIG * 2 + replies.OK)
        client.begin("joe")
        self.assertIn(b"250 2.1.5", client.say(b"x" * 98 + b"\r\n.\r\n"))
        self.assertEqual({name: len(mail) for name, mail in server.maildrops.stored.items()}, {"joe": 1})

    def test_too_big_in_pieces(self) -> None:
        """RFC 3030: a piece that is too much ends the transaction; those behind it are thrown away."""
        server = Server(most_octets=100)
        client = server.client()
        said = client.say(
            BEGIN
            + b"RCPT TO:<joe>\r\nBDAT 60\r\n"
            + b"x" * 60
            + b"BDAT 60\r\n"
            + b"QUIT\r\n" * 10
            + b"BDAT 6 LAST\r\nQUIT\r\n"
        )
        self.assertTrue(said.endswith(replies.CHUNK_OK + replies.TOO_BIG + replies.NEEDS_SENDER), said)
        self.assertFalse(client.closed)
        self.assertIn(b"250 2.1.5", client.begin("joe").say(b"x\r\n.\r\n"))
        self.assertEqual(server.maildrops.octets("joe"), [b"x\n"])

    def test_rset_between_pieces(self) -> None:
        """RFC 3030 section 4.2: RSET forgets the pieces; the next message has nothing of them."""
        server = Server()
        client = server.client()
        piece = b"MAIL FROM:<>\r\nRCPT TO:<joe>\r\nBDAT 3\r\none"
        client.say(b"LHLO x\r\n" + piece + b"RSET\r\n" + piece + b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<joe>\r\n")
        self.assertIn(b"250 2.1.5", client.say(b"BDAT 3 LAST\r\ntwo"))
        self.assertEqual(server.maildrops.octets("joe"), [b"two"])

    def test_big_messages_wait_for_the_disk(self) -> None:
        """Promise: while a piece is written, nothing more is read than fits; memory stays bounded."""
        server = Server()
        client = server.client().begin("joe")
        server.hold_threads = True
        line = b"x" * 998 + b"\r\n"
        client.say(line * 200)
        self.assertEqual(len(server.threads), 1)
        self.assertEqual(client.transport.producerState, "producing")
        client.say(line * 70)
        self.assertEqual(client.transport.producerState, "paused")
        server.run_threads()
        self.assertEqual(client.transport.producerState, "producing")
        client.say(line * 1800)
        server.run_threads()
        self.assertEqual(client.say(b".\r\n"), b"")
        while server.threads:
            server.run_threads()
        self.assertEqual(client.said(), b"250 2.1.5 abcdef1.1 stored\r\n")
        self.assertEqual(server.maildrops.octets("joe"), [(b"x" * 998 + b"\n") * 2070])
        self.assertEqual([message.octets for message in server.messages], [0])

    def test_full_disk(self) -> None:
        """RFC 3463: no room for a big message is 4.3.1 for all its recipients; the rest is taken and thrown away."""
        for problem, reply in ((errno.ENOSPC, replies.NO_ROOM), (errno.EIO, replies.UNAVAILABLE)):
            server = Server()
            client = server.client().begin("joe", "eva")

            def feed(octets: bytes, problem: int = problem) -> None:
                raise OSError(problem, "cannot")

            server.messages[0].feed = feed  # type: ignore[method-assign]
            client.say(b"x" * 200000)
            client.say(b"x" * 200000)
            self.assertEqual(client.say(b"\r\n.\r\nNOOP\r\n"), reply * 2 + replies.OK)
            self.assertEqual(server.maildrops.stored, {})
            self.assertIn(b"250 2.1.5", client.begin("joe").say(MESSAGE + END))


class EndTests(SynchronousTestCase):
    """How connections end."""

    def test_leaving_in_the_message(self) -> None:
        """RFC 5321 section 4.1.1.4: a message without its end is nobody's."""
        server = Server()
        client = server.client().begin("joe")
        client.say(b"x" * 1000 + b"\r\n.")
        client.leave()
        self.assertEqual((server.maildrops.stored, server.shared.connections), ({}, set()))
        self.assertEqual(server.messages[0].octets, 0)

    def test_leaving_while_it_is_written(self) -> None:
        """Promise: also while a part of it is being written, which is thrown away then."""
        server = Server()
        client = server.client().begin("joe")
        server.hold_threads = True
        client.say(b"x" * 2000000)
        client.leave()
        self.assertEqual(len(server.threads), 1)
        while server.threads:
            server.run_threads()
        self.assertEqual((server.maildrops.stored, server.messages[0].octets), ({}, 0))

    def test_leaving_while_it_is_delivered(self) -> None:
        """Promise: what has begun comes to its end, what has not is left out: the client will send it again."""
        server = Server(at_a_time=1)
        server.maildrops.holds = {"joe"}
        client = server.client().begin("joe", "eva")
        client.say(MESSAGE + END)
        client.leave()
        server.maildrops.release("joe")
        self.assertEqual(server.maildrops.octets("joe"), [STORED])
        self.assertEqual(server.maildrops.octets("eva"), [])
        self.assertEqual((server.messages[0].octets, server.shared.deliveries.under_way), (0, 0))

    def test_the_next_try(self) -> None:
        """Promise: who goes during a delivery and sends the message again waits for it, and makes no second copy."""
        server = Server(most_connections=9)
        server.maildrops.holds = {"joe"}
        impatient = server.client().begin("joe")
        impatient.say(MESSAGE + END)
        impatient.leave()
        server.maildrops.holds = set()
        self.assertEqual(server.client().begin("joe").say(MESSAGE + END), replies.UNAVAILABLE)
        self.assertIn(b"250 2.1.5", server.client().begin("joe").say(b"another\r\n.\r\n"))
        server.maildrops.release("joe")
        self.assertEqual(len(server.maildrops.octets("joe")), 2)
        self.assertIn(b"250 2.1.5", server.client().begin("joe", "eva").say(MESSAGE + END))
        self.assertEqual((len(server.maildrops.octets("joe")), len(server.maildrops.octets("eva"))), (2, 1))
        # Left out once: the same text again is another message.
        self.assertIn(b"250 2.1.5", server.client().begin("joe").say(MESSAGE + END))
        self.assertEqual(len(server.maildrops.octets("joe")), 3)

    def test_the_next_try_after_a_failure(self) -> None:
        """Promise: what failed after the client had gone is delivered at the next try; nothing is known for ever."""
        server = Server()
        server.maildrops.holds = {"joe", "eva"}
        server.maildrops.errors["joe"] = StorageUnavailable("down")
        client = server.client().begin("joe", "eva")
        client.say(MESSAGE + END)
        client.leave()
        for name in ("joe", "eva"):
            server.maildrops.release(name)
        server.maildrops.holds, server.maildrops.errors = set(), {}
        server.clock.advance(lmtp_late.SECONDS)
        server.client().begin("joe", "eva").say(MESSAGE + END)
        self.assertEqual((len(server.maildrops.octets("joe")), len(server.maildrops.octets("eva"))), (1, 2))

    def test_bounded_memory_of_tries(self) -> None:
        """Promise: only so many deliveries are remembered, the latest."""
        late = lmtp_late.LateReplies(lambda: 0.0)

        def gone() -> bool:
            return False

        keys = [(b"", "", str(number)) for number in range(lmtp_late.MOST + 1)]
        for key in keys:
            self.assertEqual(late.begin(key, gone), lmtp_late.Verdict.DELIVER)
            late.end(key, gone, True)
        self.assertEqual(late.begin(keys[0], gone), lmtp_late.Verdict.DELIVER)
        self.assertEqual(late.begin(keys[1], gone), lmtp_late.Verdict.DONE)

    def test_saying_nothing_more(self) -> None:
        """Promise: a client that closes its side first still gets its replies."""
        server = Server()
        server.maildrops.holds = {"joe"}
        client = server.client().begin("joe")
        client.say(MESSAGE + END)
        client.server.readConnectionLost()
        self.assertFalse(client.closed)
        server.maildrops.release("joe")
        self.assertEqual(client.said(), b"250 2.1.5 abcdef1.1 stored\r\n")
        self.assertTrue(client.closed)

    def test_silence(self) -> None:
        """RFC 5321 section 4.5.3.2: a client that says nothing is told so and sent away; deliveries may take longer."""
        server = Server()
        server.maildrops.holds = {"joe"}
        client = server.client().begin("joe")
        server.clock.advance(299)
        client.say(b"x")
        server.clock.advance(299)
        client.say(b"\r\n.\r\n")
        server.clock.pump([100] * 20)
        self.assertFalse(client.closed)
        server.maildrops.release("joe")
        server.clock.advance(299)
        client.said()
        self.assertFalse(client.closed)
        server.clock.advance(300)
        self.assertEqual(client.said(), replies.TIMEOUT)
        self.assertTrue(client.transport.disconnecting)
        server.clock.advance(300)
        self.assertTrue(client.aborted)
        self.assertEqual(server.clock.getDelayedCalls(), [])

    def test_replies_that_nobody_reads(self) -> None:
        """Promise: a client that does not take its replies gets no more of them, and is cut off after a while."""
        server = Server()
        client = server.client()
        client.server.pauseProducing()
        client.said()
        self.assertEqual(client.say(b"NOOP\r\n" * 20000), b"")
        self.assertEqual(client.transport.producerState, "paused")
        client.server.resumeProducing()
        self.assertEqual(client.said(), replies.OK * 20000)
        self.assertEqual(client.transport.producerState, "producing")
        client.server.pauseProducing()
        server.clock.advance(301)
        self.assertTrue(client.aborted)

    def test_stopping(self) -> None:
        """RFC 5321 section 3.8: 421 when the server ends; who waits for a delivery gets that reply first."""
        server = Server()
        server.maildrops.holds = {"joe"}
        idle, sending, waiting = server.client(), server.client(), server.client()
        sending.begin("joe").say(b"x\r\n")
        waiting.begin("joe").say(MESSAGE + END + b"NOOP\r\n")
        idle.said(), sending.said(), waiting.said()
        server.shared.stopping = True
        for client in (idle, sending, waiting):
            client.server.stop()
        self.assertEqual((idle.said(), sending.said(), waiting.said()), (replies.SHUTDOWN, replies.SHUTDOWN, b""))
        server.maildrops.release("joe")
        self.assertEqual(waiting.said(), b"250 2.1.5 abcdef3.1 stored\r\n" + replies.OK + replies.SHUTDOWN)
        self.assertTrue(waiting.closed)
        for client in (idle, sending, waiting):
            client.leave()
        self.assertEqual(server.client().said(), replies.SHUTDOWN)
        self.assertEqual(server.maildrops.octets("joe"), [STORED])

    def test_draining(self) -> None:
        """Promise: a message that has begun when the server begins to end is taken to its end, and then none."""
        server = Server()
        client = server.client().begin("joe")
        client.say(b"x\r\n")
        server.shared.stopping = True
        self.assertEqual(client.say(b"y\r\n"), b"")
        self.assertEqual(client.say(END), b"250 2.1.5 abcdef1.1 stored\r\n" + replies.SHUTDOWN)
        self.assertTrue(client.closed)

    def test_too_many_connections(self) -> None:
        """Promise: connections are bounded; a place that is free again is given again."""
        server = Server()
        clients = [server.client() for _ in range(3)]
        late = server.client()
        self.assertEqual(late.said(), replies.TOO_MANY_CONNECTIONS)
        self.assertTrue(late.closed)
        late.leave()
        clients[0].leave()
        self.assertEqual(server.client().said(), GREETING)

    def test_networks(self) -> None:
        """Promise: by TCP only from the networks that are configured, also in the form of IPv4 within IPv6."""
        server = Server()
        for host, first in (
            ("127.0.0.9", GREETING),
            ("::ffff:127.0.0.1", GREETING),
            ("192.0.2.1", replies.NOT_ALLOWED),
            ("::2", replies.NOT_ALLOWED),
            ("fe80::1%eth0", replies.NOT_ALLOWED),
        ):
            client = server.client(host)
            self.assertEqual(client.said(), first, host)
            client.leave()

    def test_our_own_errors(self) -> None:
        """Promise: what nobody expected ends the connection with 451 and is in the log; the client tries again."""
        server = Server()
        client = server.client().begin("joe")

        def finish() -> None:
            raise RuntimeError("bug")

        server.messages[0].finish = finish  # type: ignore[method-assign]
        self.assertEqual(client.say(MESSAGE + END), replies.UNAVAILABLE)
        self.assertTrue(client.closed)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
