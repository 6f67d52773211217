"""
HTTP as the server speaks it: small, and within bounds.

Purpose: what the metrics and the status page have in common: L{BoundedSite} takes requests, L{answer_later} finishes
one whose answer takes a while.
Limits: a request of at most L{MOST_HEADERS} octets of headers, and L{MOST_BODY} octets of a body whose length is told;
one request a connection, which ends after L{LONGEST_SECONDS} whatever the client does; L{MOST_CONNECTIONS} of them in
each process, further ones are closed at once.  Nothing is written to a log, and no request to a file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET, Request, Site

from tpops.sight.control import Answer

_log = Logger()

MOST_HEADERS = 8192
MOST_HEADER_LINES = 64
MOST_BODY = 4096
MOST_CONNECTIONS = 32

#: Answers a request of ours for all processes, see L{tpops.sight.control}.
Whole = Callable[[Mapping[str, Any]], Awaitable[Answer]]

#: Seconds without a word from the client, and from the connection to its end.
IDLE_SECONDS = 15.0
LONGEST_SECONDS = 30.0


class BoundedRequest(Request):
    """
    A request.

    @ivar too_long: its body is longer than any that we want, or does not say how long it is; it is not read
    """

    too_long = False


class _Channel(http.HTTPChannel):
    """One connection."""

    totalHeadersSize = MOST_HEADERS
    maxHeaders = MOST_HEADER_LINES

    # Set by the site.
    site: BoundedSite
    callLater: Any

    def connectionMade(self) -> None:
        """IProtocol."""
        self.site.connections.add(self)
        self._end = self.callLater(LONGEST_SECONDS, self._took_too_long)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """IProtocol."""
        self.site.connections.discard(self)
        if self._end.active():
            self._end.cancel()
        super().connectionLost(reason)

    def allHeadersReceived(self) -> None:
        """A body that is not wanted counts as none: it goes with the connection."""
        if self.length is None or self.length > MOST_BODY:
            self.length = 0
            self.requests[-1].too_long = True
        super().allHeadersReceived()

    def checkPersistence(self, request: http.Request, version: bytes) -> bool:
        """A connection has one request."""
        request.setHeader(b"connection", b"close")
        return False

    def _took_too_long(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()


class BoundedSite(Site):
    """
    See the module.

    @ivar connections: those that are open
    """

    noisy = False
    displayTracebacks = False
    protocol = _Channel  # type: ignore[assignment]  # it need not find out which version of HTTP is spoken

    def __init__(self, resource: IResource, reactor: Any) -> None:
        super().__init__(resource, BoundedRequest, timeout=IDLE_SECONDS, reactor=reactor)
        self.connections: set[_Channel] = set()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """IProtocolFactory: None where there are enough of them."""
        if len(self.connections) >= MOST_CONNECTIONS:
            return None
        return super().buildProtocol(addr)

    def startFactory(self) -> None:
        """Without the log of requests, and the clock for it."""

    def stopFactory(self) -> None:
        """The same."""

    def log(self, request: http.Request) -> None:
        """Nothing: who scrapes or watches comes every few seconds."""


def answer_later(request: Request, answer: Coroutine[Deferred[Any], Any, bytes], what: str) -> int:
    """
    Send what a coroutine gives; it is cancelled when the client goes.

    @param what: for the log, when it fails; then the client gets 503
    """

    def done(result: bytes | Failure) -> None:
        if isinstance(result, Failure):
            if result.check(CancelledError) and gone:
                return
            _log.failure("{what} cannot be had", result, event="sight-failed", what=what)
            request.setResponseCode(503)
            request.setHeader(b"content-type", b"text/plain; charset=utf-8")
            result = b"the server does not answer itself; its log has more\n"
        if not gone:
            request.setHeader(b"content-length", b"%d" % len(result))
            request.write(result)
            request.finish()

    def client_gone(_: Failure) -> None:
        gone.append(True)
        asked.cancel()

    gone: list[bool] = []
    request.notifyFinish().addErrback(client_gone)
    asked = Deferred.fromCoroutine(answer)
    asked.addBoth(done)
    return NOT_DONE_YET
