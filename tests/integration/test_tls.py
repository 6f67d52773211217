"""TLS as an operator configures it: implicit and by STLS, the policy for passwords, renewal, and real clients."""

from __future__ import annotations

import os
import poplib
import re
import socket
import ssl
import subprocess
import warnings
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PASSWORD, USER, RunningServer, wait_until
from tests.integration.wire import Wire
from tests.pki import write_pem
from tests.support import need

#: No test client is in this network (RFC 5737), so passwords need TLS.
ELSEWHERE = {"plaintext_networks": ["192.0.2.0/24"], "auth_delay_seconds": 0.05}

MESSAGE = b"Subject: secret\n\n.dot\nbody\n"


class TLSCase(SynchronousTestCase):
    """A server with a certificate, and a listener for each mode."""

    modes = ("implicit", "optional", "required", "off")

    def setUp(self) -> None:
        """Start it."""
        listen = [{"address": "127.0.0.1", "port": 0, "tls": mode} for mode in self.modes]
        self.server = RunningServer(self, listen=listen, tls={"certificate": "mail.pem"}, protocol=ELSEWHERE)
        self.pem = self.server.directory / "mail.pem"
        self.trusted = self.server.directory / "trusted.pem"
        self.trusted.write_bytes(write_pem(self.pem, "localhost", "127.0.0.1"))
        self.server.deliver("1.a.host", MESSAGE)
        self.server.start()
        self.ports = {one["tls"]: one["port"] for one in self.server.configuration["listen"]}

    def context(self, **limits: Any) -> ssl.SSLContext:
        """A client that trusts the certificate that the server began with."""
        context = ssl.create_default_context(cafile=str(self.trusted))
        for name, value in limits.items():
            setattr(context, name, value)
        return context

    def wire(self, mode: str) -> Wire:
        """A connection without TLS, after the greeting."""
        wire = Wire.connect(self, ("127.0.0.1", self.ports[mode]))
        self.assertTrue(wire.line().startswith(b"+OK"))
        return wire

    def collect(self, client: poplib.POP3) -> None:
        """Log in and fetch."""
        self.addCleanup(client.close)
        client.user(USER)
        client.pass_(PASSWORD)
        self.assertEqual(b"\n".join(client.retr(1)[1]), MESSAGE.rstrip(b"\n"))
        client.quit()


class ModeTests(TLSCase):
    """RFC 8314 and RFC 2595."""

    def test_implicit_tls(self) -> None:
        """RFC 8314 section 3.3: TLS from the first octet; the event log has version and cipher."""
        self.collect(poplib.POP3_SSL("127.0.0.1", self.ports["implicit"], context=self.context(), timeout=30))
        self.assertRegex(self.server.event("disconnect", reason="quit")["tls"], r"^TLSv1\.[23] \S+$")

    def test_stls(self) -> None:
        """RFC 2595 section 4: offered where it is optional or required; afterwards it is not offered again."""
        for mode in ("optional", "required"):
            client = poplib.POP3("127.0.0.1", self.ports[mode], timeout=30)
            self.addCleanup(client.close)
            self.assertIn("STLS", client.capa())
            client.stls(self.context())
            self.assertNotIn("STLS", client.capa())
            self.assertIn("USER", client.capa())
            self.collect(client)
        client = poplib.POP3("127.0.0.1", self.ports["off"], timeout=30)
        self.assertNotIn("STLS", client.capa())
        client.quit()

    def test_passwords_need_tls_from_other_networks(self) -> None:
        """Promise: without TLS no password can be sent; where TLS is required, nothing can."""
        for mode in ("optional", "required", "off"):
            wire = self.wire(mode)
            capabilities = wire.multi_line(b"CAPA")[1].split(b"\r\n")
            self.assertNotIn(b"USER", capabilities)
            mechanisms = [line for line in capabilities if line.startswith(b"SASL")]
            self.assertEqual(mechanisms, [] if mode == "required" else [b"SASL CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256"])
            self.assertTrue(wire.command(b"USER " + USER.encode()).startswith(b"-ERR"))
            self.assertTrue(wire.command(b"AUTH PLAIN").startswith(b"-ERR"))
            self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))

    def test_old_versions_are_refused(self) -> None:
        """RFC 8996: a client that knows TLS 1.1 at most gets no connection; the log says so in one line."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context = self.context(minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)
        context.set_ciphers("ALL:@SECLEVEL=0")
        self.assertRaises(
            ssl.SSLError, poplib.POP3_SSL, "127.0.0.1", self.ports["implicit"], context=context, timeout=30
        )
        self.check_failed_handshake()

    def test_failed_handshakes_are_logged_without_traceback(self) -> None:
        """Promise: rubbish, and a client that goes, are a line in the log and the end of that connection."""
        with socket.create_connection(("127.0.0.1", self.ports["implicit"])) as client:
            client.sendall(b"USER joe\r\n")
            while client.recv(1000):
                continue
        self.check_failed_handshake()
        socket.create_connection(("127.0.0.1", self.ports["implicit"])).close()
        wait_until(lambda: len(self.server.events("disconnect")) == 2)
        self.collect(poplib.POP3_SSL("127.0.0.1", self.ports["implicit"], context=self.context(), timeout=30))

    def check_failed_handshake(self) -> None:
        """One line in the log of the process, the reason in the event log, no traceback."""
        self.server.event("disconnect", reason="TLS handshake failed", tls="")
        wait_until(lambda: "tls-failed: session" in self.server.output())
        self.assertNotIn("Traceback", self.server.output())

    def test_renewed_certificate(self) -> None:
        """Promise: from the next handshake on, without a restart; sessions go on."""
        open_session = poplib.POP3_SSL("127.0.0.1", self.ports["implicit"], context=self.context(), timeout=30)
        old = self.trusted.read_bytes()
        self.trusted.write_bytes(write_pem(self.pem, "localhost", "127.0.0.1"))
        self.assertNotEqual(old, self.trusted.read_bytes())

        def connects() -> bool:
            try:
                client = poplib.POP3_SSL("127.0.0.1", self.ports["implicit"], context=self.context(), timeout=30)
            except ssl.SSLCertVerificationError:
                return False
            client.quit()
            return True

        wait_until(connects, "the new certificate is used")
        self.collect(open_session)

    def test_session_resumption(self) -> None:
        """RFC 5246 and RFC 8446: a client that comes again may resume its TLS session."""
        context = self.context(maximum_version=ssl.TLSVersion.TLSv1_2)
        session = None
        for resumed in (False, True):
            with socket.create_connection(("127.0.0.1", self.ports["implicit"])) as raw:
                with context.wrap_socket(raw, server_hostname="localhost", session=session) as client:
                    self.assertTrue(client.recv(100).startswith(b"+OK"))
                    self.assertEqual(client.session_reused, resumed)
                    session = client.session
                    client.sendall(b"QUIT\r\n")
                    client.recv(100)


class ClientTests(TLSCase):
    """Programs that people use."""

    modes = ("implicit", "required")
    skip = need(None, "curl", "mpop", "fetchmail")

    def run_program(self, *command: str, **environment: str) -> bytes:
        """What a program prints."""
        done = subprocess.run(command, capture_output=True, timeout=60, env={**os.environ, **environment})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_curl(self) -> None:
        """Promise: pop3s:// and pop3:// with --ssl-reqd."""
        common = ("curl", "-sS", "--cacert", str(self.trusted), "-u", f"{USER}:{PASSWORD}")
        for options, url in (
            ((), f"pop3s://localhost:{self.ports['implicit']}/1"),
            (("--ssl-reqd",), f"pop3://localhost:{self.ports['required']}/1"),
        ):
            self.assertEqual(self.run_program(*common, "-4", *options, url), MESSAGE.replace(b"\n", b"\r\n"))

    def test_mpop(self) -> None:
        """Promise: tls_starttls on and off."""
        for starttls, mode in (("off", "implicit"), ("on", "required")):
            directory = self.server.directory / f"mpop-{mode}"
            for part in ("tmp", "new", "cur"):
                (directory / part).mkdir(parents=True)
            settings = self.server.directory / f"mpoprc-{mode}"
            settings.touch(0o600)
            settings.write_text(
                f"account default\nhost localhost\nport {self.ports[mode]}\nuser {USER}\n"
                f'passwordeval "echo {PASSWORD}"\ntls on\ntls_starttls {starttls}\n'
                f"tls_trust_file {self.trusted}\nkeep on\nuidls_file {settings}.uidls\ndelivery maildir {directory}\n"
            )
            self.run_program("mpop", "-C", str(settings))
            (message,) = (directory / "new").iterdir()
            self.assertTrue(message.read_bytes().endswith(MESSAGE))

    def test_fetchmail(self) -> None:
        """Promise: ssl, and STLS with a certificate that is verified."""
        for mode, options in (("implicit", "ssl"), ("required", "sslproto TLS1.2+")):
            home = self.server.directory / f"fetchmail-{mode}"
            home.mkdir()
            settings = home / "rc"
            settings.touch(0o600)
            settings.write_text(
                f"poll localhost service {self.ports[mode]} protocol pop3 auth password timeout 60\n"
                f'  user "{USER}" password "{PASSWORD}" mda "cat >> {home}/mail" keep fetchall\n'
                f'  {options} sslcertck sslcertfile "{self.trusted}"\n'
            )
            self.run_program("fetchmail", "-s", "-f", str(settings), FETCHMAILHOME=str(home))
            self.assertIn(b".dot\nbody", (home / "mail").read_bytes())


class ConfigurationTests(SynchronousTestCase):
    """What can be wrong with it."""

    def refusal(self, **tables: Any) -> str:
        """What a server says that cannot start."""
        return RunningServer(self, **tables).refuses_to_start()

    def test_tls_without_a_certificate(self) -> None:
        """Promise: a listener that wants TLS names the missing key."""
        text = self.refusal(listen=[{"address": "127.0.0.1", "port": 0, "tls": "implicit"}])
        self.assertIn("wants TLS at 127.0.0.1:0, and tls.certificate is not set", text)
        self.assertNotIn("Traceback", text)

    def test_certificate_that_cannot_be_read(self) -> None:
        """Promise: key and file are named, no traceback."""
        text = self.refusal(tls={"certificate": "/no/such.pem"})
        self.assertIn("tls.certificate: cannot read /no/such.pem: No such file or directory", text)
        self.assertNotIn("Traceback", text)

    def test_listener_without_tls_for_other_machines(self) -> None:
        """Promise: at start the log warns that nobody from elsewhere can log in there."""
        server = RunningServer(self, listen=[{"address": "0.0.0.0", "port": 0}])
        server.start()
        self.assertTrue(re.search(r"0\.0\.0\.0:0 has no TLS: clients there cannot log in", server.output()))
