"""
What a running server serves: certificate, chain, version of TLS and cipher.

Purpose: "tpops tls check" sees what clients see, also on a machine far away.
Limits: blocking; one handshake for one name.  Nothing is verified here, and nothing is sent after the handshake.
Errors: OSError with a reason for the operator.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import attrs
from cryptography import x509
from OpenSSL import SSL

#: Seconds that the other side has for each answer.
PATIENCE_SECONDS = 10.0

_LINE_OCTETS = 1024
_RECORD_OCTETS = 1 << 16


@attrs.frozen
class Place:
    """
    Where a server listens.

    @ivar host: name or address, or the path of a UNIX socket
    @ivar port: TCP port; 0 with a UNIX socket
    @ivar starttls: whether TLS begins with STLS
    """

    host: str
    port: int
    starttls: bool

    def __str__(self) -> str:
        if not self.port:
            return f"unix:{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class Served:
    """
    What came out.

    @ivar version: of TLS
    @ivar chain: the certificate and what was sent behind it
    """

    version: str
    cipher: str
    chain: tuple[x509.Certificate, ...]


def look(place: Place, name: str) -> Served:
    """
    Shake hands.

    @param name: what is asked for (SNI), "" for nothing
    @raise OSError: when there is no server, or none with TLS
    """
    with _connected(place) as peer:
        if place.starttls:
            _stls(peer)
        connection = _handshake(peer, name)
    chain = connection.get_peer_cert_chain(as_cryptography=True) or []
    return Served(connection.get_protocol_version_name(), connection.get_cipher_name() or "", tuple(chain))


def _connected(place: Place) -> socket.socket:
    if place.port:
        return socket.create_connection((place.host, place.port), PATIENCE_SECONDS)
    peer = socket.socket(socket.AF_UNIX)
    try:
        peer.settimeout(PATIENCE_SECONDS)
        peer.connect(place.host)
    except OSError:
        peer.close()
        raise
    return peer


def _stls(peer: socket.socket) -> None:
    """RFC 2595 §4."""
    for command in (b"", b"STLS\r\n"):
        peer.sendall(command)
        answer = _line(peer)
        if not answer.startswith(b"+OK"):
            shown = answer.decode("ascii", "backslashreplace").strip()
            raise OSError(f"{'STLS is refused' if command else 'no greeting of a POP3 server'}: {shown!r}")


def _line(peer: socket.socket) -> bytes:
    """One line; octet by octet, since what follows belongs to TLS."""
    line = b""
    while not line.endswith(b"\n") and len(line) < _LINE_OCTETS:
        octet = peer.recv(1)
        if not octet:
            raise OSError("the server closed the connection")
        line += octet
    return line


def _handshake(peer: socket.socket, name: str) -> SSL.Connection:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_NONE, _any)
    # A certificate that clients refuse is what one wants to see, too.
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    if name:
        try:
            connection.set_tlsext_host_name(name.encode("idna"))
        except UnicodeError:
            raise OSError(f"{name!r} is no host name") from None
    while not _step(connection.do_handshake):
        _send(connection, peer)
        octets = peer.recv(_RECORD_OCTETS)
        if not octets:
            raise OSError("the server closed the connection instead of starting TLS")
        connection.bio_write(octets)
    _send(connection, peer)
    return connection


def _any(*_: object) -> bool:
    return True


def _step(do_handshake: Callable[[], None]) -> bool:
    """Whether the handshake is done."""
    try:
        do_handshake()
    except SSL.WantReadError:
        return False
    except SSL.Error as error:
        reasons = error.args[0] if error.args else ()
        why = ", ".join(str(one[-1]) for one in reasons) or "broken handshake"
        raise OSError(f"TLS cannot be started: {why}") from None
    return True


def _send(connection: SSL.Connection, peer: socket.socket) -> None:
    try:
        peer.sendall(connection.bio_read(_RECORD_OCTETS))
    except SSL.WantReadError:
        return
