"""
Runs coroutines on Deferreds.

Purpose: L{run} and L{run_then} are L{Deferred.fromCoroutine} for the hot path: most commands never wait, and then they
cost a fraction.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

_T = TypeVar("_T")


def run(coroutine: Coroutine[Deferred[Any], Any, _T]) -> Deferred[_T]:
    """
    Run a coroutine that awaits Deferreds.

    @return: fires with its result or its exception; cancelling it cancels what the coroutine waits for
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration as finished:
        return succeed(finished.value)
    except Exception:
        return fail(Failure())
    return Deferred.fromCoroutine(_rest(coroutine, waits_for))


def run_then(coroutine: Coroutine[Deferred[Any], Any, _T], done: Callable[[_T | Failure], None]) -> None:
    """Run a coroutine and call back with its result or its failure, without a Deferred when it does not wait."""
    try:
        waits_for = coroutine.send(None)
    except StopIteration as finished:
        done(finished.value)
    except Exception:
        done(Failure())
    else:
        Deferred.fromCoroutine(_rest(coroutine, waits_for)).addBoth(done)


async def _rest(coroutine: Coroutine[Deferred[Any], Any, _T], waits_for: Deferred[Any]) -> _T:
    """Go on with a coroutine that has begun to wait."""
    result: object = None
    while True:
        problem: BaseException | None = None
        try:
            result = await waits_for
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as raised:
            problem = raised
        try:
            waits_for = coroutine.send(result) if problem is None else coroutine.throw(problem)
        except StopIteration as finished:
            value: _T = finished.value
            return value
