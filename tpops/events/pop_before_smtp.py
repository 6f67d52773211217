"""
POP before SMTP: who logs in is written down before his +OK, so that he may send mail from then on.

Purpose: the sink that writes to the store.  It is awaited; logins that come while a write goes on are
written together by the next one, in one transaction, so a busy server does not wait for each.
Limits: clients without an IP address (UNIX sockets) are left out, and master users who log in as another: they do not
mean to send his mail.  One thread at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from tpops.db.addresses import site
from tpops.db.relay import IRelayStore, Login
from tpops.interfaces import IEventSink
from tpops.model import Event


@implementer(IEventSink)
class PopBeforeSMTP:
    """
    See the module.

    @param run_in_thread: runs a blocking function in a thread
    @param ipv6_prefix: leading bits of an IPv6 address that are one place
    """

    wants = frozenset(("login",))
    before_ok = True

    def __init__(self, store: IRelayStore, run_in_thread: Callable[..., Deferred[object]], ipv6_prefix: int) -> None:
        self._store = store
        self._run_in_thread = run_in_thread
        self._ipv6_prefix = ipv6_prefix
        self._next: dict[tuple[str, str], Login] = {}
        self._waiting: list[Deferred[None]] = []
        self._writing: Deferred[object] | None = None

    def notify(self, event: Event) -> Awaitable[None] | None:
        """Write the login down."""
        user, address = event.session.user, site(event.session.peer.host, self._ipv6_prefix)
        if user is None or address is None or event.session.master is not None:
            return None
        self._next[address, user] = Login(address, user, int(event.at))
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        if self._writing is None:
            self._begin()
        return done

    async def stop(self) -> None:
        """Wait for the write that goes on; the store has a time limit."""
        while self._writing is not None:
            over: Deferred[None] = Deferred()
            self._writing.addBoth(_pass_on, over)
            await over

    def _begin(self) -> None:
        logins, self._next = tuple(self._next.values()), {}
        waiting, self._waiting = self._waiting, []
        self._writing = self._run_in_thread(self._store.record, logins)
        self._writing.addBoth(self._written, waiting)

    def _written(self, result: object, waiting: list[Deferred[None]]) -> None:
        self._writing = None
        if self._waiting:
            self._begin()
        for done in waiting:
            if isinstance(result, Failure):
                done.errback(result)
            else:
                done.callback(None)


def _pass_on(result: object, over: Deferred[None]) -> object:
    over.callback(None)
    return result
