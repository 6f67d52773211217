"""
Runs what needs a reactor where none runs: on the command line.

Purpose: "tpops check" uses a source as a login would, with the same code; a reactor of its own waits for the answer.
Limits: for a short question; whoever asks sees to it that it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.pollreactor import PollReactor
from twisted.python.failure import Failure

_T = TypeVar("_T")


def run_until_done(work: Callable[[Any], Coroutine[Deferred[Any], Any, _T]]) -> _T:
    """What the coroutine gives that is made with the reactor; blocks until then."""
    reactor = PollReactor()
    results: list[_T | Failure] = []

    def begin() -> None:
        Deferred.fromCoroutine(work(reactor)).addBoth(results.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run(installSignalHandlers=False)
    reactor.waker.connectionLost(None)
    result = results[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result
