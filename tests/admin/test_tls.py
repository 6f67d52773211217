"""tpops tls check: certificates of the configuration, and what is wrong with them."""

from __future__ import annotations

import json
import os
import pathlib
import pwd
import subprocess
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509 import ExtendedKeyUsageOID

from tests.admin.test_cli import CommandCase
from tests.pki import Authority, key_pem, new_key, self_signed
from tests.support import need

ROOT = Authority("Test Root")
BETWEEN = Authority("Test Intermediate", ROOT)
HOST = "mail.example.org"


class TLSCase(CommandCase):
    """A configuration with a certificate, and a root that is trusted."""

    def setUp(self) -> None:
        super().setUp()
        os.makedirs(self.directory)
        self.pem = pathlib.Path(self.directory, "mail.pem")
        self.ca = pathlib.Path(self.directory, "ca.crt")
        self.ca.write_bytes(ROOT.pem)
        self.write_configuration("mail.pem")

    def write_configuration(self, certificate: str, key: str = "", server: str = f'hostname = "{HOST}"') -> None:
        private = f'private_key = "{key}"\n' if key else ""
        self.configure(
            f'[server]\n{server}\n[tls]\ncertificate = "{certificate}"\n{private}'
            '[[listen]]\nport = 0\n[[accounts]]\ndriver = "passwd_file"\npath = "users"\n'
        )
        pathlib.Path(self.directory, "users").touch()

    def store(self, *parts: bytes, path: pathlib.Path | None = None, mode: int = 0o600) -> None:
        """Make the PEM file of a certificate, its chain and its key."""
        path = path or self.pem
        path.write_bytes(b"".join(parts))
        path.chmod(mode)

    def issue(self, *names: str, authority: Authority = BETWEEN, **options: Any) -> None:
        """A certificate with its chain, in the file."""
        certificate, key = authority.issue(*(names or (HOST,)), **options)
        self.store(certificate, BETWEEN.pem, key)

    def look(self, *options: str, ca: bool = True) -> tuple[int, list[dict[str, Any]]]:
        """Exit status, and what --json says."""
        trusted = ("--ca", str(self.ca)) if ca else ()
        result = self.run_command("-c", self.config, "tls", "check", "--json", *trusted, *options)
        self.assertNotIn("Traceback", result.output)
        rows: list[dict[str, Any]] = json.loads(result.stdout)
        return result.exit_code, rows

    def findings(self, *options: str, ca: bool = True) -> list[str]:
        """Each as "level: text"; a problem, and only that, is exit status 1."""
        status, rows = self.look(*options, ca=ca)
        found = [f"{one['level']}: {one['text']}" for row in rows for one in row["findings"]]
        self.assertEqual(status, int(any(one.startswith("problem") for one in found)))
        return found

    def assert_one(self, *patterns: str, **options: Any) -> None:
        """There is a finding for each pattern, and no other."""
        found = self.findings(**options)
        self.assertEqual(len(found), len(patterns), found)
        for text, pattern in zip(found, patterns, strict=True):
            self.assertRegex(text, pattern)


class RightTests(TLSCase):
    """Nothing is wrong."""

    def test_shows_what_there_is(self) -> None:
        """Names, issuer, validity, key, chain, trust; exit status 0."""
        self.issue(HOST, "192.0.2.7", "2001:db8::7")
        text = self.tpops("tls", "check", "--ca", str(self.ca))
        for line in (
            str(self.pem),
            f"names    {HOST}, 192.0.2.7, 2001:db8::7",
            "issuer   Test Intermediate",
            "89 days left",
            "key      EC secp256r1, 256 bits",
            f"chain    {HOST} < Test Intermediate (trusted)",
            "0 problems, 0 warnings",
        ):
            self.assertIn(line, text)

    def test_json(self) -> None:
        """The same for programs."""
        self.issue()
        status, (row,) = self.look()
        self.assertEqual((status, row["names"], row["trusted"], row["findings"]), (0, [HOST], True, []))
        self.assertEqual((row["days_left"], row["chain"]), (89, [HOST, "Test Intermediate"]))

    def test_names_that_are_for_the_host(self) -> None:
        """RFC 9525: a wildcard for one label, any of several names, and addresses."""
        for name, names in (
            (HOST, ("*.example.org",)),
            (HOST, ("example.org", "MAIL.example.org")),
            ("192.0.2.7", ("192.0.2.7",)),
            ("2001:db8::7", ("2001:db8:0::7",)),
        ):
            self.write_configuration("mail.pem", server=f'hostname = "{name}"')
            self.issue(*names)
            self.assertEqual(self.findings(), [])

    def test_key_in_a_file_of_its_own(self) -> None:
        """Then everybody may read the certificate."""
        certificate, key = BETWEEN.issue(HOST)
        self.write_configuration("mail.pem", "key.pem")
        self.store(certificate, BETWEEN.pem, mode=0o644)
        self.store(key, path=self.pem.with_name("key.pem"))
        self.assertEqual(self.findings(), [])

    def test_kinds_of_keys(self) -> None:
        """Each by its name."""
        for key, shown in ((new_key(rsa_bits=2048), "RSA, 2048 bits"), (Ed25519PrivateKey.generate(), "Ed25519")):
            self.issue(key=key)
            status, (row,) = self.look()
            self.assertEqual((status, row["key"], row["findings"]), (0, shown, []))

    def test_a_directory(self) -> None:
        """Each file is looked at; the host's name has to be in one of them."""
        self.write_configuration(".")
        for name in (HOST, "pop.example.org"):
            certificate, key = BETWEEN.issue(name)
            self.store(certificate, BETWEEN.pem, key, path=self.pem.with_name(f"{name}.pem"))
        status, rows = self.look()
        self.assertEqual((status, [row["names"] for row in rows]), (0, [[HOST], ["pop.example.org"]]))
        self.store(*self_signed("x.example.org"), path=self.pem.with_name(f"{HOST}.pem"))
        self.assertIn(f"problem: server.hostname, {HOST}, is not among the names", self.findings())

    def test_self_signed(self) -> None:
        """A note; with --strict a problem; trusted by --ca nothing."""
        certificate, key = self_signed(HOST)
        self.store(certificate, key)
        self.assert_one("note: it is self-signed")
        self.assertRegex(self.findings("--strict")[0], "problem: it is self-signed")
        self.ca.write_bytes(certificate)
        self.assertEqual(self.findings("--strict"), [])


class WrongTests(TLSCase):
    """Each thing that can be wrong is told, and nothing besides."""

    def test_validity(self) -> None:
        """Expired and not yet valid are problems, the last days a warning; trust is another question."""
        for hours, pattern in (
            ((-48.0, -24.0), "problem: the certificate has expired: it was valid until 20.. UTC"),
            ((24.0, 48.0), "problem: the certificate is not valid yet"),
            ((-24.0 * 70, 24.0 * 20.5), "warning: the certificate is valid for 20 days only"),
            ((-24.0 * 5, 12.0), "warning: the certificate is valid until"),
        ):
            self.issue(hours=hours)
            self.assert_one(pattern.replace("20.. UTC", r"20\S+ \S+ UTC"))

    def test_short_lived_certificates_are_warned_of_in_their_last_third(self) -> None:
        """Six days of life with four left are well."""
        self.issue(hours=(-48, 96))
        self.assertEqual(self.findings(), [])
        self.issue(hours=(-110, 34))
        self.assertIn("warning", self.findings()[0])

    def test_wrong_name(self) -> None:
        """A wildcard is for one label; without hostname in the configuration it is a warning."""
        self.issue("*.mail.example.org", "example.org", "192.0.2.7")
        self.assert_one(f"problem: server.hostname, {HOST}, is not among the names")
        self.write_configuration("mail.pem", server="")
        self.assert_one("warning: server.hostname, .*, is not among the names")

    def test_incomplete_chain(self) -> None:
        """The missing one is named; so it is where the machine does not know the root."""
        certificate, key = BETWEEN.issue(HOST)
        self.store(certificate, key)
        self.assert_one("problem: the chain is incomplete.*the certificate of Test Intermediate is missing")
        self.issue()
        self.assert_one("problem: the chain is incomplete.*by this machine.*of Test Root is missing", ca=False)

    def test_order_of_the_chain(self) -> None:
        """The right order is told; what does not belong there, and the root, are named."""
        certificate, key = BETWEEN.issue(HOST)
        self.store(certificate, ROOT.pem, BETWEEN.pem, key)
        self.assert_one(f"not in order.*: {HOST}, Test Intermediate, Test Root", "note: the root Test Root is sent")
        self.store(certificate, BETWEEN.pem, Authority("Stranger").pem, key)
        self.assert_one("warning: not of this chain.*: Stranger")
        self.store(certificate, BETWEEN.pem, ROOT.pem, key)
        self.assert_one("problem: its root Test Root is not trusted by this machine", ca=False)

    def test_wrong_key_and_no_key(self) -> None:
        """What the server would say at its start."""
        certificate, _ = BETWEEN.issue(HOST)
        self.store(certificate, BETWEEN.pem, key_pem(new_key()))
        self.assert_one("problem: tls.private_key: the private key does not belong to the certificate in")
        self.store(certificate, BETWEEN.pem)
        self.assert_one("problem: tls.private_key: .* has no private key in PEM form")
        self.store(b"rubbish")
        self.assert_one("problem: tls.certificate: .* has no certificate in PEM form")
        self.pem.unlink()
        self.assert_one("problem: tls.certificate: cannot read .*: No such file")
        self.write_configuration(".")
        self.assert_one(r"problem: tls.certificate: there is no \*.pem file in")

    def test_weak_key(self) -> None:
        """Clients do not take it, and neither does OpenSSL, which would not start with it."""
        self.issue(key=new_key(rsa_bits=1024))
        self.assert_one("warning: the RSA key has 1024 bits", "problem: tls.certificate: OpenSSL refuses .*too small")
        self.issue(key=new_key(rsa_bits=2048))
        self.assertEqual(self.findings(), [])

    def test_weak_signature(self) -> None:
        """SHA-1, which OpenSSL still serves and no client takes."""
        need(self, "openssl")
        certificate, key = self_signed(HOST)
        signed, signer = self.pem.with_name("signed"), self.pem.with_name("signer")
        signed.write_bytes(certificate)
        signer.write_bytes(BETWEEN.pem + key_pem(BETWEEN.key))
        command = ("openssl", "x509", "-in", signed, "-CA", signer, "-CAkey", signer, "-set_serial", "1", "-sha1")
        done = subprocess.run((*command, "-days", "90"), capture_output=True, check=True)
        self.store(done.stdout, BETWEEN.pem, key)
        self.assert_one("problem: it is signed with SHA-1 or MD5")

    def test_names_from_strangers_are_harmless(self) -> None:
        """A certificate's text cannot write on the operator's screen."""
        stranger = Authority("Evil\x1b[2J", ROOT)
        certificate, key = stranger.issue(HOST)
        self.store(certificate, stranger.pem, key)
        text = self.tpops("tls", "check", "--ca", str(self.ca))
        self.assertIn("issuer   Evil\\x1b[2J", text)
        self.assertNotIn("\x1b", text)

    def test_certificate_for_something_else(self) -> None:
        """One for mail programs serves nobody."""
        self.issue(purposes=[ExtendedKeyUsageOID.EMAIL_PROTECTION])
        self.assert_one("problem: it is not for servers")

    def test_certificate_without_alternative_names(self) -> None:
        """Clients do not look at the common name any more."""
        self.store(*self_signed())
        self.assertIn("warning: it has no alternative names, only a common name", self.findings()[0])

    def test_key_that_others_may_read(self) -> None:
        """Everybody: a problem; a group is how daemons share one."""
        for mode, count in ((0o644, 1), (0o604, 1), (0o640, 0)):
            self.issue()
            self.pem.chmod(mode)
            self.assertEqual(len(self.findings()), count, oct(mode))
        self.pem.chmod(0o604)
        self.assert_one("problem: everybody on this machine may read the private key .*mode 0604")

    def test_key_that_the_servers_user_cannot_read(self) -> None:
        """Root can at the start; a renewal is missed.  The place that shuts him out is named."""
        me, nobody = pwd.getpwuid(os.geteuid()).pw_name, pwd.getpwnam("nobody").pw_name
        self.write_configuration("closed/mail.pem", server=f'hostname = "{HOST}"\nuser = "{nobody}"')
        closed = pathlib.Path(self.directory, "closed")
        closed.mkdir(mode=0o700)
        self.pem = closed / "mail.pem"
        self.issue()
        self.assert_one(f"warning: root reads .*; {nobody} may not .*so a renewal needs a restart")
        self.write_configuration("closed/mail.pem", server=f'hostname = "{HOST}"\nuser = "{me}"')
        self.assertEqual(self.findings(), [])

    def test_what_cannot_be_asked(self) -> None:
        """One line each."""
        self.issue()
        self.assertIn("no certificates in PEM form", self.refused("tls", "check", "--ca", self.config))
        self.assertIn("No such file", self.refused("tls", "check", "--ca", "/no/such"))
        self.configure("[listen]\n".replace("[listen]", "[[listen]]"))
        self.assertIn("there is no TLS: tls.certificate is not set", self.refused("tls", "check"))
        for arguments in (("--starttls",), ("--name", "x"), ("--connect", "x"), ("--connect", "x:0")):
            self.assertEqual(self.run_command("tls", "check", *arguments).exit_code, 2)


class CheckTests(TLSCase):
    """tpops check looks at certificates, too."""

    def test_problems_of_certificates_are_problems_of_the_configuration(self) -> None:
        """Expired, another key, and one that cannot be read; trust is left to tpops tls check."""
        self.store(*self_signed(HOST))
        self.assertIn("is right", self.tpops("check"))
        self.issue(hours=(-48, -24))
        self.assertIn(f"problem: {self.pem}: the certificate has expired", self.refused("check"))
        certificate, _ = BETWEEN.issue(HOST)
        self.store(certificate, key_pem(new_key()))
        self.assertIn("problem: tls.private_key: the private key does not belong", self.refused("check"))
        self.pem.unlink()
        self.assertIn("problem: tls.certificate: cannot read", self.refused("check"))

    def test_authorities_of_clients(self) -> None:
        """A file that is not there, or has no certificate, is told before the server starts."""
        self.issue()
        before = pathlib.Path(self.config).read_text()
        self.configure(before.replace("[tls]", '[tls]\nclient_certificates = "ask"\nclient_ca = "clients.pem"'))
        self.assertIn("tls.client_ca: cannot read", self.refused("check"))
        pathlib.Path(self.directory, "clients.pem").write_bytes(b"nothing\n")
        self.assertIn("tls.client_ca: ", self.refused("check"))
        pathlib.Path(self.directory, "clients.pem").write_bytes(ROOT.pem)
        self.assertIn("is right", self.tpops("check"))

    def test_warnings_do_not_make_it_wrong(self) -> None:
        """The last days of a certificate."""
        self.issue(hours=(-24 * 70, 24 * 10))
        text = self.tpops("check")
        self.assertIn(f"warning: {self.pem}: the certificate is valid for 9 days only", text)
        self.assertIn("is right", text)
