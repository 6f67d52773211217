"""
What every driver that takes new mail has to keep to (tpops.interfaces: IAppendable, IIncomingMessage).

For a new driver: mix L{AppendContract} into a test case that has the words of
L{tests.contracts.maildrop.MaildropContract} (make_driver, session, read, stored, as_stored, wait, fails), and give
C{make_driver} a driver with C{append}.  What a message counts for is L{AppendContract.counted}; how several processes
deliver at the same time is L{AppendContract.race}.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, ClassVar

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.contracts.maildrop import MAIL, on_the_wire
from tpops.errors import QuotaExceeded, StorageUnavailable
from tpops.interfaces import IAppendable, IIncomingMessage
from tpops.model import Account, Envelope

#: How many processes deliver at the same time.
RACERS = 8

ENVELOPE = Envelope("sender@example.org", "joe@example.org", 1_764_000_000.0)


@implementer(IIncomingMessage)
@attrs.frozen
class Incoming:
    """
    A message that arrives.

    @ivar text: its octets
    @ivar piece: how many come at once
    @ivar breaks_at: from which octet on it cannot be read any more, None for never
    """

    text: bytes
    piece: int = 7
    breaks_at: int | None = None

    @property
    def octets(self) -> int:
        """See L{IIncomingMessage}."""
        return len(self.text)

    def chunks(self) -> Iterator[bytes]:
        """See L{IIncomingMessage.chunks}."""
        for at in range(0, len(self.text), self.piece):
            if self.breaks_at is not None and at >= self.breaks_at:
                raise OSError(5, "cannot be read any more")
            yield self.text[at : at + self.piece]


def letter(number: int, octets: int = 200) -> bytes:
    """A message of so many octets that tells itself from all others."""
    head = b"Subject: letter %d\n\n" % number
    return head + b"x" * (octets - len(head) - 1) + b"\n"


def in_processes(jobs: list[Callable[[], str]]) -> list[str]:
    """Run every job in a process of its own, all at the same time; what each gave, or its exception's name."""
    start_read, start_write = os.pipe()
    running = []
    for job in jobs:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            answer = "nothing"
            try:
                os.close(start_write)
                os.read(start_read, 1)
                answer = job()
            except BaseException as problem:
                answer = f"{type(problem).__name__}: {problem}"
            finally:
                os.write(write, answer.encode("utf-8", "replace"))
                os._exit(0)
        os.close(write)
        running.append((child, read))
    os.close(start_read)
    os.close(start_write)  # which lets all of them go
    answers = []
    for child, read in running:
        with open(read, "rb") as file:
            answers.append(file.read().decode())
        os.waitpid(child, 0)
    return answers


class AppendContract:
    """
    See the module.

    @cvar account: whose the maildrop is
    """

    account: ClassVar[Account]

    def counted(self, message: bytes) -> int:
        """For how many octets a message counts in the quota."""
        return len(message)

    def limited(self, octets: int | None, messages: int | None = None) -> Account:
        """The account with a quota."""
        return attrs.evolve(self.account, quota_octets=octets, quota_messages=messages)

    def append(self: Any, message: bytes, account: Account | None = None, **reading: Any) -> bytes:
        """Deliver by a driver of its own; gives the unique-id that was promised."""
        given: bytes = self.wait(self.appending(Incoming(message, **reading), account, ENVELOPE))
        return given

    async def appending(self: Any, message: Any, account: Account | None, envelope: Envelope) -> bytes:
        """The same, as a coroutine."""
        given: bytes = await self.make_driver().append(account or self.account, message, envelope)
        return given

    def refused(self: Any, message: bytes, account: Account | None, *errors: type[Exception], **reading: Any) -> Any:
        """Deliver what must be refused; gives the exception."""
        return self.fails(self.appending(Incoming(message, **reading), account, ENVELOPE), *errors)

    def race(self, jobs: list[Callable[[], str]]) -> list[str]:
        """Run jobs at the same time, each as a process of its own."""
        return in_processes(jobs)

    def racing(self, messages: list[bytes], account: Account | None = None) -> list[str]:
        """Have every message delivered at the same time as all others; "" or what happened to each."""

        def job(message: bytes) -> Callable[[], str]:
            return lambda: self.outcome(self.appending(Incoming(message), account, ENVELOPE))

        return self.race([job(message) for message in messages])

    def outcome(self, coroutine: Coroutine[Any, Any, object]) -> str:
        """Wait for a coroutine in one of the processes: "", or its exception."""
        ended: list[object] = []
        Deferred.fromCoroutine(coroutine).addBoth(ended.append)
        failed = next((one for one in ended if isinstance(one, Failure)), None)
        return f"{failed.type.__name__}: {failed.value}" if failed else "" if ended else "has not ended"

    # The contract.

    def test_append_provides_its_interface(self: Any) -> None:
        """Promise: the driver is what tpops.interfaces says."""
        verifyObject(IAppendable, self.make_driver())

    def test_appended_octets_are_exact(self: Any) -> None:
        """Promise: every message is there octet by octet, whatever the pieces it came in, and is announced right."""
        for piece in (1, 7, 1 << 20):
            for message in MAIL:
                self.append(message, piece=piece)
        maildrop = self.session()
        for number, message in enumerate(MAIL * 3, 1):
            expected = self.as_stored(message)
            self.assertEqual(maildrop.messages.sizes[number - 1], len(on_the_wire(expected)))
            expected = expected if self.keeps_line_ends else expected.replace(b"\r\n", b"\n")
            self.assertEqual(self.read(maildrop, number), expected)

    def test_appended_behind_all_others(self: Any) -> None:
        """Promise: the new message has the highest number, whoever delivered the others."""
        self.store(MAIL[0])
        self.append(letter(1))
        self.append(letter(2))
        maildrop = self.session()
        found = [self.read(maildrop, number) for number in range(1, maildrop.messages.count + 1)]
        self.assertEqual(found, [MAIL[0], letter(1), letter(2)])

    def test_promised_unique_id_is_kept(self: Any) -> None:
        """RFC 1939 §7: the unique-id that append gave is the one that every session shows."""
        promised = [self.append(message) for message in (*MAIL, *MAIL)]
        shown = self.look()
        self.assertEqual(len(set(shown)), 2 * len(MAIL))
        for one, other in zip(promised, shown, strict=True):
            self.assertIn(one, (b"", other))
        self.assertEqual(self.look(), shown)

    def test_broken_message_leaves_nothing(self: Any) -> None:
        """Promise: all or nothing: a message that cannot be read to its end is not there, and the next one is."""
        self.append(letter(1))
        for breaks_at in (0, 7, 150):
            self.refused(letter(2), None, StorageUnavailable, breaks_at=breaks_at)
        self.append(letter(3))
        self.assertEqual(self.stored(), [letter(1), letter(3)])

    def test_session_is_not_disturbed(self: Any) -> None:
        """RFC 1939 §4 and §6: delivery waits for no session, changes none, and what is new is not removed by it."""
        self.append(letter(1))
        self.append(letter(2))
        maildrop = self.session()
        before = (maildrop.messages.count, list(maildrop.messages.sizes), self.unique_ids(maildrop))
        self.append(letter(3))
        after = (maildrop.messages.count, list(maildrop.messages.sizes), self.unique_ids(maildrop))
        self.assertEqual(after, before)
        self.assertEqual(self.read(maildrop, 2), letter(2))
        self.wait(maildrop.remove([1, 2]))
        self.append(letter(4))
        self.wait(maildrop.close())
        self.assertEqual(self.stored(), [letter(3), letter(4)])

    def test_quota_of_octets_is_exact(self: Any) -> None:
        """Promise: what fits to the last octet is taken, one octet more is not, and room counts when it is free."""
        account = self.limited(self.counted(letter(1)) * 2)
        self.append(letter(1), account)
        self.refused(letter(2, 201), account, QuotaExceeded)
        self.append(letter(3), account)
        self.refused(b"\n", account, QuotaExceeded)
        maildrop = self.session()
        self.wait(maildrop.remove([1]))
        self.wait(maildrop.close())
        self.append(letter(4), account)
        self.refused(b"\n", account, QuotaExceeded)
        self.assertEqual(self.stored(), [letter(3), letter(4)])

    def test_quota_of_messages_is_exact(self: Any) -> None:
        """Promise: so many and no more."""
        account = self.limited(None, 2)
        self.append(letter(1), account)
        self.append(letter(2), account)
        self.refused(letter(3), account, QuotaExceeded)
        self.take_away(0)
        self.append(letter(4), account)
        self.assertEqual(self.stored(), [letter(2), letter(4)])

    def test_quota_counts_what_others_delivered(self: Any) -> None:
        """Promise: all mail counts, not only what came this way."""
        self.store(letter(1))
        account = self.limited(self.counted(letter(1)) + self.counted(letter(2)))
        self.append(letter(2), account)
        self.refused(letter(3), account, QuotaExceeded)

    def test_no_quota_is_no_limit(self: Any) -> None:
        """Promise: 0 is any number."""
        for number in range(3):
            self.append(letter(number), self.limited(0, 0))
        self.assertEqual(len(self.stored()), 3)

    def test_appends_at_the_same_time(self: Any) -> None:
        """Promise: of messages that arrive at once each is there exactly once, under a unique-id of its own."""
        messages = [letter(number) for number in range(RACERS)]
        self.assertEqual(self.racing(messages), [""] * RACERS)
        self.assertEqual(sorted(self.stored()), sorted(messages))
        self.assertEqual(len(set(self.look())), RACERS)

    def test_quota_at_the_same_time(self: Any) -> None:
        """Promise: of messages that arrive at once just as many are taken as there is room for."""
        messages = [letter(number) for number in range(RACERS)]
        for room in (3, 5):
            account = self.limited(self.counted(letter(1)) * room)
            answers = self.racing(messages, account)
            taken = [message for message, answer in zip(messages, answers, strict=True) if not answer]
            wrong = [answer for answer in answers if answer and not answer.startswith("QuotaExceeded")]
            self.assertEqual((wrong, len(self.stored())), ([], room))
            self.assertLessEqual({*taken}, {*self.stored()})
