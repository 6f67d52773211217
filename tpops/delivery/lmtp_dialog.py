"""
What an LMTP client may say next (RFC 2033, RFC 5321 section 4.1.4): pure code, no I/O.

Purpose: a line goes in, and out comes the step that the connection has to do: say something, look a recipient up, take
a message or a piece of one.  The transaction that these lines make up is here, too.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import attrs

from tpops.delivery import lmtp_replies as replies
from tpops.delivery.lmtp_commands import Bdat, Command, Lhlo, Mail, Plain, Rcpt, Refused, parse

#: What the connection knows of a recipient.
_R = TypeVar("_R")

#: Wrong commands of one connection after which it ends.
MOST_ERRORS = 20


@attrs.frozen(slots=True)
class Say:
    """
    Send this.

    @ivar reply: one reply
    @ivar closes: whether the connection ends then
    """

    reply: bytes
    closes: bool = False


@attrs.frozen(slots=True)
class Find:
    """
    Look a recipient up; who is found goes to L{Dialog.accept}.

    @ivar address: his address
    """

    address: str


@attrs.frozen(slots=True)
class TakeData:
    """Say C{354} and take the message, up to CRLF.CRLF."""


@attrs.frozen(slots=True)
class TakeChunk:
    """
    Take so many octets.

    @ivar octets: how many
    @ivar last: whether the message is complete then
    @ivar refusal: when they are to be thrown away, the reply to that; else b""
    """

    octets: int
    last: bool
    refusal: bytes = b""


Step = Say | Find | TakeData | TakeChunk


@attrs.define(slots=True)
class Transaction(Generic[_R]):
    """
    One message on its way in.

    @ivar mail: what MAIL said
    @ivar recipients: who was accepted, in order
    @ivar chunks: whether it comes by BDAT, and a piece is here
    """

    mail: Mail
    recipients: list[_R] = attrs.field(factory=list)
    chunks: bool = False


class Dialog(Generic[_R]):
    """
    One client's side of the conversation.

    @ivar client: how he calls himself, "" before LHLO
    @ivar transaction: what has begun, or None
    """

    def __init__(self, hostname: str, most_octets: int, most_recipients: int) -> None:
        """
        @param most_octets: biggest message, 0 for any
        @param most_recipients: of one message
        """
        self.client = ""
        self.transaction: Transaction[_R] | None = None
        self._hostname = hostname
        self._most_octets = most_octets
        self._most_recipients = most_recipients
        self._errors = 0

    def line(self, line: bytes) -> Step:
        """The step for a line, which comes without its CRLF."""
        try:
            return self._step(parse(line))
        except Refused as refused:
            return self.wrong(refused.reply, refused.closes)

    def wrong(self, reply: bytes, closes: bool = False) -> Say:
        """Refuse a line; too many of them end the connection."""
        self._errors += 1
        if self._errors >= MOST_ERRORS and not closes:
            return Say(reply + replies.TOO_MANY_ERRORS, closes=True)
        return Say(reply, closes)

    def accept(self, recipient: _R) -> None:
        """A recipient was found."""
        assert self.transaction is not None
        self.transaction.recipients.append(recipient)

    def reset(self) -> None:
        """The transaction is over, whatever became of it."""
        self.transaction = None

    def _step(self, command: Command) -> Step:
        if isinstance(command, Rcpt):
            return self._rcpt(command)
        if isinstance(command, Mail):
            return self._mail(command)
        if isinstance(command, Bdat):
            return self._bdat(command)
        if isinstance(command, Lhlo):
            self.client = command.name
            self.reset()
            return Say(replies.lhlo(self._hostname, self._most_octets))
        return self._plain(command)

    def _plain(self, command: Plain) -> Step:
        if command.verb == b"DATA":
            return self._data()
        if command.verb == b"RSET":
            self.reset()
        if command.verb == b"QUIT":
            self.reset()
            return Say(replies.BYE, closes=True)
        return Say({b"VRFY": replies.CANNOT_VERIFY, b"HELP": replies.HELP}.get(command.verb, replies.OK))

    def _mail(self, command: Mail) -> Say:
        if not self.client:
            return self.wrong(replies.NEEDS_LHLO)
        if self.transaction is not None:
            return self.wrong(replies.NESTED)
        if self._most_octets and command.octets > self._most_octets:
            return Say(replies.TOO_BIG)
        if not command.utf8 and not command.sender.isascii():
            return Say(replies.NEEDS_UTF8)
        self.transaction = Transaction(command)
        return Say(replies.SENDER_OK)

    def _rcpt(self, command: Rcpt) -> Step:
        transaction = self.transaction
        if transaction is None:
            return self.wrong(replies.NEEDS_SENDER)
        if transaction.chunks:
            return self.wrong(replies.CHUNKS_BEGUN)
        if not transaction.mail.utf8 and not command.address.isascii():
            return Say(replies.NEEDS_UTF8)
        if len(transaction.recipients) >= self._most_recipients:
            return Say(replies.TOO_MANY_RECIPIENTS)
        return Find(command.address)

    def _data(self) -> Step:
        transaction = self.transaction
        if transaction is None:
            return self.wrong(replies.NEEDS_SENDER)
        if transaction.chunks:
            return self.wrong(replies.CHUNKS_BEGUN)
        if not transaction.recipients:
            # RFC 2033 section 4.2: it must fail then.
            return Say(replies.NO_RECIPIENTS)
        return TakeData()

    def _bdat(self, command: Bdat) -> Step:
        """A piece that nobody wants has to be read all the same: it is on its way already (RFC 3030 section 2)."""
        transaction = self.transaction
        if transaction is None:
            return TakeChunk(command.octets, command.last, replies.NEEDS_SENDER)
        if not transaction.recipients:
            self.reset()
            return TakeChunk(command.octets, command.last, replies.NO_RECIPIENTS)
        transaction.chunks = True
        return TakeChunk(command.octets, command.last)
