"""testssl.sh, the scanner that operators know, finds nothing against the server."""

from __future__ import annotations

import json
import subprocess

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import RunningServer
from tests.pki import Authority, new_key
from tests.support import need

#: Findings above LOW that are right and not the server's.
EXPECTED = {
    "cert_revocation": "the test's own authority has neither a revocation list nor an OCSP responder",
    "engine_problem": "Debian's OpenSSL has no GOST, says the scanner of itself",
    "sessionresumption_ticket": "the scanner may close before the ticket of TLS 1.3 comes; test_tls.py has resumption",
}

HARMLESS = ("OK", "INFO", "LOW", "DEBUG")

#: What must have been looked at; without these a scan that stopped early would be a success.
LOOKED_AT = {
    "SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3", "cipherlist_NULL", "cipherlist_aNULL", "cipherlist_EXPORT",
    "cipherlist_LOW", "cipherlist_3DES_IDEA", "cipherlist_AVERAGE", "PFS", "cipher_order", "cert_chain_of_trust",
    "cert_trust", "cert_expirationStatus", "heartbleed", "CCS", "ROBOT", "secure_renego", "secure_client_renego",
    "CRIME_TLS", "POODLE_SSL", "SWEET32", "FREAK", "DROWN", "LOGJAM", "BEAST", "LUCKY13", "RC4",
}  # fmt: skip

#: Protocols, cipher categories, forward secrecy, preferences, server defaults, vulnerabilities.
CHECKS = ("-p", "-s", "-f", "-P", "-S", "-U")

#: Neither the name service nor anybody else is asked.
OFFLINE = ("--quiet", "--color", "0", "--warnings", "off", "-n", "none", "--openssl-timeout", "30")


class ScanTests(SynchronousTestCase):
    """Implicit TLS with a certificate on a curve, STLS with an RSA one."""

    skip = need(None, "testssl", "openssl")
    timeout = 400

    def scan(self, tls: str, rsa_bits: int, *switches: str) -> tuple[subprocess.Popen[bytes], str]:
        """A server, and a scan of it that has begun; and where its findings will be."""
        root = Authority("Scanned Root")
        between = Authority("Scanned Intermediate", root)
        certificate, key = between.issue("localhost", "127.0.0.1", key=new_key(rsa_bits))
        server = RunningServer(
            self,
            listen=[{"address": "127.0.0.1", "port": 0, "tls": tls}],
            tls={"certificate": "mail.pem"},
            limits={"connections_per_address": 0},
        )
        (server.directory / "mail.pem").write_bytes(certificate + between.pem + key)
        trusted = server.directory / "root.crt"
        trusted.write_bytes(root.pem)
        server.start()
        found = server.directory / "found.json"
        arguments = (*OFFLINE, "--add-ca", str(trusted), "--jsonfile", str(found), *CHECKS, *switches)
        with open(server.directory / "scan.txt", "wb") as output:
            process = subprocess.Popen(
                ("testssl", *arguments, f"127.0.0.1:{server.port}"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=server.directory,
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process, str(found)

    def test_finds_nothing(self) -> None:
        """Promise: no old version, no weak cipher, none of the known attacks; forward secrecy with every cipher."""
        scans = {
            "implicit": self.scan("implicit", 0),
            "STLS": self.scan("required", 2048, "--starttls", "pop3"),
        }
        for how, (process, path) in scans.items():
            process.wait(350)
            with open(path, encoding="utf-8") as file:
                rows = json.load(file)
            bad = [row for row in rows if row["severity"] not in HARMLESS and row["id"] not in EXPECTED]
            self.assertEqual([(how, row["id"], row["finding"]) for row in bad], [])
            self.assertEqual(LOOKED_AT - {row["id"] for row in rows}, set(), how)
            by_id = {row["id"]: row["finding"] for row in rows}
            for version in ("TLS1", "TLS1_1"):
                self.assertEqual(by_id[version], "not offered")
            for kind in ("3DES_IDEA", "AVERAGE"):
                self.assertEqual(by_id[f"cipherlist_{kind}"], "not offered")
