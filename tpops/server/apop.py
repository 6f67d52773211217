"""APOP's credentials: name, timestamp and digest (RFC 1939 section 7)."""

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
