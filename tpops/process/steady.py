"""
Timers that do not go by the clock on the wall.

Purpose: Twisted's reactor takes the time of day for its timers.  When somebody sets the clock, or a machine finds out
after its start what time it is, all sessions would have been idle for a day, or nothing would time out until the clock
is where it was.  L{steady} gives a reactor the clock that never goes back.
Limits: what is not asked for by the reactor (times in logs, names of messages, the age of logins that are kept over a
restart) is the time of day.
"""

from __future__ import annotations

import time
from typing import Any


def steady(reactor: Any) -> None:
    """
    Let all timers of this reactor, also those that were set before, go by the monotonic clock.  Idempotent.

    @param reactor: one of Twisted's own
    """
    if reactor.seconds is time.monotonic:
        return
    shift = time.monotonic() - reactor.seconds()
    reactor.seconds = time.monotonic
    for call in reactor.getDelayedCalls():
        # All by the same, so their order stays.
        call.time += shift
        call.seconds = time.monotonic
