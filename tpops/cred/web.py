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
from typing import Any
from urllib.parse import quote_plus

from treq.client import HTTPClient
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.web.client import RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers

from tpops import web
from tpops.errors import LookupUnavailable

#: Largest document.
MOST_OCTETS = 1 << 20


def credentials(name: str, secret: str) -> str:
    """The header that a client of OAuth says who it is with (RFC 6749 section 2.3.1)."""
    both = f"{quote_plus(name)}:{quote_plus(secret)}"
    return "Basic " + base64.b64encode(both.encode("ascii")).decode("ascii")


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
        self._client = HTTPClient(web.agent(reactor, ca_file, timeout_seconds))

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
            body = await deferred.addTimeout(self._timeout_seconds, self._reactor, web.timed_out)
            return json.loads(body)
        except TimeoutError:
            why = f"no answer within {self._timeout_seconds:g} seconds"
        except (ConnectError, ConnectionClosed, DNSLookupError, OSError) as problem:
            why = str(problem)
        except (ResponseFailed, RequestTransmissionFailed) as problem:
            why = web.reason(problem)
        except web.TooLong:
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
        body = web.Body(MOST_OCTETS)
        response.deliverBody(body)
        octets = await body.whole
        if response.code != 200:
            raise LookupUnavailable(f"{address}: the server answers with status {response.code}")
        return octets
