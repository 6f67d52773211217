"""Clients' certificates: who is let in, what name he has, and what can be wrong with the files."""

from __future__ import annotations

import datetime
import gc
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.authority import HOUR, Authority
from tests.pki import write_pem
from tpops.errors import ConfigError
from tpops.server.certificates import Certificates
from tpops.server.client_certificates import ClientCertificates, objection


class ClientCase(SynchronousTestCase):
    """Handshakes in memory: OpenSSL on our side, Python's ssl on the client's."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        write_pem(self.directory / "mail.pem", "a.example", "localhost")
        self.ca = Authority()
        (self.directory / "ca.pem").write_bytes(self.ca.pem)
        self.clock = Clock()
        self.now = datetime.datetime.now(datetime.UTC).timestamp()

    def clients(self, required: bool = False, crl: str = "", field: Any = "san-email", ca: str = "ca.pem") -> Any:
        """The policy."""
        path = str(self.directory / crl) if crl else ""
        return ClientCertificates(str(self.directory / ca), path, required, field, lambda: self.now)

    def certificates(self, clients: ClientCertificates, files: str = "mail.pem") -> Certificates:
        """A server's certificates with this policy."""
        return Certificates(str(self.directory / files), "", "1.2", self.clock.seconds, clients)

    def client(self, pem: bytes = b"", **limits: Any) -> ssl.SSLContext:
        """A client with this certificate, or none."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        for name, value in limits.items():
            setattr(context, name, value)
        if pem:
            path = self.directory / "client.pem"
            path.write_bytes(pem)
            context.load_cert_chain(path)
        return context

    def shake(
        self,
        certificates: Certificates,
        context: ssl.SSLContext,
        session: ssl.SSLSession | None = None,
        between: Any = lambda: None,
    ) -> tuple[SSL.Connection, ssl.SSLObject, bool]:
        """A handshake: our end, the client's end, and whether it came off."""
        server = certificates.serverConnectionForTLS(None)  # type: ignore[arg-type]  # it is not looked at
        server.set_accept_state()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost", session=session)
        done = False
        for _ in range(6):
            for step in (client.do_handshake, client.read):
                try:
                    step()
                except ssl.SSLError:
                    pass
            if outgoing.pending:
                server.bio_write(outgoing.read())
            try:
                server.do_handshake()
                server.send(b"x")
                done = True
            except SSL.WantReadError:
                pass
            except SSL.Error:
                return server, client, False
            between()
            try:
                incoming.write(server.bio_read(1 << 16))
            except SSL.WantReadError:
                pass
        return server, client, done

    def names(self, clients: ClientCertificates, pem: bytes = b"") -> tuple[bytes, ...]:
        """The names of a client that gets in."""
        server, _, done = self.shake(self.certificates(clients), self.client(pem))
        self.assertTrue(done, objection(server))
        return clients.names(server)

    def refusal(self, clients: ClientCertificates, pem: bytes = b"") -> str:
        """Why a client does not get in."""
        server, _, done = self.shake(self.certificates(clients), self.client(pem))
        self.assertFalse(done)
        return objection(server)


class NameTests(ClientCase):
    """Who a certificate is for."""

    def test_fields(self) -> None:
        """Promise: tls.client_name says where the name is; a field that is not there gives none."""
        pem, _ = self.ca.client("joe@a.example", "j@a.example", cn="Joe", uid="joe", dns=("joe.a.example",))
        for field, names in (
            ("san-email", (b"joe@a.example", b"j@a.example")),
            ("san-dns", (b"joe.a.example",)),
            ("cn", (b"Joe",)),
            ("uid", (b"joe",)),
        ):
            self.assertEqual(self.names(self.clients(field=field), pem), names)
        bare, _ = self.ca.client()
        for field in ("san-email", "san-dns", "uid"):
            self.assertEqual(self.names(self.clients(field=field), bare), ())

    def test_without_certificate(self) -> None:
        """Promise: "ask" takes clients without one, "require" does not."""
        self.assertEqual(self.names(self.clients()), ())
        self.assertEqual(self.refusal(self.clients(required=True)), "")
        pem, _ = self.ca.client("joe@a.example")
        self.assertEqual(self.names(self.clients(required=True), pem), (b"joe@a.example",))

    def test_client_is_told_which_authorities(self) -> None:
        """RFC 8446 section 4.2.4: so that programs with several certificates take the right one."""
        server, _, _ = self.shake(self.certificates(self.clients()), self.client())
        (authority,) = server.get_client_ca_list()
        self.assertEqual(authority.CN, "test CA")

    def test_unreadable_names(self) -> None:
        """Promise: a certificate whose extensions cannot be parsed stands for nobody, and the log says so."""
        pem, made = self.ca.client("joe@a.example")
        server, _, _ = self.shake(self.certificates(self.clients()), self.client(pem))

        class Broken:
            """Says what cryptography says of two extensions of one kind."""

            not_valid_after_utc = made.not_valid_after_utc

            @property
            def extensions(self) -> x509.Extensions:
                raise x509.DuplicateExtension("twice", x509.SubjectAlternativeName.oid)

        self.patch(server, "get_peer_certificate", lambda as_cryptography: Broken())
        with capturedLogs() as logs:
            self.assertEqual(self.clients().names(server), ())
        self.assertEqual([one["log_level"] for one in logs], [LogLevel.warn])


class VerificationTests(ClientCase):
    """Who is refused, and the reason in the log."""

    def test_bad_certificates(self) -> None:
        """Promise: of another CA, expired, not valid yet, a server's: no connection, though none was needed."""
        for pem, why in (
            (Authority().client("joe@a.example")[0], "its signature is wrong"),
            (Authority("other CA").client("joe@a.example")[0], "its issuer is not known"),
            (self.ca.client("joe@a.example", begins=-2 * HOUR, ends=-HOUR)[0], "it has expired"),
            (self.ca.client("joe@a.example", begins=HOUR, ends=2 * HOUR)[0], "it is not valid yet"),
            (
                self.ca.client("joe@a.example", purpose=ExtendedKeyUsageOID.SERVER_AUTH)[0],
                "it is not meant for clients",
            ),
        ):
            self.assertEqual(self.refusal(self.clients(), pem), f"client certificate: {why}")

    def test_revocation(self) -> None:
        """RFC 5280 section 5: revoked ones are refused; so are all, where the list is missing or out of date."""
        pem, made = self.ca.client("joe@a.example")
        crl = self.directory / "list.pem"
        crl.write_bytes(self.ca.revoke())
        self.assertEqual(self.names(self.clients(crl="list.pem"), pem), (b"joe@a.example",))
        for octets, why in (
            (self.ca.revoke(made), "it has been revoked"),
            (self.ca.revoke(ends=-HOUR), "its issuer's revocation list has expired"),
            (Authority("other CA").revoke(), "there is no revocation list of its issuer"),
        ):
            crl.write_bytes(octets)
            self.assertIn(why, self.refusal(self.clients(crl="list.pem"), pem))
        crl.write_bytes(x509.load_pem_x509_crl(self.ca.revoke(made)).public_bytes(Encoding.DER))
        self.assertIn("it has been revoked", self.refusal(self.clients(crl="list.pem"), pem))

    def test_intermediate_authorities(self) -> None:
        """RFC 5280 section 6: sent by the client, or trusted by itself; its other children are not let in by it."""
        middle = Authority("middle", self.ca)
        pem, _ = middle.client("joe@a.example")
        self.assertEqual(self.names(self.clients(), pem + middle.pem), (b"joe@a.example",))
        self.assertIn("its issuer is not known", self.refusal(self.clients(), pem))
        (self.directory / "middle.pem").write_bytes(middle.pem)
        self.assertEqual(self.names(self.clients(ca="middle.pem"), pem), (b"joe@a.example",))
        other, _ = self.ca.client("joe@a.example")
        self.assertIn("its issuer is not known", self.refusal(self.clients(ca="middle.pem"), other))

    def test_long_chains(self) -> None:
        """Promise: three CAs between are enough for everybody."""
        chain, authority = b"", self.ca
        for number in range(4):
            authority = Authority(f"CA {number}", authority)
            chain = authority.pem + chain
        self.assertIn(
            "its chain is too long", self.refusal(self.clients(), authority.client("joe@a.example")[0] + chain)
        )

    def test_several_authorities_in_a_directory(self) -> None:
        """Promise: every *.pem in it, each with one certificate or several."""
        others = Authority("one"), Authority("two")
        folder = self.directory / "cas"
        folder.mkdir()
        (folder / "all.pem").write_bytes(b"".join(one.pem for one in others))
        (folder / "ca.pem").write_bytes(self.ca.pem)
        (folder / "README").write_text("not a certificate")
        for one in (*others, self.ca):
            self.assertEqual(self.names(self.clients(ca="cas"), one.client("joe@a.example")[0]), (b"joe@a.example",))

    def test_whatever_name_is_asked_for(self) -> None:
        """RFC 6066 section 3: another certificate of ours by SNI asks for the client's just the same."""
        folder = self.directory / "mail"
        folder.mkdir()
        write_pem(folder / "a.pem", "other")
        write_pem(folder / "b.pem", "localhost")
        clients = self.clients(required=True)
        certificates = self.certificates(clients, "mail")
        server, client, done = self.shake(certificates, self.client(self.ca.client("joe@a.example")[0]))
        self.assertTrue(done, objection(server))
        self.assertEqual(clients.names(server), (b"joe@a.example",))
        served = x509.load_der_x509_certificate(client.getpeercert(binary_form=True) or b"")
        self.assertIn("localhost", str(served.subject))
        for pem in (b"", Authority().client("joe@a.example")[0]):
            self.assertFalse(self.shake(certificates, self.client(pem))[2])


class RenewalTests(ClientCase):
    """CAs and revocation lists that change while the server runs."""

    def test_renewed_authority(self) -> None:
        """Promise: a new CA counts from the next handshake on; a handshake under way comes to its end."""
        clients = self.clients()
        certificates = self.certificates(clients)
        new = Authority("new CA")
        pem, _ = new.client("joe@a.example")
        self.assertFalse(self.shake(certificates, self.client(pem))[2])
        (self.directory / "ca.pem").write_bytes(self.ca.pem + new.pem)
        self.clock.advance(2)
        self.assertTrue(self.shake(certificates, self.client(pem))[2])

        def renew() -> None:
            (self.directory / "ca.pem").write_bytes(new.pem)
            self.clock.advance(2)
            certificates.serverConnectionForTLS(None)  # type: ignore[arg-type]  # it is not looked at
            gc.collect()

        old, _ = self.ca.client("joe@a.example")
        self.assertTrue(self.shake(certificates, self.client(old), between=renew)[2])
        self.assertFalse(self.shake(certificates, self.client(old))[2])

    def test_broken_renewal(self) -> None:
        """Promise: a file that cannot be used is logged, and the old one stays in use."""
        certificates = self.certificates(self.clients())
        (self.directory / "ca.pem").write_bytes(b"")
        self.clock.advance(2)
        with capturedLogs() as logs:
            done = self.shake(certificates, self.client(self.ca.client("joe@a.example")[0]))[2]
        self.assertTrue(done)
        self.assertIn("tls.client_ca", str(logs[0]["problem"]))

    def test_resumption(self) -> None:
        """RFC 8446 section 2.2: a TLS session that goes on keeps its client, and only its client."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            clients = self.clients()
            certificates = self.certificates(clients)
            context = self.client(self.ca.client("joe@a.example")[0], maximum_version=version)
            _, first, _ = self.shake(certificates, context)
            server, second, done = self.shake(certificates, context, first.session)
            self.assertTrue(done)
            self.assertTrue(second.session_reused, version)
            self.assertEqual(clients.names(server), (b"joe@a.example",))
            nobody = self.client(maximum_version=version)
            server, _, _ = self.shake(certificates, nobody)
            self.assertEqual(clients.names(server), ())

    def test_resumption_ends_with_the_certificate(self) -> None:
        """Promise: an expired certificate is nobody's, and one that was revoked meanwhile is refused."""
        crl = self.directory / "list.pem"
        crl.write_bytes(self.ca.revoke())
        clients = self.clients(crl="list.pem")
        certificates = self.certificates(clients)
        pem, made = self.ca.client("joe@a.example")
        context = self.client(pem)
        _, first, _ = self.shake(certificates, context)
        self.now += 2 * HOUR.total_seconds()
        server, second, _ = self.shake(certificates, context, first.session)
        self.assertTrue(second.session_reused)
        self.assertEqual(clients.names(server), ())
        self.now -= 2 * HOUR.total_seconds()
        crl.write_bytes(self.ca.revoke(made))
        self.clock.advance(2)
        server, _, done = self.shake(certificates, context, second.session)
        self.assertFalse(done)
        self.assertIn("it has been revoked", objection(server))


class FileTests(ClientCase):
    """What can be wrong with the configuration."""

    def problem(self, **policy: Any) -> str:
        """Why they cannot be used."""
        return str(self.assertRaises(ConfigError, self.certificates, self.clients(**policy)))

    def test_files_that_cannot_be_used(self) -> None:
        """Promise: key, path and reason."""
        (self.directory / "empty").mkdir()
        (self.directory / "rubbish.pem").write_text("-----BEGIN X509 CRL-----\nrubbish\n-----END X509 CRL-----\n")
        self.assertIn("tls.client_ca: cannot read", self.problem(ca="missing.pem"))
        self.assertIn("rubbish.pem has no certificate", self.problem(ca="rubbish.pem"))
        self.assertIn("there is no certificate in", self.problem(ca="empty"))
        self.assertIn("tls.client_crl: cannot read", self.problem(crl="missing.pem"))
        for path in ("rubbish.pem", "ca.pem"):
            self.assertIn("has no revocation list", self.problem(crl=path))
        (self.directory / "list.der").write_bytes(b"rubbish")
        self.assertIn("has no revocation list", self.problem(crl="list.der"))
