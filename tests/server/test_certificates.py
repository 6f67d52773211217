"""Certificates: files, directories, names, renewal, and what can be wrong with them."""

from __future__ import annotations

import os
from pathlib import Path

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.pki import Authority, key_pem, new_key, self_signed, write_pem
from tpops.errors import ConfigError
from tpops.server.certificates import Certificates


class CertificatesTests(SynchronousTestCase):
    """Handshakes in memory."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.pem = self.directory / "mail.pem"
        self.clock = Clock()

    def certificates(self, certificate: Path | None = None, key: str = "", minimum: str = "1.2") -> Certificates:
        """Load them."""
        return Certificates(str(certificate or self.pem), key, minimum, self.clock.seconds)

    def presented(self, certificates: Certificates, name: str = "", maximum: int = SSL.TLS1_3_VERSION) -> list[str]:
        """The names of the certificate that a client gets that asks for a name."""
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(maximum)
        context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
        client = SSL.Connection(context, None)
        if name:
            client.set_tlsext_host_name(name.encode())
        client.set_connect_state()
        server = certificates.serverConnectionForTLS(None)  # type: ignore[arg-type]
        server.set_accept_state()
        for _ in range(4):
            for one, other in ((client, server), (server, client)):
                try:
                    one.do_handshake()
                except SSL.WantReadError:
                    pass
                try:
                    other.bio_write(one.bio_read(1 << 16))
                except SSL.WantReadError:
                    pass
        found = client.get_peer_certificate(as_cryptography=True)
        assert found is not None
        return [str(name.value) for name in found.subject]

    def refusal(self, certificate: Path | None = None, key: str = "") -> str:
        """Why they cannot be used."""
        return str(self.assertRaises(ConfigError, self.certificates, certificate, key))

    def test_one_file_with_certificate_and_key(self) -> None:
        """Promise: the usual combined PEM file."""
        write_pem(self.pem, "mail.example.org", "pop.example.org")
        certificates = self.certificates()
        verifyObject(IOpenSSLServerConnectionCreator, certificates)
        self.assertEqual(self.presented(certificates), ["mail.example.org"])
        self.assertEqual(certificates.names(), ["mail.example.org", "pop.example.org"])

    def test_key_in_a_file_of_its_own(self) -> None:
        """Promise: fullchain.pem and privkey.pem, as ACME clients write them."""
        certificate, key = self_signed("mail.example.org")
        self.pem.write_bytes(certificate + self_signed("ca.example.org")[0])
        key_file = self.directory / "privkey"
        key_file.write_bytes(key)
        self.assertEqual(self.presented(self.certificates(key=str(key_file))), ["mail.example.org"])

    def test_name_chooses_in_a_directory(self) -> None:
        """RFC 6066 §3: the name that the client asks for, in any case; wildcards; the first file for all others."""
        write_pem(self.directory / "a.pem", "a.example.org")
        write_pem(self.directory / "b.pem", "b.example.org", "*.wild.example.org")
        (self.directory / "notes.txt").write_text("no certificate")
        certificates = self.certificates(self.directory)
        for asked, given in (
            ("", "a"),
            ("a.example.org", "a"),
            ("B.Example.Org", "b"),
            ("x.wild.example.org", "b"),
            ("x.y.wild.example.org", "a"),
            ("unknown.example.org", "a"),
        ):
            self.assertEqual(self.presented(certificates, asked), [f"{given}.example.org"], asked)

    def test_certificate_without_alternative_names(self) -> None:
        """Promise: an old certificate counts by its common name."""
        write_pem(self.pem)
        self.assertEqual(self.certificates().names(), ["nobody"])

    def test_renewed_file_is_used_without_a_restart(self) -> None:
        """Promise: from the next handshake on; files are looked at once a second."""
        write_pem(self.pem, "old.example.org")
        certificates = self.certificates()
        write_pem(self.pem, "new.example.org")
        self.assertEqual(self.presented(certificates), ["old.example.org"])
        self.clock.advance(1)
        self.assertEqual(self.presented(certificates), ["new.example.org"])

    def test_broken_renewal_keeps_the_old_certificate(self) -> None:
        """Promise: the reason is logged, once, and clients notice nothing."""
        write_pem(self.pem, "old.example.org")
        certificates = self.certificates()
        for content in (b"rubbish", None):
            if content is None:
                os.unlink(self.pem)
            else:
                self.pem.write_bytes(content)
            with capturedLogs() as entries:
                for _ in range(2):
                    self.clock.advance(1)
                    self.assertEqual(self.presented(certificates), ["old.example.org"])
            self.assertEqual([entry["log_level"] for entry in entries], [LogLevel.error])
        write_pem(self.pem, "new.example.org")
        self.clock.advance(1)
        self.assertEqual(self.presented(certificates), ["new.example.org"])

    def test_old_versions_are_refused(self) -> None:
        """RFC 8996: no TLS 1.1; with minimum = "1.3" no TLS 1.2 either."""
        write_pem(self.pem, "mail.example.org")
        self.assertRaises(SSL.Error, self.presented, self.certificates(), "", SSL.TLS1_1_VERSION)
        self.presented(self.certificates(), "", SSL.TLS1_2_VERSION)
        self.assertRaises(SSL.Error, self.presented, self.certificates(minimum="1.3"), "", SSL.TLS1_2_VERSION)

    def test_what_is_wrong_is_told(self) -> None:
        """Promise: every refusal names the key of the configuration and the file."""
        certificate, key = self_signed("a.example.org")
        self.assertIn(f"tls.certificate: cannot read {self.pem}: No such file", self.refusal())
        self.pem.write_bytes(key)
        self.assertIn(f"tls.certificate: {self.pem} has no certificate in PEM form", self.refusal())
        self.pem.write_bytes(certificate)
        self.assertIn(f"tls.private_key: {self.pem} has no private key in PEM form", self.refusal())
        self.assertIn("tls.private_key: cannot read /no/such", self.refusal(key="/no/such"))
        self.pem.write_bytes(certificate + self_signed("b.example.org")[1])
        self.assertIn("the private key does not belong to the certificate", self.refusal())
        weak = new_key(rsa_bits=1024)
        self.pem.write_bytes(Authority("A").issue("a.example.org", key=weak)[0] + key_pem(weak))
        self.assertIn(f"tls.certificate: OpenSSL refuses {self.pem}: ee key too small", self.refusal())
        empty = Path(self.mktemp())
        empty.mkdir()
        self.assertIn("there is no *.pem file in", self.refusal(empty))
