"""
Figures: what has happened since the process started, counted where it is told anyway.

Purpose: plain numbers that cost next to nothing while sessions run; they are put into words when somebody asks.
They outlive a reload.  C{figures} gives them as nested dicts and lists of numbers, so that those of several
processes can be added up.
Limits: C{recent} is the last full minute's worth of seconds; reasons are the server's own words, so their number is
bounded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

from zope.interface import implementer

from tpops.interfaces import IEventSink
from tpops.model import Event, Session

#: Upper ends of the buckets of histograms, in seconds; the last bucket has no end.
LOGIN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
UPDATE_SECONDS = LOGIN_SECONDS
SESSION_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0)

_MINUTE = 60

#: Reasons of failures, by the names of the errors.
_FAILURES = {"BadCredentials": "wrong_password", "UnknownUser": "wrong_password", "LookupUnavailable": "unavailable"}
_REFUSALS = {
    "MaildropBusy": "maildrop_in_use",
    "TooSoon": "login_delay",
    "AccountDisabled": "disabled",
    "StorageUnavailable": "storage_unavailable",
    "MaildropBroken": "maildrop_broken",
}

#: Figures, as they travel between processes.
Figures = dict[str, object]


class Histogram:
    """
    Durations, by buckets.

    @ivar buckets: how many fell into each
    @ivar total: their sum in seconds
    """

    __slots__ = ("_ends", "buckets", "total")

    def __init__(self, ends: tuple[float, ...]) -> None:
        self._ends = ends
        self.buckets = [0] * (len(ends) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.buckets[bisect_left(self._ends, seconds)] += 1
        self.total += seconds

    def figures(self) -> Figures:
        """Both."""
        return {"buckets": list(self.buckets), "total": self.total}


class Recent:
    """How often something happened in the last minute."""

    __slots__ = ("_counts", "_seconds")

    def __init__(self) -> None:
        self._counts = [0] * _MINUTE
        self._seconds = [-1] * _MINUTE

    def add(self, at: float) -> None:
        """It happened at this time."""
        second = int(at)
        place = second % _MINUTE
        if self._seconds[place] == second:
            self._counts[place] += 1
        else:
            self._seconds[place] = second
            self._counts[place] = 1

    def count(self, at: float) -> int:
        """How often in the 60 seconds up to this time."""
        after = int(at) - _MINUTE
        return sum(
            count for second, count in zip(self._seconds, self._counts, strict=True) if after < second <= int(at)
        )


@implementer(IEventSink)
class Counters:
    """See the module."""

    wants = frozenset(("login", "login-failed", "login-refused", "greeting-refused", "limit", "disconnect"))
    before_ok = False

    def __init__(self) -> None:
        self.ended = 0
        self.encrypted = 0
        self.logins: defaultdict[str, int] = defaultdict(int)
        self.failures: defaultdict[str, int] = defaultdict(int)
        self.refusals: defaultdict[str, int] = defaultdict(int)
        self.limits: defaultdict[str, int] = defaultdict(int)
        self.ends: defaultdict[str, int] = defaultdict(int)
        self.messages = [0, 0, 0]
        self.octets = [0, 0]
        self.login_seconds = Histogram(LOGIN_SECONDS)
        self.update_seconds = Histogram(UPDATE_SECONDS)
        self.session_seconds = Histogram(SESSION_SECONDS)
        self.recent_logins, self.recent_failures, self.recent_ends = Recent(), Recent(), Recent()

    def notify(self, event: Event) -> None:
        """Count an event."""
        kind, session = event.kind, event.session
        if kind == "disconnect":
            self._ended(session, session.ended_at or event.at)
        elif kind == "login":
            self.logins[session.mechanism] += 1
            self.login_seconds.add(session.login_seconds)
            self.recent_logins.add(event.at)
        elif kind == "login-failed":
            self.failures[_FAILURES.get(event.detail.partition(":")[0], "other")] += 1
            self.recent_failures.add(event.at)
        else:
            limit = event.limit
            if kind == "login-refused":
                error = event.detail.partition(":")[0]
                self.refusals[_REFUSALS.get(error, "limit" if limit else "other")] += 1
            if limit:
                self.limits[limit] += 1

    def _ended(self, session: Session, at: float) -> None:
        self.ended += 1
        self.ends[session.reason] += 1
        self.session_seconds.add(max(0.0, at - session.connected_at))
        self.recent_ends.add(at)
        if session.update_seconds is not None:
            self.update_seconds.add(session.update_seconds)
        if session.tls:
            self.encrypted += 1
        if session.user is not None:
            messages, octets = self.messages, self.octets
            messages[0] += session.retr_count
            messages[1] += session.top_count
            messages[2] += session.dele_count
            octets[0] += session.retr_octets
            octets[1] += session.top_octets

    def figures(self, at: float) -> Figures:
        """All of them."""
        return {
            "ended": self.ended,
            "encrypted": self.encrypted,
            "logins": dict(self.logins),
            "failures": dict(self.failures),
            "refusals": dict(self.refusals),
            "limits": dict(self.limits),
            "ends": dict(self.ends),
            "messages": dict(zip(("retr", "top", "dele"), self.messages, strict=True)),
            "octets": dict(zip(("retr", "top"), self.octets, strict=True)),
            "login_seconds": self.login_seconds.figures(),
            "update_seconds": self.update_seconds.figures(),
            "session_seconds": self.session_seconds.figures(),
            "recent": {
                "logins": self.recent_logins.count(at),
                "failures": self.recent_failures.count(at),
                "ended": self.recent_ends.count(at),
            },
        }


def add(one: object, other: object) -> object:
    """
    Figures of two processes together.

    @raise ValueError: when they are not of the same form
    """
    if isinstance(one, dict) and isinstance(other, dict):
        both = dict(one)
        for key, value in other.items():
            both[key] = add(both[key], value) if key in both else value
        return both
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [add(*pair) for pair in zip(one, other, strict=True)]
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one + other
    raise ValueError(f"figures cannot be added: {one!r} and {other!r}")
