"""
HTTP as a client: connections over verified TLS, and bodies of bounded length.

Purpose: what everybody needs who asks or tells a web server something: L{tpops.cred.web}, L{tpops.events.webhook}.
Limits: each request has a connection of its own: one that is kept may be closed by the server in the moment when it is
used, and nothing must be sent twice to find out.
"""

from __future__ import annotations

from typing import Any, NoReturn

from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    ResponseDone,
    _HTTP11ClientFactory,
)

from tpops.errors import ConfigError

_PEM_BEGINS = b"-----BEGIN CERTIFICATE-----"


class _QuietFactory(_HTTP11ClientFactory):
    """Makes connections without two entries in the log for each."""

    noisy = False


class _QuietPool(HTTPConnectionPool):
    """Twisted has no other place to say so."""

    _factory = _QuietFactory


class TooLong(Exception):
    """The answer is longer than any that we want."""


class Body(Protocol):
    """
    Takes the body of an answer.

    @param most_octets: longest one that is wanted
    @ivar whole: fires with it, or fails with L{TooLong}; cancelling closes the connection
    """

    def __init__(self, most_octets: int) -> None:
        self._most_octets = most_octets
        self._octets = bytearray()
        self.whole: Deferred[bytes] = Deferred(lambda cancelled: self._close())

    def dataReceived(self, data: bytes) -> None:
        """Take some."""
        self._octets += data
        if len(self._octets) > self._most_octets and not self.whole.called:
            self._close()
            self.whole.errback(TooLong())

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


def agent(reactor: Any, ca_file: str, timeout_seconds: float) -> Agent:
    """
    Makes requests.

    @param ca_file: PEM file with the authorities to believe, "" for those of the machine
    @param timeout_seconds: for connecting
    @raise ConfigError: when the file cannot be used
    """
    policy = BrowserLikePolicyForHTTPS(trust(ca_file))
    return Agent(reactor, policy, connectTimeout=timeout_seconds, pool=_QuietPool(reactor, persistent=False))


def timed_out(result: object, seconds: float) -> NoReturn:
    """Whatever came of the cancelling."""
    raise TimeoutError(seconds)


def reason(problem: Any) -> str:
    """What went wrong below HTTP, in OpenSSL's words where it was TLS."""
    for failure in problem.reasons:
        if failure.check(SSL.Error):
            words = [part for one in failure.value.args if isinstance(one, list) for part in one]
            return "; ".join(str(part[-1]) for part in words) or "TLS failed"
        return f"{failure.type.__name__}: {failure.getErrorMessage()}"
    return "the request failed"
