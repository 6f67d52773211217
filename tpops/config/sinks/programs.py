"""The keys of the sinks that start a program, call a web server, or run a statement in a database."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tpops.config import checks
from tpops.config.mysql import Connection
from tpops.config.section import PathText, key
from tpops.config.sinks.base import SessionEvents, SinkSection, no_duplicates
from tpops.db import sql_template

#: What may stand in the arguments of a program.
PROGRAM_VARIABLES = (
    "event",
    "user",
    "local_part",
    "domain",
    "named",
    "clienthost",
    "serverhost",
    "hostname",
    "session",
    "folder",
    "epoch",
)

#: What may stand in a statement.
SQL_VARIABLES = {
    f"$({name})": name for name in (*PROGRAM_VARIABLES, "master", "mechanism", "driver", "detail", "time")
} | {"%s": "user", "%u": "local_part", "%d": "domain"}

_STATEMENT = re.compile(r"(?:INSERT|REPLACE|UPDATE|DELETE|CALL|DO|SET)\b", re.IGNORECASE)

_Events = Annotated[
    tuple[Literal["login", "logout", "login-failed", "login-refused"], ...],
    Field(strict=False, min_length=1),
    AfterValidator(no_duplicates),
    key(
        "What it is told: logins, their ends, wrong passwords, right passwords that do not help (maildrop in use).",
        example='["login", "logout"]',
    ),
]


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    checks.command(value)
    if "$(" in value[0]:
        raise ValueError("must begin with the path of a program, in which nothing stands for anything else")
    for one in value:
        for name in re.findall(r"\$\(([^)]*)\)?", one):
            if name not in PROGRAM_VARIABLES or f"$({name})" not in one:
                known = ", ".join(f"$({other})" for other in PROGRAM_VARIABLES)
                raise ValueError(f"has the unknown variable $({name}); there are {known}")
    return value


def _statement(value: str) -> str:
    query = sql_template.parse(value, SQL_VARIABLES)
    if not _STATEMENT.match(query.sql):
        raise ValueError("must be INSERT, REPLACE, UPDATE, DELETE, CALL, DO or SET")
    return value


class ProgramSink(SinkSection):
    """A program that is started for each event."""

    driver: Annotated[Literal["program"], key("A program.")]
    events: _Events = ("login",)
    command: Annotated[
        tuple[str, ...],
        Field(strict=False),
        AfterValidator(_command),
        key(
            "The program's absolute path and its arguments; no shell reads them. $(user), $(local_part), $(domain), "
            "$(clienthost) and others stand for values, which are in its environment as well; see docs/events.md.",
            example='["/usr/local/sbin/on-login", "$(user)", "$(clienthost)"]',
        ),
    ]
    at_once: Annotated[int, key("How many run at the same time.", ge=1, le=64)] = 4


class SQLSink(Connection, SinkSection):
    """A statement that is run in a database (MySQL, MariaDB) for each event."""

    driver: Annotated[Literal["sql"], key("A database server; needs `pip install 'tpops[mysql]'`.")]
    events: _Events = ("login",)
    statement: Annotated[
        str,
        AfterValidator(_statement),
        key(
            "INSERT, REPLACE, UPDATE, DELETE or CALL, in which $(user), $(clienthost) and others stand for values; see "
            "docs/events.md.",
            example='"INSERT INTO logins (user, ip, at) VALUES ($(user), $(clienthost), $(time))"',
        ),
    ]
    connections: Annotated[int, key("Connections at the same time.", ge=1, le=64)] = 2


class WebhookSink(SinkSection):
    """A request to a web server (POST, JSON) for each event."""

    driver: Annotated[Literal["webhook"], key("A web server.")]
    events: Annotated[
        SessionEvents,
        key("What it is told.", example='["login", "login-failed"]'),
    ] = ("login",)
    address: Annotated[
        str,
        AfterValidator(checks.not_empty),
        AfterValidator(checks.web_address),
        key("Where the requests go.", example='"https://hooks.example.org/pop3"'),
    ]
    secret: Annotated[str, key("For the signature of each request; better in `secret_file`.", secret=True)] = ""
    secret_file: Annotated[
        PathText, key("File whose first line is that secret; without any, requests have no signature.")
    ] = ""
    ca_file: Annotated[PathText, key('PEM file with the authorities to believe; "" is those of the machine.')] = ""

    @model_validator(mode="after")
    def _secret_once(self) -> WebhookSink:
        if self.secret and self.secret_file:
            raise ValueError("has both secret and secret_file")
        return self
