"""
How much mail an account may have.

Purpose: one rule for all kinds of maildrops, which is TPOPS': the octets of all messages with those of the new one may
be as many as the quota says, and no more; likewise their number.
Limits: pure; who counts, and keeps two deliveries from counting at the same time, is the driver.
"""

from __future__ import annotations

import attrs

from tpops.errors import QuotaExceeded
from tpops.model import Account


@attrs.frozen(slots=True)
class Quota:
    """
    A quota.

    @ivar octets: most stored octets of all messages together, 0 for any
    @ivar messages: most messages, 0 for any
    """

    octets: int = 0
    messages: int = 0

    def __bool__(self) -> bool:
        return bool(self.octets or self.messages)

    def admit(self, name: str, octets: int, messages: int, more: int) -> None:
        """
        Let another message in.

        @param name: whose it is
        @param octets: stored octets of the messages that are there
        @param messages: how many are there
        @param more: stored octets of the new one
        @raise QuotaExceeded: when it does not fit
        """
        if self.octets and octets + more > self.octets:
            raise QuotaExceeded(f"{name} has {octets} octets, and with {more} more it would be over {self.octets}")
        if self.messages and messages + 1 > self.messages:
            raise QuotaExceeded(f"{name} has {messages} messages and may have {self.messages}")


def quota_of(account: Account) -> Quota | None:
    """The quota of an account; None where nobody has said anything about it."""
    if account.quota_octets is None and account.quota_messages is None:
        return None
    return Quota(account.quota_octets or 0, account.quota_messages or 0)
