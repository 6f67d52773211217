"""
The part of "tpops check" about folders in login names.

Purpose: tells of accounts that nobody can log in to, because a part of their own names would be taken for a folder.
Limits: sources whose accounts can be listed.
"""

from __future__ import annotations

from collections.abc import Iterator

from tpops import assembly
from tpops.config.schema import Config
from tpops.cred.source import Source
from tpops.errors import BadCredentials

#: How many accounts are named.
_NAMED_ACCOUNTS = 5


def warnings(config: Config, source: Source) -> Iterator[str]:
    """
    What an operator may not have thought of.

    @raise LookupUnavailable: when the source cannot be used
    """
    if not config.folders.used:
        return
    names = assembly.login_names(config)
    shut = []
    for record in source.records():
        try:
            names.whole(record.account.name.encode())
        except BadCredentials:
            shut.append(record.account.name)
    if shut:
        some = ", ".join(shut[:_NAMED_ACCOUNTS]) + (", ..." if len(shut) > _NAMED_ACCOUNTS else "")
        yield (
            f"folders: {len(shut)} accounts of the source {source.name} cannot log in, since a part of their names is "
            f"taken for a folder: {some}"
        )
