"""
One message of a SASL exchange, on its way to the judge and back; see L{tpops.process.exchanges}.

Errors: LookupUnavailable where no answer comes, or the judge has none.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from tpops.errors import LookupUnavailable
from tpops.process.packets import Reading, taken
from tpops.process.records import MOST_OCTETS, BadRecord, error_of, octets, parse, text
from tpops.protocol.actions import LoginRejected
from tpops.protocol.relayed import Over, Passed, Refused

#: Seconds for an answer.
_ANSWER_SECONDS = 120.0

Answer = Passed | Over | Refused


@implementer(IReadDescriptor)
class StepLine(Reading):
    """
    See the module.

    @ivar answer: fires with what the judge says
    """

    def __init__(self, reactor: Any, connected: socket.socket) -> None:
        connected.setblocking(False)
        super().__init__(reactor, connected.fileno())
        self._socket = connected
        self.answer: Deferred[Answer] = Deferred()
        self._patience = reactor.callLater(_ANSWER_SECONDS, self._over, "the judge does not answer")

    def doRead(self) -> None:
        """IReadDescriptor."""
        found = taken(self._socket, MOST_OCTETS)
        if found is None:
            return
        if not found:
            self._over("the broker or the judge is gone")
            return
        self._close()
        try:
            said = parse(found)
            if "refused" in said:
                self.answer.errback(error_of(said))
            else:
                self.answer.callback(answer_of(said.get("step")))
        except BadRecord as problem:
            self.answer.errback(LookupUnavailable(f"the judge says what makes no sense: {problem}"))

    def _over(self, why: str) -> None:
        self._close()
        self.answer.errback(LookupUnavailable(why))

    def _close(self) -> None:
        self.stop_reading()
        self._socket.close()
        if self._patience.active():
            self._patience.cancel()


def answer_of(found: object) -> Answer:
    """
    What the judge says of a message.

    @raise BadRecord: when it is nothing of that kind
    """
    if not isinstance(found, Mapping):
        raise BadRecord("it is no object")
    if "malformed" in found:
        return Refused(None, text(found["malformed"]))
    if "rejected" in found:
        name, proof = octets(found["rejected"]), octets(found.get("proof"))
        challenge = None if found.get("challenge") is None else octets(found["challenge"])
        return Refused(LoginRejected(name, proof, text(found.get("why")), challenge))
    if "proven" in found:
        return Over(octets(found["proven"]), octets(found.get("ticket")))
    return Passed(octets(found.get("challenge")), octets(found.get("ticket")))
