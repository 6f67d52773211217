"""The keys of the drivers that ask a database server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tpops.config.accounts.base import AccountSource
from tpops.config.section import PathText, key
from tpops.db.mysql_servers import parse_server


def _server(value: str) -> str:
    parse_server(value)
    return value


ServerText = Annotated[str, AfterValidator(_server)]


class MySQL(AccountSource):
    """Tables in MySQL (5.7 or later) or MariaDB (10.3 or later)."""

    driver: Annotated[Literal["mysql"], key("A database server; needs `pip install 'tpops[mysql]'`.")]
    servers: Annotated[
        tuple[ServerText, ...],
        Field(strict=False, min_length=1),
        key(
            'Where it is: a host, with ":" and a port if that is not 3306, or "unix:" and the path of a socket. Of '
            "several the first that answers is asked.",
            example='["db1.example.org", "db2.example.org:3307"]',
        ),
    ] = ("unix:/run/mysqld/mysqld.sock",)
    user: Annotated[str, key("Name of the database's user.")] = "tpops"
    password: Annotated[str, key("His password; better in `password_file`.", secret=True)] = ""
    password_file: Annotated[
        PathText,
        key(
            'File whose first line is the password; "" is none. Who may not read the database may not read it either.',
            example='"/etc/tpops/mysql-password"',
        ),
    ] = ""
    database: Annotated[str, key("Name of the database.")] = "tpops"
    tls: Annotated[
        Literal["auto", "off", "encrypt", "verify"],
        key(
            'TLS to servers that are not reached by a socket: "verify" wants a certificate for the server\'s name, '
            'signed by somebody in `tls_ca`; "encrypt" takes any; "auto" is "verify" where `tls_ca` is set, else "off".'
        ),
    ] = "auto"
    tls_ca: Annotated[PathText, key("PEM file with the authorities that sign the servers' certificates.")] = ""
    tls_certificate: Annotated[PathText, key('PEM file with the certificate that we show; "" is none.')] = ""
    tls_key: Annotated[PathText, key('PEM file with its key; "" where it is in the certificate\'s file.')] = ""
    timeout_seconds: Annotated[
        float, key("Time for everything that a login asks the database; then it fails for now.", ge=2, le=120)
    ] = 10.0
    connections: Annotated[int, key("Connections at the same time.", ge=1, le=64)] = 5
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
        tuple[
            Literal["password", "name", "maildrop", "type", "home", "uid", "gid", "unix_user", "enabled", "-"],
            ...,
        ],
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

    @model_validator(mode="after")
    def _secrets_go_together(self) -> MySQL:
        if self.password and self.password_file:
            raise ValueError("has both password and password_file")
        if self.tls == "verify" and not self.tls_ca:
            raise ValueError('tls = "verify" needs tls_ca')
        if self.tls_key and not self.tls_certificate:
            raise ValueError("tls_key needs tls_certificate")
        return self
