"""
The protocol of Postfix' policy services (SMTPD_POLICY_README): octets in, requests out.

    request=smtpd_access_policy      name=value, one a line, ended by an empty line;
    client_address=192.0.2.1         any number of requests on one connection
    sender=joe@example.org

    action=DUNNO                     the reply, ended by an empty line

Purpose: pure, for a socket and for standard input.  A request that is not understood, or is too long, is one nothing is
known about: L{Requests.feed} gives None in its place, and what comes behind it is read as usual.
Limits: L{MOST_OCTETS} of one request are kept; after L{HOPELESS_OCTETS} without its end the peer is no Postfix.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Octets of a request that are kept; Postfix' requests with long certificates and names stay far below.
MOST_OCTETS = 65536

#: Octets without an empty line after which the connection is of no use.
HOPELESS_OCTETS = 16 * 1024 * 1024

#: A sender that nobody has: no address that can be stored is like it, and it is not the null sender either.
NOBODY = "\0"

#: The attributes that mean something here.
_READ = frozenset((b"request", b"protocol_state", b"client_address", b"sender"))

Request = Mapping[bytes, bytes]


class Hopeless(Exception):
    """What the peer sends has no end."""


class Requests:
    """Cuts a stream into requests."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipped = 0

    def feed(self, octets: bytes) -> list[Request | None]:
        """
        The requests that end in these octets, in order; None for each that is nothing.

        @raise Hopeless: see L{HOPELESS_OCTETS}
        """
        *complete, rest = (self._rest + octets).split(b"\n\n")
        requests = []
        for text in complete:
            requests.append(None if self._skipped or len(text) > MOST_OCTETS else parse(text))
            self._skipped = 0
        if self._skipped or len(rest) > MOST_OCTETS:
            # The empty line's first octet may be here already.
            kept = b"\n" if rest.endswith(b"\n") else b""
            self._skipped += len(rest) - len(kept)
            rest = kept
        if self._skipped > HOPELESS_OCTETS:
            raise Hopeless(f"{self._skipped} octets without an empty line")
        self._rest = rest
        return requests


def parse(text: bytes) -> Request | None:
    """
    One request without its last two line ends.

    @return: None where a line is no attribute, or where one that matters is there twice
    """
    found: dict[bytes, bytes] = {}
    for line in text.split(b"\n"):
        name, equals, value = line.partition(b"=")
        if not equals or not name:
            return None
        if name in _READ:
            if name in found:
                return None
            found[name] = value
    return found


def question(request: Request | None) -> tuple[str, str] | None:
    """
    The client's address and the sender that a request asks about, as they came.

    @return: None where it asks nothing that we answer: only the request at RCPT TO is about relaying
    """
    if request is None or request.get(b"request") != b"smtpd_access_policy":
        return None
    address, sender = request.get(b"client_address"), request.get(b"sender")
    if address is None or sender is None or request.get(b"protocol_state", b"RCPT") != b"RCPT":
        return None
    return text_of(address), text_of(sender)


def text_of(octets: bytes) -> str:
    """Octets as text; L{NOBODY} where they are no UTF-8."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return NOBODY


def reply(action: str) -> bytes:
    """The reply to one request."""
    return f"action={action}\n\n".encode("ascii")
