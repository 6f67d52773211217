"""Lines in, octets out: segments, limits, back-pressure, the end of a connection."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import GREETING, LOGIN, Harness
from tpops.errors import LimitReached


class SegmentTests(SynchronousTestCase):
    """RFC 2449 §6.6: pipelining."""

    def test_one_write_for_a_segment_of_commands(self) -> None:
        """The replies of all lines of a segment leave together."""
        client = Harness().logged_in()
        client.writes = 0
        heard = client.say(b"STAT\r\nLIST\r\nUIDL\r\nNOOP\r\nRETR 1\r\nTOP 2 1\r\nDELE 1\r\n")
        self.assertEqual(client.writes, 1)
        self.assertEqual(heard.count(b"+OK"), 7)

    def test_whole_session_in_one_segment_is_one_write(self) -> None:
        """From USER to QUIT."""
        client = Harness().connect()
        client.writes = 0
        heard = client.say(LOGIN + b"STAT\r\nQUIT\r\n")
        self.assertEqual((client.writes, heard.count(b"\r\n"), client.closed), (1, 4, True))

    def test_empty_lines_are_ignored(self) -> None:
        """TPOPS: an empty line is no command."""
        client = Harness().logged_in()
        self.assertEqual(client.say(b"\r\n\n\r\nNOOP\r\n"), b"+OK\r\n")

    def test_lines_after_quit_are_ignored(self) -> None:
        """RFC 1939 §6: nothing happens after QUIT."""
        harness = Harness()
        client = harness.logged_in()
        self.assertEqual(client.say(b"QUIT\r\nDELE 1\r\nSTAT\r\n"), b"+OK bye (2 messages left)\r\n")
        client.say(b"NOOP\r\n")
        self.assertEqual(len(harness.stored), 2)


class LongLineTests(SynchronousTestCase):
    """RFC 2449 §4: 255 octets for a command; TPOPS: disconnect at 1024."""

    def test_line_over_255_octets_is_refused_and_the_session_goes_on(self) -> None:
        """255 with CRLF is the last good length."""
        client = Harness().connect()
        self.assertEqual(client.say(b"USER " + b"x" * 248 + b"\r\n"), b"+OK send PASS\r\n")
        client = Harness().connect()
        self.assertEqual(client.say(b"USER " + b"x" * 249 + b"\r\nCAPA\r\n")[:20], b"-ERR line too long\r\n"[:20])
        self.assertFalse(client.closed)

    def test_limits_are_configurable(self) -> None:
        """A site with long names may allow longer lines."""
        client = Harness(command_octets=600).connect()
        self.assertEqual(client.say(b"USER " + b"x" * 500 + b"\r\n"), b"+OK send PASS\r\n")

    def test_line_over_1024_octets_ends_the_connection(self) -> None:
        """Whether its end has come or not."""
        for said in (b"x" * 1025 + b"\r\n", b"x" * 1030):
            harness = Harness()
            client = harness.connect()
            self.assertEqual(client.say(said), b"-ERR line too long\r\n")
            self.assertTrue(client.closed)
            client.vanish()
            self.assertEqual(harness.events.sessions[-1].reason, "line too long")

    def test_endless_sasl_response_ends_the_connection(self) -> None:
        """Inside an exchange the limit is higher, and still a limit."""
        client = Harness().connect()
        client.say(b"AUTH PLAIN\r\n")
        self.assertEqual(client.say(b"A" * 60000), b"")
        self.assertEqual(client.say(b"A" * 10000), b"-ERR line too long\r\n")
        self.assertTrue(client.closed)

    def test_empty_response_is_a_response(self) -> None:
        """An empty line inside an exchange is not ignored."""
        client = Harness().connect()
        client.say(b"AUTH PLAIN\r\n")
        self.assertTrue(client.say(b"\r\n").startswith(b"-ERR PLAIN"))


class ErrorLimitTests(SynchronousTestCase):
    """Clients that only make mistakes."""

    def test_too_many_errors_in_a_row_end_the_connection(self) -> None:
        """A good command in between starts the count again."""
        client = Harness(bad_commands=3).connect()
        client.say(b"X\r\nX\r\nCAPA\r\nX\r\nX\r\n")
        self.assertFalse(client.closed)
        self.assertTrue(client.say(b"X\r\nX\r\n").endswith(b"-ERR too many errors, closing the connection\r\n"))
        self.assertTrue(client.closed)

    def test_errors_are_not_limited_with_zero(self) -> None:
        """0 is no limit."""
        client = Harness(bad_commands=0).connect()
        self.assertEqual(client.say(b"X\r\n" * 500).count(b"-ERR"), 500)

    def test_all_errors_of_a_phase(self) -> None:
        """Promise: good commands in between do not help; the login begins a new count."""
        for phase, start in (("before", Harness.connect), ("after", Harness.logged_in)):
            harness = Harness(**{f"errors_{phase}_login": 3, "bad_commands": 20})
            client = start(harness)
            for _ in range(2):
                self.assertTrue(client.say(b"X\r\nCAPA\r\n").endswith(b"\r\n.\r\n"))
            self.assertTrue(client.say(b"X\r\nCAPA\r\n").endswith(b"-ERR too many errors, closing the connection\r\n"))
            self.assertTrue(client.closed)
            client.vanish()
            why = f"errors_{phase}_login: too many errors {phase} the login"
            self.assertEqual(harness.events.details[harness.events.kinds.index("limit")], why)

    def test_all_commands_of_a_phase(self) -> None:
        """Promise: so many are carried out, the next one is not."""
        for phase, start, line in (("before", Harness.connect, b"CAPA"), ("after", Harness.logged_in, b"NOOP")):
            harness = Harness(**{f"commands_{phase}_login": 3})
            client = start(harness)
            answer = client.say((line + b"\r\n") * 7)
            self.assertTrue(answer.endswith(b"\r\n-ERR too many commands, closing the connection\r\n"))
            self.assertEqual((answer.count(b"+OK"), answer.count(b"-ERR")), (3, 1))
            client.vanish()
            why = f"commands_{phase}_login: too many commands {phase} the login"
            self.assertEqual(harness.events.details[harness.events.kinds.index("limit")], why)

    def test_login_as_the_last_command(self) -> None:
        """Promise: the login begins a new count of commands."""
        client = Harness(commands_before_login=2, commands_after_login=1).logged_in()
        self.assertEqual(client.say(b"NOOP\r\n"), b"+OK\r\n")
        self.assertEqual(client.say(b"NOOP\r\n"), b"-ERR too many commands, closing the connection\r\n")

    def test_bug_in_a_command_is_one_reply_and_a_traceback_in_the_log(self) -> None:
        """An unknown exception never reaches the client, and the session goes on."""
        client = Harness().logged_in()
        client.server.conversation.state.mailbox = None
        self.assertEqual(
            client.say(b"STAT\r\nNOOP\r\n"), b"-ERR [SYS/TEMP] internal server error, it has been logged\r\n+OK\r\n"
        )
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)


class BackPressureTests(SynchronousTestCase):
    """Clients that send more than they read."""

    def test_commands_wait_while_the_client_does_not_read(self) -> None:
        """Nothing is produced while the transport is full; later all is answered in order."""
        client = Harness().logged_in()
        client.server.pauseProducing()
        self.assertEqual(client.say(b"STAT\r\nNOOP\r\n"), b"")
        client.server.resumeProducing()
        self.assertEqual(client.heard(), b"+OK 2 35\r\n+OK\r\n")

    def test_reading_pauses_when_too_much_waits(self) -> None:
        """The queue of commands is bounded: the rest stays with the client."""
        client = Harness().logged_in()
        client.server.pauseProducing()
        client.say(b"NOOP\r\n" * 5000)
        self.assertEqual(client.transport.producerState, "paused")
        client.server.resumeProducing()
        self.assertEqual(client.heard(), b"+OK\r\n" * 5000)
        self.assertEqual(client.transport.producerState, "producing")

    def test_replies_stop_when_the_transport_is_full(self) -> None:
        """A segment of many commands is answered up to the moment when the transport says stop."""
        client = Harness().logged_in()
        write = client.transport.write

        def full(data: bytes) -> None:
            write(data)
            client.server.pauseProducing()

        client.transport.write = full
        said = b"LIST\r\n" * 40000
        heard = client.say(said)
        self.assertLess(len(heard), 200000)
        answered = heard.count(b"+OK")
        while heard:
            client.server.resumeProducing()
            heard = client.heard()
            answered += heard.count(b"+OK")
        self.assertEqual(answered, 40000)

    def test_input_is_bounded_during_a_login_that_waits(self) -> None:
        """The same while a command is being carried out."""
        harness = Harness()
        harness.checker.hold = True
        client = harness.connect()
        client.say(LOGIN + b"NOOP\r\n" * 5000)
        self.assertEqual(client.transport.producerState, "paused")
        harness.checker.waiting.callback(b"test:joe")
        self.assertEqual(client.heard().count(b"+OK\r\n"), 5000)
        self.assertEqual(client.transport.producerState, "producing")


class HalfClosedTests(SynchronousTestCase):
    """Clients that close their side and still want replies."""

    def test_replies_come_before_the_connection_is_closed(self) -> None:
        """printf ... | nc: everything that was said is answered."""
        harness = Harness()
        harness.checker.hold = True
        client = harness.connect()
        client.say(LOGIN + b"STAT\r\nDELE 1\r\n")
        client.server.readConnectionLost()
        self.assertFalse(client.closed)
        harness.checker.waiting.callback(b"test:joe")
        self.assertTrue(client.heard().endswith(b"+OK 2 35\r\n+OK message 1 deleted\r\n"))
        self.assertTrue(client.closed)
        client.vanish()
        self.assertEqual(len(harness.stored), 2)

    def test_idle_half_closed_connection_is_closed_at_once(self) -> None:
        """Nothing is waiting: nothing to wait for."""
        client = Harness().logged_in()
        client.server.readConnectionLost()
        client.server.writeConnectionLost()
        self.assertTrue(client.closed)

    def test_half_closed_client_that_does_not_read_yet(self) -> None:
        """What waits for the transport is sent before the end."""
        client = Harness().logged_in()
        client.server.pauseProducing()
        client.say(b"STAT\r\n")
        client.server.readConnectionLost()
        self.assertFalse(client.closed)
        client.server.resumeProducing()
        self.assertEqual((client.heard(), client.closed), (b"+OK 2 35\r\n", True))


class AdmissionTests(SynchronousTestCase):
    """Who may connect."""

    def test_refused_client_is_told_to_come_later(self) -> None:
        """RFC 3206: [SYS/TEMP]; the reason is an event; the place is free when somebody leaves."""
        harness = Harness(limits={"connections": 1})
        first = harness.connect()
        second = harness.connect(greeted=False)
        self.assertTrue(second.heard().startswith(b"-ERR [SYS/TEMP] too many connections"))
        self.assertTrue(second.closed)
        self.assertIn("greeting-refused", harness.events.kinds)
        self.assertIn("connections", harness.events.details[harness.events.kinds.index("greeting-refused")])
        second.vanish()
        first.vanish()
        self.assertEqual(harness.connect(greeted=False).heard(), GREETING)
        self.assertTrue(issubclass(LimitReached, Exception))

    def test_factory_knows_its_open_connections(self) -> None:
        """They are what a shutdown closes."""
        harness = Harness()
        client = harness.connect()
        self.assertEqual(harness.shared.connections, {client.server})
        client.vanish()
        self.assertEqual(harness.shared.connections, set())

    def test_one_closing_record_for_every_connection(self) -> None:
        """Logged in or not, refused or not."""
        harness = Harness()
        harness.connect().vanish()
        client = harness.logged_in()
        client.say(b"RETR 1\r\nTOP 2 0\r\nDELE 2\r\nQUIT\r\n")
        client.vanish()
        self.assertEqual(harness.events.kinds.count("disconnect"), 2)
        self.assertNotIn("limit", harness.events.kinds)
        session = harness.events.sessions[-1]
        self.assertEqual(
            (session.user, session.reason, session.messages_at_login, session.octets_at_login), ("joe", "quit", 2, 35)
        )
        self.assertEqual((session.messages_left, session.octets_left, session.dele_count), (1, 18, 1))
        self.assertEqual(
            (session.retr_count, session.retr_octets, session.top_count, session.top_octets), (1, 18, 1, 14)
        )
