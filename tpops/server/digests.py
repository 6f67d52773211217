"""
Credentials that prove the knowledge of a secret: APOP (RFC 1939 section 7) and CRAM-MD5 (RFC 2195).

Limits: only a source that holds the secret as it is can say yes.
"""

from __future__ import annotations

import hashlib
import hmac

import attrs
from twisted.cred.credentials import IUsernameHashedPassword
from zope.interface import implementer


@implementer(IUsernameHashedPassword)
@attrs.frozen
class APOPCredentials:
    """
    See L{IUsernameHashedPassword}.

    @ivar username: name as sent
    @ivar stamp: the timestamp of the greeting, with its angle brackets
    @ivar digest: MD5 of timestamp and secret, in lower-case hexadecimal
    """

    username: bytes
    stamp: bytes
    digest: bytes = attrs.field(repr=False)

    def checkPassword(self, password: bytes) -> bool:
        """Whether the digest was made with this secret; takes the same time either way."""
        made = hashlib.md5(self.stamp + password, usedforsecurity=False).hexdigest().encode("ascii")
        return hmac.compare_digest(made, self.digest)


@implementer(IUsernameHashedPassword)
@attrs.frozen
class CRAMMD5Credentials:
    """
    See L{IUsernameHashedPassword}.

    @ivar username: name as sent
    @ivar challenge: what the server had sent
    @ivar digest: HMAC-MD5 of the challenge, keyed with the secret, in lower-case hexadecimal
    """

    username: bytes
    challenge: bytes
    digest: bytes = attrs.field(repr=False)

    def checkPassword(self, password: bytes) -> bool:
        """Whether the digest was made with this secret; takes the same time either way."""
        made = hmac.digest(password, self.challenge, "md5").hex().encode("ascii")
        return hmac.compare_digest(made, self.digest)
