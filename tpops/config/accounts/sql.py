"""The keys of the drivers that ask a database server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tpops.config.accounts.base import AccountSource
from tpops.config.mysql import Connection
from tpops.config.section import PathText, key
from tpops.db.account_columns import Position


class MySQL(Connection, AccountSource):
    """Tables in MySQL (5.7 or later) or MariaDB (10.3 or later)."""

    driver: Annotated[Literal["mysql"], key("A database server; needs `pip install 'tpops[mysql]'`.")]
    preset: Annotated[
        Literal["", "tpops-classic", "tpops-v2", "vmail-sql", "postfixadmin", "vpopmail"],
        key('Whose tables they are; "" where `query` or `queries` says what to ask.'),
    ] = ""
    query: Annotated[
        str,
        key(
            "SELECT that gives the account of a name: `%s` is the name, `%u` what is before the domain, `%d` the "
            "domain.",
            example='"SELECT pw AS password, home FROM people WHERE mail = %s"',
        ),
    ] = ""
    queries: Annotated[
        tuple[str, ...],
        Field(strict=False),
        key("Several of them: the first that gives a row counts."),
    ] = ()
    columns: Annotated[
        tuple[Position, ...],
        Field(strict=False),
        key(
            'What the columns of `query` are, in order, where their names do not say it; "-" is one that is not looked '
            "at.",
            example='["maildrop", "password", "unix_user", "type"]',
        ),
    ] = ()
    password_scheme: Annotated[
        Literal["preset", "auto", "plain", "crypt", "sha", "crypt-or-sha", "mysql"],
        key(
            'What passwords without "{SCHEME}" are: "plain" as they are, "auto" crypt or MD5, "mysql" of PASSWORD(); '
            '"preset" as the preset has them, "auto" for an own query.'
        ),
    ] = "preset"  # noqa: S105  # no password
    secrets: Annotated[
        Literal["auto", "plain", "hashed", "mixed", "cram-md5", "scram-sha-1", "scram-sha-256"],
        key(
            'How all passwords are stored, which says what mechanisms are offered; "auto" is "plain" where '
            '`password_scheme` is, else "hashed".'
        ),
    ] = "auto"
    maildrop_base: Annotated[
        PathText, key("Directory of Maildirs whose path in the database is relative.", example='"/var/vmail"')
    ] = ""

    @model_validator(mode="after")
    def _asks_one_thing(self) -> MySQL:
        if [bool(self.preset), bool(self.query), bool(self.queries)].count(True) != 1:
            raise ValueError("needs one of preset, query and queries")
        if self.columns and self.preset:
            raise ValueError("columns goes with query and queries only")
        if self.preset == "postfixadmin" and not self.maildrop_base:
            raise ValueError(
                "needs maildrop_base: the paths of PostfixAdmin are relative (Postfix' virtual_mailbox_base)"
            )
        if self.columns and "password" not in self.columns:
            raise ValueError("columns must name the password")
        return self
