"""L{tpops.events.webhook}, at a real web server."""

from __future__ import annotations

import hmac
import json
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from tests.events.samples import MOMENT
from tests.web_server import WebServer
from tpops.events.deliveries import Deliveries, NotTold
from tpops.events.webhook import MOST_OCTETS, Webhook
from tpops.interfaces import IReceiver
from tpops.model import Notice

LOGIN = Notice(kind="login", at=MOMENT, session="s1", user="jöe", peer="192.0.2.7", server="pop.example.org")


class WebhookTests(TestCase):
    """A POST for each event."""

    timeout = 60

    def hook(self, server: WebServer, secret: bytes = b"", ca_file: str = "") -> Webhook:
        """A receiver behind this server."""
        return Webhook(reactor, server.address, ca_file, 30.0, secret, lambda: "id-1", lambda: MOMENT + 5)

    async def refusal(self, hook: Webhook) -> str:
        """Why it was not told."""
        try:
            await hook.send(LOGIN)
        except NotTold as problem:
            return str(problem)
        raise AssertionError("it was told")

    async def test_document_and_signature(self) -> None:
        """Promise: JSON, signed over time and body; over verified TLS; any status from 200 to 299 is a yes."""
        server = WebServer(self, {}, names=("127.0.0.1",))
        server.status = 202
        hook = self.hook(server, b"key", server.certificate)
        self.assertTrue(verifyObject(IReceiver, hook))
        hook.start()
        self.assertEqual(hook.line(LOGIN), "s1")
        await hook.send(LOGIN)
        await hook.stop()
        (request,) = server.requests
        self.assertEqual((request.method, request.path), ("POST", "/document"))
        self.assertEqual(request.headers["Content-Type"], "application/json")
        document: dict[str, Any] = json.loads(request.body)
        for name, value in {"id": "id-1", "event": "login", "time": MOMENT, "user": "jöe", "peer": "192.0.2.7"}.items():
            self.assertEqual(document[name], value, name)
        seconds, digest = request.headers["Tpops-Signature"].split(",")
        self.assertEqual(seconds, f"t={int(MOMENT) + 5}")
        signed = seconds.removeprefix("t=").encode() + b"." + request.body
        self.assertEqual(digest, "v1=" + hmac.new(b"key", signed, "sha256").hexdigest())

    async def test_without_a_secret(self) -> None:
        """Promise: no signature then."""
        server = WebServer(self, {})
        await self.hook(server).send(LOGIN)
        self.assertNotIn("Tpops-Signature", server.requests[0].headers)

    async def test_what_is_no_yes(self) -> None:
        """Promise: every failure has a reason, and no request is sent twice."""
        server = WebServer(self, {}, names=("127.0.0.1",))
        self.assertIn("certificate verify failed", await self.refusal(self.hook(server)))
        server = WebServer(self, {})
        for status in (301, 404, 500):
            server.status = status
            server.headers = {"Location": server.address}
            self.assertEqual(await self.refusal(self.hook(server)), f"the server answers with status {status}")
        server.status = 200
        server.answer = b"x" * (MOST_OCTETS + 1)
        self.assertIn("more than 65536 octets", await self.refusal(self.hook(server)))
        self.assertEqual(len(server.requests), 4)
        server.stop()
        self.assertIn("refused", await self.refusal(self.hook(server)))

    async def test_server_that_does_not_answer(self) -> None:
        """Promise: the time limit of a notice ends the request."""
        server = WebServer(self, None)
        deliveries = Deliveries(self.hook(server).send, reactor, 0.3)  # type: ignore[arg-type]  # what it is just now
        try:
            await deliveries.add("s1", LOGIN)
        except NotTold as problem:
            self.assertEqual(str(problem), "not done within 0.3 seconds")
        else:
            raise AssertionError("it was told")
        server.stop()
        closed: Deferred[None] = Deferred()
        reactor.callLater(0, closed.callback, None)  # type: ignore[attr-defined]  # what it is just now
        await closed
