"""
Stored passwords become better ones when their owners log in.

Purpose: only at a login is the password known from which a new hash can be made.  After one with a right password,
a stored form that is weaker than wanted is replaced, in a thread; the login does not wait for it.
Limits: two at a time for each source; who logs in meanwhile has his turn at the next login.  A stored form that proves
more than the new one would (a plain secret serves APOP, SCRAM keys serve SCRAM) stays, unless the operator wants it
replaced.
Errors: are logged and never reach the login; after one, a source is left alone for a while.  A password that was
changed meanwhile is not overwritten: the source compares before it writes.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger
from twisted.python.failure import Failure

from tpops.coroutines import run_then
from tpops.cred import hashes, schemes
from tpops.cred.hashes import RunInThread
from tpops.cred.source import Record
from tpops.cred.strength import is_weaker
from tpops.interfaces import IRenewsHashes

#: New hashes that are made at the same time.
AT_ONCE = 2

#: How long nothing is tried after a failure.
PAUSE_SECONDS = 300.0


class Rehash:
    """
    Renews the stored passwords of one source.

    @param scheme: the name of the scheme that is wanted
    @param plain: also replace what proves more than the new form would
    @param seconds: a clock that never goes back
    """

    log = Logger()

    def __init__(
        self,
        source: IRenewsHashes,
        scheme: str,
        plain: bool,
        run_in_thread: RunInThread,
        seconds: Callable[[], float],
    ) -> None:
        self._source = source
        self._scheme = schemes.by_name(scheme).name
        self._plain = plain
        self._run_in_thread = run_in_thread
        self._seconds = seconds
        self._working: set[str] = set()
        self._not_before = 0.0

    def right_password(self, record: Record, password: bytes) -> None:
        """Somebody has logged in with this password; returns at once and never raises."""
        name = record.account.name
        if name in self._working or len(self._working) >= AT_ONCE or self._seconds() < self._not_before:
            return
        if not self.wanted(record.password_hash):
            return
        self._working.add(name)
        run_then(self._renew(name, record.password_hash, password), lambda done: self._done(record, done))

    def wanted(self, stored: str) -> bool:
        """Whether a stored password should be replaced."""
        try:
            if not is_weaker(stored, self._scheme):
                return False
        except ValueError:
            return False
        would_prove = {self._scheme} if self._scheme.startswith("SCRAM-") else frozenset[str]()
        return self._plain or schemes.proves(stored) <= would_prove

    async def _renew(self, name: str, stored: str, password: bytes) -> bool:
        """Whether it was replaced; else somebody has changed the password meanwhile."""
        new = await self._run_in_thread(hashes.hash_password, password, self._scheme)
        return await self._run_in_thread(self._source.renew_hash, name, stored, new)

    def _done(self, record: Record, done: bool | Failure) -> None:
        name, source = record.account.name, record.account.driver
        self._working.discard(name)
        if isinstance(done, Failure):
            self._not_before = self._seconds() + PAUSE_SECONDS
            self.log.error(
                "rehash-failed: {user} in accounts source {source}: {reason}",
                event="rehash-failed",
                user=name,
                source=source,
                reason=done.getErrorMessage(),
            )
        elif done:
            self.log.info(
                "rehash: the password of {user} in accounts source {source} is stored as {scheme} now",
                event="rehash",
                user=name,
                source=source,
                scheme=self._scheme,
            )
        else:
            self.log.info(
                "rehash: the password of {user} in accounts source {source} was changed meanwhile, and stays",
                event="rehash-changed",
                user=name,
                source=source,
            )
