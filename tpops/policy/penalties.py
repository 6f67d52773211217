"""
Penalties for failed logins: who guesses waits longer and longer.

Purpose: each failure from one client, or for one name from anywhere, doubles the time until the answer, from
C{first_seconds} up to C{most_seconds}.  The same wrong password for the same name again does not: that is a mail
program with an old password, and not somebody who guesses.
A right password is never delayed, so nobody can lock another one out.
Limits: passwords are not kept, only keyed hashes of them; what is remembered is bounded, see L{tpops.policy.memory}.
"""

from __future__ import annotations

from collections.abc import Callable

from tpops.policy.memory import AnyMemory


class Penalties:
    """
    See the module.

    @ivar first_seconds: for the first failure, and for one that does not count
    @param most_seconds: never more than this
    @param seconds: a clock that never goes back
    @param memory: knows the failures before
    """

    def __init__(
        self, first_seconds: float, most_seconds: float, seconds: Callable[[], float], memory: AnyMemory
    ) -> None:
        self.first_seconds = first_seconds
        self._most_seconds = max(first_seconds, most_seconds)
        self._seconds = seconds
        self._memory = memory

    def failed(self, client: str, name: bytes, proof: bytes) -> float:
        """
        A login failed: how many seconds it should last.

        @param client: what counts as one client
        @param name: the name that was tried
        @param proof: the wrong password
        """
        count = self._memory.failed(client, name, proof, self._seconds())
        # 2 to the 30th is more than any limit; beyond that the number would only grow.
        return min(self._most_seconds, self.first_seconds * 2.0 ** min(count - 1, 30))
