"""The states of a session, without any I/O."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.errors import BadCommand, CommandError, MessageDeleted, NoSuchMessage, WrongState
from tpops.protocol import sasl
from tpops.protocol.actions import Close, Commit, Listing, Login, LoginByDigest, Retrieve, StartTLS
from tpops.protocol.capabilities import Offer
from tpops.protocol.commands import COMMANDS, SASL_LINE_OCTETS
from tpops.protocol.states import Conversation


class FakeMailbox:
    """A maildrop of two messages as the states see it."""

    def __init__(self, list_body: bytes | Iterable[bytes] = b"1 10\r\n2 20\r\n") -> None:
        self.marks: set[int] = set()
        self.body = list_body

    def stat(self) -> tuple[int, int]:
        return 2 - len(self.marks), 30

    def size(self, number: int) -> int:
        if number not in (1, 2):
            raise NoSuchMessage("x")
        if number in self.marks:
            raise MessageDeleted("x")
        return number * 10

    def unique_id(self, number: int) -> bytes:
        self.size(number)
        return b"uid%d" % number

    def list_body(self) -> bytes | Iterable[bytes]:
        return self.body

    def uidl_body(self) -> bytes | Iterable[bytes]:
        return b"1 uid1\r\n2 uid2\r\n"

    def mark(self, number: int) -> None:
        self.size(number)
        self.marks.add(number)

    def reset(self) -> None:
        self.marks.clear()

    def last(self) -> int:
        return 2


def logged_in(offer: Offer | None = None, mailbox: FakeMailbox | None = None) -> Conversation:
    """A conversation in TRANSACTION."""
    conversation = Conversation(offer or Offer())
    conversation.logged_in(mailbox or FakeMailbox())
    return conversation


class AuthorizationTests(SynchronousTestCase):
    """RFC 1939 §4 and §7: before login."""

    def test_user_and_pass_ask_for_a_login(self) -> None:
        """PASS takes the rest of the line with all its spaces."""
        conversation = Conversation(Offer())
        self.assertEqual(conversation.handle(b"user joe "), b"+OK send PASS\r\n")
        self.assertEqual(conversation.handle(b"PASS  a b "), Login(b"joe", b" a b "))

    def test_name_is_forgotten_after_pass(self) -> None:
        """A second PASS needs a second USER."""
        conversation = Conversation(Offer())
        conversation.handle(b"USER joe")
        conversation.handle(b"PASS x")
        self.assertRaises(BadCommand, conversation.handle, b"PASS x")

    def test_second_user_is_refused(self) -> None:
        """TPOPS, RFC 1939 §7: USER only after the greeting or a failed PASS."""
        conversation = Conversation(Offer())
        conversation.handle(b"USER joe")
        self.assertRaises(BadCommand, conversation.handle, b"USER jim")
        self.assertEqual(conversation.handle(b"PASS x"), Login(b"joe", b"x"))

    def test_missing_arguments_are_refused(self) -> None:
        """USER and PASS without their argument change nothing."""
        conversation = Conversation(Offer(), b"<1@h>")
        for line in (b"USER", b"USER  ", b"PASS x", b"PASS", b"APOP joe", b"APOP", b"CAPA x", b"QUIT x", b"UTF8 x"):
            self.assertRaises(CommandError, conversation.handle, line)
        conversation.handle(b"USER joe")
        self.assertRaises(BadCommand, conversation.handle, b"PASS ")

    def test_transaction_commands_are_refused(self) -> None:
        """RFC 1939 §3: a command in the wrong state is an error of its own kind."""
        conversation = Conversation(Offer())
        for verb, command in COMMANDS.items():
            if "AUTHORIZATION" not in command.states:
                self.assertRaises(WrongState, conversation.handle, verb + b" 1")

    def test_unknown_commands_are_refused(self) -> None:
        """Nothing that a client invents is looked up anywhere."""
        for line in (b"XYZZY", b"", b" STAT", b"STAT\x00", b"__class__", b"STATUS", b"\xff", b"HANDLE x"):
            self.assertRaises(BadCommand, Conversation(Offer()).handle, line)
            self.assertRaises(BadCommand, logged_in().handle, line)

    def test_plaintext_can_be_off(self) -> None:
        """Where USER is not offered, it is refused before any name is taken."""
        conversation = Conversation(Offer(plaintext=False))
        self.assertRaises(BadCommand, conversation.handle, b"USER joe")
        self.assertRaises(BadCommand, conversation.handle, b"PASS x")
        self.assertNotIn(b"USER\r\n", conversation.handle(b"CAPA"))

    def test_apop_takes_name_and_digest(self) -> None:
        """RFC 1939 §7, APOP: the digest comes last, in either case."""
        conversation = Conversation(Offer(apop=True), b"<1.2@host>")
        self.assertIn(b"<1.2@host>", conversation.greeting())
        digest = b"C4C9334BAC560ECC979E58001B3E22FB"
        self.assertEqual(conversation.handle(b"APOP joe " + digest), LoginByDigest(b"joe", digest.lower()))
        self.assertRaises(BadCommand, conversation.handle, b"APOP joe c4c9")

    def test_apop_is_off_where_it_is_not_offered(self) -> None:
        """No timestamp in the greeting, and APOP is refused."""
        conversation = Conversation(Offer(), b"<1.2@host>")
        self.assertEqual(conversation.greeting(), b"+OK tpops ready\r\n")
        self.assertRaises(BadCommand, conversation.handle, b"APOP joe " + b"0" * 32)

    def test_quit_before_login_only_closes(self) -> None:
        """RFC 1939 §4: nothing is removed."""
        conversation = Conversation(Offer())
        self.assertEqual(conversation.handle(b"QUIT "), Close(b"+OK bye\r\n"))
        self.assertRaises(WrongState, conversation.handle, b"NOOP")

    def test_stls(self) -> None:
        """RFC 2595 §4: only where it is offered, and before UTF8."""
        self.assertRaises(BadCommand, Conversation(Offer()).handle, b"STLS")
        conversation = Conversation(Offer(stls=True))
        self.assertIn(b"STLS\r\n", conversation.handle(b"CAPA"))
        self.assertEqual(conversation.handle(b"STLS"), StartTLS())
        self.assertRaises(BadCommand, conversation.handle, b"STLS now")
        conversation.handle(b"UTF8")
        self.assertRaises(BadCommand, conversation.handle, b"STLS")

    def test_tls_forgets_what_was_said_in_the_clear(self) -> None:
        """RFC 2595 §4: the name given before the handshake is gone."""
        conversation = Conversation(Offer(stls=True))
        conversation.handle(b"USER joe")
        conversation.handle(b"LANG en")
        conversation.tls_started(Offer())
        self.assertRaises(BadCommand, conversation.handle, b"PASS x")
        self.assertRaises(BadCommand, conversation.handle, b"STLS")
        self.assertEqual(conversation.language, b"i-default")

    def test_utf8_mode(self) -> None:
        """RFC 6856 §2.1: UTF8 in AUTHORIZATION only."""
        conversation = Conversation(Offer())
        self.assertEqual(conversation.handle(b"utf8"), b"+OK UTF8 enabled\r\n")
        self.assertTrue(conversation.utf8)
        self.assertRaises(WrongState, logged_in().handle, b"UTF8")


class SaslTests(SynchronousTestCase):
    """RFC 5034: the framing of AUTH."""

    def setUp(self) -> None:
        self.conversation = Conversation(Offer(mechanisms={b"PLAIN": sasl.Plain}))
        self.response = base64.b64encode(b"\0joe\0pass")

    def test_bare_auth_lists_the_mechanisms(self) -> None:
        """Old clients ask that way."""
        self.assertEqual(self.conversation.handle(b"AUTH"), b"+OK SASL mechanisms follow\r\nPLAIN\r\n.\r\n")

    def test_initial_response(self) -> None:
        """RFC 5034 §4: the response may come with the command."""
        self.assertEqual(self.conversation.handle(b"auth plain " + self.response), Login(b"joe", b"pass"))

    def test_response_in_a_second_line(self) -> None:
        """Without it there is an empty challenge, and long lines are allowed."""
        self.assertEqual(self.conversation.handle(b"AUTH PLAIN"), b"+ \r\n")
        self.assertEqual(self.conversation.longest_line, SASL_LINE_OCTETS)
        self.assertGreaterEqual(SASL_LINE_OCTETS, 12288)
        self.assertTrue(self.conversation.authorization())
        self.assertEqual(self.conversation.handle(self.response), Login(b"joe", b"pass"))
        self.assertIsNone(self.conversation.longest_line)

    def test_empty_initial_response(self) -> None:
        """'=' is a response of no octets, which PLAIN refuses."""
        self.assertRaises(BadCommand, self.conversation.handle, b"AUTH PLAIN =")

    def test_cancelled_exchange(self) -> None:
        """RFC 5034 §4: '*' ends the exchange with -ERR; the session goes on."""
        self.conversation.handle(b"AUTH PLAIN")
        self.assertRaises(BadCommand, self.conversation.handle, b"*")
        self.assertEqual(self.conversation.handle(b"USER joe"), b"+OK send PASS\r\n")

    def test_bad_base64(self) -> None:
        """Bad base64 is -ERR, and the next line is a command again."""
        for line in (b"%%%", b"YQ", b""):
            self.conversation.handle(b"AUTH PLAIN")
            self.assertRaises(BadCommand, self.conversation.handle, line)
        self.assertRaises(BadCommand, self.conversation.handle, b"AUTH PLAIN %%%")
        self.assertIsInstance(self.conversation.handle(b"CAPA"), bytes)

    def test_unknown_mechanism_and_too_many_words(self) -> None:
        """Only what CAPA lists is started."""
        self.assertIn(b"SASL PLAIN\r\n", self.conversation.handle(b"CAPA"))
        self.assertRaises(BadCommand, self.conversation.handle, b"AUTH GSSAPI")
        self.assertRaises(BadCommand, self.conversation.handle, b"AUTH PLAIN YQ== YQ==")
        self.assertRaises(BadCommand, Conversation(Offer()).handle, b"AUTH PLAIN")


class SeveralChallengesTests(SynchronousTestCase):
    """RFC 4422 §3: a mechanism of any number of steps, here one of SCRAM's shape."""

    def test_keys_by_name_and_a_last_message_of_the_server(self) -> None:
        """
        RFC 5802 §3: the name comes first, stored keys are found by it, and the server's signature is a challenge that
        the client answers with an empty line.
        """
        keys = {b"joe": b"salt of joe"}

        class Stepwise:
            """Answers with what is stored under the name."""

            def __init__(self) -> None:
                self.said: list[bytes] = []

            def respond(self, response: bytes | None) -> sasl.Outcome:
                """See L{sasl.Exchange}."""
                self.said.append(response or b"")
                if len(self.said) == 1:
                    return sasl.Challenge(keys[self.said[0]])
                return sasl.Challenge(b"v=signature") if len(self.said) == 2 else Login(*self.said[:2])

        conversation = Conversation(Offer(mechanisms={b"STEPWISE": Stepwise}))
        say = [base64.b64encode(octets) for octets in (b"joe", b"proof")]
        signature = base64.b64encode(b"v=signature")
        self.assertEqual(conversation.handle(b"AUTH STEPWISE " + say[0]), b"+ c2FsdCBvZiBqb2U=\r\n")
        self.assertEqual(conversation.handle(say[1]), b"+ %s\r\n" % signature)
        self.assertEqual(conversation.longest_line, SASL_LINE_OCTETS)
        self.assertEqual(conversation.handle(b""), Login(b"joe", b"proof"))
        self.assertIsNone(conversation.longest_line)


class TransactionTests(SynchronousTestCase):
    """RFC 1939 §5: after login."""

    def test_short_answers(self) -> None:
        """STAT, LIST, UIDL, NOOP, DELE, RSET in their exact form."""
        conversation = logged_in()
        for line, reply in (
            (b"STAT", b"+OK 2 30\r\n"),
            (b"stat ", b"+OK 2 30\r\n"),
            (b"LIST 2", b"+OK 2 20\r\n"),
            (b"UIDL 1", b"+OK 1 uid1\r\n"),
            (b"LIST", b"+OK message sizes follow\r\n1 10\r\n2 20\r\n.\r\n"),
            (b"LIST ", b"+OK message sizes follow\r\n1 10\r\n2 20\r\n.\r\n"),
            (b"UIDL", b"+OK unique-ids follow\r\n1 uid1\r\n2 uid2\r\n.\r\n"),
            (b"NOOP", b"+OK\r\n"),
            (b"DELE 1", b"+OK message 1 deleted\r\n"),
            (b"RSET", b"+OK 2 messages (30 octets)\r\n"),
        ):
            self.assertEqual(conversation.handle(line), reply, line)

    def test_messages_are_sent_by_the_server(self) -> None:
        """RETR and TOP are actions with number, size and lines."""
        self.assertEqual(logged_in().handle(b"RETR 2"), Retrieve(2, 20))
        self.assertEqual(logged_in().handle(b"TOP 1 0"), Retrieve(1, 10, 0))

    def test_deleted_and_missing_messages(self) -> None:
        """RFC 1939 §5: a marked message is -ERR for every command."""
        conversation = logged_in()
        conversation.handle(b"DELE 1")
        for verb in (b"LIST 1", b"UIDL 1", b"RETR 1", b"TOP 1 1", b"DELE 1"):
            self.assertRaises(MessageDeleted, conversation.handle, verb)
        for verb in (b"LIST 3", b"UIDL 3", b"RETR 3", b"TOP 3 1", b"DELE 3"):
            self.assertRaises(NoSuchMessage, conversation.handle, verb)

    def test_arguments_where_there_are_none(self) -> None:
        """A wrong number of arguments is -ERR; the session goes on."""
        conversation = logged_in(Offer(last=True))
        for line in (b"STAT 1", b"NOOP 1", b"RSET 1", b"LAST 1", b"QUIT 1", b"CAPA 1", b"RETR", b"DELE 1 2", b"TOP 1"):
            self.assertRaises(BadCommand, conversation.handle, line)
        self.assertEqual(conversation.handle(b"NOOP"), b"+OK\r\n")

    def test_authorization_commands_are_refused(self) -> None:
        """RFC 1939 §3: nobody logs in twice."""
        for verb, command in COMMANDS.items():
            if "TRANSACTION" not in command.states:
                self.assertRaises(WrongState, logged_in().handle, verb + b" x")

    def test_last(self) -> None:
        """RFC 1460 §3: LAST only where it is switched on."""
        self.assertRaises(BadCommand, logged_in().handle, b"LAST")
        self.assertEqual(logged_in(Offer(last=True)).handle(b"LAST"), b"+OK 2\r\n")

    def test_quit_is_the_way_into_update(self) -> None:
        """RFC 1939 §6: and nothing is accepted afterwards."""
        conversation = logged_in()
        self.assertFalse(conversation.updating())
        self.assertEqual(conversation.handle(b"QUIT"), Commit())
        self.assertTrue(conversation.updating())
        for line in (b"STAT", b"QUIT", b"USER x"):
            self.assertRaises(WrongState, conversation.handle, line)

    def test_long_listings_come_in_pieces(self) -> None:
        """A big body is sent with back-pressure, with the same octets."""
        body = b"".join(b"%d 100\r\n" % number for number in range(1, 100001))
        result = logged_in(mailbox=FakeMailbox(body)).handle(b"LIST")
        assert isinstance(result, Listing)
        pieces = list(result.chunks)
        self.assertGreater(len(pieces), 1)
        self.assertEqual(b"".join(pieces), body)

    def test_made_listings_are_passed_on(self) -> None:
        """A body that comes in chunks is not collected."""
        result = logged_in(mailbox=FakeMailbox([b"1 10\r\n"])).handle(b"LIST")
        self.assertEqual(result, Listing(b"+OK message sizes follow\r\n", [b"1 10\r\n"]))


class CapabilityTests(SynchronousTestCase):
    """RFC 2449: CAPA in both states."""

    def lines(self, conversation: Conversation) -> list[bytes]:
        """CAPA's list."""
        result = conversation.handle(b"CAPA")
        assert isinstance(result, bytes)
        first, *lines = result.split(b"\r\n")
        self.assertTrue(first.startswith(b"+OK"))
        self.assertEqual(lines[-2:], [b".", b""])
        return lines[:-2]

    def test_what_clients_look_for_is_there_before_login(self) -> None:
        """Clients read CAPA once, so it is the same core in both states."""
        core = {b"TOP", b"UIDL", b"USER", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"UTF8", b"LANG"}
        self.assertLessEqual(core, set(self.lines(Conversation(Offer()))))
        self.assertLessEqual(core, set(self.lines(logged_in())))

    def test_implementation_is_told_after_login_only(self) -> None:
        """Strangers need not know what runs here."""
        offer = Offer(implementation=b"tpops-9")
        self.assertNotIn(b"IMPLEMENTATION tpops-9", self.lines(Conversation(offer)))
        self.assertIn(b"IMPLEMENTATION tpops-9", self.lines(logged_in(offer)))

    def test_login_delay_is_told(self) -> None:
        """RFC 2449 §6.5."""
        self.assertIn(b"LOGIN-DELAY 60", self.lines(Conversation(Offer(login_delay=60))))
        self.assertFalse([line for line in self.lines(Conversation(Offer())) if line.startswith(b"LOGIN-DELAY")])

    def test_nothing_is_offered_that_is_refused(self) -> None:
        """No SASL without mechanisms, no STLS without TLS or after login."""
        words = {line.split(b" ")[0] for line in self.lines(Conversation(Offer()))}
        self.assertFalse(words & {b"SASL", b"STLS", b"PIPELINE", b"CELERITY"})
        self.assertNotIn(b"STLS", self.lines(logged_in(Offer(stls=True))))


class LanguageTests(SynchronousTestCase):
    """RFC 6856 §3: LANG in both states."""

    def test_list_choose_and_refuse(self) -> None:
        """The list, a choice, the default, and a language that is not there."""
        for conversation in (Conversation(Offer()), logged_in()):
            listing = conversation.handle(b"LANG")
            self.assertEqual(listing, b"+OK languages follow\r\nen English\r\ni-default Default language\r\n.\r\n")
            self.assertEqual(conversation.handle(b"LANG EN"), b"+OK en English\r\n")
            self.assertEqual(conversation.language, b"en")
            self.assertRaises(BadCommand, conversation.handle, b"LANG xx")
            self.assertEqual(conversation.language, b"en")
            self.assertEqual(conversation.handle(b"LANG *"), b"+OK i-default Default language\r\n")


class AnyLineTests(SynchronousTestCase):
    """Random lines in every state."""

    @given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(sorted(COMMANDS)).flatmap(
        lambda verb: st.binary(max_size=20).map(lambda rest: verb + b" " + rest)
    )), max_size=12))  # fmt: skip
    def test_every_line_has_a_reply_an_action_or_an_error(self, lines: list[bytes]) -> None:
        """No line makes anything but a result or a CommandError."""
        offer = Offer(apop=True, stls=True, last=True, mechanisms={b"PLAIN": sasl.Plain})
        for conversation in (Conversation(offer, b"<1@h>"), logged_in(offer)):
            for line in lines:
                try:
                    result = conversation.handle(line)
                except CommandError:
                    continue
                self.assertIsNotNone(result)
                if isinstance(result, bytes):
                    self.assertTrue(result.startswith((b"+OK", b"+ ")), result)
                    self.assertTrue(result.endswith(b"\r\n"))
