"""
What a session's process says of itself while the session lasts.

Purpose: for those who watch the server: what it does, how long it has heard nothing, and what it has sent.
Limits: once a second at most, and nothing while nothing happens; sessions that last less than that never say anything.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tpops.process.records import Now
from tpops.server import glance
from tpops.server.pop3 import POP3Server

#: Seconds from something that happens until it is told.
EVERY_SECONDS = 1.0


class Progress:
    """
    See the module.

    @param tell: takes what is said
    """

    def __init__(self, clock: IReactorTime, server: POP3Server, tell: Callable[[Now], None]) -> None:
        self._clock = clock
        self._server = server
        self._tell = tell
        self._call: IDelayedCall | None = None

    def moved(self) -> None:
        """The client has sent something."""
        if self._call is None:
            self._call = self._clock.callLater(EVERY_SECONDS, self._say)

    def stop(self) -> None:
        """Nothing more is told."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    def _say(self) -> None:
        self._call = None
        server, session = self._server, self._server.session
        idle = max(0.0, self._clock.seconds() - server.timer.last_input)
        now = Now(
            doing=glance.doing(server),
            updating=server.conversation.updating(),
            idle=round(idle * 1000),
            retr_count=session.retr_count,
            retr_octets=session.retr_octets,
            top_count=session.top_count,
            top_octets=session.top_octets,
        )
        self._tell(now)
        if now.doing:
            # It will be over some time, and nobody says so.
            self.moved()
