"""
"tpops db": the tables in MySQL or MariaDB.

Purpose: make them, bring those of an older tpops up to date, tell what is there, and bring mail in or out.  The
database is that of [mysql], or of the first [[accounts]] with driver "mysql".
Limits: making and changing tables needs more rights than serving does; --user is for somebody who has them.
Errors: one line, and exit status 1; "status" also has it where the tables are not what the configuration needs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click
from rich.table import Table

from tpops import mail_database
from tpops.admin.context import configuration, show
from tpops.admin.convert import convert
from tpops.cred import drivers
from tpops.cred.password_file import read_secret
from tpops.db.mysql_servers import Access, Line
from tpops.errors import ConfigError

if TYPE_CHECKING:
    from tpops.db.mysql import Client

_F = TypeVar("_F", bound=Callable[..., Any])

#: How long changing a table may take.
_HOURS = 12 * 3600.0

_V2_COUNTS = (
    ("mailboxes", "SELECT COUNT(*) FROM tpops_mailbox"),
    ("messages", "SELECT COALESCE(SUM(messages), 0) FROM tpops_mailbox"),
    ("octets", "SELECT COALESCE(SUM(octets), 0) FROM tpops_mailbox"),
)
_CLASSIC_COUNTS = (
    ("users", "SELECT COUNT(*) FROM user"),
    ("messages", "SELECT COUNT(*) FROM msg"),
    ("octets", "SELECT COALESCE(SUM(size), 0) FROM msg"),
)
_LEASES = (
    "SELECT m.name, l.owner, TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), l.expires_at) FROM tpops_lease l "
    "JOIN tpops_mailbox m ON m.id = l.mailbox WHERE l.owner <> '' ORDER BY m.name"
)
_LOCKS = (
    "SELECT u.login, CONCAT('process ', l.pid), %s - (UNIX_TIMESTAMP() - UNIX_TIMESTAMP(l.timestamp)) FROM locks l "
    "LEFT JOIN user u ON u.uid = l.uid ORDER BY u.login"
)


def _who(command: _F) -> _F:
    """The options that say who makes and changes tables."""
    user = click.option(
        "--user", metavar="NAME", help="The database's user who may do this, if not the configured one."
    )
    file = click.option("--password-file", metavar="FILE", help="His password; otherwise it is asked for.")
    return user(file(command))


@click.group("db")
def database() -> None:
    """The tables in MySQL or MariaDB: make them, bring them up to date, look at them."""


database.add_command(convert)


@database.command("init")
@click.option("--classic", is_flag=True, help="The tables of TPOPS instead of schema v2.")
@_who
@click.pass_context
def init(context: click.Context, classic: bool, user: str | None, password_file: str | None) -> None:
    """Make the tables in an empty database."""
    _migrate(context, "make_classic" if classic else "make", user, password_file)


@database.command()
@_who
@click.pass_context
def upgrade(context: click.Context, user: str | None, password_file: str | None) -> None:
    """Bring the tables of schema v2 up to date; what was cut off is gone on with."""
    _migrate(context, "upgrade", user, password_file)


@database.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Tell which tables there are, how much is in them, and which mailboxes are locked."""
    config = configuration(context).config
    migrate = _load("tpops.db.migrate")
    with _connected(mail_database.access(config)) as client:
        versions = migrate.versions(client)
        names = migrate.tables(client)
        missing = migrate.outdated(versions) if versions else []
        found: dict[str, Any] = {"v2": dict(versions), "outdated": missing}
        v2, classic = "mail" in versions, migrate.CLASSIC_TABLES - {"pbs"} <= names
        if v2:
            found["v2_mail"] = _counted(client, _V2_COUNTS, _LEASES, ())
        if classic:
            found["classic_mail"] = _counted(client, _CLASSIC_COUNTS, _LOCKS, (config.mysql.keep_seconds,))
    wrong = _wrong(missing, v2, classic, mail_database.wanted(config), config.mysql.schema)
    if as_json:
        click.echo(json.dumps({**found, "problems": wrong}, ensure_ascii=False, indent=2))
    else:
        _show(found)
        for problem in wrong:
            click.echo(f"problem: {problem}", err=True)
    context.exit(1 if wrong else 0)


def _wrong(missing: list[str], v2: bool, classic: bool, wanted: bool, schema: object) -> list[str]:
    """What does not go with the configuration."""
    found = [
        f'the tables for {part} are missing or of an older tpops; "tpops db upgrade" puts it right' for part in missing
    ]
    if wanted and schema == "v2" and not v2 and "mail" not in missing:
        found.append('there are no tables of schema v2; "tpops db init" makes them')
    if wanted and schema == "classic" and not classic:
        found.append('there are no tables of TPOPS; "tpops db init --classic" makes them')
    return found


def _counted(client: Client, counts: tuple[tuple[str, str], ...], locked: str, values: tuple[object, ...]) -> Any:
    """How much there is, and who has what locked."""
    found: dict[str, Any] = {name: int(client.select(sql, ()).rows[0][0]) for name, sql in counts}
    found["locked"] = [
        {"name": name, "by": by, "seconds": None if seconds is None else int(seconds)}
        for name, by, seconds in client.select(locked, values).rows
    ]
    return found


def _show(found: dict[str, Any]) -> None:
    """The same for people."""
    for part, version in found["v2"].items():
        click.echo(f"schema v2, {part}: version {version}")
    for kind, key in (("schema v2", "v2_mail"), ("classic schema", "classic_mail")):
        if key in found:
            counts = ", ".join(f"{value} {name}" for name, value in found[key].items() if name != "locked")
            click.echo(f"mail in {kind}: {counts}")
    if not found["v2"] and "classic_mail" not in found:
        click.echo("no tables of tpops or TPOPS")
    locked = [one for key in ("v2_mail", "classic_mail") for one in found.get(key, {}).get("locked", ())]
    if locked:
        table = Table("Mail of", "Locked by", "For at most (seconds)")
        for one in locked:
            table.add_row(str(one["name"]), str(one["by"]), str(one["seconds"]))
        show(table)


def _migrate(context: click.Context, what: str, user: str | None, password_file: str | None) -> None:
    """Make or change tables, and tell."""
    access = mail_database.access(configuration(context).config)
    if user is not None:
        secret = (
            read_secret(password_file, "--password-file")
            if password_file
            else click.prompt(f"Password of {user}", hide_input=True, default="", show_default=False)
        )
        access = attrs.evolve(access, user=user, password=secret)
    elif password_file is not None:
        raise click.UsageError("--password-file goes with --user")
    migrate = _load("tpops.db.migrate")
    with _connected(access) as client:
        client.select("SELECT 1", ())
    with _connected(attrs.evolve(access, timeout_seconds=_HOURS)) as client:
        done = 0
        for one in getattr(migrate, what)(client):
            click.echo(one)
            done += 1
        if not done:
            click.echo("everything is up to date")


@contextmanager
def _connected(access: Access) -> Iterator[Client]:
    """A connection; errors are told in one line."""
    mysql, migrate = _load("tpops.db.mysql"), _load("tpops.db.migrate")
    client = mysql.Client(access, Line(access.servers, time.monotonic), writable=True)
    try:
        yield client
    except mysql.DatabaseFailed as failed:
        raise click.ClickException(f"{failed}{_hint(failed.number)}") from None
    except migrate.CannotMigrate as problem:
        raise click.ClickException(str(problem)) from None
    finally:
        client.close()


def _hint(number: int) -> str:
    """What to do about an error of the server's."""
    if number in (1044, 1142, 1370):
        return "; give --user somebody who may do this: GRANT CREATE, ALTER, INDEX, REFERENCES, SELECT, INSERT, UPDATE"
    return ""


def _load(module: str) -> Any:
    """A module that needs the client library."""
    try:
        return import_module(module)
    except ImportError as problem:
        raise ConfigError([drivers.missing('"tpops db"', "mysql", problem)]) from problem
