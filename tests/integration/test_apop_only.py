"""protocol.apop_only, as tpop3d had it: no password in the clear, not even by mistake."""

from __future__ import annotations

import poplib
import ssl

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PASSWORD, PATIENCE_SECONDS, USER, RunningServer
from tests.pki import write_pem


class APOPOnlyTests(SynchronousTestCase):
    """A server on this machine, from where passwords are taken by default."""

    timeout = 240

    def setUp(self) -> None:
        self.server = RunningServer(self, protocol={"apop_only": True}, tls={"certificate": "mail.pem"})
        self.trusted = self.server.directory / "trusted.pem"
        self.trusted.write_bytes(write_pem(self.server.directory / "mail.pem", "127.0.0.1"))
        self.server.start()

    def client(self) -> poplib.POP3:
        """A connection before login."""
        client = poplib.POP3("127.0.0.1", self.server.port, timeout=PATIENCE_SECONDS)
        self.addCleanup(client.close)
        return client

    def test_user_ends_the_connection(self) -> None:
        """Promise: after USER the server is gone; a password that comes all the same is in no log."""
        client = self.client()
        capabilities = client.capa()
        self.assertNotIn("USER", capabilities)
        self.assertEqual(capabilities["SASL"], ["CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"])
        self.assertRaisesRegex(poplib.error_proto, "passwords are not taken without TLS", client.user, USER)
        with self.assertRaises((poplib.error_proto, OSError)):
            client.pass_(PASSWORD)
        wire = self.server.connect()
        wire.line()
        wire.send(f"USER {USER}\r\nPASS {PASSWORD}\r\n".encode())
        self.assertEqual(wire.rest().count(b"\n"), 1)
        self.assertEqual(self.server.event("disconnect")["reason"], "plaintext refused")
        self.assertIn("plaintext refused", self.server.output())
        self.assertEqual(self.server.events("login"), [])
        self.assertNotIn(PASSWORD, self.server.output() + self.server.json_log.read_text())

    def test_apop_and_tls_work(self) -> None:
        """Promise: APOP without TLS, and a password with it."""
        client = self.client()
        self.assertTrue(client.apop(USER, PASSWORD).startswith(b"+OK"))
        client.quit()
        client = self.client()
        client.stls(ssl.create_default_context(cafile=str(self.trusted)))
        self.assertIn("USER", client.capa())
        client.user(USER)
        self.assertTrue(client.pass_(PASSWORD).startswith(b"+OK"))
        client.quit()
