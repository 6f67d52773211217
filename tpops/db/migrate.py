"""
The tables in MySQL or MariaDB: what there is, making them, and bringing those of an older tpops up to date.

Purpose: schema v2 has two parts, accounts and mail, each with its version in C{tpops_schema}.  A part is made by its
file in tpops/db/schema, and changed by the L{STEPS} between its version and the newest.
Safety: the server cannot take changes of tables back, so whatever was cut off is gone on with: a statement may be run
again, or says how to see that it was; the version is written last.  Nothing that is there is removed.
Limits: blocking, for command lines.  Two at the same time may disturb each other; then one of them is run again.
Errors: L{DatabaseFailed}; L{CannotMigrate}, for the operator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs

from tpops.db.mysql import Client

_SCHEMAS = Path(__file__).parent / "schema"

#: The file and the newest version of each part of schema v2, in the order in which they are made.
PARTS: Mapping[str, tuple[str, int]] = {"accounts": ("mysql-v2-accounts.sql", 4), "mail": ("mysql-v2-mail.sql", 2)}

_CLASSIC = "mysql-classic.sql"

#: Tables of TPOPS.
CLASSIC_TABLES = frozenset(("user", "msg", "locks", "pbs"))

_VERSIONS = "SELECT part, version FROM tpops_schema"

#: How our own tables are called.
_OURS = re.compile(r"tpops_[a-z]+")

#: Tables of others that an error names.
_MOST_NAMED = 5


class CannotMigrate(Exception):
    """This database cannot be made or changed; the text says why."""


@attrs.frozen
class Change:
    """
    One statement.

    @ivar sql: what to run
    @ivar done: SELECT that gives a row once it was run; "" where it may as well run again
    """

    sql: str
    done: str = ""


@attrs.frozen
class Step:
    """
    From one version of a part to the next.

    @ivar to: the version that it makes
    """

    part: str
    to: int
    changes: tuple[Change, ...]


#: As in the file that makes the newest version.
ADDRESSES = (
    "CREATE TABLE IF NOT EXISTS tpops_address (address VARCHAR(255) NOT NULL PRIMARY KEY, "
    "user BIGINT UNSIGNED NOT NULL COMMENT 'whose it is', CONSTRAINT tpops_address_user FOREIGN KEY (user) "
    "REFERENCES tpops_user (id) ON DELETE CASCADE) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 "
    "COLLATE = utf8mb4_bin"
)

#: Whether the table tpops_user has a column.
_HAS_COLUMN = (
    "SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'tpops_user' "
    "AND column_name = '{}'"
)

#: All steps, in order.
STEPS = (
    Step(
        "accounts",
        3,
        (
            Change(
                "ALTER TABLE tpops_user MODIFY quota_octets BIGINT UNSIGNED NULL "
                "COMMENT 'most octets of his mail; 0 is any, NULL is what is configured'"
            ),
            Change(
                "ALTER TABLE tpops_user ADD quota_messages BIGINT UNSIGNED NULL COMMENT 'most messages, likewise' "
                "AFTER quota_octets",
                _HAS_COLUMN.format("quota_messages"),
            ),
        ),
    ),
    Step("accounts", 4, (Change(ADDRESSES),)),
)


def tables(client: Client) -> frozenset[str]:
    """The names of all tables."""
    sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
    return frozenset(str(row[0]) for row in client.select(sql, ()).rows)


def versions(client: Client) -> dict[str, int]:
    """The parts of schema v2 that are complete, with their versions."""
    if "tpops_schema" not in tables(client):
        return {}
    return {str(part): int(version) for part, version in client.select(_VERSIONS, ()).rows}


def make(client: Client) -> Iterator[str]:
    """
    Make schema v2 in an empty database or beside the tables of TPOPS, or finish what was begun; tells what was done.

    @raise CannotMigrate: when there is something else, or all of it
    """
    _refuse_others(client, lambda name: _OURS.fullmatch(name) is not None or name in CLASSIC_TABLES)
    found = versions(client)
    if found.keys() >= PARTS.keys():
        raise CannotMigrate('the tables of schema v2 are there already; "tpops db status" shows them')
    yield from upgrade(client)


def make_classic(client: Client) -> Iterator[str]:
    """
    Make the tables of TPOPS in an empty database, or finish what was begun; tells what was done.

    @raise CannotMigrate: when there is something else, or all of it
    """
    _refuse_others(client, CLASSIC_TABLES.__contains__)
    if tables(client) >= CLASSIC_TABLES:
        raise CannotMigrate("the tables of TPOPS are there already")
    for statement in statements(_CLASSIC):
        client.select(statement, ())
    yield "made the tables of TPOPS"


def upgrade(client: Client) -> Iterator[str]:
    """
    Bring schema v2 up to date; tells what was done.

    @raise CannotMigrate: when a newer tpops has made it
    """
    found = versions(client)
    for part, (file, newest) in PARTS.items():
        version = found.get(part)
        if version is None:
            for statement in statements(file):
                client.select(statement, ())
            yield f"made the tables for {part}, version {newest}"
        elif version > newest:
            raise CannotMigrate(f"the tables for {part} are of version {version}; this tpops knows {newest}")
        else:
            for step in STEPS:
                if step.part == part and step.to > version:
                    _take(client, step)
                    yield f"the tables for {part} are of version {step.to} now"


def outdated(found: Mapping[str, int]) -> list[str]:
    """The parts that are not there, or not in the newest version."""
    return [part for part, (_, newest) in PARTS.items() if found.get(part, 0) < newest]


def statements(file: str) -> list[str]:
    """The statements of a file in tpops/db/schema."""
    text = re.sub(r"^--.*\n", "", (_SCHEMAS / file).read_text("utf-8"), flags=re.MULTILINE)
    return [one.strip() for one in re.split(r";\s*\n", text) if one.strip()]


def _take(client: Client, step: Step) -> None:
    """Make a step, or the rest of it."""
    for change in step.changes:
        if not change.done or not client.select(change.done, ()).rows:
            client.select(change.sql, ())
    client.select("UPDATE tpops_schema SET version = %s WHERE part = %s", (step.to, step.part))


def _refuse_others(client: Client, ours: Callable[[str], bool]) -> None:
    """@raise CannotMigrate: when there are tables that are not ours"""
    others = sorted(name for name in tables(client) if not ours(name))
    if others:
        named = ", ".join(others[:_MOST_NAMED]) + (", ..." if len(others) > _MOST_NAMED else "")
        raise CannotMigrate(f"the database has tables of others ({named}); make a new, empty one")
