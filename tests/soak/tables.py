"""Mail in the tables of both schemas, seen behind the server's back, and put there as TPOPS does it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import MySQLdb

from tests.integration.mariadb import MariaDB

_SCHEMAS = Path(__file__).resolve().parents[2] / "tpops" / "db" / "schema"

#: The databases: their names by the schema.
V2, CLASSIC = "soak", "soak_classic"

_FILES: Mapping[str, tuple[str, ...]] = {V2: ("mysql-v2-accounts", "mysql-v2-mail"), CLASSIC: ("mysql-classic",)}

#: What must not be there when nobody is logged in: leases and locks, contents without a message, wrong counters.
_LEFT: Mapping[str, Mapping[str, str]] = {
    V2: {
        "leases": "SELECT COUNT(*) FROM tpops_lease WHERE owner <> ''",
        "contents without a message": "SELECT COUNT(*) FROM tpops_content c LEFT JOIN tpops_message m "
        "ON m.content = c.id WHERE m.content IS NULL",
        "wrong counters": "SELECT COUNT(*) FROM tpops_mailbox b WHERE messages <> "
        "(SELECT COUNT(*) FROM tpops_message m WHERE m.mailbox = b.id)",
    },
    CLASSIC: {"rows in TPOPS' table of locks": "SELECT COUNT(*) FROM locks"},
}


class NotToldApart(Exception):
    """Nobody knows whether the database has kept it."""


def create(mariadb: MariaDB) -> None:
    """Both databases, empty."""
    for database, characters in ((V2, "utf8mb4"), (CLASSIC, "latin1")):
        mariadb.run(f"CREATE DATABASE {database} CHARACTER SET {characters}")
        for name in _FILES[database]:
            mariadb.script(_SCHEMAS / f"{name}.sql", database)


def deliver(mariadb: MariaDB, login: str, octets: bytes) -> None:
    """
    A row as a delivery agent of TPOPS writes it.

    @raise OSError: when there is none
    @raise NotToldApart: when nobody knows
    """
    header, _, body = octets.partition(b"\n\n")
    size = len(octets) + octets.count(b"\n")
    sent = False
    try:
        with mariadb.connection(CLASSIC) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT uid FROM user WHERE login = %s", (login,))
            (uid,) = cursor.fetchone()
            sent = True
            cursor.execute(
                "INSERT INTO msg (uid, timestamp, header, body, size) VALUES (%s, NOW(), %s, %s, %s)",
                (uid, header + b"\n", body, size),
            )
    except MySQLdb.Error as error:
        raise (NotToldApart if sent else OSError)(str(error)) from error


def stored(mariadb: MariaDB, kind: str, name: str) -> list[bytes]:
    """The messages of somebody, in the tables of schema v2 or TPOPS' own."""
    if kind == "classic":
        sql = (
            "SELECT CAST(m.header AS BINARY), CAST(m.body AS BINARY) FROM msg m JOIN user u ON u.uid = m.uid "
            f"WHERE u.login = '{name}'"
        )
        return [header + b"\n" + body for header, body in mariadb.run(sql, database=CLASSIC)]
    rows = mariadb.run(
        "SELECT m.content, c.data, m.sequence FROM tpops_mailbox b JOIN tpops_message m ON m.mailbox = b.id "
        f"JOIN tpops_chunk c ON c.content = m.content WHERE b.name = '{name}' ORDER BY m.sequence, c.part",
        database=V2,
    )
    found: dict[int, bytes] = {}
    for content, data, _ in rows:
        found[content] = found.get(content, b"") + data
    return list(found.values())


def left(mariadb: MariaDB) -> dict[str, int]:
    """What must not be there when nobody is logged in, and how much of it there is."""
    return {
        what: int(mariadb.run(sql, database=database)[0][0])
        for database, questions in _LEFT.items()
        for what, sql in questions.items()
    }
