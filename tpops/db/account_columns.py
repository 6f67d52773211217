"""
What the columns of a query for accounts mean.

Purpose: one list for the configuration, which takes them, and for the source, which reads them.
"""

from __future__ import annotations

from typing import Literal, get_args

#: What a column can be, in a list of positions; "-" is one that is not looked at.
Position = Literal[
    "password",
    "name",
    "maildrop",
    "type",
    "home",
    "uid",
    "gid",
    "unix_user",
    "enabled",
    "quota_octets",
    "quota_messages",
    "proxy_user",
    "proxy_password",
    "-",
]

IGNORED = "-"

#: What a column may be called.
COLUMNS: tuple[str, ...] = tuple(one for one in get_args(Position) if one != IGNORED)
