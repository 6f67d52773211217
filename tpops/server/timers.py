"""
The one timer of a connection.

Purpose: four limits, one delayed call: when it rings it looks which limit has passed, and sets itself to the next one.
Activity writes a time stamp and nothing else, so a command costs no timer work.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tpops.server.options import ServerOptions
from tpops.server.reasons import IDLE, LOGIN_TIMEOUT, SESSION_LIMIT, WRITE_STALLED

_NEVER = float("inf")


class ConnectionTimer:
    """
    Watches over one connection.

    @ivar last_input: when the client was last heard of, or a long command ended
    @ivar stalled_since: since when the client has not taken what was sent, or None
    @ivar logged_in: the login phase is over
    @ivar busy: a command is being carried out, the client is not expected to speak
    """

    __slots__ = (
        "_call",
        "_clock",
        "_expired",
        "_options",
        "_rings_at",
        "_started",
        "busy",
        "last_input",
        "logged_in",
        "stalled_since",
    )

    def __init__(self, clock: IReactorTime, options: ServerOptions, expired: Callable[[str], None]) -> None:
        self._clock = clock
        self._options = options
        self._expired = expired
        self._started = self.last_input = clock.seconds()
        self.stalled_since: float | None = None
        self.logged_in = False
        self.busy = False
        self._call: IDelayedCall | None = None
        self._rings_at = _NEVER

    def arm(self) -> None:
        """Start watching."""
        at, _ = self._next()
        if at != _NEVER:
            self._call = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._rings)
        self._rings_at = at

    def input(self) -> None:
        """The client was heard of."""
        self.last_input = self._clock.seconds()

    def login(self) -> None:
        """The login phase is over."""
        self.logged_in = True
        self.input()
        self._ring_by(self._options.idle_timeout_seconds)

    def stalled(self) -> None:
        """From now on the client has to take what was sent."""
        self.stalled_since = self._clock.seconds()
        self._ring_by(self._options.write_timeout_seconds)

    def flowing(self) -> None:
        """The client has taken what was sent."""
        self.stalled_since = None
        self.input()

    def _ring_by(self, seconds: float) -> None:
        """A limit that many seconds from now has come into force; nearly always the timer rings before it anyway."""
        if seconds and self._clock.seconds() + seconds < self._rings_at:
            self.stop()
            self.arm()

    def stop(self) -> None:
        """No more limits."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    def _rings(self) -> None:
        self._call = None
        at, limit = self._next()
        if at <= self._clock.seconds():
            self._expired(limit)
        else:
            self.arm()

    def _next(self) -> tuple[float, str]:
        options = self._options
        limits = []
        if self.stalled_since is not None and options.write_timeout_seconds:
            limits.append((self.stalled_since + options.write_timeout_seconds, WRITE_STALLED))
        if options.session_max_seconds:
            limits.append((self._started + options.session_max_seconds, SESSION_LIMIT))
        if not self.logged_in:
            if options.login_timeout_seconds:
                limits.append((self._started + options.login_timeout_seconds, LOGIN_TIMEOUT))
        elif options.idle_timeout_seconds and self.stalled_since is None:
            # While a command runs, silence is what the client should keep; look again when it may be over.
            since = self._clock.seconds() if self.busy else self.last_input
            limits.append((since + options.idle_timeout_seconds, IDLE))
        return min(limits, default=(_NEVER, ""))
