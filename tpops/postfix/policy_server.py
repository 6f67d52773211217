"""
The policy service for Postfix: L{tpops.postfix.policy} with answers.

Purpose: who may relay by POP before SMTP gets the configured action, everybody else DUNNO, which leaves the decision to
the next restriction.  What is wrong with the request, or on our side, never becomes more than that.
Limits: no limit on connections; the socket is for the machine's Postfix.
"""

from __future__ import annotations

from collections.abc import Awaitable

from tpops.postfix import policy
from tpops.postfix.answering import Broken
from tpops.postfix.policy import Request
from tpops.postfix.relaying import Answer, Relaying

#: What is said where nothing is known.
DUNNO = "DUNNO"


class PolicyQuestions:
    """
    The questions of one connection.

    @param action: for those who may relay
    @param action_on_error: when the store cannot say
    """

    def __init__(self, relaying: Relaying, action: str, action_on_error: str) -> None:
        self._relaying = relaying
        self._requests = policy.Requests()
        self._replies = {
            Answer.YES: policy.reply(action),
            Answer.NO: policy.reply(DUNNO),
            Answer.FAILED: policy.reply(action_on_error),
        }

    def feed(self, octets: bytes) -> list[Request | None]:
        """See L{tpops.postfix.answering.Questions}."""
        try:
            return self._requests.feed(octets)
        except policy.Hopeless as error:
            raise Broken(str(error)) from None

    def answer(self, question: Request | None) -> bytes | Awaitable[bytes]:
        """See L{tpops.postfix.answering.Questions}."""
        asked = policy.question(question)
        if asked is None:
            return self._replies[Answer.NO]
        answer = self._relaying.ask(*asked)
        return self._replies[answer] if isinstance(answer, Answer) else self._later(answer)

    async def _later(self, answer: Awaitable[Answer]) -> bytes:
        return self._replies[await answer]
