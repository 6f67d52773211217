"""
The LMTP server (RFC 2033): what the steps of L{tpops.delivery.lmtp_dialog} mean for a connection.

Purpose: recipients are looked up, messages are received and delivered.  Behind a message each recipient has a reply of
his own, in the order of RCPT, sent as soon as it is known and those before it are.
Limits: see L{tpops.delivery.lmtp_shared.Options}.  After BDAT there is one reply for each recipient behind the last
piece, as behind DATA; a piece that is refused ends the transaction.
Security: there is no authentication.  Whoever can connect can deliver; hence UNIX sockets and C{networks}.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from tpops.coroutines import run_then
from tpops.delivery import lmtp_replies as replies
from tpops.delivery.incoming import Message
from tpops.delivery.lmtp_connection import Connection
from tpops.delivery.lmtp_content import Content
from tpops.delivery.lmtp_data import Data
from tpops.delivery.lmtp_deliveries import Arrival, Recipient
from tpops.delivery.lmtp_dialog import Dialog, Find, Say, Step, TakeChunk, TakeData, Transaction
from tpops.delivery.lmtp_header import Hop
from tpops.delivery.lmtp_shared import Shared

_log = Logger()


class LMTPServer(Connection):
    """See the module."""

    _content: Content | None = None
    _data: Data | None = None
    _chunk: TakeChunk | None = None
    _chunk_left = 0
    _messages = 0

    def __init__(self, shared: Shared, peer: str, session: str) -> None:
        super().__init__(shared, peer, session)
        options = shared.options
        self._dialog: Dialog[Recipient] = Dialog(options.hostname, options.most_octets, options.most_recipients)

    # Commands.

    def line_received(self, line: bytes) -> None:
        """See L{Connection.line_received}."""
        self._do(self._dialog.line(line))
        if self._content is not None and self._dialog.transaction is None:
            # RSET or LHLO among the pieces of a message.
            self.drop()

    def line_refused(self, reply: bytes) -> None:
        """See L{Connection.line_refused}."""
        self._do(self._dialog.wrong(reply))

    def _do(self, step: Step) -> None:
        if isinstance(step, Say):
            if step.closes:
                self.close(step.reply)
            else:
                self.send(step.reply)
        elif isinstance(step, Find):
            self.start(self._find(step.address))
        elif isinstance(step, TakeData):
            self._content = self.shared.content()
            self._data = Data()
            self.send(replies.SEND_DATA)
        else:
            self._begin_chunk(step)

    async def _find(self, address: str) -> None:
        found = await self.shared.deliveries.find(address, self.session, self.peer, self._transaction().mail.sender)
        if isinstance(found, Recipient):
            self._dialog.accept(found)
            self.send(replies.RECIPIENT_OK)
        else:
            self.send(found)

    def _transaction(self) -> Transaction[Recipient]:
        transaction = self._dialog.transaction
        assert transaction is not None
        return transaction

    # Messages in.

    @property
    def receiving(self) -> bool:
        """See L{Connection.receiving}."""
        return self._content is not None or self._dialog.transaction is not None

    def take_octets(self) -> bool:
        """See L{Connection.take_octets}."""
        if self._data is not None:
            self._take_data(self._data)
        elif self._chunk is not None:
            self._take_chunk(self._chunk)
        else:
            return False
        return True

    def _begin_chunk(self, chunk: TakeChunk) -> None:
        if not chunk.refusal and self._content is None:
            self._content = self.shared.content()
        self._chunk, self._chunk_left = chunk, chunk.octets
        if not chunk.octets:
            self._take_chunk(chunk)

    def _take_data(self, data: Data) -> None:
        piece = data.feed(self.input[self.at :] if self.at else self.input)
        self.input, self.at = data.rest, 0
        if data.ended:
            self._data = None
        self._store(piece, self._deliver if data.ended else None)

    def _take_chunk(self, chunk: TakeChunk) -> None:
        piece = self.input[self.at : self.at + self._chunk_left]
        self.at += len(piece)
        self._chunk_left -= len(piece)
        ended = not self._chunk_left
        if ended:
            self._chunk = None
        if not chunk.refusal:
            self._store(piece, None if not ended else self._deliver if chunk.last else self._chunk_taken)
        elif ended:
            self._do(self._dialog.wrong(chunk.refusal))

    def _store(self, piece: bytes, then: Callable[[], Coroutine[Deferred[Any], Any, None]] | None) -> None:
        """Keep some octets of the message; then go on, where that was all."""
        content = self._content
        assert content is not None
        waits_for = content.write(piece)

        async def store() -> None:
            if waits_for is not None:
                await waits_for
            if then is not None:
                await then()

        if waits_for is not None or then is not None:
            self.start(store())

    async def _chunk_taken(self) -> None:
        """A piece has come, and others will."""
        content = self._content
        assert content is not None
        if content.refusal:
            self._dialog.reset()
            self.send(content.refusal)
            await self._close_content()
        else:
            self.send(replies.CHUNK_OK)

    # Deliveries.

    async def _deliver(self) -> None:
        """The message is complete: one reply for each recipient, in order."""
        content, transaction = self._content, self._transaction()
        assert content is not None
        self._dialog.reset()
        try:
            message = await content.complete()
            if message is None:
                self.send(content.refusal * len(transaction.recipients))
            else:
                await self._deliver_to_each(transaction, message, content.digest())
        finally:
            await self._close_content()

    async def _deliver_to_each(self, transaction: Transaction[Recipient], message: Message, digest: bytes) -> None:
        self._messages += 1
        hop = Hop(
            client=self._dialog.client,
            peer=self.peer,
            hostname=self.shared.options.hostname,
            delivery=f"{self.session}.{self._messages}",
            utf8=transaction.mail.utf8,
            at=self.shared.epoch(),
        )
        arrival = Arrival(hop, transaction.mail.sender, message, digest)
        deliver = self.shared.deliveries.deliver
        outcomes = [
            Deferred.fromCoroutine(deliver(arrival, recipient, self._is_there)) for recipient in transaction.recipients
        ]
        for outcome in outcomes:
            self.send(await outcome)

    def _is_there(self) -> bool:
        return not self.gone

    def drop(self) -> None:
        """See L{Connection.drop}."""
        run_then(self._close_content(), _closed)

    async def _close_content(self) -> None:
        content, self._content = self._content, None
        if content is not None:
            await content.close()


def _closed(result: object) -> None:
    if isinstance(result, Failure):
        _log.failure("lmtp: a spool could not be closed", result)


class LMTPFactory(Factory):
    """Makes an L{LMTPServer} for each connection."""

    noisy = False

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self._prefix = secrets.token_hex(3)
        self._sessions = 0

    def buildProtocol(self, addr: IAddress | None) -> LMTPServer:
        """A protocol for a client at this address."""
        self._sessions += 1
        host = getattr(addr, "host", None)
        peer = host if isinstance(host, str) else "unix"
        return LMTPServer(self.shared, peer, f"{self._prefix}{self._sessions:x}")
