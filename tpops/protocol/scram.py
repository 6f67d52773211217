"""
SCRAM-SHA-1, SCRAM-SHA-256 and their -PLUS forms (RFC 5802, RFC 7677): who logs in proves that he knows the password
without sending it, the server proves that it knows him.

Purpose: the messages and the arithmetic.  A name's keys come from outside (L{KeysOf} is what is asked), channel
bindings (RFC 5929, RFC 9266) from the TLS connection:

    C: n,,n=NAME,r=NONCE            client-first      -> KeysOf, answered by Keys
    S: r=NONCE,s=SALT,i=ROUNDS      server-first
    C: c=BINDING,r=NONCE,p=PROOF    client-final      -> LoginRejected when the proof is wrong
    S: v=SIGNATURE                  server-final
    C: (empty)                                        -> LoginProven

Known deviations: the error message "e=" of RFC 5802 section 5.1 is not sent; -ERR says as much as it says to a wrong
password.  The name is not prepared with SASLprep: it means the same account as with every other mechanism.  An
authorization identity must be the same name.
Security: names that nobody has get keys as well, whose proof nobody can give, so that all names look alike.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tpops.errors import BadCommand
from tpops.protocol.actions import LoginProven, LoginRejected
from tpops.protocol.sasl import Ask, Challenge, Outcome

#: The mechanisms without their -PLUS forms: name and, for hashlib, digest.
DIGESTS: dict[bytes, str] = {b"SCRAM-SHA-1": "sha1", b"SCRAM-SHA-256": "sha256"}

#: Channel bindings of a connection, by the name of their kind.
Bindings = Mapping[bytes, bytes]

_MALFORMED = "SCRAM: malformed message"

#: Names of attributes and values (RFC 5802 section 7); a value of octets without NUL and comma.
_EXTENSIONS = rb"(?:,[A-Za-z]=[^\0,]+)*"
_CLIENT_FIRST = re.compile(
    rb"(?P<gs2>(?P<flag>n|y|p=(?P<kind>[A-Za-z0-9.-]+)),(?:a=(?P<authorization>[^\0,]+))?,)"
    rb"(?P<bare>n=(?P<name>[^\0,]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)" + _EXTENSIONS + rb")",
    re.DOTALL,
)
_CLIENT_FINAL = re.compile(
    rb"(?P<without_proof>c=(?P<binding>[A-Za-z0-9+/=]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)" + _EXTENSIONS + rb")"
    rb",p=(?P<proof>[A-Za-z0-9+/=]+)",
    re.DOTALL,
)
_ESCAPE = re.compile(rb"=(2C|3D)?")
_ESCAPED = {b"2C": b",", b"3D": b"="}


@dataclass(frozen=True, slots=True)
class KeysOf:
    """
    The question: what are the keys of this name?

    @ivar name: as the client sent it
    @ivar digest: a value of L{DIGESTS}
    """

    name: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class Keys:
    """
    What the server knows of a password (RFC 5802 section 3).

    @ivar source: the accounts source that they come from, None for a name that cannot log in
    @ivar why_none: for the log, why there are none
    @ivar others: further passwords of the same name that are as good, with the same salt and rounds
    @ivar proven: called when a client has proven that he knows this password
    """

    salt: bytes
    rounds: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    source: str | None = None
    why_none: str = ""
    others: tuple[Keys, ...] = ()
    proven: Callable[[], None] | None = None


def derive(digest: str, password: bytes, salt: bytes, rounds: int) -> tuple[bytes, bytes]:
    """
    StoredKey and ServerKey of a password (RFC 5802 section 3).  Takes its time: for threads.

    @param digest: a value of L{DIGESTS}
    @param password: as L{tpops.protocol.saslprep.prepared} gives it
    """
    salted = hashlib.pbkdf2_hmac(digest, password, salt, rounds)
    client_key = hmac.digest(salted, b"Client Key", digest)
    return hashlib.new(digest, client_key).digest(), hmac.digest(salted, b"Server Key", digest)


class Scram:
    """
    One run of the mechanism.

    @param digest: a value of L{DIGESTS}
    @param plus: it is the -PLUS form
    @param bindings: the channel bindings of the connection; where there are any, the -PLUS form is offered
    @param nonce: gives printable octets that were never used before and are not to be guessed, without comma
    """

    def __init__(self, digest: str, plus: bool, bindings: Bindings, nonce: Callable[[], bytes]) -> None:
        self._digest = digest
        self._plus = plus
        self._bindings = bindings
        self._nonce = nonce()
        self._step: Callable[[bytes], Outcome] = self._first
        self._name = b""

    def respond(self, response: bytes | None) -> Outcome:
        """See L{tpops.protocol.sasl.Exchange}."""
        if response is None:
            return Challenge(b"")
        return self._step(response)

    def _first(self, response: bytes) -> Outcome:
        parts = _CLIENT_FIRST.fullmatch(response)
        if parts is None:
            raise BadCommand(_MALFORMED)
        self._name = _name(parts["name"])
        if parts["authorization"] is not None and _name(parts["authorization"]) != self._name:
            raise BadCommand("SCRAM: acting for another user is not possible here")
        binding = self._binding(parts["flag"], parts["kind"])
        if binding is None:
            return LoginRejected(
                self._name, response, "somebody between client and server has hidden that we offer channel binding"
            )
        self._expected = parts["gs2"] + binding
        self._bare = parts["bare"]
        self._nonce = parts["nonce"] + self._nonce
        return Ask(KeysOf(self._name, self._digest), self._found)

    def _found(self, answer: object) -> Outcome:
        """The keys of the name, or made up ones."""
        assert isinstance(answer, Keys)
        self._keys = answer
        self._server_first = b"r=%s,s=%s,i=%d" % (self._nonce, b64encode(answer.salt), answer.rounds)
        self._step = self._final
        return Challenge(self._server_first)

    def _binding(self, flag: bytes, kind: bytes | None) -> bytes | None:
        """The channel binding that the client must know too; None where it believes wrongly that we offer none."""
        if self._plus is not (kind is not None):
            raise BadCommand("SCRAM: channel binding goes with the -PLUS mechanisms, and only with them")
        if kind is None:
            return None if flag == b"y" and self._bindings else b""
        found = self._bindings.get(kind)
        if found is None:
            known = ", ".join(one.decode("ascii") for one in self._bindings)
            raise BadCommand(f"SCRAM: channel binding of another kind than {known} is not possible here")
        return found

    def _final(self, response: bytes) -> Outcome:
        parts = _CLIENT_FINAL.fullmatch(response)
        if parts is None:
            raise BadCommand(_MALFORMED)
        why = self._objection(
            _decoded(parts["binding"]), parts["nonce"], parts["without_proof"], _decoded(parts["proof"])
        )
        if why:
            return LoginRejected(self._name, parts["proof"], why)
        self._step = self._acknowledged
        return Challenge(b"v=" + b64encode(hmac.digest(self._keys.server_key, self._signed, self._digest)))

    def _objection(self, binding: bytes, nonce: bytes, without_proof: bytes, proof: bytes) -> str:
        """Why the client's last message does not prove anything, for the log; "" when it does."""
        self._signed = b",".join((self._bare, self._server_first, without_proof))
        fitting = [keys for keys in (self._keys, *self._keys.others) if self._fits(keys, proof)]
        self._keys = fitting[0] if fitting else self._keys
        if self._keys.source is None:
            return self._keys.why_none
        if not hmac.compare_digest(binding, self._expected):
            return "channel binding does not match: somebody is between client and server"
        if not hmac.compare_digest(nonce, self._nonce):
            return "nonce of another exchange"
        return "" if fitting else "wrong password"

    def _fits(self, keys: Keys, proof: bytes) -> bool:
        """Whether the proof was made with this password."""
        signature = hmac.digest(keys.stored_key, self._signed, self._digest)
        client_key = bytes(one ^ other for one, other in zip(proof, signature, strict=False))
        right = hmac.compare_digest(hashlib.new(self._digest, client_key).digest(), keys.stored_key)
        return right and len(proof) == len(signature)

    def _acknowledged(self, response: bytes) -> Outcome:
        if response:
            raise BadCommand(_MALFORMED)
        assert self._keys.source is not None
        if self._keys.proven is not None:
            self._keys.proven()
        return LoginProven(self._name, self._signed, self._keys.source)


def _name(escaped: bytes) -> bytes:
    """A name with its escapes undone (RFC 5802 section 5.1)."""

    def plain(found: re.Match[bytes]) -> bytes:
        if found[1] is None:
            raise BadCommand(_MALFORMED)
        return _ESCAPED[found[1]]

    return _ESCAPE.sub(plain, escaped)


def _decoded(text: bytes) -> bytes:
    try:
        return b64decode(text, validate=True)
    except binascii.Error:
        raise BadCommand(_MALFORMED) from None
