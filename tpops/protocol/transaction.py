"""
The states after login: TRANSACTION and UPDATE (RFC 1939 sections 5 and 6).

Purpose: one short method per command; numbers come from the mailbox, octets from L{tpops.protocol.replies}.
Transitions: QUIT leads to L{Update}; how a session gets here is in L{tpops.protocol.states}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from tpops.errors import BadCommand, WrongState
from tpops.protocol import replies
from tpops.protocol.actions import Commit, Listing, Result, Retrieve
from tpops.protocol.commands import message_number, no_argument, number_and_lines, refuse

if TYPE_CHECKING:
    from tpops.protocol.states import Conversation


class Mailbox(Protocol):
    """What a session needs to know of its maildrop; see L{tpops.mailbox.view.Mailbox}."""

    def stat(self) -> tuple[int, int]: ...
    def size(self, number: int) -> int: ...
    def unique_id(self, number: int) -> bytes: ...
    def list_body(self) -> bytes | Iterable[bytes]: ...
    def uidl_body(self) -> bytes | Iterable[bytes]: ...
    def mark(self, number: int) -> None: ...
    def reset(self) -> None: ...
    def last(self) -> int: ...


class Transaction:
    """After login (RFC 1939 section 5)."""

    __slots__ = ("conversation", "mailbox")

    def __init__(self, conversation: Conversation, mailbox: Mailbox) -> None:
        self.conversation = conversation
        self.mailbox = mailbox

    def handle(self, line: bytes) -> Result:
        """See L{Conversation.handle}."""
        word, _, rest = line.partition(b" ")
        verb = word.upper()
        act = self.verbs.get(verb)
        if act is None:
            raise refuse(verb)
        return act(self, rest)

    def stat(self, rest: bytes) -> Result:
        """STAT."""
        no_argument("STAT", rest)
        messages, octets = self.mailbox.stat()
        return replies.stat(messages, octets)

    def list(self, rest: bytes) -> Result:
        """LIST, of all that is not marked or of one message."""
        if rest.strip(b" "):
            number = message_number("LIST", rest)
            return replies.number_and(number, b"%d" % self.mailbox.size(number))
        return _listing(replies.LIST_FOLLOWS, self.mailbox.list_body())

    def uidl(self, rest: bytes) -> Result:
        """UIDL, likewise."""
        if rest.strip(b" "):
            number = message_number("UIDL", rest)
            return replies.number_and(number, self.mailbox.unique_id(number))
        return _listing(replies.UIDL_FOLLOWS, self.mailbox.uidl_body())

    def retr(self, rest: bytes) -> Result:
        """RETR."""
        number = message_number("RETR", rest)
        return Retrieve(number, self.mailbox.size(number))

    def top(self, rest: bytes) -> Result:
        """TOP."""
        number, lines = number_and_lines(rest)
        return Retrieve(number, self.mailbox.size(number), lines)

    def dele(self, rest: bytes) -> Result:
        """DELE: a mark, kept in this session only."""
        number = message_number("DELE", rest)
        self.mailbox.mark(number)
        return replies.deleted(number)

    def noop(self, rest: bytes) -> Result:
        """NOOP."""
        no_argument("NOOP", rest)
        return replies.NOOP

    def rset(self, rest: bytes) -> Result:
        """RSET: forget the marks, and what LAST knew (RFC 1460 section 3)."""
        no_argument("RSET", rest)
        self.mailbox.reset()
        return replies.reset(*self.mailbox.stat())

    def last(self, rest: bytes) -> Result:
        """LAST: the highest number retrieved."""
        no_argument("LAST", rest)
        if not self.conversation.offer.last:
            raise BadCommand("LAST is not available")
        return replies.last(self.mailbox.last())

    def lang(self, rest: bytes) -> Result:
        """See L{Conversation.speak}."""
        return self.conversation.speak(rest)

    def capa(self, rest: bytes) -> Result:
        """CAPA (RFC 2449 section 5)."""
        no_argument("CAPA", rest)
        return self.conversation.capabilities()

    def quit(self, rest: bytes) -> Result:
        """QUIT: the only way into UPDATE."""
        no_argument("QUIT", rest)
        self.conversation.state = Update()
        return Commit()

    verbs: dict[bytes, Callable[[Transaction, bytes], Result]] = {
        b"STAT": stat,
        b"LIST": list,
        b"UIDL": uidl,
        b"RETR": retr,
        b"TOP": top,
        b"DELE": dele,
        b"NOOP": noop,
        b"RSET": rset,
        b"LAST": last,
        b"LANG": lang,
        b"CAPA": capa,
        b"QUIT": quit,
    }


class Update:
    """After QUIT: nothing is accepted any more (RFC 1939 section 6)."""

    __slots__ = ()

    def handle(self, line: bytes) -> Result:
        """See L{Conversation.handle}."""
        raise WrongState("the session is over")


#: A listing up to this size goes out with the other replies of its segment; a longer one with back-pressure.
_SHORT_LISTING = 32768


def _listing(first: bytes, body: bytes | Iterable[bytes]) -> Result:
    if not isinstance(body, bytes):
        return Listing(first, body)
    if len(body) <= _SHORT_LISTING:
        return b"".join((first, body, b".\r\n"))
    view = memoryview(body)
    step = _SHORT_LISTING * 8
    return Listing(first, (bytes(view[at : at + step]) for at in range(0, len(body), step)))
