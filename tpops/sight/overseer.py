"""
The control socket where several processes serve: the one that looks after them answers for all.

Purpose: asks every worker over a socket that it hands over for that (see L{tpops.process.packets}), and adds up.
Workers ask in the same way, for metrics and the status page, and may only look.
Limits: a worker that does not answer is named under C{"silent"}; what the others said is there all the same.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from tpops.process.child import Child
from tpops.process.signals import stop_soon
from tpops.sight.control import Answer, ControlFactory, Refused, Request, Socket, ask
from tpops.sight.together import together

_log = Logger()

#: What a worker may ask.
_LOOKS = frozenset(("who", "stats", "status"))


class Overseer:
    """
    See the module.

    @ivar socket: the control socket
    @ivar restarts: workers that have ended by themselves
    @param children: every worker
    @param reload: what HUP does; it tells the outcome to C{reloaded}
    @param reloading: whether that is under way
    """

    def __init__(
        self,
        reactor: Any,
        children: Callable[[], Iterable[Child]],
        reload: Callable[[], None],
        reloading: Callable[[], bool],
    ) -> None:
        self.socket = Socket(reactor, self.answer)
        self.restarts = 0
        self._started = time.time()
        self._reactor = reactor
        self._children = children
        self._reload = reload
        self._reloading = reloading
        self._workers = ControlFactory(self._look, reactor)
        self._waiting: list[Deferred[list[str]]] = []
        self._later: list[Deferred[list[str]]] = []

    def adopt_all(self) -> None:
        """Every worker may ask."""
        for child in self._children():
            child.asks = self._workers.adopt

    def stop(self, result: object) -> None:
        """Nobody is answered any more."""
        self.socket.hang_up()

    def reloaded(self, problems: list[str]) -> None:
        """A reload has come to its end."""
        waiting, self._waiting, self._later = self._waiting, self._later, []
        for one in waiting:
            one.callback(problems)

    async def answer(self, request: Request, who: str) -> Answer:
        """See L{tpops.sight.control}."""
        do = request["do"]
        if do not in _LOOKS | {"penalties"}:
            _log.info("admin: {request} by {who}", event="admin", request=dict(request), who=who)
        if do == "reload":
            outcome: Deferred[list[str]] = Deferred()
            (self._later if self._reloading() else self._waiting).append(outcome)
            self._reload()
            problems = await outcome
            return {"reloaded": not problems, "problems": problems}
        if do == "drain":
            whole = await self._ask_all({"do": "stats"})
            stop_soon(self._reactor)
            return {"draining": sum(whole.get("totals", {}).get("sessions", {}).values())}
        whole = await self._ask_all(request)
        if "totals" in whole:
            whole["totals"]["worker_restarts"] = self.restarts
        if "started" in whole:
            whole["started"] = self._started
        return whole

    async def _look(self, request: Request, who: str) -> Answer:
        if request["do"] not in _LOOKS:
            raise Refused(f"a worker may not ask for {request['do']!r}")
        return await self.answer(request, who)

    async def _ask_all(self, request: Request) -> Answer:
        children = [child for child in self._children() if child.ready and not child.gone]
        asked = [ask(self._reactor, request, partial(_hand_over, child)) for child in children]
        results = await DeferredList(asked, consumeErrors=True)
        answers = [result for good, result in results if good]
        refused = [answer["error"] for answer in answers if "error" in answer]
        if refused:
            raise Refused(refused[0])
        whole = together(answers)
        silent = [str(child) for child, (good, _) in zip(children, results, strict=True) if not good]
        if silent:
            whole["silent"] = silent
        return whole


def _hand_over(child: Child, connected: socket.socket) -> None:
    child.channel.lend({"control": True}, [connected])
