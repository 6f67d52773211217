"""SCRAM and bearer tokens with sessions that run as their owners: the judge conducts the exchange."""

from __future__ import annotations

import base64
import hashlib
import json
import pwd
import ssl

from tests.integration.apart_case import ApartCase, sessions_of, status
from tests.integration.server import RunningServer
from tests.integration.wire import Wire
from tests.pki import write_pem
from tests.scram_client import ScramClient
from tests.tokens import AUDIENCE, ISSUER, SigningKey, claims, key_set
from tests.web_server import WebServer

_WRONG = b"-ERR [AUTH] authentication failed"

_SECRET = "secret of ann"


class ExchangeCase(ApartCase):
    """
    A server for ann, whose mail is that of an account of this machine.

    @ivar uid: hers
    """

    def started(self, **tables: object) -> RunningServer:
        """One that runs."""
        server = self.server(
            listen=[{"address": "127.0.0.1", "port": 0, "tls": "optional"}], tls={"certificate": "mail.pem"}, **tables
        )
        write_pem(server.directory / "mail.pem", "localhost", "127.0.0.1")
        entry = pwd.getpwnam(self.account.name)
        self.uid = entry.pw_uid
        line = f"ann:{{PLAIN}}{_SECRET}:{entry.pw_uid}:{entry.pw_gid}::{self.account.home}:\n"
        (server.directory / "users").write_text(line)
        server.configuration["accounts"] = [{"driver": "passwd_file", "path": "users"}]
        return server.start()

    def wire(self, server: RunningServer) -> Wire:
        """A connection after its greeting."""
        wire = server.connect()
        self.assertTrue(wire.line().startswith(b"+OK"))
        return wire

    def check_session(self, server: RunningServer, wire: Wire) -> None:
        """It is one of its owner, and works."""
        (session,) = sessions_of(server)
        self.assertEqual(status(session)["Uid"].split(), [str(self.uid)] * 4)
        self.assertTrue(wire.command(b"STAT").startswith(b"+OK 1 "))
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (1 message left)")
        self.assertEqual(wire.rest(), b"")
        sessions_of(server, 0)


class ScramTests(ExchangeCase):
    """SCRAM-SHA-1 and SCRAM-SHA-256, also with channel binding."""

    def scram(self, wire: Wire, mechanism: bytes, client: ScramClient) -> bytes:
        """Log in; gives the server's last line."""
        answer = wire.command(b"AUTH " + mechanism + b" " + base64.b64encode(client.first()))
        if not answer.startswith(b"+ "):
            return answer
        final = base64.b64encode(client.final(base64.b64decode(answer[2:])))
        answer = wire.command(final)
        if not answer.startswith(b"+ "):
            return answer
        self.assertEqual(base64.b64decode(answer[2:]), client.expected)
        return wire.command(b"")

    def test_without_and_with_channel_binding(self) -> None:
        """RFC 5802: both sides prove what they know, over TLS also the channel; who is wrong is told what all are."""
        server = self.started()
        wire = self.wire(server)
        self.assertIn(b"SCRAM-SHA-1 SCRAM-SHA-256", wire.multi_line(b"CAPA")[1])
        for mechanism, digest in ((b"SCRAM-SHA-1", "sha1"), (b"SCRAM-SHA-256", "sha256")):
            answer = self.scram(wire, mechanism, ScramClient(b"ann", _SECRET.encode(), digest))
            self.assertTrue(answer.startswith(b"+OK ann has 1 message"), answer)
            self.check_session(server, wire)
            wire = self.wire(server)
        for name, password in ((b"ann", b"wrong"), (b"nobody-at-all", b"x")):
            answer = self.scram(wire, b"SCRAM-SHA-256", ScramClient(name, password))
            self.assertTrue(answer.startswith(_WRONG), answer)
            wire = self.wire(server)
        self.assertEqual(server.event("login-failed", named="ann")["detail"], "BadCredentials: wrong password")
        self.assertTrue(wire.command(b"AUTH SCRAM-SHA-256 " + base64.b64encode(b"nonsense")).startswith(b"-ERR SCRAM"))
        self.assertEqual(wire.command(b"STLS")[:3], b"+OK")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        encrypted = context.wrap_socket(wire.socket, server_hostname="localhost")
        self.addCleanup(encrypted.close)
        wire = Wire(encrypted)
        self.assertIn(b"SCRAM-SHA-256-PLUS", wire.multi_line(b"CAPA")[1])
        certificate = encrypted.getpeercert(binary_form=True)
        assert certificate is not None
        binding = hashlib.sha256(certificate).digest()
        kind = b"p=tls-server-end-point"
        for bound, good in ((binding[::-1], False), (binding, True)):
            client = ScramClient(b"ann", _SECRET.encode(), flag=kind, binding=bound)
            client.gs2 = kind + b",,"
            answer = self.scram(wire, b"SCRAM-SHA-256-PLUS", client)
            self.assertTrue(answer.startswith(b"+OK ann has" if good else _WRONG), answer)
        self.assertEqual(server.event("login", user="ann", mechanism="SCRAM-SHA-256-PLUS")["driver"], "passwd_file")
        self.check_session(server, wire)
        server.stop()
        for part in ("Traceback", _SECRET):
            self.assertNotIn(part, server.output())

    def test_proven_and_refused_all_the_same(self) -> None:
        """Promise: limits and locks hold behind an exchange as behind a password."""
        server = self.started(maildir={"lock_wait_seconds": 0})
        first, second = self.wire(server), self.wire(server)
        self.assertTrue(self.scram(first, b"SCRAM-SHA-1", ScramClient(b"ann", _SECRET.encode(), "sha1"))[:3] == b"+OK")
        answer = self.scram(second, b"SCRAM-SHA-1", ScramClient(b"ann", _SECRET.encode(), "sha1"))
        self.assertTrue(answer.startswith(b"-ERR [IN-USE]"), answer)
        self.check_session(server, first)


class TokenTests(ExchangeCase):
    """OAUTHBEARER and XOAUTH2."""

    def test_tokens(self) -> None:
        """RFC 7628: a good token opens the mail of its owner; a bad one brings the reason, then the end."""
        key = SigningKey("first")
        web = WebServer(self, key_set(key), names=("127.0.0.1",))
        server = self.started(
            oauth={
                "jwks_url": web.address,
                "ca_file": str(web.certificate),
                "issuer": ISSUER,
                "audience": [AUDIENCE],
                "scopes": ["mail"],
            },
            protocol={"plaintext": "always"},
        )
        good, bad = key.sign(claims(email="ann")), SigningKey("second").sign(claims(email="ann"))
        for mechanism, start in (
            (b"XOAUTH2", b"user=ann\x01"),
            (b"OAUTHBEARER", b"n,a=ann,\x01host=x\x01port=110\x01"),
        ):
            for token in (good, bad):
                wire = self.wire(server)
                self.assertIn(mechanism, wire.multi_line(b"CAPA")[1])
                response = base64.b64encode(start + b"auth=Bearer " + token.encode() + b"\x01\x01")
                answer = wire.command(b"AUTH " + mechanism + b" " + response)
                if token is good:
                    self.assertTrue(answer.startswith(b"+OK ann has 1 message"), answer)
                    self.check_session(server, wire)
                else:
                    self.assertIn("status", json.loads(base64.b64decode(answer[2:])))
                    answer = wire.command(b"" if mechanism == b"XOAUTH2" else b"AQ==")
                    self.assertTrue(answer.startswith(_WRONG), answer)
        server.stop()
        output = server.output()
        self.assertNotIn("Traceback", output)
        for token in (good, bad):
            self.assertNotIn(token.split(".")[2], output)
