"""
What a client proves himself with, in the forms that the portal is asked with (twisted.cred.credentials).

Purpose: credentials that also say who is at the other end.  Twisted's own APOPCredentials are not used: they compare
text with octets.
Limits: the name is as the client sent it until the ordered checker has made it canonical.  A digest can only be said
yes to by a source that holds the secret as it is.
"""

from __future__ import annotations

import hashlib
import hmac

import attrs
from twisted.cred.credentials import ICredentials, IUsernameHashedPassword, IUsernamePassword
from zope.interface import Attribute, implementer

from tpops.model import Peer


class IProven(ICredentials):
    """A name whose owner has been verified by other means than a password that a checker compares."""

    username: bytes = Attribute("the name")
    peer: Peer | None = Attribute("the far end")


class IActing(ICredentials):
    """Name and password of somebody who wants to act for another."""

    username: bytes = Attribute("whose password it is")
    password: bytes = Attribute("the password")
    target: bytes = Attribute("for whom he wants to act")
    peer: Peer | None = Attribute("the far end")


@implementer(IUsernamePassword)
@attrs.frozen
class NamePassword:
    """
    Name and password.

    @ivar peer: the far end, None where it is not known
    """

    username: bytes
    password: bytes = attrs.field(repr=False)
    peer: Peer | None = None

    def checkPassword(self, password: bytes) -> bool:
        """Whether this is the password; takes the same time either way."""
        return hmac.compare_digest(self.password, password)


@implementer(IUsernameHashedPassword)
@attrs.frozen
class APOPCredentials:
    """
    Proof of a secret by APOP (RFC 1939 section 7).

    @ivar stamp: the timestamp of the greeting, with its angle brackets
    @ivar digest: MD5 of timestamp and secret, in lower-case hexadecimal
    """

    username: bytes
    stamp: bytes
    digest: bytes = attrs.field(repr=False)
    peer: Peer | None = None

    def checkPassword(self, password: bytes) -> bool:
        """Whether the digest was made with this secret; takes the same time either way."""
        made = hashlib.md5(self.stamp + password, usedforsecurity=False).hexdigest().encode("ascii")
        return hmac.compare_digest(made, self.digest)


@implementer(IUsernameHashedPassword)
@attrs.frozen
class CRAMMD5Credentials:
    """
    Proof of a secret by CRAM-MD5 (RFC 2195).

    @ivar challenge: what the server had sent
    @ivar digest: HMAC-MD5 of the challenge, keyed with the secret, in lower-case hexadecimal
    """

    username: bytes
    challenge: bytes
    digest: bytes = attrs.field(repr=False)
    peer: Peer | None = None

    def checkPassword(self, password: bytes) -> bool:
        """Whether the digest was made with this secret; takes the same time either way."""
        made = hmac.digest(password, self.challenge, "md5").hex().encode("ascii")
        return hmac.compare_digest(made, self.digest)


@implementer(IProven)
@attrs.frozen
class Proven:
    """
    See L{IProven}.

    @ivar source: name of the accounts source whose secret proved it, "" for the first that knows the name
    @ivar disabled: the account may be a disabled one
    """

    username: bytes
    peer: Peer | None = None
    source: str = ""
    disabled: bool = False


@implementer(IActing)
@attrs.frozen
class Acting:
    """See L{IActing}."""

    username: bytes
    password: bytes = attrs.field(repr=False)
    target: bytes
    peer: Peer | None = None
