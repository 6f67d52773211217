"""
Asking a web server for a JSON document.

Purpose: one request with a time limit for all of it, over verified TLS, without redirects, with a bounded answer.
Limits: documents of at most L{MOST_OCTETS}.  Each request has a connection of its own: one that is kept may be closed
by the server in the moment when it is used, and a form must not be sent twice to find out.
Errors: LookupUnavailable, with the address and the reason; nothing of what was sent.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import quote_plus

from OpenSSL import SSL, crypto
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
    _HTTP11ClientFactory,
)
from twisted.web.http_headers import Headers

from tpops.errors import ConfigError, LookupUnavailable

#: Largest document.
MOST_OCTETS = 1 << 20

_PEM_BEGINS = b"-----BEGIN CERTIFICATE-----"


class _QuietFactory(_HTTP11ClientFactory):
    """Makes connections without two entries in the log for each."""

    noisy = False


class _QuietPool(HTTPConnectionPool):
    """Twisted has no other place to say so."""

    _factory = _QuietFactory


class _TooLong(Exception):
    """The answer is longer than any that we want."""


class _Body(Protocol):
    """
    Takes the body of an answer.

    @ivar whole: fires with it; cancelling closes the connection
    """

    def __init__(self) -> None:
        self._octets = bytearray()
        self.whole: Deferred[bytes] = Deferred(lambda cancelled: self._close())

    def dataReceived(self, data: bytes) -> None:
        """Take some."""
        self._octets += data
        if len(self._octets) > MOST_OCTETS and not self.whole.called:
            self._close()
            self.whole.errback(_TooLong())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """That was all, or the connection is lost."""
        if self.whole.called:
            return
        if reason.check(ResponseDone):
            self.whole.callback(bytes(self._octets))
        else:
            self.whole.errback(reason)

    def _close(self) -> None:
        self._octets.clear()
        if self.transport is not None:
            self.transport.loseConnection()


def credentials(name: str, secret: str) -> str:
    """The header that a client of OAuth says who it is with (RFC 6749 section 2.3.1)."""
    both = f"{quote_plus(name)}:{quote_plus(secret)}"
    return "Basic " + base64.b64encode(both.encode("ascii")).decode("ascii")


def trust(ca_file: str) -> Any:
    """Whose certificates are believed."""
    if not ca_file:
        return platformTrust()
    try:
        with open(ca_file, "rb") as file:
            parts = file.read().split(_PEM_BEGINS)[1:]
        if not parts:
            raise ConfigError([f"{ca_file} has no certificate in PEM form"])
        return trustRootFromCertificates([Certificate.loadPEM(_PEM_BEGINS + part) for part in parts])
    except OSError as problem:
        raise ConfigError([f"cannot read {ca_file}: {problem.strerror}"]) from problem
    except (ValueError, crypto.Error) as problem:
        raise ConfigError([f"{ca_file} has a certificate that cannot be read"]) from problem


class Web:
    """
    See the module.

    @param ca_file: PEM file with the authorities to believe, "" for those of the machine
    @param timeout_seconds: for a whole request
    @raise ConfigError: when the file cannot be used
    """

    def __init__(self, reactor: Any, ca_file: str, timeout_seconds: float) -> None:
        self._reactor = reactor
        self._timeout_seconds = timeout_seconds
        policy = BrowserLikePolicyForHTTPS(trust(ca_file))
        self._client = HTTPClient(
            Agent(reactor, policy, connectTimeout=timeout_seconds, pool=_QuietPool(reactor, persistent=False))
        )

    async def json(self, address: str, form: Mapping[str, str] | None = None, authorization: str = "") -> Any:
        """
        The document that comes back.

        @param form: sent by POST; without it, it is a GET
        @param authorization: the header of that name
        @raise LookupUnavailable: when there is none
        """
        headers = Headers({"Accept": ["application/json"]})
        if authorization:
            headers.setRawHeaders("Authorization", [authorization])
        deferred = Deferred.fromCoroutine(self._exchange(address, form, headers))
        try:
            body = await deferred.addTimeout(self._timeout_seconds, self._reactor, _timed_out)
            return json.loads(body)
        except TimeoutError:
            why = f"no answer within {self._timeout_seconds:g} seconds"
        except (ConnectError, ConnectionClosed, DNSLookupError, OSError) as problem:
            why = str(problem)
        except (ResponseFailed, RequestTransmissionFailed) as problem:
            why = _reason(problem)
        except _TooLong:
            why = f"the answer has more than {MOST_OCTETS} octets"
        except (ValueError, RecursionError):
            why = "the answer is not valid JSON"
        raise LookupUnavailable(f"{address}: {why}")

    async def _exchange(self, address: str, form: Mapping[str, str] | None, headers: Headers) -> bytes:
        response = await self._client.request(
            "GET" if form is None else "POST",
            address,
            headers=headers,
            data=None if form is None else dict(form),
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        body = _Body()
        response.deliverBody(body)
        octets = await body.whole
        if response.code != 200:
            raise LookupUnavailable(f"{address}: the server answers with status {response.code}")
        return octets


def _timed_out(result: object, seconds: float) -> NoReturn:
    """Whatever came of the cancelling."""
    raise TimeoutError(seconds)


def _reason(problem: Any) -> str:
    """What went wrong below HTTP, in OpenSSL's words where it was TLS."""
    for failure in problem.reasons:
        if failure.check(SSL.Error):
            words = [part for one in failure.value.args if isinstance(one, list) for part in one]
            return "; ".join(str(part[-1]) for part in words) or "TLS failed"
        return f"{failure.type.__name__}: {failure.getErrorMessage()}"
    return "the request failed"
