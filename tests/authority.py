"""A CA that tests make for themselves: certificates for clients, good and bad ones, and revocation lists."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOUR = datetime.timedelta(hours=1)


class Authority:
    """
    See the module.

    @param issuer: the CA above it, None for one that signs itself
    @ivar certificate: its certificate
    """

    def __init__(self, name: str = "test CA", issuer: Authority | None = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject([(NameOID.COMMON_NAME, name)])
        signer = issuer or self
        builder = _builder(self._name, signer._name, self._key, -HOUR, 24 * HOUR)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = builder.sign(signer._key, hashes.SHA256())
        self.pem = _pem(self.certificate)

    def client(
        self,
        *emails: str,
        cn: str = "somebody",
        uid: str = "",
        dns: tuple[str, ...] = (),
        begins: datetime.timedelta = -HOUR,
        ends: datetime.timedelta = HOUR,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    ) -> tuple[bytes, x509.Certificate]:
        """A client's certificate: as PEM, with its key, and as it is."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject([(NameOID.COMMON_NAME, cn), *([(NameOID.USER_ID, uid)] if uid else [])])
        builder = _builder(subject, self._name, key, begins, ends)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        names: list[x509.GeneralName] = [*map(x509.RFC822Name, emails), *map(x509.DNSName, dns)]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return _pem(made) + private, made

    def revoke(self, *revoked: x509.Certificate, ends: datetime.timedelta = HOUR) -> bytes:
        """A revocation list, as PEM."""
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(now - 2 * HOUR).next_update(now + ends)
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(now - HOUR)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _subject(fields: list[tuple[x509.ObjectIdentifier, str]]) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in fields])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins: datetime.timedelta,
    ends: datetime.timedelta,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
