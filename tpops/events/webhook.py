"""
A request to a web server for each event: POST, with a JSON document, signed.

    POST /address HTTP/1.1
    Content-Type: application/json
    Tpops-Signature: t=SECONDS,v1=HMAC

HMAC is that of SHA-256, in hexadecimal digits, over C{SECONDS}, a dot and the body, with the secret.  Every document
has an C{id} of its own.
Limits: each request has a connection of its own and is sent once.  Redirects are not followed.  At most L{MOST_OCTETS}
of an answer are read.
Errors: NotTold: any status other than 200 to 299, and what goes wrong below HTTP.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import attrs
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.web.client import FileBodyProducer, RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers
from zope.interface import implementer

from tpops import web
from tpops.events.deliveries import NotTold
from tpops.interfaces import IReceiver
from tpops.model import Notice

MOST_OCTETS = 65536


def document(notice: Notice, identifier: str) -> bytes:
    """The body."""
    facts = attrs.asdict(notice)
    facts["event"] = facts.pop("kind")
    facts["time"] = facts.pop("at")
    return json.dumps({"id": identifier, **facts}, separators=(",", ":")).encode("ascii")


def signature(secret: bytes, body: bytes, seconds: int) -> str:
    """What goes into the header Tpops-Signature."""
    digest = hmac.digest(secret, b"%d." % seconds + body, "sha256").hex()
    return f"t={seconds},v1={digest}"


@implementer(IReceiver)
class Webhook:
    """
    See the module.

    @param ca_file: PEM file with the authorities to believe, "" for those of the machine
    @param secret: for the signature, b"" without
    @param identifier: makes one
    @param epoch: seconds since the epoch
    """

    def __init__(
        self,
        reactor: Any,
        address: str,
        ca_file: str,
        timeout_seconds: float,
        secret: bytes,
        identifier: Callable[[], str],
        epoch: Callable[[], float],
    ) -> None:
        self._address = address
        self._secret = secret
        self._identifier = identifier
        self._epoch = epoch
        self._agent = web.agent(reactor, ca_file, timeout_seconds)

    def start(self) -> None:
        """Nothing to do."""

    def line(self, notice: Notice) -> str | None:
        """Each session by itself."""
        return notice.session

    async def send(self, notice: Notice) -> None:
        """See L{IReceiver.send}."""
        body = document(notice, self._identifier())
        headers = Headers({"Content-Type": ["application/json"], "User-Agent": ["tpops"]})
        if self._secret:
            headers.setRawHeaders("Tpops-Signature", [signature(self._secret, body, int(self._epoch()))])
        try:
            status = await self._post(headers, body)
        except (ConnectError, ConnectionClosed, DNSLookupError, OSError) as problem:
            raise NotTold(str(problem)) from None
        except (ResponseFailed, RequestTransmissionFailed) as problem:
            raise NotTold(web.reason(problem)) from None
        except web.TooLong:
            raise NotTold(f"the answer has more than {MOST_OCTETS} octets") from None
        if not 200 <= status <= 299:
            raise NotTold(f"the server answers with status {status}")

    async def stop(self) -> None:
        """Nothing is kept open."""

    async def _post(self, headers: Headers, body: bytes) -> int:
        address = self._address.encode("ascii")
        response: Any = await self._agent.request(b"POST", address, headers, FileBodyProducer(BytesIO(body)))
        answer = web.Body(MOST_OCTETS)
        response.deliverBody(answer)
        await answer.whole
        return int(response.code)
