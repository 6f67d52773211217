"""Maildrops on another server keep to the contract of maildrops; the other server is a tpops in memory."""

from __future__ import annotations

from collections.abc import Coroutine
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.contracts.maildrop import MaildropContract
from tests.server.harness import Harness
from tests.upstream.fakes import OurServer, split, upstream
from tpops.mailbox.locations import Maildrops
from tpops.mailbox.proxy import ProxyStore
from tpops.mailbox.view import Mailbox
from tpops.model import Account, Elsewhere


async def known(account: Account) -> Elsewhere:
    """The password of everybody."""
    return Elsewhere(None, b"secret")


class ProxyTests(MaildropContract, SynchronousTestCase):
    """See the module."""

    keeps_line_ends = False

    def setUp(self) -> None:
        """One server behind all drivers."""
        self.harness = Harness({})
        self.server = OurServer(self.harness)
        self.clock = Clock()
        self.numbers = count(1)

    def make_driver(self) -> Any:
        """See MaildropContract."""
        store = ProxyStore(False, upstream(self.server, self.clock), known)
        return Maildrops("proxy:", split, {"proxy": store})

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The greeting needs a turn of the clock."""
        return self.successResultOf(self.turned(coroutine))

    def fails(self, coroutine: Coroutine[Any, Any, Any], *errors: type[Exception]) -> Any:
        """Likewise."""
        return self.failureResultOf(self.turned(coroutine), *errors).value

    def turned(self, coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run it, and what was to be done at once."""
        running = Deferred.fromCoroutine(coroutine)
        self.clock.advance(0)
        return running

    def as_stored(self, message: bytes) -> bytes:
        """The other server adds the line end that a last line lacks."""
        return message if not message or message.endswith(b"\n") else message + b"\r\n"

    def read(self, maildrop: Any, number: int, octets: int = 1 << 16) -> bytes:
        """Messages come with CRLF from there."""
        return super().read(maildrop, number, octets).replace(b"\r\n", b"\n")

    def store(self, message: bytes) -> None:
        """See MaildropContract."""
        self.harness.stored[b"id%d" % next(self.numbers)] = message

    def stored(self) -> list[bytes]:
        """See MaildropContract."""
        return [self.as_stored(one) for one in self.harness.stored.values()]

    def take_away(self, index: int) -> None:
        """See MaildropContract."""
        del self.harness.stored[list(self.harness.stored)[index]]

    def test_two_readers_of_one_message_do_not_meet(self) -> None:
        """Promise: an open message is nobody else's; two small ones may be read side by side."""
        self.store(b"Subject: one\n\nfirst\n")
        maildrop = self.session()
        one, two = self.wait(maildrop.open(1)), self.wait(maildrop.open(1))
        first = self.chunk(one.read(5))
        self.assertEqual(self.chunk(two.read(5)), first)
        one.close()
        self.assertEqual(self.chunk(two.read(1 << 16)), b"ct: one\r\n\r\nfirst\r\n")
        two.close()

    def test_unique_ids_are_those_of_the_other_server(self) -> None:
        """Promise: clients that knew the other server know us."""
        self.store_all()
        self.assertEqual(self.look(), list(self.harness.stored))

    def test_quit_without_marks_is_a_quit_there(self) -> None:
        """Promise: the other server is told that the session ended well, or is not."""
        self.store(b"one\n")
        maildrop = self.session()
        mailbox = Mailbox(maildrop, self.account)
        self.wait(mailbox.commit())
        self.assertEqual(self.server.said[-1], b"QUIT")
        maildrop = self.session()
        self.wait(maildrop.close())
        self.assertNotIn(b"QUIT", self.server.said)
        self.assertEqual(self.server.pipe.ended, "aborted")
