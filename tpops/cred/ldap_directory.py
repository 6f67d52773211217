"""
The servers of one directory: any of them can answer.

Purpose: asks the first server that works, in the order of the configuration.  One that does not answer is asked last
for a while, so that it costs only a few logins their time.
Limits: everything together takes no longer than the time that is set; the servers share it.
Errors: what a server says about a user is final; only where none says anything it is LookupUnavailable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from tpops.cred.ldap_connection import ServerFailed
from tpops.cred.ldap_server import Server
from tpops.errors import LookupUnavailable

_T = TypeVar("_T")

#: Seconds for which a server that has failed is asked after the others.
_REST_SECONDS = 30.0


class Directory:
    """
    See the module.

    @param name: of the accounts source, for the log
    @param timeout_seconds: how long a question may take, whatever happens
    @param clock: IReactorTime
    """

    log = Logger()

    def __init__(self, name: str, servers: Sequence[Server], timeout_seconds: float, clock: Any) -> None:
        self._name = name
        self._servers = tuple(servers)
        self._timeout_seconds = timeout_seconds
        self._clock = clock

    async def ask(self, question: Callable[[Server, float], Awaitable[_T]]) -> _T:
        """
        The answer of the first server that gives one.

        @param question: called with a server and the time by which it must be done
        @raise LookupUnavailable: when none does
        """
        until = self._clock.seconds() + self._timeout_seconds
        problems = []
        servers = sorted(self._servers, key=self._rests)
        for position, server in enumerate(servers):
            now = self._clock.seconds()
            try:
                answer = await question(server, now + (until - now) / (len(servers) - position))
            except ServerFailed as problem:
                self._failed(server, str(problem))
                problems.append(f"{server.address.url}: {problem}")
            else:
                self._answered(server)
                return answer
        raise LookupUnavailable("; ".join(problems))

    def close(self) -> Deferred[None]:
        """End every connection; fires when they have ended."""
        return DeferredList([server.close() for server in self._servers]).addCallback(lambda _: None)

    def _rests(self, server: Server) -> bool:
        return server.failed_at is not None and self._clock.seconds() - server.failed_at < _REST_SECONDS

    def _failed(self, server: Server, why: str) -> None:
        if server.failed_at is None:
            self.log.error(
                "accounts source {name}: {url}: {why}",
                event="ldap-failed",
                name=self._name,
                url=server.address.url,
                why=why,
            )
        server.failed_at = self._clock.seconds()

    def _answered(self, server: Server) -> None:
        if server.failed_at is not None:
            server.failed_at = None
            self.log.info(
                "accounts source {name}: {url} answers again",
                event="ldap-back",
                name=self._name,
                url=server.address.url,
            )
