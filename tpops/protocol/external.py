"""
EXTERNAL (RFC 4422 appendix A): the client has proven himself already, with the certificate of the TLS handshake.

Purpose: compares the name that the client wants with those that the certificate stands for.
Limits: an empty response stands for the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tpops.errors import BadCredentials
from tpops.protocol.actions import LoginProven, LoginRejected
from tpops.protocol.sasl import Challenge, Outcome


class External:
    """
    One run of the mechanism.

    @param names: what the certificate stands for, at least one
    @param canonical: makes names comparable; raises BadCredentials for what is no name
    """

    def __init__(self, names: Sequence[bytes], canonical: Callable[[bytes], str]) -> None:
        self._names = names
        self._canonical = canonical

    def respond(self, response: bytes | None) -> Outcome:
        """See L{tpops.protocol.sasl.Exchange}."""
        if response is None:
            return Challenge(b"")
        if not response:
            return LoginProven(self._names[0], self._names[0])
        if self._is_mine(response):
            return LoginProven(response, response)
        return LoginRejected(response, response, "the client's certificate is for another name")

    def _is_mine(self, wanted: bytes) -> bool:
        try:
            return self._canonical(wanted) in [self._canonical(one) for one in self._names]
        except BadCredentials:
            return False
