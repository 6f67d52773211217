"""
Certificates for TLS: from one PEM file or a directory of them, chosen by the name that the client asks for.

Purpose: makes the OpenSSL connection for every handshake (L{IOpenSSLServerConnectionCreator}).  A file that was renewed
is used from the next handshake on, without a restart; one that cannot be used is logged, and the old one stays.
Format: a PEM file has the certificate first, then its chain; the private key is in the same file or, for a single file,
in another.  In a directory every C{*.pem} counts; the first by name serves clients that ask for no name, or an unknown
one.
Limits: TLS 1.2 is the lowest version.  Files are looked at once a second at most.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from tpops.errors import ConfigError
from tpops.server.client_certificates import ClientCertificates

_log = Logger()

_LOOK_SECONDS = 1.0

#: Lowest versions by the name that the configuration has for them.
VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}

#: For TLS 1.2: forward secrecy and authenticated encryption only; TLS 1.3 has no others.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"

_State = tuple[tuple[str, int, int, int], ...]


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """
    See the module.

    @param certificate: a PEM file, or a directory
    @param key: the file of the private key, "" when it is in the certificate's file
    @param minimum: a key of L{VERSIONS}
    @param seconds: a clock that never goes back
    @param clients: asks clients for certificates, None where they need none
    @raise ConfigError: when they cannot be used
    """

    def __init__(
        self,
        certificate: str,
        key: str,
        minimum: str,
        seconds: Callable[[], float],
        clients: ClientCertificates | None = None,
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._minimum = VERSIONS[minimum]
        self._seconds = seconds
        self._clients = clients
        self._state = self._look()
        self._default, self._by_name = self._load()
        self._looked_at = seconds()

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """See L{IOpenSSLServerConnectionCreator}."""
        now = self._seconds()
        if now >= self._looked_at + _LOOK_SECONDS:
            self._looked_at = now
            self._renew()
        connection = SSL.Connection(self._default, None)
        if self._clients is not None:
            self._clients.ask(connection)
        return connection

    def names(self) -> list[str]:
        """The names that there are certificates for."""
        return sorted(self._by_name)

    def _renew(self) -> None:
        state = self._look()
        if state == self._state:
            return
        self._state = state
        try:
            self._default, self._by_name = self._load()
        except ConfigError as problem:
            _log.error("{problem}; the old certificate stays in use", event="certificate-failed", problem=str(problem))
        else:
            _log.info("certificates read again: {names}", event="certificate-renewed", names=", ".join(self._by_name))

    def _look(self) -> _State:
        found = []
        clients = self._clients.files() if self._clients is not None else []
        for path in (*pem_files(self._certificate), *((self._key,) if self._key else ()), *clients):
            try:
                one = os.stat(path)
            except OSError:
                continue
            found.append((path, one.st_ino, one.st_size, one.st_mtime_ns))
        return tuple(found)

    def _load(self) -> tuple[SSL.Context, dict[str, SSL.Context]]:
        files = pem_files(self._certificate)
        if not files:
            raise ConfigError([f"tls.certificate: there is no *.pem file in {self._certificate}"])
        contexts: dict[str, SSL.Context] = {}
        default = None
        for path in files:
            context, names = self._context(path)
            default = default or context
            for name in names:
                contexts.setdefault(name, context)
        assert default is not None
        default.set_tlsext_servername_callback(self._choose)
        return default, contexts

    def _context(self, path: str) -> tuple[SSL.Context, list[str]]:
        """The context of one PEM file, and the names that it is for."""
        certificate, key = _read(path, "certificate"), _read(self._key or path, "private_key")
        try:
            chain = x509.load_pem_x509_certificates(certificate)
        except ValueError:
            raise ConfigError([f"tls.certificate: {path} has no certificate in PEM form"]) from None
        try:
            private = load_pem_private_key(key, None)
        except (ValueError, TypeError):
            where = self._key or path
            raise ConfigError(
                [f"tls.private_key: {where} has no private key in PEM form that needs no password"]
            ) from None
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(self._minimum)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_cipher_list(_CIPHERS)
        context.set_session_id(b"tpops")
        try:
            context.use_certificate(chain[0])
            for one in chain[1:]:
                context.add_extra_chain_cert(one)
        except SSL.Error as error:
            raise ConfigError([f"tls.certificate: OpenSSL refuses {path}: {_reason(error)}"]) from None
        try:
            context.use_privatekey(private)  # type: ignore[arg-type]  # what it cannot use is a TypeError
            context.check_privatekey()
        except (SSL.Error, TypeError):
            why = f"the private key does not belong to the certificate in {path}"
            raise ConfigError([f"tls.private_key: {why}"]) from None
        if self._clients is not None:
            self._clients.prepare(context)
        return context, _names(chain[0])

    def _choose(self, connection: SSL.Connection) -> None:
        """Take the certificate of the name that the client asks for (RFC 6066 section 3)."""
        asked = connection.get_servername()
        if asked:
            name = asked.decode("ascii", "replace").lower()
            context = self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])
            if context is not None:
                connection.set_context(context)


def pem_files(certificate: str) -> list[str]:
    """The files that a path of the configuration stands for: itself, or what a directory has."""
    if os.path.isdir(certificate):
        return sorted(glob.glob(os.path.join(glob.escape(certificate), "*.pem")))
    return [certificate]


def _read(path: str, key: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as problem:
        raise ConfigError([f"tls.{key}: cannot read {path}: {problem.strerror}"]) from problem


def _reason(error: SSL.Error) -> str:
    """OpenSSL's own words, such as "ee key too small"."""
    return ", ".join(str(one[-1]) for one in error.args[0]) or "unknown reason"


def _names(certificate: x509.Certificate) -> list[str]:
    """The DNS names of a certificate, in lower case."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return [str(one.value).lower() for one in common]
    return [name.lower() for name in alternatives.get_values_for_type(x509.DNSName)]
