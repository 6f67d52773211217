"""Certificates that tests make for themselves."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

#: Begin and end of a certificate, in hours from now.
_HOURS = (-1.0, 1.0)

_SERVERS = (x509.ExtendedKeyUsageOID.SERVER_AUTH,)


def new_key(rsa_bits: int = 0) -> Key:
    """A private key: RSA where a length is given, else on a curve."""
    if rsa_bits:
        return rsa.generate_private_key(65537, rsa_bits)
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key) -> bytes:
    """A private key as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Authority:
    """
    A certificate authority.

    @param name: its common name
    @param issuer: who signs its certificate; None is itself
    @ivar pem: its certificate
    """

    def __init__(self, name: str, issuer: Authority | None = None) -> None:
        self.subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.key = new_key()
        signer = issuer or self
        builder = _builder(self.subject, signer.subject, self.key, (-24, 24 * 3650)).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.pem = builder.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        *names: str,
        key: Key | None = None,
        hours: tuple[float, float] = (-24, 24 * 90),
        purposes: Sequence[x509.ObjectIdentifier] = _SERVERS,
    ) -> tuple[bytes, bytes]:
        """A certificate for these names (or addresses) and its key, as PEM."""
        key = key or new_key()
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        builder = (
            _builder(subject, self.subject, key, hours)
            .add_extension(x509.SubjectAlternativeName([_name(one) for one in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        )
        made = builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return made, key_pem(key)


def self_signed(*names: str) -> tuple[bytes, bytes]:
    """A certificate for these names (or addresses), signed by itself and good for an hour, and its key, as PEM."""
    key = new_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0] if names else "nobody")])
    builder = _builder(subject, subject, key, _HOURS)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(one) for one in names]), critical=False)
    made = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return made, key_pem(key)


def write_pem(path: Path, *names: str) -> bytes:
    """Put a certificate and its key into one file, as a renewal does (by rename); gives the certificate."""
    certificate, key = self_signed(*names)
    temporary = path.with_suffix(".new")
    temporary.write_bytes(certificate + key)
    temporary.rename(path)
    return certificate


def _builder(subject: x509.Name, issuer: x509.Name, key: Key, hours: tuple[float, float]) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(hours=hours[0]))
        .not_valid_after(now + datetime.timedelta(hours=hours[1]))
    )


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
