"""A message of an exchange between front and judge: answers, nonsense, and silence."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tpops.errors import LookupUnavailable
from tpops.process import step_line
from tpops.process.records import BadRecord, based, pack, refusal
from tpops.process.step_line import StepLine, answer_of
from tpops.protocol.actions import LoginRejected
from tpops.protocol.relayed import Over, Passed, Refused


class StepLineTests(SynchronousTestCase):
    """The front's side."""

    def line(self) -> tuple[Any, StepLine, socket.socket]:
        """One that waits, and the other end."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(its.close)
        self.addCleanup(ours.close)
        reactor = MemoryReactorClock()
        return reactor, StepLine(reactor, ours), its

    def test_answers(self) -> None:
        """Promise: each kind comes through as it was said; what is none of them is refused."""
        for said, answer in (
            ({"challenge": based(b"c"), "ticket": based(b"t")}, Passed(b"c", b"t")),
            ({"proven": based(b"joe"), "ticket": based(b"t")}, Over(b"joe", b"t")),
            ({"malformed": "x"}, Refused(None, "x")),
            (
                {"rejected": based(b"joe"), "proof": based(b"p"), "why": "w", "challenge": None},
                Refused(LoginRejected(b"joe", b"p", "w", None)),
            ),
        ):
            self.assertEqual(answer_of(said), answer)
            _, line, its = self.line()
            its.send(pack({"step": said}))
            line.doRead()
            self.assertEqual(self.successResultOf(line.answer), answer)
        for nonsense in (None, [], {}, {"challenge": 1}, {"proven": "*"}, {"rejected": based(b"x")}, {"malformed": 1}):
            self.assertRaises(BadRecord, answer_of, nonsense)

    def test_no_answer(self) -> None:
        """Promise: refusal, nonsense, an end and silence are failures of the lookup, never of the password."""
        reactor, line, its = self.line()
        line.doRead()
        self.assertNoResult(line.answer)
        reactor.advance(step_line._ANSWER_SECONDS)
        self.failureResultOf(line.answer, LookupUnavailable)
        for said in (pack(refusal(LookupUnavailable("x"))), b"nonsense", pack({"step": 1}), b""):
            reactor, line, its = self.line()
            if said:
                its.send(said)
            else:
                its.close()
            line.doRead()
            self.failureResultOf(line.answer, LookupUnavailable)
            self.assertEqual(reactor.getDelayedCalls(), [])
            self.assertEqual(reactor.getReaders(), [])
