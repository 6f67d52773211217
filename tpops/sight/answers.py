"""
What one process that serves clients says of itself and its sessions.

    {"do": "who"}                             its sessions
    {"do": "kick", "session": ID}             end them; or "user", or "address"; nothing of theirs is deleted
    {"do": "stats"}                           figures
    {"do": "status", "most": N}               figures, and the N sessions and penalties that matter most
    {"do": "penalties"}, {"do": "forgive", "who": NAME or ADDRESS}

Limits: who is in UPDATE is not ended: it would be left unclear what was removed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from heapq import nsmallest
from typing import Any, Protocol

from twisted.logger import Logger

from tpops.events.counters import Counters, Figures, add
from tpops.mailbox.tally import TALLY
from tpops.policy.memory import AnyMemory
from tpops.server import glance
from tpops.server.pop3 import POP3Server
from tpops.server.shared import Shared
from tpops.sight.control import Answer, Refused, Request
from tpops.sight.logs import Logs

_log = Logger()

KICKED = "ended by administrator"

#: Sessions, and penalties, that a status has at most.
MOST_SHOWN = 1000


class Serving(Protocol):
    """A generation, as it is seen from here."""

    shared: Shared
    logs: Logs

    def known_as(self, who: str) -> set[str]:
        """Under what failures of a client, or of a name, are counted."""

    def queues(self) -> dict[str, int]:
        """What waits."""

    def sink_failures(self) -> dict[str, int]:
        """How often each sink has failed."""

    def told(self) -> dict[str, dict[str, int]]:
        """How often each receiver outside was told."""


class Answers:
    """
    See the module.

    @ivar counters: what has happened
    @param generations: those that serve
    @param memory: what the limits remember
    """

    def __init__(self, reactor: Any, memory: AnyMemory, generations: Callable[[], Iterable[Serving]]) -> None:
        self.counters = Counters()
        self.number = 0
        self._reactor = reactor
        self._memory = memory
        self._generations = generations
        self._started = time.time()
        self._told: Figures = {}

    def answer(self, request: Request, who: str) -> Answer:
        """
        Answer, or do.

        @raise Refused: when that is not possible
        """
        asked = {
            "who": self._who,
            "kick": self._kick,
            "stats": self._stats,
            "status": self._status,
            "penalties": self._penalties,
            "forgive": self._forgive,
        }.get(request["do"])
        if asked is None:
            raise Refused(f"there is no request {request['do']!r}")
        if request["do"] in ("kick", "forgive") and not self.number:
            _log.info("admin: {request} by {who}", event="admin", request=dict(request), who=who)
        return asked(request)

    def past(self, generation: Serving) -> None:
        """It serves no more; its figures still count."""
        ended = {name: {**figures, "waiting": 0} for name, figures in generation.told().items()}
        self._told = _sum((self._told, ended))

    def sessions(self) -> list[POP3Server]:
        """The open connections."""
        return [one for generation in self._generations() for one in generation.shared.connections]

    def _who(self, request: Request) -> Answer:
        now, clock = time.time(), self._reactor.seconds()
        return {"sessions": [self._facts(one, now, clock) for one in self.sessions() if _meant(one, request)]}

    def _facts(self, one: POP3Server, now: float, clock: float) -> Answer:
        return {**_facts(one, now, clock), "process": os.getpid(), "worker": self.number}

    def _kick(self, request: Request) -> Answer:
        if not any(request.get(key) for key in ("session", "user", "address")):
            raise Refused("say whom: session, user or address")
        ended, spared = [], []
        for one in self.sessions():
            if not _meant(one, request):
                continue
            if one.apart is not None:
                # Its own process knows whether it is in UPDATE, and then ends after that.
                ended.append(one.session.peer.session)
                one.close(KICKED)
                continue
            if not one.interruptible():
                spared.append(one.session.peer.session)
                continue
            ended.append(one.session.peer.session)
            if one.busy or one.paused:
                one.abort(KICKED)
            else:
                one.close(KICKED)
        return {"ended": ended, "updating": spared}

    def _stats(self, request: Request) -> Answer:
        now = time.time()
        states = {"login": 0, "transaction": 0, "update": 0}
        unfinished = {"messages": 0, "octets": 0}
        for one in self.sessions():
            states[glance.state(one)] += 1
            unfinished["messages"] += one.session.retr_count + one.session.top_count
            unfinished["octets"] += one.session.retr_octets + one.session.top_octets
        totals: dict[str, Any] = {
            "sessions": states,
            **self.counters.figures(now),
            "listings": {"memory": TALLY.memory, "index": TALLY.index, "scan": TALLY.scan},
            "queues": self._queues(),
            "dropped": self._dropped(),
            "sinks": _sum((self._told, *(one.told() for one in self._generations()))),
            "unfinished": unfinished,
            "processes": 1,
        }
        process = {
            "pid": os.getpid(),
            "worker": self.number,
            "started": self._started,
            "sessions": sum(states.values()),
            "cpu_seconds": sum(os.times()[:2]),
        }
        return {"totals": totals, "processes": [process]}

    def _status(self, request: Request) -> Answer:
        most = request.get("most")
        if not isinstance(most, int) or not 1 <= most <= MOST_SHOWN:
            raise Refused(f"say how many at most: from 1 to {MOST_SHOWN}")
        now, clock = time.time(), self._reactor.seconds()
        busiest = nsmallest(
            most, self.sessions(), key=lambda one: (not glance.doing(one), clock - one.timer.last_input)
        )
        worst = nsmallest(most, self._memory.penalties(clock), key=lambda one: (-one.failures, one.seconds))
        return {
            **self._stats(request),
            "started": self._started,
            "sessions": [self._facts(one, now, clock) for one in busiest],
            "penalties": [one._asdict() for one in worst],
        }

    def _queues(self) -> dict[str, int]:
        pool = self._reactor.getThreadPool()
        found = {"threads": pool._queue.qsize(), "threads_busy": len(pool.working)}
        for generation in self._generations():
            for name, count in generation.queues().items():
                found[name] = found.get(name, 0) + count
        return found

    def _dropped(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for generation in self._generations():
            for name, count in (*generation.logs.dropped().items(), *generation.sink_failures().items()):
                found[name] = found.get(name, 0) + count
        return found

    def _penalties(self, request: Request) -> Answer:
        now = self._reactor.seconds()
        return {"penalties": [one._asdict() for one in self._memory.penalties(now)]}

    def _forgive(self, request: Request) -> Answer:
        who = request.get("who")
        if not isinstance(who, str) or not who:
            raise Refused("say whom: a name or an address")
        forgiven = False
        for key in {who, *(key for one in self._generations() for key in one.known_as(who))}:
            forgiven = self._memory.forgive(key) or forgiven
        return {"forgiven": forgiven}


def _sum(figures: Iterable[Figures | dict[str, dict[str, int]]]) -> Figures:
    whole: Figures = {}
    for one in figures:
        added = add(whole, one)
        assert isinstance(added, dict)
        whole = added
    return whole


def _meant(one: POP3Server, request: Request) -> bool:
    """Whether the request is about this session."""
    session = one.session
    facts = {
        "session": session.peer.session,
        "user": session.user,
        "address": session.peer.host,
        "state": glance.state(one),
    }
    return all(request.get(key) in (None, "", value) for key, value in facts.items())


def _facts(one: POP3Server, now: float, clock: float) -> Answer:
    session = one.session
    named = None if session.named is None else session.named[:200].decode("utf-8", "backslashreplace")
    return {
        "session": session.peer.session,
        "user": session.user,
        "named": named,
        "peer": session.peer.host,
        "port": session.peer.port,
        "state": glance.state(one),
        "seconds": max(0.0, now - session.connected_at),
        "idle": max(0.0, clock - one.timer.last_input),
        "tls": session.tls,
        "doing": glance.doing(one),
        "messages": session.messages_at_login,
        "retr": session.retr_count,
        "octets": session.retr_octets + session.top_octets,
    }
