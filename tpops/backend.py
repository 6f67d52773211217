"""
Accounts and their mail, as a configuration says: what stands behind the POP3 service, deliveries and commands alike.

Purpose: one object that has the accounts sources, the checker over them and the maildrops; and L{run} for commands,
which need it for a moment only, with a reactor of their own.
Limits: L{run} starts the reactor, once in a process.
Errors: ConfigError when something cannot be used as it is configured.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from tpops import assembly
from tpops.config.schema import Config
from tpops.cred import drivers, schemes
from tpops.cred.hashes import RunInThread, Verifier
from tpops.cred.ordered import OrderedChecker
from tpops.cred.source import Means
from tpops.delivery.recipients import Recipients
from tpops.interfaces import IRenewsHashes
from tpops.mailbox.locations import Maildrops
from tpops.model import Account

if TYPE_CHECKING:
    from tpops.cred.app_passwords import AppPasswords

_T = TypeVar("_T")


class Backend:
    """
    See the module.

    @ivar names: the rules for login names
    @ivar means: what accounts sources work with
    @ivar sources: the accounts sources, in order
    @ivar app_passwords: application passwords, None where there are none
    @ivar checker: all of them behind one checker of twisted.cred
    @ivar recipients: whose mail it is that comes to an address
    @ivar upstream: the POP3 servers that have mail of ours
    @ivar maildrops: everybody's mail
    @ivar run_in_thread: runs a blocking function in a thread
    """

    def __init__(self, config: Config, reactor: Any) -> None:
        self.config = config
        self.run_in_thread: RunInThread = partial(deferToThreadPool, reactor, reactor.getThreadPool())
        passwords, seconds = config.passwords, reactor.seconds
        verifier = Verifier(self.run_in_thread, seconds, passwords.cache_entries, passwords.cache_ttl_seconds)
        self.names = assembly.login_names(config)
        self.upstream = assembly.upstream(config, reactor)
        hostname = config.server.hostname
        self.means = means = Means(
            verifier, self.run_in_thread, seconds, reactor, self.names.split, hostname, self.upstream
        )
        self.sources = [drivers.make(one.driver, one.name, one.settings(), means) for one in config.accounts]
        if passwords.rehash:
            self._renew_hashes(means)
        self.app_passwords = self._make_app_passwords(verifier)
        self.checker = OrderedChecker(self.sources, self.names, verifier, self.app_passwords)
        arriving = config.delivery
        self.recipients = Recipients(self.sources, self.names, arriving.extension_separator, arriving.complete_sources)
        self.maildrops: Maildrops = assembly.maildrops(
            config, reactor, self.run_in_thread, self.upstream, self.checker.elsewhere
        )

    def load(self) -> None:
        """Load all kinds of mail and passwords now, else each is when it is met; for processes that serve."""
        self.maildrops.load()
        schemes.load()

    def start(self) -> None:
        """
        Open and start what is needed, with the rights that the process was started with.

        @raise ConfigError: when something cannot be used as it is configured
        """
        for source in self.sources:
            source.start()
        self.maildrops.start()

    async def stop(self) -> None:
        """Let go of connections and processes."""
        await self.maildrops.stop()
        for source in self.sources:
            stopped = source.stop()
            if stopped is not None:
                await stopped
        if self.app_passwords is not None:
            await self.app_passwords.stop()
        self.upstream.stop()

    def proofs(self) -> frozenset[str]:
        """What proves a password without sending it ("APOP", SASL mechanisms), as far as clients had better see it."""
        mode = self.config.protocol.digests
        if mode == "never":
            return frozenset()
        each = [one for source in self.sources for one in source.mechanisms()]
        if self.app_passwords is not None and (mode == "any" or self.config.app_passwords.instead):
            each += self.app_passwords.mechanisms()
        together = frozenset.union if mode == "any" else frozenset.intersection
        return together(*each) if each else frozenset()

    async def account(self, name: str) -> Account:
        """
        The account of a name as somebody wrote it, whether it may log in now or not.

        @raise BadCredentials: when it cannot be anybody's name
        @raise UnknownUser: when surely no source has it
        @raise AccountDisabled: when it may not log in, and its source tells no more
        @raise LookupUnavailable: when a source that was asked cannot say
        """
        return await self.checker.find(self.names.canonical(name.encode("utf-8", "surrogateescape")))

    def _renew_hashes(self, means: Means) -> None:
        """Stored passwords become better ones when their owners log in, in the sources that can be written."""
        from tpops.cred.rehash import Rehash

        wanted = self.config.passwords
        for source in self.sources:
            if IRenewsHashes.providedBy(source):
                renewing = Rehash(source, wanted.rehash, wanted.rehash_plain, means.run_in_thread, means.seconds)
                source.right_password = renewing.right_password

    def _make_app_passwords(self, verifier: Verifier) -> AppPasswords | None:
        settings = self.config.app_passwords
        if not settings.path:
            return None
        from tpops.cred.app_password_store import AppPasswordStore
        from tpops.cred.app_passwords import AppPasswords, LastUses
        from tpops.cred.sealing import KeyFile

        store = AppPasswordStore(settings.path)
        keys = KeyFile(settings.key_file) if settings.key_file else None
        uses = LastUses(store, verifier.run_in_thread, time.time, settings.last_used_seconds)
        return AppPasswords(store, verifier, uses, keys, settings.instead)


def run(config: Config, work: Callable[[Backend], Awaitable[_T]]) -> _T:
    """
    Do some work with accounts and mail, and end; for commands.

    What the work raises is raised here.  A signal (INT, TERM) ends it and lets go of connections and processes.
    """
    from twisted.internet import reactor

    outcome: list[_T | Failure] = []
    interrupted: list[bool] = []
    running: Any = reactor

    async def all_of_it() -> None:
        backend = Backend(config, reactor)
        stopping: list[bool] = []

        async def stop() -> None:
            if not stopping:
                stopping.append(True)
                await backend.stop()

        def shutdown() -> Deferred[None]:
            # By a signal, unless we are stopping already: soon nobody wakes the work any more.
            interrupted.extend([True] * (not stopping))
            return Deferred.fromCoroutine(stop())

        running.addSystemEventTrigger("before", "shutdown", shutdown)
        try:
            backend.start()
            outcome.append(await work(backend))
        finally:
            await stop()

    def ended(failure: Failure | None) -> None:
        if failure is not None and not interrupted:
            outcome[:] = [failure]
        with contextlib.suppress(ReactorNotRunning):
            running.stop()

    running.callWhenRunning(lambda: Deferred.fromCoroutine(all_of_it()).addBoth(ended))
    running.run()
    if not outcome:
        sys.exit("interrupted")
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result
