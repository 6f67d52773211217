"""One message to some recipients: who gets it, and what the MTA is told; without processes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.mailbox.support import at_once
from tests.support import caught_stderr
from tpops.config.schema import Config
from tpops.delivery import deliver, exits, pipe, store
from tpops.delivery.exits import Outcome
from tpops.errors import AccountDisabled, LookupUnavailable, MaildropBroken, UnknownUser
from tpops.interfaces import IIncomingMessage
from tpops.mailbox.memory import MemoryDriver
from tpops.model import Account, Envelope

LETTER = b"Subject: letter\n\n"


class Backend:
    """Accounts by address, or what happens when somebody asks for one; mail in memory."""

    def __init__(self, **accounts: Account | Exception) -> None:
        self.accounts = accounts
        self.recipients = self
        self.memory = MemoryDriver()
        self.maildrops = self
        self.envelopes: list[Envelope] = []
        self.run_in_thread = at_once

    async def account(self, address: bytes) -> Account:
        """See Recipients."""
        found = self.accounts.get(os.fsdecode(address), UnknownUser("nobody"))
        if isinstance(found, Exception):
            raise found
        return found

    async def append(self, account: Account, message: IIncomingMessage, envelope: Envelope) -> bytes:
        """See IAppendable."""
        if account.maildrop:
            raise MaildropBroken("needs an administrator")
        self.envelopes.append(envelope)
        return await self.memory.append(account, message, envelope)


class DeliverCase(SynchronousTestCase):
    """A configuration, and accounts of all kinds."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.backend = Backend(
            joe=Account("joe", "one"),
            ann=Account("ann", "one"),
            full=Account("full", "one", quota_octets=1),
            broken=Account("broken", "one", maildrop="x"),
            lost=LookupUnavailable("the database is away"),
            disabled=AccountDisabled("expired"),
            strange=ZeroDivisionError("oops"),
        )
        self.patch(deliver, "run", self.run_work)
        self.config = self.configured()
        self.patch(deliver, "load", lambda path: mock.Mock(config=self.config))

    def configured(self, **delivery: Any) -> Config:
        """A configuration with these keys of [delivery]."""
        tables = {"server": {"state_dir": str(self.directory)}, "delivery": delivery}
        return Config.model_validate(tables, context={"directory": str(self.directory)})

    def run_work(self, config: Config, work: Callable[[Any], Any]) -> Any:
        """See tpops.backend.run."""
        return self.successResultOf(Deferred.fromCoroutine(work(self.backend)))

    def deliver(self, *recipients: str, text: bytes = LETTER, sender: str | None = "s@x") -> list[Outcome]:
        """Deliver a message."""
        return deliver.deliver(self.config, recipients, [lambda: deliver.read(io.BytesIO(text), self.config, sender)])

    def mail(self, name: str = "joe") -> list[bytes]:
        """Somebody's messages."""
        return list(self.backend.memory.stored.get(name, {}).values())


class OutcomeTests(DeliverCase):
    """What happens to each."""

    def test_outcomes(self) -> None:
        """Promise: the status of each, with a line that says whose and why; none stops the others."""
        for name, status, text in (
            ("joe", 0, ""),
            ("nobody", 67, "5.1.1 nobody: there is no such user here"),
            ("full", 73, "5.2.2 full: the mailbox is full"),
            ("broken", 75, "4.3.0 broken: needs an administrator"),
            ("lost", 75, "4.3.0 lost: the database is away"),
            ("disabled", 75, "4.3.0 disabled: expired"),
            ("strange", 75, "4.3.0 strange: ZeroDivisionError: oops"),
        ):
            self.assertEqual(self.deliver(name), [Outcome(status, text)])
            outcomes = self.deliver(name, "ann", text=LETTER + name.encode())
            self.assertEqual(outcomes, [Outcome(status, text), Outcome(0)])
        self.assertEqual(len(self.mail("ann")), 7)

    def test_envelope(self) -> None:
        """Promise: the driver is told sender, recipient and time."""
        for sender, text, expected in (
            ("s@x", LETTER, "s@x"),
            ("", LETTER, ""),
            (None, LETTER, ""),
            (None, b"From f@y Tue Nov 24 07:00:00 2026\n" + LETTER, "f@y"),
        ):
            self.deliver("joe", text=text, sender=sender)
            self.assertEqual(self.mail()[-1], LETTER)
            envelope = self.backend.envelopes[-1]
            self.assertEqual((envelope.sender, envelope.recipient), (expected, "joe"))
            self.assertGreater(envelope.at, 1_700_000_000)

    def test_return_path_and_delivered_to(self) -> None:
        """RFC 5321 §4.4: Return-Path is the sender's and the only one; Delivered-To is each recipient's."""
        self.config = self.configured(return_path=True, delivered_to=True)
        before = b"Return-Path: <old@example.org>\n" + LETTER
        self.deliver("joe", "ann", text=before, sender="bob@x")
        expected = b"Return-Path: <bob@x>\nDelivered-To: %s\n" + LETTER
        self.assertEqual((self.mail(), self.mail("ann")), ([expected % b"joe"], [expected % b"ann"]))
        self.deliver("joe", text=before, sender="")
        self.assertEqual(self.mail()[1], b"Return-Path: <>\nDelivered-To: joe\n" + LETTER)
        self.deliver("joe", text=b"From x@y Tue Nov 24 07:00:00 2026\n" + before, sender=None)
        self.assertEqual(self.mail()[2], b"Return-Path: <x@y>\nDelivered-To: joe\n" + LETTER)
        # Who does not know the sender leaves what the MTA has written.
        self.deliver("joe", text=before, sender=None)
        self.assertEqual(self.mail()[3], b"Delivered-To: joe\n" + before)

    def test_fields(self) -> None:
        """RFC 5321 §4.4: what cannot be in a field does not get into one."""
        self.config = self.configured(return_path=True, delivered_to=True)
        self.backend.accounts["joe\r\nX: y"] = Account("joe", "one")
        self.deliver("joe\r\nX: y", sender="s@x\nY: z")
        self.assertEqual(self.mail(), [b"Return-Path: <s@xY: z>\nDelivered-To: joeX: y\n" + LETTER])

    def test_what_cannot_be_read(self) -> None:
        """Promise: a message that cannot be read is tried again, and the others are delivered."""

        def broken() -> Any:
            raise OSError(5, "Input/output error", "some/file")

        def whole() -> Any:
            return deliver.read(io.BytesIO(LETTER), self.config, None)

        outcomes = deliver.deliver(self.config, ["joe"], [broken, whole])
        self.assertEqual(outcomes, [Outcome(75, "4.3.0 some/file: Input/output error"), Outcome(0)])
        source = mock.Mock(read=mock.Mock(side_effect=[LETTER, OSError(5, "Input/output error")]))
        self.assertRaises(OSError, deliver.read, source, self.config, None)

    def test_tried_again(self) -> None:
        """Promise: who has got it does not get it again, until all is over."""
        lost = self.backend.accounts["lost"]
        for _ in range(3):
            self.assertEqual(exits.worst(self.deliver("joe", "nobody", "lost")), 75)
        self.assertEqual(self.mail(), [LETTER])
        self.assertEqual(len(os.listdir(self.directory / "deliveries")), 1)
        self.backend.accounts["lost"] = Account("lost", "one")
        self.assertEqual(exits.worst(self.deliver("joe", "nobody", "lost")), 67)
        self.assertEqual((self.mail(), self.mail("lost")), ([LETTER], [LETTER]))
        self.assertEqual(os.listdir(self.directory / "deliveries"), [])
        self.deliver("joe", "ann")
        self.assertEqual(len(self.mail()), 2)
        self.assertIsInstance(lost, LookupUnavailable)


class CommandTests(DeliverCase):
    """From words to a status."""

    def test_pipe(self) -> None:
        """Promise: standard input goes to everybody, and what went wrong is said."""
        with mock.patch.object(sys, "stdin", mock.Mock(buffer=io.BytesIO(LETTER))), caught_stderr() as said:
            self.assertEqual(pipe.command(["-f", "<s@x>", "joe", "nobody"]), 67)
        self.assertEqual(said(), "5.1.1 nobody: there is no such user here\n")
        self.assertEqual(self.mail(), [LETTER])
        self.assertEqual(self.backend.envelopes[-1].sender, "s@x")

    def test_store(self) -> None:
        """Promise: each file is a message."""
        path = self.directory / "file"
        path.write_bytes(b"Subject: file\n\n")
        with mock.patch.object(sys, "stdin", mock.Mock(buffer=io.BytesIO(LETTER))), caught_stderr() as said:
            self.assertEqual(store.command(["joe", str(path), "-", str(path) + "x"]), 75)
        self.assertIn("No such file or directory", said())
        self.assertEqual(self.mail(), [b"Subject: file\n\n", LETTER])

    def test_the_end_of_the_process(self) -> None:
        """Promise: the status is what the process ends with, whatever happens to standard output."""
        for failing in (None, OSError(32, "Broken pipe"), ValueError("closed")):
            ended = mock.Mock(side_effect=SystemExit)
            with mock.patch("os._exit", ended), mock.patch.object(sys, "stdout", mock.Mock()) as out:
                out.flush.side_effect = failing
                self.assertRaises(SystemExit, exits.leave, 73)
            self.assertEqual({call.args for call in ended.call_args_list}, {(73,)})
