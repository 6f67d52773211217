"""
The framing of SASL in POP3 (RFC 5034, RFC 4422) and the mechanisms PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195).

Purpose: base64, cancelling and the order of challenges are here; a mechanism sees only decoded octets.
A mechanism is a name and a callable that starts an exchange; an exchange takes a response and gives a
L{Challenge}, or the action that the server carries out next.
Limits: a response may have up to L{tpops.protocol.commands.SASL_LINE_OCTETS} octets.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tpops.errors import BadCommand
from tpops.protocol.actions import AnyLogin, Login, LoginByKeyedDigest


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server's next challenge, decoded."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """
    The exchange needs something that only the server can find out.

    @ivar question: a value whose type says what is asked
    @ivar consulted: takes the answer; raises BadCommand where the exchange cannot go on
    """

    question: object
    consulted: Callable[[object], Outcome]


#: What a response leads to: another challenge, a question to the server, or a login with what was found out.
Outcome = Challenge | Ask | AnyLogin


class Exchange(Protocol):
    """
    One run of a mechanism.

    What a mechanism needs beside the responses (a challenge that nobody can guess, stored keys by name) is handed
    to whoever starts it: L{Mechanisms} hold callables without arguments.
    """

    def respond(self, response: bytes | None) -> Outcome:
        """
        Take the client's response, None when it sent no initial one.

        @raise BadCommand: when the response has not the mechanism's form
        """


#: Mechanisms by name in capitals; each starts an exchange.
Mechanisms = dict[bytes, Callable[[], Exchange]]


class Plain:
    """
    PLAIN: authorization identity NUL authentication identity NUL password (RFC 4616 section 2).

    Whether somebody may act for another is for the server to say.
    """

    def respond(self, response: bytes | None) -> Outcome:
        """See L{Exchange}."""
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise BadCommand("PLAIN needs authorization identity, name and password")
        authorization, name, password = parts
        if not name or not password:
            raise BadCommand("PLAIN needs a name and a password")
        return Login(name, password, b"" if authorization == name else authorization)


class LoginExchange:
    """
    LOGIN: the name, then the password, each asked for (draft-murchison-sasl-login).

    The draft lets the client send no initial response; those that do mean the name.
    """

    def __init__(self) -> None:
        self._name: bytes | None = None

    def respond(self, response: bytes | None) -> Outcome:
        """See L{Exchange}."""
        if response is None:
            return Challenge(b"Username:")
        if not response:
            raise BadCommand("LOGIN needs a name and a password")
        if self._name is None:
            self._name = response
            return Challenge(b"Password:")
        return Login(self._name, response)


class CramMD5:
    """
    CRAM-MD5: name, space, HMAC-MD5 of the challenge keyed with the password, in hexadecimal (RFC 2195 section 2).

    @param challenge: in the form of a message-id, never used before and not to be guessed
    """

    def __init__(self, challenge: bytes) -> None:
        self._challenge = challenge
        self._asked = False

    def respond(self, response: bytes | None) -> Outcome:
        """See L{Exchange}."""
        if not self._asked:
            if response is not None:
                raise BadCommand("CRAM-MD5 has no initial response")
            self._asked = True
            return Challenge(self._challenge)
        # A name may have spaces in it, a digest has none.
        name, _, digest = (response or b"").rpartition(b" ")
        if not name or len(digest) != 32:
            raise BadCommand("CRAM-MD5 needs a name and a digest of 32 hexadecimal digits")
        return LoginByKeyedDigest(name, self._challenge, digest.lower())


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
