"""The keys of the drivers that read files."""

from __future__ import annotations

from typing import Annotated, Literal

from tpops.config.accounts.base import AccountSource, Domains
from tpops.config.section import NeededPath, PathText, key

#: Where the accounts of "tpops user" lie when nobody says otherwise.
EXAMPLE = '"/var/lib/tpops/accounts.sqlite"'


class SQLite(AccountSource):
    """What `tpops user` writes."""

    driver: Annotated[Literal["sqlite"], key("The embedded database.")]
    path: Annotated[NeededPath, key("The database.", example=EXAMPLE)]


class PasswdFile(AccountSource):
    """A text file in the format of Dovecot."""

    driver: Annotated[Literal["passwd_file"], key("A passwd-file.")]
    path: Annotated[NeededPath, key("The file.", example='"/etc/tpops/users"')]


class Shadow(AccountSource):
    """The accounts of the machine."""

    driver: Annotated[Literal["shadow"], key("passwd and shadow.")]
    passwd_path: Annotated[NeededPath, key("The file of passwd(5).")] = "/etc/passwd"  # noqa: S105
    shadow_path: Annotated[PathText, key('The file of shadow(5), "" where the hashes are in `passwd_path`.')] = (
        "/etc/shadow"
    )
    domains: Domains = ()
    minimum_uid: Annotated[int, key("Accounts with a lower uid do not exist for clients.", ge=1)] = 1000
