"""
The question of every mail transfer agent, whatever protocol it asks in: may this client relay?

Purpose: from an address and a sender as they came to yes, no, or an error of ours.  Errors are logged, the same one not
more than once a minute, and counted; they never become a yes.
Limits: a store that answers from memory is asked where the reactor runs, any other one through C{run_in_thread}.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable

from twisted.logger import Logger

from tpops.db import relay
from tpops.db.addresses import canonical, site
from tpops.db.relay import Facts, IRelayStore, StoreFailed
from tpops.postfix.policy import NOBODY
from tpops.postfix.rules import Verdict, decide

#: Seconds for which further errors are counted but not logged.
QUIET_SECONDS = 60.0

#: Asks the store in some other thread.
RunInThread = Callable[..., Awaitable[Facts]]


class Answer(enum.Enum):
    """What an agent is told."""

    YES = "yes"
    NO = "no"
    FAILED = "failed"


class Relaying:
    """
    See the module.

    @ivar failures: how often the store could not say
    """

    _log = Logger()

    def __init__(
        self,
        store: IRelayStore,
        by_address: bool,
        ipv6_prefix: int,
        seconds: Callable[[], float],
        run_in_thread: RunInThread | None = None,
    ) -> None:
        """
        @param by_address: whether the sender does not matter
        @param ipv6_prefix: leading bits of an IPv6 address that are one place
        @param seconds: the time
        @param run_in_thread: None where the store may be asked here and now
        """
        self.failures = 0
        self._store = store
        self._by_address = by_address
        self._ipv6_prefix = ipv6_prefix
        self._seconds = seconds
        self._run_in_thread = run_in_thread
        self._logged_at: float | None = None

    def verdict(self, address: str, sender: str) -> Verdict | Awaitable[Verdict]:
        """
        The decision and its reason.

        @raise StoreFailed: when the store cannot say; the awaitable may fail with it too
        """
        client = canonical(address)
        place = site(address, self._ipv6_prefix)
        if client is None or place is None:
            return Verdict.NOTHING
        sender = relay.sender(sender) if len(sender) <= relay.MOST_SENDER_CHARACTERS else NOBODY
        if self._run_in_thread is None:
            return decide(self._store.facts(place, client, sender), sender, self._by_address)
        return self._wait(self._run_in_thread(self._store.facts, place, client, sender), sender)

    def ask(self, address: str, sender: str) -> Answer | Awaitable[Answer]:
        """The answer; never raises, and the awaitable never fails."""
        try:
            verdict = self.verdict(address, sender)
        except Exception as error:
            return self._failed(error)
        return _answer(verdict) if isinstance(verdict, Verdict) else self._later(verdict)

    async def _wait(self, facts: Awaitable[Facts], sender: str) -> Verdict:
        return decide(await facts, sender, self._by_address)

    async def _later(self, verdict: Awaitable[Verdict]) -> Answer:
        try:
            return _answer(await verdict)
        except Exception as error:
            return self._failed(error)

    def _failed(self, error: Exception) -> Answer:
        self.failures += 1
        now = self._seconds()
        if self._logged_at is None or not 0 <= now - self._logged_at < QUIET_SECONDS:
            self._logged_at = now
            why = str(error) if isinstance(error, StoreFailed) else f"{type(error).__name__}: {error}"
            self._log.error(
                "relaying-failed: {why}; {failures} questions without an answer since the start",
                event="relaying-failed",
                why=why,
                failures=self.failures,
            )
        return Answer.FAILED


def _answer(verdict: Verdict) -> Answer:
    return Answer.NO if verdict is Verdict.NOTHING else Answer.YES
