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
    @param same: whether a name that is wanted is meant by one of the certificate; raises BadCredentials for what is
        no name
    """

    def __init__(self, names: Sequence[bytes], same: Callable[[bytes, bytes], bool]) -> None:
        self._names = names
        self._same = same

    def respond(self, response: bytes | None) -> Outcome:
        """See L{tpops.protocol.sasl.Exchange}."""
        if response is None:
            return Challenge(b"")
        wanted = response or self._names[0]
        why = self._objection(wanted)
        return LoginRejected(wanted, wanted, why) if why else LoginProven(wanted, wanted)

    def _objection(self, wanted: bytes) -> str:
        """Why this name is none of the certificate's, "" where it is one."""
        why = "the client's certificate is for another name"
        for one in self._names:
            try:
                if self._same(wanted, one):
                    return ""
            except BadCredentials as error:
                why = str(error)
        return why
