"""
The SASL mechanisms OAUTHBEARER (RFC 7628) and XOAUTH2 (of Google and Microsoft).

Purpose: takes name and bearer token out of the client's response, asks the server about the token, and tells a client
whose token is not good where it gets another.
A token that is not good is a failed login at once; the client is told so in a challenge (RFC 7628 section 3.2.2),
whose answer, whatever it is, ends the exchange.
Limits: no channel binding.  Host and port in the response are not looked at.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from tpops.errors import AuthenticationFailed, BadCommand
from tpops.protocol.actions import LoginProven, LoginRejected
from tpops.protocol.sasl import Ask, Challenge, Outcome

_SEPARATOR = b"\x01"

#: RFC 6750 section 2.1; the scheme's name is as HTTP has it, in any case.
_BEARER = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE)

#: What stands for a comma and an equals sign in a name (RFC 5801 section 4).
_ESCAPED = re.compile(rb"=(2C|3D)?")


@dataclass(frozen=True, slots=True)
class TokenQuestion:
    """
    Is this token good, and whose is it?

    @ivar name: the name that the client has given, b"" when it gave none
    """

    name: bytes
    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """
    The answer.

    @ivar name: canonical name of the token's owner, b"" when the token is not good
    @ivar why: why it is not, for the log
    """

    name: bytes
    why: str = ""


@dataclass(frozen=True, slots=True)
class Advice:
    """
    What a client is told that has no good token.

    @ivar scope: the scopes that a token must have, with spaces between them
    @ivar configuration: address of the provider's OpenID configuration, "" for none
    """

    scope: str = ""
    configuration: str = ""


class OAuthBearer:
    """OAUTHBEARER; see the module."""

    def __init__(self, advice: Advice) -> None:
        self._advice = advice
        self._question: TokenQuestion | None = None

    def respond(self, response: bytes | None) -> Outcome:
        """See L{tpops.protocol.sasl.Exchange}."""
        if self._question is not None:
            raise AuthenticationFailed
        if response is None:
            return Challenge(b"")
        name, token = self.parse(response)
        self._question = TokenQuestion(name, token)
        # RFC 7628 section 4.3: who sends no token wants to know where there are some.
        return Ask(self._question, self.consulted) if token else self._rejected("no token")

    def consulted(self, answer: object) -> Outcome:
        """What the server has found out of the token."""
        assert isinstance(answer, TokenAnswer)
        assert self._question is not None
        if not answer.name:
            return self._rejected(answer.why)
        return LoginProven(answer.name, self._question.token)

    def parse(self, response: bytes) -> tuple[bytes, bytes]:
        """
        Name and token; either may be empty.

        @raise BadCommand: when the response has not the mechanism's form
        """
        header, separator, rest = response.partition(_SEPARATOR)
        if not separator:
            raise BadCommand("OAUTHBEARER needs a header and fields (RFC 7628 section 3.1)")
        return _authorization_identity(header), _token(_fields(rest))

    def tell(self, advice: Advice) -> dict[str, str]:
        """The error that the client gets (RFC 7628 section 3.2.2)."""
        error = {"status": "invalid_token"}
        if advice.scope:
            error["scope"] = advice.scope
        if advice.configuration:
            error["openid-configuration"] = advice.configuration
        return error

    def _rejected(self, why: str) -> LoginRejected:
        assert self._question is not None
        error = json.dumps(self.tell(self._advice)).encode("ascii")
        return LoginRejected(self._question.name, self._question.token, why, challenge=error)


class XOAuth2(OAuthBearer):
    """XOAUTH2, which is older, has no header and speaks of HTTP in its errors."""

    def parse(self, response: bytes) -> tuple[bytes, bytes]:
        """See L{OAuthBearer.parse}; there is always a name."""
        fields = _fields(response)
        name = fields.get(b"user", b"")
        if not name:
            raise BadCommand("XOAUTH2 needs a user")
        return name, _token(fields)

    def tell(self, advice: Advice) -> dict[str, str]:
        """The error that the client gets, in Google's words."""
        return {"status": "401", "schemes": "bearer", "scope": advice.scope}


def _authorization_identity(header: bytes) -> bytes:
    """The name in a header of GS2 (RFC 5801 section 4), b"" when there is none."""
    parts = header.split(b",")
    if len(parts) != 3 or parts[0] not in (b"n", b"y") or parts[2]:
        raise BadCommand("OAUTHBEARER: the header must be n,a=name, or n,,")
    if not parts[1]:
        return b""
    key, _, name = parts[1].partition(b"a=")
    if key or not name:
        raise BadCommand("OAUTHBEARER: the header must be n,a=name, or n,,")
    return _ESCAPED.sub(_plain, name)


def _plain(escaped: re.Match[bytes]) -> bytes:
    if escaped[1] is None:
        raise BadCommand("OAUTHBEARER: bad escape in the name")
    return b"," if escaped[1] == b"2C" else b"="


def _fields(text: bytes) -> dict[bytes, bytes]:
    """The fields of a response, each once; where the last one ends is left open, as clients do."""
    fields: dict[bytes, bytes] = {}
    for part in text.split(_SEPARATOR):
        key, equals, value = part.partition(b"=")
        if not part:
            continue
        if not equals or not key.isalpha() or key.lower() in fields:
            raise BadCommand("a field of the response is broken, or there twice")
        fields[key.lower()] = value
    return fields


def _token(fields: dict[bytes, bytes]) -> bytes:
    """The bearer token, b"" when there is none."""
    value = fields.get(b"auth", b"")
    if not value:
        return b""
    found = _BEARER.fullmatch(value)
    if found is None:
        raise BadCommand("only bearer tokens are possible here")
    return found[1]
