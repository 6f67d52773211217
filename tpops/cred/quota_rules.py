"""
How much mail somebody may have, as people and Dovecot write it.

Purpose: "100M" and the like; and Dovecot's quota_rule, "*:storage=100M:messages=1000", whose "storage" counts KiB where
no unit is there and "bytes" octets.  Units are powers of 1024.
Limits: rules for single folders ("Trash:...") say nothing about the account as a whole.
Errors: ValueError, for the operator.
"""

from __future__ import annotations

import re

_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

_SIZE = re.compile(r"([0-9]{1,15})([BKMGT]?)(?:iB|B)?", re.IGNORECASE)


def octets(text: str, unit: str = "") -> int:
    """
    A number of octets.

    @param unit: what counts where none is written
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no size; right would be 100M or 2G")
    return int(found[1]) * _UNITS[found[2].upper() or unit]


def parse(rule: str) -> tuple[int | None, int | None]:
    """
    Octets and messages of a quota_rule; None where it says nothing about them.
    """
    folder, colon, limits = rule.partition(":")
    if not colon:
        raise ValueError(f"{rule!r} is no quota_rule; right would be *:storage=100M:messages=1000")
    if folder != "*":
        return None, None
    found: dict[str, int] = {}
    for limit in limits.split(":"):
        name, equals, value = limit.partition("=")
        if name not in ("storage", "bytes", "messages") or not equals:
            raise ValueError(f"{limit!r} in {rule!r} is not storage=, bytes= or messages=")
        if name == "messages":
            if not value.isascii() or not value.isdigit():
                raise ValueError(f"{value!r} in {rule!r} is no number of messages")
            found["messages"] = int(value)
        else:
            found["octets"] = octets(value, "K" if name == "storage" else "")
    return found.get("octets"), found.get("messages")
