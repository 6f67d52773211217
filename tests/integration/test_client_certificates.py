"""Clients' certificates and EXTERNAL between a real server and real clients."""

from __future__ import annotations

import os
import poplib
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.authority import HOUR, Authority
from tests.integration.server import USER, RunningServer, wait_until
from tests.pki import write_pem
from tests.support import need

MESSAGE = b"Subject: secret\n\nbody\n"


class CertificateCase(SynchronousTestCase):
    """A server that accepts the certificates of one CA."""

    mode = "ask"

    def setUp(self) -> None:
        listen = [{"address": "127.0.0.1", "port": 0, "tls": "implicit"}]
        tls = {
            "certificate": "mail.pem",
            "client_certificates": self.mode,
            "client_ca": "ca.pem",
            "client_crl": "crl.pem",
        }
        self.server = RunningServer(self, listen=listen, tls=tls, protocol={"auth_delay_seconds": 0.05})
        self.trusted = self.server.directory / "trusted.pem"
        self.trusted.write_bytes(write_pem(self.server.directory / "mail.pem", "localhost", "127.0.0.1"))
        self.ca = Authority()
        (self.server.directory / "ca.pem").write_bytes(self.ca.pem)
        self.crl = self.server.directory / "crl.pem"
        self.crl.write_bytes(self.ca.revoke())
        self.server.deliver("1.a.host", MESSAGE)
        self.server.start()

    def write(self, pem: bytes) -> Path:
        """Put a client's certificate and key into a file."""
        path = self.server.directory / "client.pem"
        path.touch(0o600)
        path.write_bytes(pem)
        return path

    def connect(self, pem: bytes = b"") -> poplib.POP3_SSL:
        """A connection with this certificate, or none."""
        context = ssl.create_default_context(cafile=str(self.trusted))
        if pem:
            context.load_cert_chain(self.write(pem))
        client = poplib.POP3_SSL("127.0.0.1", self.server.port, context=context, timeout=60)
        self.addCleanup(client.close)
        return client

    def refuses(self, pem: bytes) -> bool:
        """Whether the connection ends before the greeting (with TLS 1.3 the client's handshake is over by then)."""
        context = ssl.create_default_context(cafile=str(self.trusted))
        if pem:
            context.load_cert_chain(self.write(pem))
        try:
            with socket.create_connection(("127.0.0.1", self.server.port), 60) as raw:
                with context.wrap_socket(raw, server_hostname="localhost") as client:
                    return not client.recv(100)
        except OSError:
            return True

    def check_refused(self, pem: bytes, why: str) -> None:
        """No greeting, and a line in the log."""
        self.assertTrue(self.refuses(pem))
        wait_until(lambda: why in self.server.output(), why)
        self.assertNotIn("Traceback", self.server.output())


class AskTests(CertificateCase):
    """tls.client_certificates = "ask"."""

    def test_log_in(self) -> None:
        """RFC 4422 appendix A: with the certificate's name, or with no name; the event log has the mechanism."""
        pem, _ = self.ca.client("joe")
        for response in ("=", "am9l"):
            client = self.connect(pem)
            self.assertIn("EXTERNAL", client.capa()["SASL"])
            self.assertTrue(client._shortcmd(f"AUTH EXTERNAL {response}").startswith(b"+OK joe has 1 message"))
            client.quit()
        self.assertEqual(self.server.event("login", mechanism="EXTERNAL")["user"], USER)

    def test_other_names(self) -> None:
        """Promise: neither another's name nor one without an account opens anything."""
        for email, response in (("eve", "am9l"), ("eve", "=")):
            client = self.connect(self.ca.client(email)[0])
            with self.assertRaisesRegex(poplib.error_proto, "AUTH"):
                client._shortcmd(f"AUTH EXTERNAL {response}")
        self.assertEqual(self.server.events("login"), [])

    def test_without_certificate(self) -> None:
        """Promise: such clients get in with their password, and are not offered EXTERNAL."""
        client = self.connect()
        self.assertNotIn("EXTERNAL", client.capa()["SASL"])
        with self.assertRaisesRegex(poplib.error_proto, "not available"):
            client._shortcmd("AUTH EXTERNAL =")

    def test_bad_certificates(self) -> None:
        """Promise: the connection ends, and the log has the reason in one line."""
        self.check_refused(self.ca.client("joe", begins=-2 * HOUR, ends=-HOUR)[0], "client certificate: it has expired")
        self.check_refused(Authority("x").client("joe")[0], "client certificate: its issuer is not known")

    def test_revoked_while_running(self) -> None:
        """Promise: a new revocation list counts without a restart."""
        pem, made = self.ca.client("joe")
        self.connect(pem).quit()
        self.crl.write_bytes(self.ca.revoke(made))
        wait_until(lambda: self.refuses(pem), "the certificate is refused")
        self.check_refused(pem, "client certificate: it has been revoked")


class RequireTests(CertificateCase):
    """tls.client_certificates = "require"."""

    mode = "require"

    def test_without_certificate(self) -> None:
        """Promise: no connection; with one it is as ever."""
        self.check_refused(b"", "did not return a certificate")
        self.connect(self.ca.client("joe")[0]).quit()


class ProgramTests(CertificateCase):
    """Programs that people use."""

    skip = need(None, "curl", "mpop")

    def run_program(self, *command: str, **environment: str) -> bytes:
        """What a program prints."""
        done: Any = subprocess.run(command, capture_output=True, timeout=60, env={**os.environ, **environment})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return bytes(done.stdout)

    def test_curl(self) -> None:
        """Promise: the command in the documentation."""
        path = str(self.write(self.ca.client("joe")[0]))
        command = ("curl", "-sS", "--cacert", str(self.trusted), "--cert", path, "--login-options", "AUTH=EXTERNAL")
        fetched = self.run_program(*command, "-4", "-u", "joe:", f"pop3s://localhost:{self.server.port}/1")
        self.assertEqual(fetched, MESSAGE.replace(b"\n", b"\r\n"))
        self.server.event("login", mechanism="EXTERNAL")

    def test_mpop(self) -> None:
        """Promise: auth external with tls_cert_file."""
        directory = self.server.directory / "mpop"
        for part in ("tmp", "new", "cur"):
            (directory / part).mkdir(parents=True)
        path = self.write(self.ca.client("joe")[0])
        settings = self.server.directory / "mpoprc"
        settings.touch(0o600)
        settings.write_text(
            f"account default\nhost localhost\nport {self.server.port}\nuser {USER}\nauth external\ntls on\n"
            f"tls_starttls off\ntls_trust_file {self.trusted}\ntls_cert_file {path}\ntls_key_file {path}\nkeep on\n"
            f"uidls_file {settings}.uidls\ndelivery maildir {directory}\n"
        )
        self.run_program("mpop", "-C", str(settings))
        self.assertEqual(len(list((directory / "new").iterdir())), 1)
        self.server.event("login", mechanism="EXTERNAL")
