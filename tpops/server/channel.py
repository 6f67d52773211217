"""
What a TLS connection gives to SASL: channel bindings, and the names of the client's certificate.

Purpose: the mechanisms that are offered on one TLS connection only.
Limits: tls-exporter (RFC 9266) with TLS 1.3, tls-server-end-point (RFC 5929) with every version.  Not tls-unique: TLS
1.3 does not have it, and with TLS 1.2 it is no proof unless both sides have the extended master secret (RFC 7627), of
which pyOpenSSL does not say anything.  A certificate whose signature has no hash function of its own (Ed25519) has no
tls-server-end-point.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from functools import partial

from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL

from tpops.protocol.external import External
from tpops.protocol.relayed import Relayed
from tpops.protocol.sasl import Mechanisms
from tpops.protocol.scram import DIGESTS, Bindings, Scram
from tpops.server.client_certificates import ClientCertificates

#: RFC 9266 section 2.
_EXPORTER_LABEL, _EXPORTER_OCTETS = b"EXPORTER-Channel-Binding", 32

_NONCE_OCTETS = 18


def nonce() -> bytes:
    """For SCRAM: not to be guessed, never used before."""
    return secrets.token_urlsafe(_NONCE_OCTETS).encode("ascii")


def bindings(connection: SSL.Connection) -> Bindings:
    """The channel bindings of a connection whose handshake is done."""
    found = {}
    if connection.get_protocol_version_name() == "TLSv1.3":
        found[b"tls-exporter"] = connection.export_keying_material(_EXPORTER_LABEL, _EXPORTER_OCTETS, b"")
    certificate = connection.get_certificate(as_cryptography=True)
    algorithm = certificate.signature_hash_algorithm if certificate is not None else None
    if certificate is not None and algorithm is not None:
        # RFC 5929 section 4.1.
        weak = isinstance(algorithm, hashes.MD5 | hashes.SHA1)
        found[b"tls-server-end-point"] = certificate.fingerprint(hashes.SHA256() if weak else algorithm)
    return found


def scram(proven: Collection[str], bound: Bindings, relayed: bool = False) -> Mechanisms:
    """
    SCRAM in its forms.

    @param proven: the mechanisms that the accounts can use, without -PLUS
    @param bound: the channel bindings of the connection
    @param relayed: another process conducts the exchanges
    """
    mechanisms: Mechanisms = {}
    for plus in (False, True) if bound else (False,):
        for name, digest in DIGESTS.items():
            if name.decode("ascii") in proven:
                whole = name + (b"-PLUS" if plus else b"")
                mechanisms[whole] = (
                    partial(Relayed, whole, bound) if relayed else partial(Scram, digest, plus, bound, nonce)
                )
    return mechanisms


class OverTLS:
    """
    Makes the mechanisms of one connection.

    @param proven: the mechanisms that the accounts can use beside their passwords
    @param clients: reads the names of clients' certificates, None where none is asked for
    @param same: whether a login name is meant by that of a certificate
    @param relayed: another process conducts the exchanges
    """

    def __init__(
        self,
        proven: Collection[str],
        clients: ClientCertificates | None,
        same: Callable[[bytes, bytes], bool],
        relayed: bool = False,
    ) -> None:
        self._relayed = relayed
        self._proven = [name for name in proven if name.encode("ascii") in DIGESTS]
        self._clients = clients
        self._same = same

    def __call__(self, connection: SSL.Connection) -> Mechanisms:
        """The mechanisms that this connection has beside those of all."""
        mechanisms = scram(self._proven, bindings(connection), self._relayed) if self._proven else {}
        names = self._clients.names(connection) if self._clients is not None else ()
        if names:
            mechanisms[b"EXTERNAL"] = partial(External, names, self._same)
        return mechanisms
