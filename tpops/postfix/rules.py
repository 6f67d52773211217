"""
May this client send from this address?  POP before SMTP as PBS meant it: rules over facts, and nothing else.

The first line that fits decides:

    1. by address alone (match = "address"): after any login from the client's address, every sender
    2. a rule for this sender with status 2 around the address: after a login of a user of the sender, from anywhere;
       users whose entry has status 0 count here too
    3. a rule for this sender with status 1: after any login from the client's address
    4. a rule for any sender with status 1: after any login from the client's address, every sender, also the null one
    5. after a login from the client's address of a user who may use the sender (status 1)
    6. otherwise nothing is said

docs/mail/pop-before-smtp.md has the same as a table, with which the tests compare this.

Purpose: pure; whoever asks has found the facts, see L{tpops.db.relay.Facts}.
Known deviation from PBS: a rule may be about a network; the smallest one around an address counts, of those for any
sender and of those for the sender each.
"""

from __future__ import annotations

import enum

from tpops.db.relay import Facts


class Verdict(enum.Enum):
    """
    What is decided, and by which line; the value is for people.

    Only NOTHING does not let the client relay.
    """

    ADDRESS = "somebody has logged in from this address"
    WIDENED = "a user of this sender has logged in, and a rule for this network takes logins from anywhere"
    SENDER_RULE = "somebody has logged in from this address, for which a rule names this sender"
    ANY_SENDER_RULE = "somebody has logged in from this address, for which a rule allows any sender"
    OWNER = "a user of this sender has logged in from this address"
    NOTHING = "nothing speaks for it"


def decide(facts: Facts, sender: str, by_address: bool) -> Verdict:
    """
    Judge.

    @param sender: as L{tpops.db.relay.sender} gives it, "" for the null sender
    @param by_address: whether the sender does not matter
    """
    if by_address:
        return Verdict.ADDRESS if facts.here else Verdict.NOTHING
    if sender and facts.this_sender == 2 and facts.owner_anywhere:
        return Verdict.WIDENED
    if sender and facts.this_sender == 1 and facts.here:
        return Verdict.SENDER_RULE
    if facts.any_sender == 1 and facts.here:
        return Verdict.ANY_SENDER_RULE
    if sender and facts.owner_here:
        return Verdict.OWNER
    return Verdict.NOTHING
