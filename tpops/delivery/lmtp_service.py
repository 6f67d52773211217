"""
LMTP as a part of the service: what is made from the table [lmtp].

Purpose: factories for the listeners, made once the accounts and maildrops are there; and the end: deliveries under way
come to theirs and are answered, then the connections are closed with 421.
Limits: a delivery that takes longer than L{STOP_SECONDS} at the end goes on without its client, who tries again.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.task import deferLater
from twisted.logger import Logger

from tpops.backend import Backend
from tpops.config.schema import Config
from tpops.delivery.incoming import Message
from tpops.delivery.lmtp_content import Content
from tpops.delivery.lmtp_deliveries import Deliveries, Tell
from tpops.delivery.lmtp_header import Headers
from tpops.delivery.lmtp_places import places
from tpops.delivery.lmtp_shared import Options, Shared
from tpops.server.listeners import Listener

if TYPE_CHECKING:
    from tpops.delivery.lmtp import LMTPFactory

_log = Logger()

#: Seconds that a stop waits for deliveries.
STOP_SECONDS = 30.0

#: Seconds that it waits for clients who do not take their last reply.
_FAREWELL_SECONDS = 1.0

#: Seconds between two looks.
_LOOK_SECONDS = 0.02


class LMTPService:
    """
    See the module.

    @param tell: gets what became of each message for each recipient
    """

    def __init__(self, whole: Config, backend: Backend, reactor: Any, tell: Tell) -> None:
        self._config = config = whole.lmtp
        self._spool_dir = whole.delivery.spool_dir
        self._threads = 0
        self._reactor = reactor
        self.shared = Shared(
            options=Options(
                hostname=whole.server.hostname,
                most_octets=config.message_octets,
                most_recipients=config.recipients,
                most_connections=config.connections,
                timeout_seconds=config.timeout_seconds,
                networks=config.networks,
            ),
            deliveries=Deliveries(
                backend.recipients.account,
                backend.maildrops,
                Headers(config.return_path, config.delivered_to, config.received),
                config.deliveries,
                config.over_quota == "defer",
                reactor.seconds,
                tell,
            ),
            content=partial(self._content, backend.run_in_thread),
            clock=reactor,
            epoch=time.time,
        )

    def listeners(self) -> list[tuple[Listener, LMTPFactory]]:
        """Where it listens, and what serves there; new factories at each call."""
        if not self._config.listen:
            return []
        from tpops.delivery.lmtp import LMTPFactory

        return [(listener, LMTPFactory(self.shared)) for listener in places(self._config)]

    @property
    def busy(self) -> bool:
        """Whether messages are on their way in."""
        return bool(self.shared.deliveries.under_way) or any(one.receiving for one in self.shared.connections)

    def start(self) -> None:
        """More threads: deliveries that wait for a disk shall not take them away from clients who read mail."""
        if self._config.listen:
            self._more_threads(self._config.deliveries)

    def stop(self) -> None:
        """Give the threads back.  Idempotent."""
        self._more_threads(-self._threads)

    def _more_threads(self, more: int) -> None:
        self._threads += more
        pool = self._reactor.getThreadPool()
        pool.adjustPoolsize(maxthreads=pool.max + more)

    def drain(self) -> None:
        """No message begins any more; those on their way come to their end, and then their connections."""
        self.shared.stopping = True
        for connection in list(self.shared.connections):
            if not connection.receiving:
                connection.stop()

    async def end_sessions(self) -> None:
        """Deliveries under way are finished and answered, then all connections end."""
        shared = self.shared
        shared.stopping = True
        for connection in list(shared.connections):
            connection.stop()
        began = quiet = self._reactor.seconds()
        while shared.connections or shared.deliveries.under_way:
            await deferLater(self._reactor, _LOOK_SECONDS, lambda: None)
            now = self._reactor.seconds()
            if shared.deliveries.under_way:
                quiet = now
            if now - began > STOP_SECONDS or now - quiet > _FAREWELL_SECONDS:
                break
        for connection in list(shared.connections):
            connection.abort()
        if shared.deliveries.under_way:
            _log.error("lmtp: {count} deliveries are not over at the end", count=shared.deliveries.under_way)

    def _content(self, run_in_thread: Any) -> Content:
        message = Message(self._config.return_path, self._spool_dir or None, separator=False)
        return Content(message, run_in_thread, self._config.message_octets)
