"""Channel bindings, and the mechanisms of one TLS connection."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.authority import HOUR, _builder, _subject
from tests.pki import write_pem
from tests.server.test_client_certificates import ClientCase
from tpops.cred.names import LoginNames
from tpops.protocol.external import External
from tpops.protocol.scram import Scram
from tpops.server.certificates import Certificates
from tpops.server.channel import OverTLS, bindings, nonce, scram

BOTH = ("SCRAM-SHA-1", "SCRAM-SHA-256")


def connect(certificates: Certificates, name: str, version: int) -> tuple[SSL.Connection, SSL.Connection]:
    """A handshake in memory: our end and the client's."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_max_proto_version(version)
    context.set_verify(SSL.VERIFY_NONE)
    client = SSL.Connection(context, None)
    client.set_tlsext_host_name(name.encode())
    client.set_connect_state()
    server = certificates.serverConnectionForTLS(None)  # type: ignore[arg-type]  # it is not looked at
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
    return server, client


class BindingTests(SynchronousTestCase):
    """Both sides must find the same."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        write_pem(self.directory / "a.pem", "a.example")
        write_pem(self.directory / "b.pem", "b.example")

    def certificates(self) -> Certificates:
        """The server's certificates."""
        return Certificates(str(self.directory), "", "1.2", Clock().seconds)

    def test_exporter(self) -> None:
        """RFC 9266: with TLS 1.3, another for each connection."""
        found = []
        for _ in range(2):
            server, client = connect(self.certificates(), "a.example", SSL.TLS1_3_VERSION)
            found.append(bindings(server)[b"tls-exporter"])
            self.assertEqual(found[-1], client.export_keying_material(b"EXPORTER-Channel-Binding", 32, b""))
        self.assertNotEqual(*found)
        server, _ = connect(self.certificates(), "a.example", SSL.TLS1_2_VERSION)
        self.assertEqual(list(bindings(server)), [b"tls-server-end-point"])

    def test_certificate_that_was_served(self) -> None:
        """RFC 5929 section 4.1: the hash of the certificate that the client got, which SNI may have chosen."""
        certificates = self.certificates()
        for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
            for name in ("a.example", "b.example"):
                server, client = connect(certificates, name, version)
                served = client.get_peer_certificate(as_cryptography=True)
                assert served is not None
                self.assertIn(name, str(served.subject))
                expected = hashlib.sha256(served.public_bytes(serialization.Encoding.DER)).digest()
                self.assertEqual(bindings(server)[b"tls-server-end-point"], expected)

    def signed(self, key: Any, algorithm: Any) -> bytes:
        """Put up a certificate signed so; its octets."""
        subject = _subject([(x509.NameOID.COMMON_NAME, "x.example")])
        made = _builder(subject, subject, key, -HOUR, HOUR).sign(key, algorithm)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self.directory / "x.pem"
        path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
        return made.public_bytes(serialization.Encoding.DER)

    def test_hash_of_the_signature(self) -> None:
        """RFC 5929 section 4.1: the signature's hash function; where it has none, there is no such binding."""
        octets = self.signed(ec.generate_private_key(ec.SECP384R1()), hashes.SHA384())
        server, _ = connect(self.certificates(), "x.example", SSL.TLS1_2_VERSION)
        self.assertEqual(bindings(server), {b"tls-server-end-point": hashlib.sha384(octets).digest()})
        self.signed(ed25519.Ed25519PrivateKey.generate(), None)
        server, _ = connect(self.certificates(), "x.example", SSL.TLS1_2_VERSION)
        self.assertEqual(bindings(server), {})
        server, _ = connect(self.certificates(), "x.example", SSL.TLS1_3_VERSION)
        self.assertEqual(list(bindings(server)), [b"tls-exporter"])

    def test_weak_hash(self) -> None:
        """RFC 5929 section 4.1: in place of MD5 and SHA-1 it is SHA-256."""
        made = x509.load_pem_x509_certificate((self.directory / "a.pem").read_bytes())

        class OldCertificate:
            """What an old CA signed, and what OpenSSL would not serve any more."""

            signature_hash_algorithm = hashes.SHA1()
            fingerprint = made.fingerprint

        server, _ = connect(self.certificates(), "a.example", SSL.TLS1_2_VERSION)
        self.patch(server, "get_certificate", lambda as_cryptography: OldCertificate())
        self.assertEqual(bindings(server), {b"tls-server-end-point": made.fingerprint(hashes.SHA256())})


class MechanismTests(ClientCase):
    """What is offered."""

    def test_plus_where_there_is_a_binding(self) -> None:
        """RFC 5802 section 6: what the accounts can do, and in the -PLUS form where it can be bound."""
        self.assertEqual(list(scram((), {b"x": b"y"})), [])
        self.assertEqual(list(scram(("APOP", "SCRAM-SHA-256"), {})), [b"SCRAM-SHA-256"])
        self.assertEqual(
            list(scram(BOTH, {b"x": b"y"})),
            [b"SCRAM-SHA-1", b"SCRAM-SHA-256", b"SCRAM-SHA-1-PLUS", b"SCRAM-SHA-256-PLUS"],
        )
        self.assertIsInstance(scram(BOTH, {})[b"SCRAM-SHA-1"](), Scram)

    def test_nonces(self) -> None:
        """RFC 5802 section 5.1: printable, without comma, never twice."""
        made = {nonce() for _ in range(1000)}
        self.assertEqual(len(made), 1000)
        self.assertTrue(all(one.isascii() and one.decode().isprintable() and b"," not in one for one in made))

    def test_external_where_there_is_a_name(self) -> None:
        """RFC 4422 appendix A: only who has shown a certificate with a name may use it."""
        clients = self.clients()
        over_tls = OverTLS((), clients, LoginNames().same)
        for pem, offered in (
            (b"", []),
            (self.ca.client()[0], []),
            (self.ca.client("joe@a.example")[0], [b"EXTERNAL"]),
        ):
            server, _, done = self.shake(self.certificates(clients), self.client(pem))
            self.assertTrue(done)
            self.assertEqual(list(over_tls(server)), offered)
        self.assertIsInstance(over_tls(server)[b"EXTERNAL"](), External)
        self.assertEqual(list(OverTLS((), None, LoginNames().same)(server)), [])
