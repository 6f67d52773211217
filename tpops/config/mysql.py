"""The keys about MySQL and MariaDB: how to get into a database, and mail that lies in one."""

from __future__ import annotations

import warnings
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tpops.config.section import PathText, Section, key
from tpops.db.mysql_servers import parse_server


def _server(value: str) -> str:
    parse_server(value)
    return value


ServerText = Annotated[str, AfterValidator(_server)]


class Connection(Section):
    """How to get into a database."""

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
        float, key("Time for everything that is asked at once; then it fails for now.", ge=2, le=120)
    ] = 10.0
    connections: Annotated[int, key("Connections at the same time.", ge=1, le=64)] = 5

    @model_validator(mode="after")
    def _secrets_go_together(self) -> Connection:
        if self.password and self.password_file:
            raise ValueError("has both password and password_file")
        if self.tls == "verify" and not self.tls_ca:
            raise ValueError('tls = "verify" needs tls_ca')
        if self.tls_key and not self.tls_certificate:
            raise ValueError("tls_key needs tls_certificate")
        return self

    def connection(self) -> dict[str, object]:
        """These keys with their values: the arguments of L{tpops.db.mysql_servers.access_of}."""
        return {name: getattr(self, name) for name in Connection.model_fields}


with warnings.catch_warnings():
    # An old method of pydantic's models, which nothing here calls, has the name of a key.
    warnings.filterwarnings("ignore", 'Field name "schema"', UserWarning)

    class MySQLMail(Connection):
        """Mail in MySQL (5.7 or later) or MariaDB (10.3 or later), for the locations "mysql:"."""

        servers: Annotated[
            tuple[ServerText, ...],
            Field(strict=False),
            key(
                "Where the database is, as in [[accounts]]; all of them must take changes. Without any, the connection "
                'of the first [[accounts]] with `driver = "mysql"` is used, whose user then needs more rights.',
                example='["unix:/run/mysqld/mysqld.sock"]',
            ),
        ] = ()
        schema: Annotated[
            Literal["v2", "classic"],
            key('Whose tables they are: tpops\' own ("v2"), or those of TPOPS 0.4 to 0.8 ("classic").'),
        ] = "v2"  # type: ignore[assignment]  # see above
        lock_wait_seconds: Annotated[
            float, key("How long a login waits for another session of the same user to end.", ge=0, le=600)
        ] = 10.0
        lease_seconds: Annotated[
            int,
            key(
                "Schema v2: time after which others may take a mailbox over from a tpops that was killed; renewed "
                "while a session lasts.",
                ge=5,
                le=3600,
            ),
        ] = 60
        keep_seconds: Annotated[
            int,
            key(
                "Classic schema: the same for rows in the table `locks`; TPOPS' ConnectionKeepTime, the same on all "
                "machines.",
                ge=5,
                le=86400,
            ),
        ] = 3600
        lock_pids: Annotated[
            bool,
            key(
                "Classic schema: the processes in `locks` are of this machine, so that a row whose process is not "
                "there is taken over; false where several machines serve the same mail."
            ),
        ] = True
        cache_mib: Annotated[int, key("Memory for the listings of mailboxes, in MiB.", ge=0)] = 64

        @model_validator(mode="after")
        def _has_servers(self) -> MySQLMail:
            own = ("user", "password", "password_file", "database", "tls", "tls_ca", "tls_certificate", "tls_key")
            given = [name for name in own if name in self.model_fields_set]
            if given and not self.servers:
                raise ValueError(f"has {given[0]} and no servers; give both, or neither to use those of [[accounts]]")
            return self
