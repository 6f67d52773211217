"""Log entries of a session's process: they go to the front, or, before there is a session, to standard error."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from zope.interface import implementer

#: Longest text of a log entry, in characters.
MOST_LOGGED = 1000


@implementer(ILogObserver)
class SessionLog:
    """
    Where log entries of a session go.

    @ivar say: tells the front something; None where there is no session
    """

    say: Callable[[dict[str, Any]], None] | None = None

    def __init__(self, level: str) -> None:
        self._level = LogLevel.lookupByName(level)

    def __call__(self, event: LogEvent) -> None:
        """ILogObserver."""
        level = event.get("log_level") or LogLevel.info
        if level < self._level:
            return
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)[:MOST_LOGGED]
        if self.say is not None:
            self.say({"log": [level.name, text]})
        else:
            os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))
