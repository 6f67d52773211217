"""Whole conversations as transcripts: C: what the client sends, S: what the server must answer, line by line."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import Harness
from tests.strategies import chunkings
from tpops.protocol.capabilities import Offer
from tpops.protocol.sasl import Plain

PLAIN = base64.b64encode(b"\0joe\0secret").decode()


def parts(transcript: str) -> tuple[bytes, bytes]:
    """What the client says in all, and what the server answers in all."""
    said, answered = [], []
    for line in transcript.strip().splitlines():
        who, text = line.strip()[:2], line.strip()[3:]
        (said if who == "C:" else answered).append(text + "\r\n")
    return "".join(said).encode(), "".join(answered).encode()


class DialogTests(SynchronousTestCase):
    """Transcripts, sent line by line, in one write, and cut anywhere."""

    def check(self, transcript: str, **harness: object) -> Harness:
        """Hold the conversation line by line and, on a fresh server, in one write."""
        said, answered = parts(transcript)
        whole = Harness(**harness)
        self.assertEqual(whole.connect().say(said), answered)
        lines = Harness(**harness)
        client = lines.connect()
        self.assertEqual(b"".join([client.say(line) for line in said.splitlines(keepends=True)]), answered)
        self.assertEqual(lines.stored, whole.stored)
        return whole

    session = """
        C: USER joe
        S: +OK send PASS
        C: PASS secret
        S: +OK joe has 2 messages (35 octets)
        C: STAT
        S: +OK 2 35
        C: LIST
        S: +OK message sizes follow
        S: 1 18
        S: 2 17
        S: .
        C: UIDL
        S: +OK unique-ids follow
        S: 1 a
        S: 2 b
        S: .
        C: UIDL 2
        S: +OK 2 b
        C: RETR 1
        S: +OK 18 octets
        S: Subject: a
        S:
        S: ..x
        S: .
        C: TOP 2 0
        S: +OK top of message follows
        S: Subject: b
        S:
        S: .
        C: DELE 1
        S: +OK message 1 deleted
        C: LIST
        S: +OK message sizes follow
        S: 2 17
        S: .
        C: UIDL
        S: +OK unique-ids follow
        S: 2 b
        S: .
        C: STAT
        S: +OK 1 17
        C: RETR 1
        S: -ERR message is marked as deleted
        C: DELE 1
        S: -ERR message is marked as deleted
        C: RETR 3
        S: -ERR no such message
        C: RSET
        S: +OK 2 messages (35 octets)
        C: DELE 2
        S: +OK message 2 deleted
        C: QUIT
        S: +OK bye (1 message left)
    """

    def test_everyday_session(self) -> None:
        """RFC 1939: the session that mail programs have."""
        harness = self.check(self.session)
        self.assertEqual(list(harness.stored), [b"a"])

    @given(st.data())
    def test_any_chunking_gives_the_same(self, data: st.DataObject) -> None:
        """RFC 2449 §6.6: however commands are cut into segments, the answers are the same."""
        said, answered = parts(self.session)
        client = Harness().connect()
        heard = b"".join([client.say(chunk) for chunk in data.draw(chunkings(said)) if chunk])
        self.assertEqual(heard, answered)

    def test_bare_line_feeds_and_trailing_spaces(self) -> None:
        """LF alone ends a line; spaces at its end change nothing; verbs in any case."""
        client = Harness().connect()
        self.assertEqual(
            client.say(b"user joe  \npass secret\nstat \nList  2 \n"),
            b"+OK send PASS\r\n+OK joe has 2 messages (35 octets)\r\n+OK 2 35\r\n+OK 2 17\r\n",
        )

    def test_password_keeps_its_spaces(self) -> None:
        """RFC 1939 §7: PASS takes the rest of the line as it is."""
        self.assertIn(b"-ERR [AUTH]", self.after_delay(b"USER joe\r\nPASS secret \r\n"))

    def after_delay(self, said: bytes) -> bytes:
        """What comes when the delay after a failed login is over."""
        harness = Harness()
        client = harness.connect()
        heard = client.say(said)
        harness.clock.advance(2)
        return heard + client.heard()

    def test_strange_numbers(self) -> None:
        """Numbers are strict, and the session goes on."""
        client = Harness().logged_in()
        for number in (b"1x", b"+1", b"0", b"-1", b"99999999999999999999", b"", b"1 2", b"\xb9"):
            for verb in (b"RETR", b"DELE"):
                heard = client.say(verb + b" " + number + b"\r\nNOOP\r\n")
                self.assertTrue(heard.startswith(b"-ERR "), heard)
                self.assertTrue(heard.endswith(b"\r\n+OK\r\n"), heard)

    def test_sasl_plain_in_both_forms(self) -> None:
        """RFC 5034: with the command, or in a line of its own."""
        client = Harness().connect()
        self.assertEqual(client.say(b"AUTH\r\n"), b"+OK SASL mechanisms follow\r\nPLAIN\r\n.\r\n")
        for bad, reply in ((b"*", b"-ERR authentication cancelled\r\n"), (b"%%%", b"-ERR not valid base64\r\n")):
            self.assertEqual(client.say(b"AUTH PLAIN\r\n"), b"+ \r\n")
            self.assertEqual(client.say(bad + b"\r\n"), reply)
        self.assertEqual(client.say(b"AUTH PLAIN\r\n"), b"+ \r\n")
        self.assertIn(b"+OK joe has", client.say(PLAIN.encode() + b"\r\n"))
        self.assertIn(b"+OK joe has", Harness().connect().say(b"AUTH PLAIN " + PLAIN.encode() + b"\r\n"))

    def test_long_responses_inside_an_exchange(self) -> None:
        """RFC 5034: lines of 12 KiB are accepted there, also on the command line, and nowhere else."""
        token = base64.b64encode(b"\0joe\0" + b"x" * 9000)
        self.assertGreater(len(token), 12000)
        for said in (b"AUTH PLAIN\r\n" + token + b"\r\n", b"AUTH PLAIN " + token + b"\r\n"):
            self.assertIn(b"-ERR [AUTH]", self.after_delay(said))

    def test_capabilities_in_both_states(self) -> None:
        """RFC 2449 §5."""
        client = Harness(offer=Offer(implementation=b"tpops-1", mechanisms={b"PLAIN": Plain})).connect()
        common = b"TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\nUSER\r\nSASL PLAIN\r\n"
        self.assertEqual(client.say(b"CAPA\r\n"), b"+OK capabilities follow\r\n" + common + b"UTF8\r\nLANG\r\n.\r\n")
        client.say(b"USER joe\r\nPASS secret\r\n")
        self.assertEqual(
            client.say(b"CAPA\r\n"),
            b"+OK capabilities follow\r\n" + common + b"UTF8\r\nLANG\r\nIMPLEMENTATION tpops-1\r\n.\r\n",
        )

    def test_last_is_reset_by_rset(self) -> None:
        """RFC 1460 §3: LAST tells the highest number retrieved since RSET."""
        client = Harness(offer=Offer(last=True)).logged_in()
        self.assertEqual(client.say(b"LAST\r\n"), b"+OK 0\r\n")
        client.say(b"RETR 2\r\nRETR 1\r\n")
        self.assertEqual(client.say(b"LAST\r\nRSET\r\nLAST\r\n").split(b"\r\n")[::2][:2], [b"+OK 2", b"+OK 0"])

    def test_empty_maildrop(self) -> None:
        """Nothing to list is no error."""
        client = Harness(messages={}).connect()
        self.assertEqual(
            client.say(b"USER joe\r\nPASS secret\r\nSTAT\r\nLIST\r\nUIDL\r\nLIST 1\r\nQUIT\r\n"),
            b"+OK send PASS\r\n+OK joe has 0 messages (0 octets)\r\n+OK 0 0\r\n+OK message sizes follow\r\n.\r\n"
            b"+OK unique-ids follow\r\n.\r\n-ERR no such message\r\n+OK bye (0 messages left)\r\n",
        )

    def test_message_that_vanished(self) -> None:
        """TPOPS 0.7.1: -ERR for its commands, and the session goes on."""
        harness = Harness()
        client = harness.logged_in()
        del harness.stored[b"a"]
        self.assertEqual(
            client.say(b"RETR 1\r\nTOP 1 0\r\nRETR 2\r\n"),
            b"-ERR message is no longer there\r\n" * 2 + b"+OK 17 octets\r\nSubject: b\r\n\r\ny\r\n.\r\n",
        )
        self.assertEqual(client.say(b"DELE 1\r\nQUIT\r\n"), b"+OK message 1 deleted\r\n+OK bye (1 message left)\r\n")

    def test_utf8_headers_need_utf8_mode_where_that_is_set(self) -> None:
        """RFC 6856 §5 and §6: refused with [UTF8] until the client says UTF8; sent as they are by default."""
        message = "Subject: Grüße\n\nx\n".encode()
        strict = Harness(messages={b"a": message}, refuse_utf8_headers=True)
        client = strict.logged_in()
        self.assertEqual(client.say(b"RETR 1\r\n"), b"-ERR [UTF8] this message needs UTF8 mode\r\n")
        self.assertEqual(client.say(b"TOP 1 0\r\n"), b"-ERR [UTF8] this message needs UTF8 mode\r\n")
        client.vanish()
        client = strict.connect()
        client.say(b"UTF8\r\nUSER joe\r\nPASS secret\r\n")
        self.assertIn(message.replace(b"\n", b"\r\n"), client.say(b"RETR 1\r\n"))
        self.assertIn(message.replace(b"\n", b"\r\n"), Harness(messages={b"a": message}).logged_in().say(b"RETR 1\r\n"))
