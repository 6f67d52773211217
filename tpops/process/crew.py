"""
The workers of one configuration, and what is said of their ends.

Purpose: values and words for L{tpops.process.supervisor}.
"""

from __future__ import annotations

import signal
from socket import socket

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure

from tpops.config.load import Loaded
from tpops.process.child import Child

_log = Logger()

#: Who has served so long is replaced at once.
_STEADY_SECONDS = 10.0

#: Pauses before a worker is replaced that has not: the first, and the longest.
_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0


@attrs.define(eq=False)
class Crew:
    """
    The workers of one configuration.

    @ivar loaded: the configuration
    @ivar sockets: what they serve, by places; empty until the first of them has asked
    @ivar children: they by their numbers; who has ended and is to be replaced is not among them
    @ivar pauses: how long the last pause before the replacement of each was
    """

    loaded: Loaded
    sockets: dict[str, socket] = attrs.field(factory=dict)
    children: dict[int, Child] = attrs.field(factory=dict)
    pauses: dict[int, float] = attrs.field(factory=dict)

    @property
    def ready(self) -> bool:
        """Whether all of them serve."""
        return all(child.ready for child in self.children.values())

    def replaces(self, child: Child, served_seconds: float) -> float:
        """Say why another worker takes the place of this one; gives the pause before that."""
        pause = self.pause(child.number, served_seconds)
        for problem in child.problems:
            _log.error("{problem}", event="worker-failed", problem=problem)
        _log.error(
            "{child} {what}; another one starts in {pause:g} seconds",
            event="worker-ended" if child.gone else "worker-spent",
            child=str(child),
            what=f"has ended, {how_it_ended(child.status)}" if child.gone else "lets nobody in any more",
            pause=pause,
        )
        return pause

    def pause(self, number: int, served_seconds: float) -> float:
        """How long to wait before another worker takes the place of one that has served so long."""
        pause = 0.0
        if served_seconds < _STEADY_SECONDS:
            pause = min(LONGEST_PAUSE_SECONDS, max(_PAUSE_SECONDS, 2 * self.pauses.get(number, 0.0)))
        self.pauses[number] = pause
        return pause


def refuse(problems: list[str]) -> None:
    """A reload has failed."""
    for line in problems:
        _log.error("reload-failed: {problem}", event="reload-failed", problem=line)
    _log.error("reload-failed: the configuration stays as it was", event="reload-failed")


def how_it_ended(status: int | None) -> str:
    """What an exit status says."""
    if status is None:
        return "status unknown"
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def not_upgraded(failure: Failure) -> None:
    """Another program could not even be tried."""
    _log.failure("upgrade-refused: internal error; the program stays as it was", failure, event="upgrade-refused")
