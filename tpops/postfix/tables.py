"""
Lookup tables for mail servers that do not speak Postfix' policy protocol: socketmap and tcp_table.

    socketmap   netstrings "NAME KEY", answered by "OK VALUE", "NOTFOUND " or "TEMP REASON" (Sendmail, Postfix, Exim by
                readsocket); any name will do
    tcp_table   lines "get KEY", answered by "200 VALUE", "500 REASON" or "400 REASON"; %XX is an octet (Postfix)

A key is the client's address, a space, and the sender; or the address alone, which is found when every sender may.
The value is the configured action.

Purpose: pure apart from the question itself.
Limits: a key has at most L{MOST_OCTETS}.  When the store cannot say, the key is not there, unless C{action_on_error} is
something else than DUNNO: then it is a temporary failure.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable

from tpops.postfix.answering import Broken
from tpops.postfix.policy import text_of
from tpops.postfix.policy_server import DUNNO
from tpops.postfix.relaying import Answer, Relaying

#: Longest request; Sendmail's own limit for socketmap is the same.
MOST_OCTETS = 100_000

_WHY = b"the store of logins cannot be read, try again later"

_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")


class _Table:
    """
    What both have in common: keys, and what is asked about them.

    @param value: of a key that is there
    @param fails: whether a store that cannot say is told
    """

    def __init__(self, relaying: Relaying, value: str, action_on_error: str) -> None:
        self._relaying = relaying
        self._value = value.encode("ascii")
        self._fails = action_on_error.split(" ")[0].upper() != DUNNO
        self._rest = b""

    def answer(self, question: bytes | None) -> bytes | Awaitable[bytes]:
        """See L{tpops.postfix.answering.Questions}; None is a request that is not understood."""
        if question is None:
            return self.reply(Answer.NO)
        address, _, sender = text_of(question).partition(" ")
        if sender.startswith("<") and sender.endswith(">"):
            sender = sender[1:-1]
        answer = self._relaying.ask(address, sender)
        return self.reply(answer) if isinstance(answer, Answer) else self._later(answer)

    async def _later(self, answer: Awaitable[Answer]) -> bytes:
        return self.reply(await answer)

    def reply(self, answer: Answer) -> bytes:
        """The words of the protocol for it."""
        raise NotImplementedError


class SocketmapQuestions(_Table):
    """Netstrings of one connection."""

    def feed(self, octets: bytes) -> list[bytes | None]:
        """See L{tpops.postfix.answering.Questions}."""
        self._rest += octets
        questions: list[bytes | None] = []
        while True:
            length, colon, rest = self._rest.partition(b":")
            if not colon:
                if len(length) > 6 or (length and not length.isdigit()):
                    raise Broken("no netstring")
                return questions
            if not length.isdigit() or len(length) > 6 or int(length) > MOST_OCTETS:
                raise Broken("no netstring, or a long one")
            end = int(length)
            if len(rest) <= end:
                return questions
            if rest[end : end + 1] != b",":
                raise Broken("a netstring without its end")
            self._rest = rest[end + 1 :]
            _, space, key = rest[:end].partition(b" ")
            questions.append(key if space else None)

    def reply(self, answer: Answer) -> bytes:
        """See L{_Table.reply}."""
        if answer is Answer.YES:
            said = b"OK " + self._value
        elif answer is Answer.FAILED and self._fails:
            said = b"TEMP " + _WHY
        else:
            said = b"NOTFOUND "
        return b"%d:%s," % (len(said), said)


class TCPTableQuestions(_Table):
    """Lines of one connection."""

    def feed(self, octets: bytes) -> list[bytes | None]:
        """See L{tpops.postfix.answering.Questions}."""
        *lines, self._rest = (self._rest + octets).split(b"\n")
        if len(self._rest) > MOST_OCTETS:
            raise Broken("a line without an end")
        return [_key(line) for line in lines]

    def reply(self, answer: Answer) -> bytes:
        """See L{_Table.reply}."""
        if answer is Answer.YES:
            return b"200 %s\n" % self._value.replace(b"%", b"%25").replace(b" ", b"%20")
        if answer is Answer.FAILED and self._fails:
            return b"400 %s\n" % _WHY.replace(b" ", b"%20")
        return b"500 not%20found\n"


def _key(line: bytes) -> bytes | None:
    verb, space, key = line.removesuffix(b"\r").partition(b" ")
    return _ESCAPED.sub(lambda found: bytes((int(found[1], 16),)), key) if verb == b"get" and space else None
