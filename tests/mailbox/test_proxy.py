"""Maildrops on another server: odd answers, losses at every moment, passwords."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.upstream.fakes import CAPA, Gone, Script, split, upstream
from tpops.errors import (
    BadCredentials,
    MaildropBroken,
    MessageVanished,
    RemoveFailed,
    StorageUnavailable,
)
from tpops.mailbox import proxy
from tpops.mailbox.locations import Maildrops
from tpops.mailbox.proxy import Corrections, ProxyStore
from tpops.mailbox.unique_ids import valid
from tpops.mailbox.view import Mailbox
from tpops.model import Account, Caller, Elsewhere, Peer

JOE = Account("joe", "test")

SLOW = b"+OK\r\nTOP\r\nUIDL\r\n.\r\n"


class ProxyCase(SynchronousTestCase):
    """
    Words for these tests.

    @ivar known: what is known of the account there
    """

    known: Elsewhere | None = None

    def store(self, script: Script, hashes: bool = False, **given: Any) -> ProxyStore:
        """A driver in front of a script."""
        self.clock = Clock()
        self.upstream = upstream(script, self.clock, **given)
        return ProxyStore(hashes, self.upstream, self.lookup)

    async def lookup(self, account: Account) -> Elsewhere | None:
        """See Elsewhere."""
        return self.known

    def running(self, coroutine: Any) -> Any:
        """Run it, and what was to be done at once."""
        running = Deferred.fromCoroutine(coroutine)
        self.clock.advance(0)
        return running

    def opening(self, store: ProxyStore, password: bytes | None = b"secret") -> Any:
        """Log in and list."""
        caller = Caller.of(Peer("192.0.2.1", 7), password)
        return self.running(store.open_for(JOE, b"", caller))

    def open(self, script: Script, **given: Any) -> Any:
        """An open maildrop."""
        return self.successResultOf(self.opening(self.store(script, **given)))

    def fails(self, error: type[Exception], running: Any) -> Any:
        """Why it fails."""
        return self.failureResultOf(running, error).value

    def refused(self, error: type[Exception], script: Script, **given: Any) -> str:
        """Why a maildrop is not opened; nothing is left of it."""
        problem = self.fails(error, self.opening(self.store(script, **given)))
        self.assertFalse(self.upstream._connections)
        self.assertFalse(self.clock.getDelayedCalls())
        return str(problem)


class ListingTests(ProxyCase):
    """STAT, LIST and UIDL."""

    def test_pipelined_or_one_by_one(self) -> None:
        """RFC 2449 §6.6: all at once where the other server can that; else one by one, and none for nothing."""
        for capa in (CAPA, SLOW):
            script = Script(CAPA=capa)
            found = self.open(script).messages
            self.assertEqual((found.list_body, found.uidl_body), (b"1 10\r\n2 20\r\n", b"1 a\r\n2 b\r\n"))
            self.assertEqual(script.said[-3:], [b"STAT", b"LIST", b"UIDL"])
        script = Script(CAPA=SLOW, STAT=b"+OK 0 0\r\n")
        self.assertEqual(self.open(script).messages.count, 0)
        self.assertEqual(script.said[-1], b"STAT")

    def test_listings_that_do_not_fit_together(self) -> None:
        """Promise: what cannot be told apart is not served, since something else might be removed."""
        cases = (
            ({"STAT": b"+OK 3 30\r\n"}, "STAT tells of 3 messages, LIST of 2"),
            ({"UIDL": b"+OK\r\n1 a\r\n.\r\n"}, "STAT tells of 2 messages, UIDL of 1"),
            ({"LIST": b"+OK\r\n2 10\r\n.\r\n"}, "is not the line of message 1"),
            ({"UIDL": b"+OK\r\n1 a\r\n3 b\r\n.\r\n"}, "is not the line of message 2"),
            ({"LIST": b"+OK\r\n1 10\r\n" + b"2" * 2000}, "too long"),
            ({"LIST": Gone(b"+OK\r\n1 10\r\n")}, "closed the connection"),
            ({"STAT": b"+OK\r\n"}, "STAT: "),
            ({"STAT": b"-ERR [SYS/TEMP] disk\r\n"}, "disk"),
            ({"LIST": b"-ERR\r\n"}, "says ''"),
            ({"UIDL": b"-ERR [SYS/TEMP] index\r\n"}, "index"),
        )
        for answers, why in cases:
            self.assertIn(why, self.refused(StorageUnavailable, Script(**answers)))

    def test_unique_ids_that_clients_must_not_see(self) -> None:
        """RFC 1939 §7: forbidden ones and twins are replaced, the same each time; all others stay."""
        lines = [b"a b", b"x" * 71, b"same", b"same", b"same", b"\xff", b"fine"]
        uidl = b"+OK\r\n" + b"".join(b"%d %s\r\n" % one for one in enumerate(lines, 1)) + b".\r\n"
        sizes = b"+OK\r\n" + b"".join(b"%d 1\r\n" % number for number in range(1, 8)) + b".\r\n"
        seen = []
        for _ in range(2):
            found = self.open(Script(STAT=b"+OK 7 7\r\n", LIST=sizes, UIDL=uidl)).messages
            seen.append(found.unique_ids())
        self.assertEqual(seen[0], seen[1])
        self.assertEqual(len(set(seen[0])), 7)
        self.assertTrue(all(map(valid, seen[0])))
        self.assertEqual((seen[0][2], seen[0][6]), (b"same", b"fine"))

    def test_server_without_uidl(self) -> None:
        """Promise: it is refused with what to do, or hashes of headers and sizes stand for them, twins told apart."""
        capa = b"+OK\r\nTOP\r\n.\r\n"
        for script in (Script(CAPA=capa), Script(UIDL=b"-ERR unknown command\r\n")):
            self.assertIn("see proxy.unique_ids", self.refused(MaildropBroken, script))
            again: list[bytes] = []
            for _ in range(2):
                found = self.open(script, hashes=True).messages
                again += found.unique_ids()
            self.assertEqual(again[:2], again[2:])
            self.assertEqual(len(set(again)), 2)
            self.assertIn(b"TOP 2 0", script.said)
        script = Script(CAPA=capa, LIST=b"+OK\r\n1 5\r\n2 5\r\n.\r\n")
        self.assertEqual(len(set(self.open(script, hashes=True).messages.unique_ids())), 2)
        self.refused(StorageUnavailable, Script(CAPA=capa, TOP=b"-ERR\r\n"), hashes=True)

    def test_given_up_opening_leaves_nothing(self) -> None:
        """See IMaildropDriver: cancelling releases whatever was taken."""
        running = self.opening(self.store(Script(LIST=b"+OK\r\n1")))
        running.cancel()
        self.failureResultOf(running)
        self.assertFalse(self.upstream._connections)
        self.assertFalse(self.clock.getDelayedCalls())


class MessageTests(ProxyCase):
    """RETR and TOP."""

    def test_top_is_top_there(self) -> None:
        """Promise: the beginning of a message does not cost the rest of it, unless the other server has no TOP."""
        script = Script()
        maildrop = self.open(script)
        message = self.successResultOf(self.running(maildrop.open_top(2, 7)))
        self.assertEqual(message.read(100), b"Subject: x\r\n\r\n")
        self.assertEqual(script.said[-1], b"TOP 2 7")
        script = Script(CAPA=b"+OK\r\nUIDL\r\n.\r\n")
        maildrop = self.open(script)
        self.successResultOf(self.running(Mailbox(maildrop, JOE).open_top(2, 7)))
        self.assertEqual(script.said[-1], b"RETR 2")

    def test_message_that_is_refused(self) -> None:
        """Promise: a no to RETR is a message that is gone, or what its code says; the session goes on."""
        cases: tuple[tuple[bytes, type[Exception]], ...] = (
            (b"-ERR no such message\r\n", MessageVanished),
            (b"-ERR [SYS/TEMP] disk\r\n", StorageUnavailable),
            (b"-ERR [SYS/PERM] broken\r\n", MaildropBroken),
            (b"-ERR [IN-USE] odd\r\n", MessageVanished),
        )
        for answer, error in cases:
            script = Script(RETR=answer)
            maildrop = self.open(script)
            self.assertIn(answer[5:-2].decode(), str(self.fails(error, self.running(maildrop.open(1)))))
            self.successResultOf(self.running(maildrop.open_top(1, 0)))

    def test_lost_server(self) -> None:
        """Promise: with the other server gone, messages cannot be read and nothing is removed; closing is no error."""
        maildrop = self.open(Script(RETR=Gone()))
        self.assertIn("closed", str(self.fails(StorageUnavailable, self.running(maildrop.open(1)))))
        self.fails(StorageUnavailable, self.running(maildrop.open_top(1, 1)))
        failed = self.fails(RemoveFailed, self.running(maildrop.remove([1, 2])))
        self.assertEqual(list(failed.kept), [1, 2])
        self.assertIn("nothing was removed", str(failed))
        self.successResultOf(self.running(maildrop.update()))
        self.successResultOf(self.running(maildrop.close()))

    def test_given_up_opening_of_a_message(self) -> None:
        """Promise: what comes of it is thrown away."""
        script = Script(RETR=b"")
        maildrop = self.open(script)
        running = self.running(maildrop.open(1))
        running.cancel()
        self.failureResultOf(running)
        script.pipe.come(b"+OK\r\nabc\r\n.\r\n")
        self.successResultOf(self.running(maildrop.open_top(1, 0)))

    def test_sizes_that_were_wrong(self) -> None:
        """RFC 1939 §11: a message that had other octets than announced is announced right from the next session on."""
        store = self.store(Script())
        for sizes in ([10, 20], [10, 25]):
            maildrop = self.successResultOf(self.opening(store))
            self.assertEqual(list(maildrop.messages.sizes), sizes)
            Mailbox(maildrop, JOE).sent(2, 25)
            self.successResultOf(self.running(maildrop.mark_seen([2])))

    def test_corrections_are_bounded(self) -> None:
        """Promise: the memory of them is."""
        self.patch(proxy, "_MOST_CORRECTIONS", 2)
        corrections = Corrections()
        corrections.note("x", b"joe", b"a", 1)
        corrections.note("x", b"joe", b"a", 2)
        corrections.note("x", b"ann", b"b", 3)
        corrections.note("x", b"ann", b"c", 4)
        self.assertEqual(corrections.of("x", b"joe"), {})
        corrections.note("x", b"ann", b"d", 5)
        self.assertEqual(corrections.of("x", b"ann"), {b"c": 4, b"d": 5})


class UpdateTests(ProxyCase):
    """RFC 1939 §6: UPDATE."""

    def removed(self, **answers: Any) -> Any:
        """The failure of removing both messages, None for none."""
        self.script = Script(**answers)
        maildrop = self.open(self.script)
        self.assertFalse(any(line.startswith(b"DELE") for line in self.script.said))
        running = self.running(maildrop.remove([1, 2]))
        self.addCleanup(lambda: self.successResultOf(self.running(maildrop.close())))
        failure = (
            self.failureResultOf(running, RemoveFailed).value if running.called and self.is_failure(running) else None
        )
        self.assertTrue(self.script.pipe.ended)
        return failure

    def is_failure(self, running: Any) -> bool:
        """Whether it has failed."""
        return not isinstance(running.result, type(None))

    def test_marks_then_quit(self) -> None:
        """Promise: DELE for each, then QUIT; only the answer to that counts."""
        for capa in (CAPA, SLOW):
            self.assertIsNone(self.removed(CAPA=capa))
            self.assertEqual(self.script.said[-3:], [b"DELE 1", b"DELE 2", b"QUIT"])

    def test_some_stay(self) -> None:
        """Promise: a DELE that is refused keeps its message, and the others go."""
        failed = self.removed(**{"DELE 1": b"-ERR [SYS/PERM] read only\r\n"})
        self.assertEqual(list(failed.kept), [1])
        self.assertIn("1 of 2 messages stay", str(failed))
        self.assertIn("read only", str(failed))
        self.assertEqual(self.script.said[-1], b"QUIT")

    def test_lost_before_quit(self) -> None:
        """Promise: lost or out of step before QUIT, nothing is removed there, and no QUIT is sent."""
        for answer in (Gone(), b"hello\r\n", b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n"):
            failed = self.removed(DELE=answer)
            self.assertEqual(list(failed.kept), [1, 2])
            self.assertNotIn(b"QUIT", self.script.said)

    def test_lost_in_quit(self) -> None:
        """Promise: without an answer to QUIT nobody knows; the client is told that messages may be there."""
        failed = self.removed(QUIT=Gone())
        self.assertEqual(list(failed.kept), [1, 2])
        self.assertIn("nobody knows", str(failed))

    def test_refused_quit(self) -> None:
        """Promise: a no to QUIT is a no to the client."""
        failed = self.removed(QUIT=Gone(b"-ERR [SYS/TEMP] not all\r\n"))
        self.assertEqual(list(failed.kept), [1, 2])
        self.assertIn("not all", str(failed))

    def test_no_answer_to_quit(self) -> None:
        """Promise: the other server has its time, and then it is given up."""
        script = Script(QUIT=b"")
        maildrop = self.open(script, timeout_seconds=10)
        running = self.running(maildrop.remove([1]))
        self.clock.advance(49)
        self.assertNoResult(running)
        self.clock.advance(1)
        self.assertIn("no answer within 50", str(self.fails(RemoveFailed, running)))

    def test_many(self) -> None:
        """Promise: not all at once, however many they are."""
        count = 1200
        sizes = b"+OK\r\n" + b"".join(b"%d 1\r\n" % number for number in range(1, count + 1)) + b".\r\n"
        script = Script(STAT=b"+OK %d 5\r\n" % count, LIST=sizes, UIDL=sizes.replace(b" 1\r\n", b" x\r\n"))
        maildrop = self.open(script)
        self.successResultOf(self.running(maildrop.remove(range(1, count + 1))))
        self.assertEqual(script.said[-count - 1 :], [*(b"DELE %d" % one for one in range(1, count + 1)), b"QUIT"])

    def test_quit_without_marks(self) -> None:
        """Promise: a QUIT that removes nothing is one there, and whatever comes of it is no error."""
        for answer in (Gone(b"+OK\r\n"), Gone(b"-ERR odd\r\n"), Gone()):
            script = Script(QUIT=answer)
            maildrop = self.open(script)
            self.successResultOf(self.running(Mailbox(maildrop, JOE).commit()))
            self.assertEqual(script.said[-1], b"QUIT")

    def test_no_quit_no_quit(self) -> None:
        """Promise: a session that ends without QUIT ends there without QUIT."""
        script = Script()
        maildrop = self.open(script)
        self.successResultOf(self.running(maildrop.close()))
        self.successResultOf(self.running(maildrop.close()))
        self.assertEqual((script.said[-1], script.pipe.ended), (b"UIDL", "aborted"))


class PasswordTests(ProxyCase):
    """Whose password opens the maildrop there."""

    def said(self, known: Elsewhere | None, password: bytes | None = b"secret", **given: Any) -> list[bytes]:
        """What was sent to log in."""
        self.known = known
        script = Script()
        self.successResultOf(self.opening(self.store(script, **given), password))
        return script.said[1:3]

    def test_order_of_passwords(self) -> None:
        """Promise: the account's own there, else the configured one, else the client's."""
        self.assertEqual(self.said(None), [b"USER joe", b"PASS secret"])
        self.assertEqual(self.said(None, password=b"fixed"), [b"USER joe", b"PASS fixed"])
        self.assertEqual(self.said(Elsewhere("ann", None)), [b"USER ann", b"PASS secret"])
        self.assertEqual(self.said(Elsewhere("ann", b"theirs"), None), [b"USER ann", b"PASS theirs"])

    def test_no_password(self) -> None:
        """Promise: the log says what is missing, and nobody was asked."""
        script = Script()
        running = self.opening(self.store(script), None)
        text = str(self.fails(MaildropBroken, running))
        self.assertIn("there is no password for 'joe' at pop.example:110", text)
        self.assertIn("proxy.password", text)
        self.assertEqual(script.pipes, [])

    def test_refused_passwords(self) -> None:
        """Promise: the client's own that is refused there is a wrong password; one that we know is our fault."""
        script = Script(PASS=b"-ERR [AUTH] no\r\n")
        self.refused(BadCredentials, script)
        self.assertIn("is not accepted", self.refused(MaildropBroken, script, password=b"fixed"))

    def test_nothing_is_kept(self) -> None:
        """Promise: passwords are in no text that objects show, and are gone when the login is over."""
        caller = Caller.of(Peer("192.0.2.1", 7), b"secret")
        for one in (caller, Elsewhere("joe", b"secret")):
            self.assertNotIn("secret", repr(one))
        caller.empty()
        self.assertIsNone(caller.password)

    def test_commands_have_known_passwords_only(self) -> None:
        """Promise: maildrops can be opened without a client, with what is known."""
        maildrops = Maildrops("proxy:", split, {"proxy": self.store(Script())})
        self.fails(MaildropBroken, self.running(maildrops.open_maildrop(JOE)))
        self.known = Elsewhere(None, b"known")
        self.successResultOf(self.running(maildrops.open_maildrop(JOE)))

    def test_place_comes_from_the_location(self) -> None:
        """Promise: what stands behind "proxy:" is the server, with variables."""
        script = Script()
        store = self.store(script)
        maildrops = Maildrops("proxy:$(local_part).example:7", split, {"proxy": store})
        caller = Caller.of(Peer("192.0.2.1", 7), b"x")
        running = self.running(maildrops.open_for(JOE, caller))
        self.assertIs(self.successResultOf(running)._session.place.port, 7)
        self.assertEqual(self.upstream._endpoint.asked, [("joe.example", 7)])
