"""
What is stored for POP before SMTP, whatever the database: values, and the contract of a store.

    logins      who has logged in, from where, when
    senders     which sender addresses a user may use (USERMAP of PBS)
    rules       networks with rules of their own (ACCESSMAP of PBS)
    expire      how long a login opens the way, where that was changed at run time (PBS_PARAM of PBS)

Purpose: stores find facts, L{tpops.postfix.rules} judges.
Limits: addresses of clients are L{tpops.db.addresses.site}s, networks L{tpops.db.addresses.network}s, senders
L{sender}s, users canonical login names; whoever calls sees to that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import attrs
from zope.interface import Attribute, Interface

#: Longest sender address that is looked up (RFC 5321 section 4.5.3.1.3 allows 254 octets).
MOST_SENDER_CHARACTERS = 320


class StoreFailed(Exception):
    """The store cannot say, or cannot take note; with the reason for an operator."""


@attrs.frozen(slots=True)
class Login:
    """
    Somebody has logged in.

    @ivar at: seconds since the epoch
    """

    address: str
    user: str
    at: int


@attrs.frozen(slots=True)
class Sender:
    """
    A user may use a sender address.

    @ivar status: 1; 0 is as if it were not there, but for rules with status 2
    """

    user: str
    sender: str
    status: int


@attrs.frozen(slots=True)
class Rule:
    """
    A network has a rule of its own.

    @ivar sender: the sender address that it is about, None for any
    @ivar status: 1: after any login from there; 2: after any login of a user of the sender, wherever; 0: no rule, also
        where a larger network has one
    """

    network: str
    sender: str | None
    status: int


@attrs.frozen(slots=True)
class Facts:
    """
    What the store says of a client's address and a sender now.

    @ivar any_sender: status of the rule of the smallest network around the address that is for any sender
    @ivar this_sender: the same for this sender
    @ivar here: somebody's login from this address counts
    @ivar owner_here: that of a user who may use the sender
    @ivar owner_anywhere: one from anywhere counts, of a user who has the sender, whatever the status
    """

    any_sender: int = 0
    this_sender: int = 0
    here: bool = False
    owner_here: bool = False
    owner_anywhere: bool = False


@attrs.frozen(slots=True)
class Contents:
    """
    What goes from one store into another.

    @ivar expire_seconds: None where it was not changed
    """

    logins: Sequence[Login] = ()
    senders: Sequence[Sender] = ()
    rules: Sequence[Rule] = ()
    expire_seconds: int | None = None


class IRelayStore(Interface):
    """
    Where it is all kept.  Everything blocks, for a bounded time, and raises StoreFailed when it cannot be done.

    Logins in the future are not trusted: they count neither now nor, since purge removes them, later.
    """

    detailed: bool = Attribute("whether it has senders, rules and names of users, or addresses alone")

    def make() -> None:
        """Make what is missing of it."""

    def facts(site: str, address: str, sender: str) -> Facts:
        """What is known now of a client, by site (for logins) and address (for rules), and a sender."""

    def record(logins: Collection[Login]) -> None:
        """Take note of logins; the time of an earlier one of the same user from the same place is replaced."""

    def forget(address: str, user: str | None) -> int:
        """Remove the logins from a place, those of a user or all; how many."""

    def purge() -> int:
        """Remove logins that no longer count, and those in the future; how many."""

    def logins() -> list[Login]:
        """Those that count, the newest first."""

    def expire_seconds() -> int:
        """How long a login counts."""

    def set_expire(seconds: int | None) -> None:
        """Change that from now on, for earlier logins too; None is as configured."""

    def senders(user: str | None) -> list[Sender]:
        """Which senders a user has, or all of them."""

    def rules() -> list[Rule]:
        """All of them."""

    def put(contents: Contents) -> None:
        """Add or replace what is in C{contents}, all or nothing."""

    def remove_sender(user: str, sender: str | None) -> int:
        """Remove a sender of a user, or all of his; how many."""

    def remove_rule(network: str, sender: str | None) -> bool:
        """Remove one; whether it was there."""

    def check() -> list[str]:
        """What is wrong with it, one line each."""

    def close() -> None:
        """Close what is open; the next call opens it again.  Idempotent."""


def smallest(rules: Iterable[Rule], around: Sequence[str]) -> tuple[int, int]:
    """
    The status of the rule of the smallest network for any sender, and of that for one; 0 where there is none.

    @param rules: for any sender, and for the one that is asked for
    @param around: the networks around an address, the smallest first
    """
    any_sender, this_sender = (len(around), 0), (len(around), 0)
    for rule in rules:
        found = (around.index(rule.network), rule.status)
        if rule.sender is None:
            any_sender = min(any_sender, found)
        else:
            this_sender = min(this_sender, found)
    return any_sender[1], this_sender[1]


def sender(text: str) -> str:
    """
    A sender address in the form in which it is compared: the domain in lower case, the rest exactly.

    "" is the null sender.
    """
    local_part, at, domain = text.rpartition("@")
    return f"{local_part}@{domain.lower()}" if at else text


def sender_to_store(text: str) -> str:
    """
    The same for an address that somebody wants to store.

    @raise ValueError: when it is none
    """
    local_part, at, domain = text.rpartition("@")
    if not (local_part and at and domain) or "*" in domain or "%" in domain or not text.isprintable() or " " in domain:
        raise ValueError(f'{text!r} is no sender address such as "joe@example.org"; patterns are not known')
    if len(text) > MOST_SENDER_CHARACTERS:
        raise ValueError(f"a sender address has at most {MOST_SENDER_CHARACTERS} characters")
    if text[0] in "<" or text[-1] in ">":
        raise ValueError(f"{text!r} must be written without angle brackets")
    return sender(text)
