"""
The framing of SASL in POP3 (RFC 5034, RFC 4422) and the mechanism PLAIN (RFC 4616).

Purpose: base64, cancelling and the order of challenges are here; a mechanism sees only decoded octets.
A mechanism is a name and a callable that starts an exchange; an exchange takes a response and gives a
L{Challenge} or an L{Identity}.
Limits: a response may have up to L{tpops.protocol.commands.SASL_LINE_OCTETS} octets.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tpops.errors import BadCommand


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server's next challenge, decoded."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """
    What a finished exchange says: who he is and how that can be verified.

    @ivar name: the authentication identity, as sent
    @ivar password: the password that goes with it
    """

    name: bytes
    password: bytes = field(repr=False)


class Exchange(Protocol):
    """One run of a mechanism."""

    def respond(self, response: bytes | None) -> Challenge | Identity:
        """
        Take the client's response, None when it sent no initial one.

        @raise BadCommand: when the response has not the mechanism's form
        """


#: Mechanisms by name in capitals; each starts an exchange.
Mechanisms = dict[bytes, Callable[[], Exchange]]


class Plain:
    """
    PLAIN: authorization identity NUL authentication identity NUL password (RFC 4616 section 2).

    An authorization identity is accepted when it is the same name.
    """

    def respond(self, response: bytes | None) -> Challenge | Identity:
        """See L{Exchange}."""
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise BadCommand("PLAIN needs authorization identity, name and password")
        authorization, name, password = parts
        if not name or not password:
            raise BadCommand("PLAIN needs a name and a password")
        if authorization not in (b"", name):
            raise BadCommand("PLAIN: acting for another user is not possible here")
        return Identity(name, password)


def decode(line: bytes) -> bytes:
    """
    A response line in base64.

    @raise BadCommand: when it is not base64
    """
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raise BadCommand("not valid base64") from None


def decode_initial(word: bytes) -> bytes:
    """An initial response; '=' stands for an empty one (RFC 5034 section 4)."""
    return b"" if word == b"=" else decode(word)


def encode(data: bytes) -> bytes:
    """A challenge in base64."""
    return base64.b64encode(data)
