"""
Certificates of clients: asked for in the TLS handshake, verified against CAs of our choice, and whose they are.

Purpose: prepares the OpenSSL contexts and connections that L{tpops.server.certificates} makes, and reads the names of a
certificate that was verified.
Format: C{ca} and C{crl} are PEM files with one or several certificates or revocation lists, or directories with such
files (C{*.pem}); every certificate in C{ca} is trusted as it is, also one of an intermediate CA.  A revocation list may
be in DER form as well.
Limits: chains of at most L{_DEPTH} CAs.  Where there are revocation lists, there must be one of the CA that has signed
the client's certificate, and it must not be out of date.
Errors: a certificate that is not accepted ends the handshake, also where none was needed; L{objection} says why.
"""

from __future__ import annotations

import datetime
import glob
import os
import re
from collections.abc import Callable
from typing import Literal
from weakref import WeakKeyDictionary

import attrs
from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.logger import Logger

from tpops.errors import ConfigError

_log = Logger()

#: CAs between the client's certificate and the last one that is looked at.
_DEPTH = 3

_LIST = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)

#: What OpenSSL finds wrong (openssl-verification-options(1)), for the log.
_OBJECTIONS = {
    2: "its issuer is not known",
    3: "there is no revocation list of its issuer",
    7: "its signature is wrong",
    8: "the signature of its issuer's revocation list is wrong",
    9: "it is not valid yet",
    10: "it has expired",
    11: "its issuer's revocation list is not valid yet",
    12: "its issuer's revocation list has expired",
    18: "it is self-signed and not trusted",
    19: "its chain ends with a CA that is not trusted",
    20: "its issuer is not known",
    21: "its issuer is not known",
    22: "its chain is too long",
    23: "it has been revoked",
    24: "its issuer has no key",
    26: "it is not meant for clients",
    79: "its issuer is no CA",
}

#: What was found wrong on which connection; its own place for such things belongs to Twisted.
_objected: WeakKeyDictionary[SSL.Connection, str] = WeakKeyDictionary()

#: Where the name is, by the word that the configuration has for it.
NameField = Literal["san-email", "san-dns", "cn", "uid"]

_SUBJECT = {"cn": x509.NameOID.COMMON_NAME, "uid": x509.NameOID.USER_ID}
_ALTERNATIVES: dict[str, type[x509.RFC822Name] | type[x509.DNSName]] = {
    "san-email": x509.RFC822Name,
    "san-dns": x509.DNSName,
}


@attrs.frozen
class ClientCertificates:
    """
    See the module.

    @ivar ca: whose certificates are accepted
    @ivar crl: their revocation lists, "" for none
    @ivar required: clients without a certificate get no connection
    @ivar field: where in the certificate the name is
    @ivar epoch: seconds since the epoch
    """

    ca: str
    crl: str
    required: bool
    field: NameField
    epoch: Callable[[], float]

    def files(self) -> list[str]:
        """What must be read again when it has changed."""
        return [*_files(self.ca), *(_files(self.crl) if self.crl else ())]

    def prepare(self, context: SSL.Context) -> None:
        """
        Let a context trust the CAs.

        @raise ConfigError: when a file cannot be used
        """
        store = context.get_cert_store()
        assert store is not None
        authorities = [one for path in _files(self.ca) for one in _certificates(path)]
        if not authorities:
            raise ConfigError([f"tls.client_ca: there is no certificate in {self.ca}"])
        for one in authorities:
            store.add_cert(crypto.X509.from_cryptography(one))
            context.add_client_ca(one)
        flags = crypto.X509StoreFlags.PARTIAL_CHAIN
        if self.crl:
            flags |= crypto.X509StoreFlags.CRL_CHECK
            for path in _files(self.crl):
                for revoked in _revocations(path):
                    store.add_crl(revoked)
        store.set_flags(flags)
        context.set_verify_depth(_DEPTH)

    def ask(self, connection: SSL.Connection) -> None:
        """Ask for a certificate in the handshake of a connection."""
        # Set at the connection and not at its context, which SNI may change and a renewal may throw away meanwhile.
        mode = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if self.required else 0)
        connection.set_verify(mode, _judge)

    def names(self, connection: SSL.Connection) -> tuple[bytes, ...]:
        """What names the client's certificate stands for; none where he has shown none."""
        certificate = connection.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            return ()
        # The certificate of a TLS session that goes on was verified when that began.
        now = datetime.datetime.fromtimestamp(self.epoch(), datetime.UTC)
        if now > certificate.not_valid_after_utc:
            return ()
        try:
            return tuple(name.encode() for name in self._names(certificate) if name)
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as problem:
            _log.warn("cannot read the name in a client's certificate: {why}", why=str(problem))
            return ()

    def _names(self, certificate: x509.Certificate) -> list[str]:
        if self.field in _SUBJECT:
            return [str(one.value) for one in certificate.subject.get_attributes_for_oid(_SUBJECT[self.field])]
        try:
            alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return []
        return [str(one) for one in alternatives.get_values_for_type(_ALTERNATIVES[self.field])]


def objection(connection: SSL.Connection) -> str:
    """Why the client's certificate was not accepted, "" where that was not the trouble."""
    why = _objected.get(connection)
    return f"client certificate: {why}" if why else ""


def _judge(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, right: int) -> bool:
    """Leave it to OpenSSL, and keep what it says."""
    if not right:
        _objected[connection] = _OBJECTIONS.get(error, f"OpenSSL's verification error {error}")
    return bool(right)


def _files(path: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(path), "*.pem"))) if os.path.isdir(path) else [path]


def _read(path: str, key: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as problem:
        raise ConfigError([f"tls.{key}: cannot read {path}: {problem.strerror}"]) from problem


def _certificates(path: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path, "client_ca"))
    except ValueError:
        raise ConfigError([f"tls.client_ca: {path} has no certificate in PEM form"]) from None


def _revocations(path: str) -> list[x509.CertificateRevocationList]:
    octets = _read(path, "client_crl")
    try:
        if b"-----BEGIN" not in octets:
            return [x509.load_der_x509_crl(octets)]
        found = [x509.load_pem_x509_crl(one) for one in _LIST.findall(octets)]
    except ValueError:
        found = []
    if not found:
        raise ConfigError([f"tls.client_crl: {path} has no revocation list in PEM or DER form"])
    return found
