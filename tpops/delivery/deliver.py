"""
One message to some recipients, for the commands.

Purpose: each recipient is looked up and served on his own: what happens to one does not stop the others.
Errors: none are raised; every outcome is an exit status and a line for the MTA's log.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

from tpops.backend import Backend, run
from tpops.config.load import default_path, load
from tpops.config.schema import Config
from tpops.delivery.exits import DELIVERED, FULL, TRY_AGAIN, UNKNOWN_USER, Outcome
from tpops.delivery.incoming import Message
from tpops.delivery.retries import Retries
from tpops.errors import QuotaExceeded, TpopsError, UnknownUser
from tpops.model import Envelope

#: Octets that are looked at to see whether there is a "From " line.
_BEGINNING = 4096

#: A message and its sender, None where nobody says that.
Arrived = tuple[Message, str | None]


def configuration(path: str | None) -> Config:
    """The configuration that a command works with.  @raise ConfigError: when it cannot be used"""
    return load(path or default_path()).config


def read(source: BinaryIO, config: Config, sender: str | None) -> Arrived:
    """
    A message from a file.  Blocks.

    @param sender: what the MTA says; None where it says nothing
    @raise OSError: when it cannot be read, or kept
    """
    keys = config.delivery
    beginning = source.read(_BEGINNING)
    known = sender is not None or beginning.startswith(b"From ")
    message = Message(keys.return_path and known, keys.spool_dir or None)
    try:
        while beginning:
            message.feed(beginning)
            beginning = source.read(1 << 18)
        message.finish()
    except BaseException:
        message.close()
        raise
    if sender is None and known:
        sender = message.sender
    return message, sender


def deliver(config: Config, recipients: Sequence[str], messages: Iterable[Callable[[], Arrived]]) -> list[Outcome]:
    """
    Deliver every message to every recipient.

    @param messages: functions that read one each, in a thread; OSError says why that is not possible
    @return: what became of each
    """
    retries = Retries(os.path.join(config.server.state_dir, "deliveries"), time.time)

    async def work(backend: Backend) -> list[Outcome]:
        found = []
        for arrive in messages:
            try:
                message, sender = await backend.run_in_thread(arrive)
            except OSError as problem:
                where = f"{problem.filename}: " if problem.filename else ""
                found.append(Outcome(TRY_AGAIN, f"4.3.0 {where}{problem.strerror or problem}"))
                continue
            try:
                found += await _Delivery(backend, config, message, sender).to_all(recipients, retries)
            finally:
                message.close()
        return found

    return run(config, work)


class _Delivery:
    """One message."""

    def __init__(self, backend: Backend, config: Config, message: Message, sender: str | None) -> None:
        self._backend = backend
        self._keys = config.delivery
        self._message = message
        self._sender = sender

    async def to_all(self, recipients: Sequence[str], retries: Retries) -> list[Outcome]:
        """Deliver to those who did not get it at the last try."""
        outcomes = [Outcome(DELIVERED)] * len(recipients)
        if len(recipients) == 1:
            return [await self.to(recipients[0])]
        attempt = await self._backend.run_in_thread(retries.attempt, self._message, self._sender or "", recipients)
        for at, recipient in enumerate(recipients):
            if recipient not in attempt.done:
                outcomes[at] = await self.to(recipient)
        done = [one for one, outcome in zip(recipients, outcomes, strict=True) if outcome.status == DELIVERED]
        again = any(outcome.status == TRY_AGAIN for outcome in outcomes)
        await self._backend.run_in_thread(attempt.ended, done if again else [])
        return outcomes

    async def to(self, recipient: str) -> Outcome:
        """Deliver to one recipient."""
        try:
            account = await self._backend.recipients.account(os.fsencode(recipient))
            envelope = Envelope(self._sender or "", recipient, time.time())
            await self._backend.maildrops.append(account, self._message.under(self._fields(recipient)), envelope)
        except UnknownUser:
            return Outcome(UNKNOWN_USER, f"5.1.1 {recipient}: there is no such user here")
        except QuotaExceeded:
            return Outcome(FULL, f"5.2.2 {recipient}: the mailbox is full")
        except TpopsError as error:
            return Outcome(TRY_AGAIN, f"4.3.0 {recipient}: {error or error.public}")
        except Exception as error:
            return Outcome(TRY_AGAIN, f"4.3.0 {recipient}: {type(error).__name__}: {error}")
        return Outcome(DELIVERED)

    def _fields(self, recipient: str) -> list[tuple[bytes, bytes]]:
        fields = []
        if self._keys.return_path and self._sender is not None:
            fields.append((b"Return-Path", b"<%s>" % _value(self._sender)))
        if self._keys.delivered_to:
            fields.append((b"Delivered-To", _value(recipient)))
        return fields


def _value(address: str) -> bytes:
    """An address for a header field: nothing in it can begin another one."""
    return b"".join(os.fsencode(address).split(b"\n")).replace(b"\r", b"")
