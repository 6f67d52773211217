"""Asking a real web server, with and without TLS, that does not always do what one wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.pki import write_pem
from tests.web_server import WebServer
from tpops.cred.web import MOST_OCTETS, Web, credentials
from tpops.errors import ConfigError, LookupUnavailable
from tpops.web import trust


class WebTests(TestCase):
    """See L{Web}."""

    timeout = 60

    def web(self, ca_file: str = "", seconds: float = 30) -> Web:
        """A client."""
        return Web(reactor, ca_file, seconds)

    async def refusal(self, client: Web, address: str, **options: Any) -> str:
        """Why there is no document; the address is always named."""
        try:
            await client.json(address, **options)
        except LookupUnavailable as problem:
            self.assertTrue(str(problem).startswith(address), problem)
            return str(problem)[len(address) + 2 :]
        raise AssertionError("there was a document")

    async def test_gets_a_document(self) -> None:
        """Promise: a plain GET, as often as one likes."""
        server = WebServer(self, {"a": [1]})
        client = self.web()
        for _ in range(3):
            self.assertEqual(await client.json(server.address), {"a": [1]})
        self.assertEqual({(one.method, one.path) for one in server.requests}, {("GET", "/document")})
        self.assertNotIn("Authorization", server.requests[0].headers)

    async def test_sends_a_form(self) -> None:
        """RFC 7662 section 2.1, RFC 6749 section 2.3.1: POST, form-encoded, with the client's name and password."""
        server = WebServer(self, {"active": True})
        authorization = credentials("tp ops", "s:é/")
        self.assertEqual(await self.web().json(server.address, {"token": "a+b/c="}, authorization), {"active": True})
        (request,) = server.requests
        self.assertEqual((request.method, request.form), ("POST", {"token": "a+b/c="}))
        self.assertEqual(request.headers["Content-Type"], "application/x-www-form-urlencoded")
        self.assertEqual(request.headers["Authorization"], "Basic dHArb3BzOnMlM0ElQzMlQTklMkY=")

    async def test_tls_is_verified(self) -> None:
        """RFC 9110 section 4.3.4: the certificate must be of somebody who is believed, and for the host."""
        server = WebServer(self, {}, names=("127.0.0.1",))
        self.assertEqual(await self.web(server.certificate).json(server.address), {})
        self.assertIn("certificate verify failed", await self.refusal(self.web(), server.address))
        other = WebServer(self, {}, names=("other.example.org",))
        self.assertIn("VerificationError", await self.refusal(self.web(other.certificate), other.address))
        self.assertEqual(other.requests, [])

    async def test_redirects_are_not_followed(self) -> None:
        """Promise: neither token nor password goes anywhere else."""
        elsewhere = WebServer(self, {})
        server = WebServer(self, {})
        server.headers["Location"] = elsewhere.address
        for status in (302, 307):
            server.status = status
            self.assertEqual(
                await self.refusal(self.web(), server.address, form={"token": "x"}),
                f"the server answers with status {status}",
            )
        self.assertEqual(elsewhere.requests, [])

    async def test_what_is_no_answer(self) -> None:
        """Promise: errors of the server, and documents that are none, are told apart in the log."""
        server = WebServer(self, {})
        client = self.web()
        for status, answer, why in (
            (500, {}, "the server answers with status 500"),
            (401, {}, "the server answers with status 401"),
            (200, b"<html>", "the answer is not valid JSON"),
            (200, b"[" * 20000, "the answer is not valid JSON"),
            (200, b"\xff", "the answer is not valid JSON"),
            (200, b" " * (MOST_OCTETS + 1), f"the answer has more than {MOST_OCTETS} octets"),
        ):
            server.status, server.answer = status, answer
            self.assertEqual(await self.refusal(client, server.address), why)
        server.status, server.answer = 200, {"fine": 1}
        self.assertEqual(await client.json(server.address), {"fine": 1})

    async def test_time_limit(self) -> None:
        """Promise: it holds for the whole exchange, whether head or body does not come."""
        server = WebServer(self, None)
        self.assertEqual(await self.refusal(self.web(seconds=0.2), server.address), "no answer within 0.2 seconds")
        server.answer, server.short = b"{", 1
        self.assertEqual(await self.refusal(self.web(seconds=0.2), server.address), "no answer within 0.2 seconds")

    async def test_nobody_there(self) -> None:
        """Promise: a server that is down, and one that hangs up."""
        server = WebServer(self, {})
        client = self.web()
        await client.json(server.address)
        server.stop()
        self.assertIn("refused", await self.refusal(client, server.address))
        server.start()
        self.assertEqual(await client.json(server.address), {})

    async def test_a_connection_that_ends_too_soon(self) -> None:
        """Promise: half an answer is none."""
        server = WebServer(self, {"a": 1})
        server.short = 5
        server._released.set()
        self.assertIn("Connection was closed", await self.refusal(self.web(), server.address))


class TrustTests(TestCase):
    """The file with the authorities."""

    def problem(self, path: Path) -> str:
        return str(self.assertRaises(ConfigError, trust, str(path)))

    def test_files_that_cannot_be_used(self) -> None:
        """Promise: missing, empty and broken files are told when the server starts."""
        path = Path(self.mktemp())
        self.assertIn("cannot read", self.problem(path))
        path.write_text("nothing")
        self.assertIn("has no certificate in PEM form", self.problem(path))
        path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        self.assertIn("cannot be read", self.problem(path))

    def test_several_certificates(self) -> None:
        """Promise: all certificates of a file count, with or without keys and words between them."""
        path = Path(self.mktemp())
        first = write_pem(path, "a.example")
        second = write_pem(path, "b.example")
        path.write_bytes(b"words\n" + first + b"more\n" + second)
        self.assertIsNotNone(trust(str(path)))
