"""
SQLite databases: creating, opening and upgrading them.

Purpose: every embedded database of tpops is opened here, in the same way: write-ahead log, foreign keys, a busy
timeout, mode 0600.  A family of databases ("accounts") has its schema in files: "accounts-1.sql" makes version 1,
"accounts-1-to-2.sql" turns version 1 into version 2.  The version lies in "PRAGMA user_version".
Limits: calls block; in the reactor use a short timeout.  Statements that are not in a transaction take effect at once.
Errors: sqlite3.Error, and L{WrongVersion} (one too) when a newer tpops made the database.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import sqlite3
import urllib.parse

#: Where the schema files are.
SCHEMA_DIRECTORY = pathlib.Path(__file__).parent / "schema"


class WrongVersion(sqlite3.DatabaseError):
    """The database is of a version that this tpops does not know."""


def latest_version(family: str, schema: pathlib.Path = SCHEMA_DIRECTORY) -> int:
    """The newest version that the schema files lead to; our own files are looked at once."""
    return _own_latest(family) if schema is SCHEMA_DIRECTORY else _latest(family, schema)


@functools.cache
def _own_latest(family: str) -> int:
    return _latest(family, SCHEMA_DIRECTORY)


def _latest(family: str, schema: pathlib.Path) -> int:
    upgrade = re.compile(re.escape(family) + r"-\d+-to-(\d+)\.sql")
    found = [int(match[1]) for path in schema.iterdir() if (match := upgrade.fullmatch(path.name))]
    return max(found, default=1)


def create(path: str, family: str, schema: pathlib.Path = SCHEMA_DIRECTORY) -> None:
    """
    Make a new database of the latest version, readable by its owner only.

    @raise FileExistsError: when there is a file of that name
    @raise OSError: when the file cannot be made
    @raise sqlite3.Error: when the schema cannot be run
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connect(path, family, schema=schema).close()


def connect(
    path: str,
    family: str,
    timeout_seconds: float = 5.0,
    schema: pathlib.Path = SCHEMA_DIRECTORY,
    any_thread: bool = False,
) -> sqlite3.Connection:
    """
    Open a database that is there, upgrading it if an older tpops made it.

    @param timeout_seconds: how long to wait for another writer
    @param any_thread: whether several threads use it, one after the other
    @raise sqlite3.Error: when it is missing, damaged, busy, or from a newer tpops
    """
    uri = f"file:{urllib.parse.quote(os.path.abspath(path))}?mode=rw"
    connection = sqlite3.connect(
        uri, uri=True, timeout=timeout_seconds, isolation_level=None, check_same_thread=not any_thread
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        _upgrade(connection, family, schema)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def version(connection: sqlite3.Connection) -> int:
    """The version of an open database, 0 for an empty one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _upgrade(connection: sqlite3.Connection, family: str, schema: pathlib.Path) -> None:
    """Bring the database to the latest version, one transaction per step."""
    latest = latest_version(family, schema)
    if version(connection) > latest:
        raise WrongVersion(f"made by a newer tpops (version {version(connection)}, known is {latest})")
    while version(connection) < latest:
        connection.execute("BEGIN IMMEDIATE")
        try:
            _step(connection, family, schema)
        except sqlite3.Error:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def _step(connection: sqlite3.Connection, family: str, schema: pathlib.Path) -> None:
    """One upgrade, inside a transaction; the version is read again, another process may have been faster."""
    now = version(connection)
    if now == latest_version(family, schema):
        return
    name = f"{family}-{now}-to-{now + 1}.sql" if now else f"{family}-1.sql"
    for statement in _statements((schema / name).read_text("utf-8")):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {now + 1}")


def _statements(script: str) -> list[str]:
    """The statements of a script, one by one: executescript() would end the transaction."""
    statements: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
