"""
A SASL mechanism that another process carries out: its messages are passed on as they come.

Purpose: for sessions that run as their owners (docs/separation.md), where the process that talks to clients has no
secrets and is not believed: it hears what to say to the client, and in the end gets a ticket that is good for one
login.

    C: message            -> Step, answered by Passed (say this, and go on), Over (a ticket) or Refused

Limits: for mechanisms whose client begins.  An answer that is none of these is an error of the program.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tpops.errors import AuthenticationFailed, BadCommand
from tpops.protocol.actions import LoginByTicket, LoginRejected
from tpops.protocol.sasl import Ask, Challenge, Outcome
from tpops.protocol.scram import Bindings


@dataclass(frozen=True, slots=True)
class Step:
    """
    What the client has said.

    @ivar name: whoever wants to log in is not known here
    @ivar mechanism: its name
    @ivar ticket: of the exchange that goes on, b"" for a new one
    @ivar bindings: the channel bindings of the connection
    """

    mechanism: bytes
    ticket: bytes
    message: bytes = field(repr=False)
    bindings: Bindings = field(repr=False)
    name: bytes | None = None


@dataclass(frozen=True, slots=True)
class Passed:
    """
    The exchange goes on.

    @ivar challenge: for the client
    """

    challenge: bytes
    ticket: bytes


@dataclass(frozen=True, slots=True)
class Over:
    """The client has proven that he is this name, which the ticket says once more to whoever opens maildrops."""

    name: bytes
    ticket: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """
    The exchange has come to nothing.

    @ivar rejected: the proof was wrong; None where the message was malformed
    @ivar why: what is said of a malformed one
    """

    rejected: LoginRejected | None
    why: str = ""


class Relayed:
    """
    One run of a mechanism.

    @param mechanism: its name
    @param bindings: the channel bindings of the connection
    """

    def __init__(self, mechanism: bytes, bindings: Bindings) -> None:
        self._mechanism = mechanism
        self._bindings = bindings
        self._ticket = b""
        self._over = False

    def respond(self, response: bytes | None) -> Outcome:
        """See L{tpops.protocol.sasl.Exchange}."""
        if self._over:
            # The client has answered the reason why he was rejected (RFC 7628 section 3.2.3).
            raise AuthenticationFailed
        if response is None:
            return Challenge(b"")
        return Ask(Step(self._mechanism, self._ticket, response, self._bindings), self._answered)

    def _answered(self, answer: object) -> Outcome:
        if isinstance(answer, Passed):
            self._ticket = answer.ticket
            return Challenge(answer.challenge)
        self._over = True
        if isinstance(answer, Over):
            return LoginByTicket(answer.name, answer.ticket)
        assert isinstance(answer, Refused)
        if answer.rejected is None:
            raise BadCommand(answer.why)
        return answer.rejected
