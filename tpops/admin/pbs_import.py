"""
"tpops pbs import": takes over the database of PBS, a file pbs.dat with USERMAP, ACCESSMAP, PBS and PBS_PARAM.

Purpose: reads an SQLite 3 file, or the text of a dump; names what cannot be right, row by row.  Columns are
taken by their place: (pop name, mail address, status), (ip, mail address, status), (ip, pop name, time), (name, value).
Limits: an SQLite 2 file has to be dumped first, by the program "sqlite".  The statements of a dump run in memory and
can reach no file.  Logins that have expired, or are in the future, stay behind.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
import urllib.parse
from collections.abc import Callable, Iterator

import attrs
import click

from tpops.admin import sources
from tpops.admin.pbs_store import opened
from tpops.config.schema import Config
from tpops.db import addresses, relay
from tpops.db.relay import Contents, Login, Rule, Sender

#: How the files begin.
_SQLITE_3 = b"SQLite format 3\0"
_SQLITE_2 = b"** This file contains an SQLite 2"

#: Tables of PBS, and how many columns each has.
_COLUMNS = {"USERMAP": 3, "ACCESSMAP": 3, "PBS": 3, "PBS_PARAM": 2}

#: Rows that are named at most when they cannot be taken over.
_MOST_NAMED = 20

Row = tuple[object, ...]


@attrs.define
class _Import:
    """
    What is taken over.

    @ivar problems: one line for each row that cannot be
    @ivar outdated: logins that do not count any more
    @ivar future: logins whose time has not come
    """

    config: Config
    now: int
    logins: list[Login] = attrs.field(factory=list)
    senders: list[Sender] = attrs.field(factory=list)
    rules: list[Rule] = attrs.field(factory=list)
    expire: int | None = None
    problems: list[str] = attrs.field(factory=list)
    outdated: int = 0
    future: int = 0

    def read(self, connection: sqlite3.Connection) -> None:
        """Everything that a database has."""
        takers: dict[str, Callable[[Row], None]] = {
            "PBS_PARAM": self._param,
            "USERMAP": self._sender,
            "ACCESSMAP": self._rule,
            "PBS": self._login,
        }
        tables = _tables(connection)
        for name, take in takers.items():
            if name not in tables:
                continue
            for number, row in enumerate(connection.execute(f'SELECT * FROM "{tables[name]}"'), 1):  # noqa: S608
                try:
                    take(row)
                except (ValueError, click.ClickException) as error:
                    why = error.message if isinstance(error, click.ClickException) else str(error)
                    self.problems.append(f"{name}, row {number}: {why}")

    def _param(self, row: Row) -> None:
        if _text(row[0]) == "expire":
            self.expire = _number(row[1], "expire", range(1, 31_536_001))

    def _sender(self, row: Row) -> None:
        name = sources.canonical(self.config, _text(row[0]))
        status = _number(row[2], "status", range(2))
        self.senders.append(Sender(name, relay.sender_to_store(_text(row[1])), status))

    def _rule(self, row: Row) -> None:
        status = _number(row[2], "status", range(3))
        sender = None if row[1] is None else relay.sender_to_store(_text(row[1]))
        if status == 2 and sender is None:
            raise ValueError("status 2 needs a sender address")
        self.rules.append(Rule(addresses.network(_text(row[0])), sender, status))

    def _login(self, row: Row) -> None:
        settings = self.config.pop_before_smtp
        where = addresses.site(_text(row[0]), settings.ipv6_prefix)
        if where is None:
            raise ValueError(f"{row[0]!r} is no IP address")
        name = sources.canonical(self.config, _text(row[1]))
        at = _number(row[2], "time", range(2**62))
        if at > self.now:
            self.future += 1
        elif at <= self.now - (self.expire or settings.expire_seconds):
            self.outdated += 1
        else:
            self.logins.append(Login(where, name, at))


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Only tell what would be taken over.")
@click.option("--skip-bad", is_flag=True, help="Leave out rows that cannot be taken over.")
@click.pass_context
def import_(context: click.Context, file: str, dry_run: bool, skip_bad: bool) -> None:
    """Take over FILE, the pbs.dat of PBS (SQLite 3) or a dump of it."""
    with opened(context) as (config, store):
        found = _Import(config, int(time.time()))
        try:
            with contextlib.closing(_database(file)) as connection:
                found.read(connection)
        except sqlite3.Error as error:
            raise click.ClickException(f"{file}: {error}") from None
        for problem in found.problems[:_MOST_NAMED]:
            click.echo(f"{file}: {problem}", err=True)
        if len(found.problems) > _MOST_NAMED:
            click.echo(f"{file}: and {len(found.problems) - _MOST_NAMED} more", err=True)
        if found.problems and not skip_bad:
            raise click.ClickException("nothing was taken over; correct these rows, or leave them out with --skip-bad")
        if not dry_run:
            store.put(Contents(found.logins, found.senders, found.rules, found.expire))
        click.echo("\n".join(_summary(found, dry_run)))


def _summary(found: _Import, dry_run: bool) -> Iterator[str]:
    yield f"{'would take' if dry_run else 'took'} over"
    yield f"  {len(found.senders)} senders of users (USERMAP)"
    yield f"  {len(found.rules)} rules of networks (ACCESSMAP)"
    yield f"  {len(found.logins)} logins (PBS); {found.outdated} had expired, {found.future} were in the future"
    if found.expire is not None:
        yield f"  expire: {found.expire} seconds (PBS_PARAM)"
    if found.problems:
        yield f"  left out {len(found.problems)} rows"


def _database(file: str) -> sqlite3.Connection:
    """The database in a file, whatever kind of file it is."""
    with open(file, "rb") as opened_file:
        head = opened_file.read(64)
    if head.startswith(_SQLITE_2):
        raise click.ClickException(
            f"{file} is an SQLite 2 file, which only the old program reads; convert it with: "
            "sqlite old.dat .dump | sqlite3 new.dat (package sqlite), and import new.dat"
        )
    if head.startswith(_SQLITE_3):
        return sqlite3.connect(f"file:{urllib.parse.quote(file)}?mode=ro", uri=True)
    try:
        with open(file, encoding="utf-8") as text:
            return _restored(text.read())
    except (UnicodeDecodeError, sqlite3.Error) as error:
        raise click.ClickException(f"{file} is neither an SQLite 3 file nor a dump of one: {error}") from None


def _restored(dump: str) -> sqlite3.Connection:
    """The database that a dump describes, in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.set_authorizer(_authorize)
    pending = ""
    for line in dump.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            if _matters(pending):
                connection.execute(pending)
            pending = ""
    if pending.strip():
        raise sqlite3.DatabaseError(f"it ends within a statement: {pending.strip()[:60]}")
    connection.set_authorizer(None)
    return connection


def _matters(statement: str) -> bool:
    """Whether a statement of a dump makes a table or a row; views and the like are of no use here."""
    words = statement.split(maxsplit=2)
    return [word.upper() for word in words[:2]] in (["CREATE", "TABLE"], ["INSERT", "INTO"])


def _authorize(action: int, *_: object) -> int:
    """What the statements of a dump may do: nothing outside the database in memory."""
    return sqlite3.SQLITE_DENY if action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH) else sqlite3.SQLITE_OK


def _tables(connection: sqlite3.Connection) -> dict[str, str]:
    """The tables of PBS that are there, by their names in capitals."""
    names = [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {name.upper(): name for name in names if name.upper() in _COLUMNS}
    if not found:
        raise sqlite3.DatabaseError(f"it has none of the tables {', '.join(_COLUMNS)}")
    for name, own in found.items():
        columns = len(connection.execute(f'PRAGMA table_info("{own}")').fetchall())
        if columns != _COLUMNS[name]:
            raise sqlite3.DatabaseError(f"{name} has {columns} columns, and PBS has {_COLUMNS[name]}")
    return found


def _text(value: object) -> str:
    if value is None or value == "":
        raise ValueError("a value is missing")
    return str(value)


def _number(value: object, what: str, allowed: range) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if number not in allowed:
        raise ValueError(f"the {what} is {value!r}, and not {allowed.start} to {allowed.stop - 1}")
    return number
