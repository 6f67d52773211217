"""
"tpops db convert": mail from one store to another, with the unique-ids that clients know.

Purpose: a site moves from TPOPS' tables to schema v2, from Maildirs or mail spools into a database, or back to
Maildirs, and no client fetches a message twice.
Limits: the mail of an account is locked while it is copied, and its sessions get [IN-USE].  What is delivered into the
source later is copied by the next run.  The source stays as it is unless --remove-source is given.
Errors: one line for each account that could not be converted; the others are.  Exit status 1 then.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import attrs
import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from twisted.internet import reactor

from tpops import backend, mail_database
from tpops.admin import mailbox_open
from tpops.admin.context import configuration
from tpops.admin.conversion import Conversion, Copied
from tpops.admin.convert_accounts import convert_accounts
from tpops.backend import Backend
from tpops.config.schema import Config
from tpops.errors import LoginError, StorageError
from tpops.interfaces import IAccountAdmin
from tpops.mailbox import locations
from tpops.mailbox.locations import Maildrops
from tpops.model import Account

#: Names for mail in the tables of one kind, whichever is configured.
_SCHEMAS = ("classic", "v2")

_OWN = "mysql:$(user)"


@attrs.frozen
class _Place:
    """
    One side of a conversion.

    @ivar location: what the account's own location is replaced by; "" leaves it
    @ivar maildrops: where the mail is
    @ivar own: the maildrops were made for this command
    """

    location: str
    maildrops: Maildrops
    own: bool

    def account(self, account: Account) -> Account:
        """The account with its mail here."""
        return attrs.evolve(account, maildrop=self.location) if self.location else account


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--all", "everybody", is_flag=True, help="All accounts.")
@click.option(
    "--from",
    "source",
    metavar="PLACE",
    default="",
    help='Where the mail is: "classic" or "v2" (tables in [mysql]), or a location.  [default: as configured]',
)
@click.option("--to", "target", metavar="PLACE", required=True, help="Where it comes to, written in the same way.")
@click.option("--accounts", is_flag=True, help="Also copy accounts from TPOPS' table to schema v2.")
@click.option("--remove-source", is_flag=True, help="Remove what is the same in both places from the old one.")
@click.pass_context
def convert(
    context: click.Context,
    names: tuple[str, ...],
    everybody: bool,
    source: str,
    target: str,
    accounts: bool,
    remove_source: bool,
) -> None:
    """
    Copy the mail of accounts to another place, and compare it there.

    May be run again and again: what is there already is not copied, and what was delivered meanwhile is.
    """
    if bool(names) == everybody:
        raise click.UsageError("give the NAMEs of accounts, or --all")
    config = configuration(context).config
    if config.sessions.apart:
        # As root it would follow whatever links users have put into their homes.
        raise click.ClickException(
            'db convert works with the rights of one user; with sessions.run_as = "owner" the mail belongs to many: '
            'give it a configuration with run_as = "server" (-c FILE) and a server.user who may touch both places'
        )
    for place in (source, target):
        _check(place, config)
    deputy = mailbox_open.deputy_of(config)

    async def work(behind: Backend) -> bool:
        places = [_place(config, behind, place) for place in (source, target)]
        try:
            for place in places:
                if place.own:
                    place.maildrops.start()
            deputy.begin()
            chosen = list(_everybody(behind)) if everybody else list(names)
            if accounts:
                await convert_accounts(behind, chosen)
            return await _convert(behind, chosen, places[0], places[1], remove_source)
        finally:
            for place in places:
                if place.own:
                    await place.maildrops.stop()

    if not backend.run(config, work):
        context.exit(1)


def _check(place: str, config: Config) -> None:
    """@raise click.UsageError: when this is no place"""
    if not place or place in _SCHEMAS:
        return
    wrong = locations.problem_with(place)
    if wrong is not None:
        raise click.UsageError(f'{place!r} {wrong}; or it is "classic" or "v2"')
    if place.startswith("maildir:") and not config.maildir.uidl_map:
        raise click.UsageError("a Maildir keeps unique-ids in tpops_uidl: set maildir.uidl_map = true first")


def _place(config: Config, behind: Backend, place: str) -> _Place:
    """What a word or a location of the command line stands for."""
    if place not in _SCHEMAS:
        return _Place(place, behind.maildrops, own=False)
    tables = config.model_copy(update={"mysql": config.mysql.model_copy(update={"schema": place})})
    store = mail_database.driver(tables, reactor)
    return _Place(_OWN, Maildrops(_OWN, behind.names.split, {"mysql": store}), own=True)


def _everybody(behind: Backend) -> Iterable[str]:
    """
    The names of all accounts.

    @raise click.ClickException: when a source cannot tell them
    """
    for source in behind.sources:
        if IAccountAdmin.providedBy(source):
            found = [name for name, _ in IAccountAdmin(source).names()]
        else:
            found = [record.account.name for record in source.records()]
            if not found:
                raise click.ClickException(f"accounts source {source.name} does not tell its names; give them")
        yield from found


async def _convert(behind: Backend, names: Iterable[str], source: _Place, target: _Place, removing: bool) -> bool:
    """Account by account; whether all went well."""
    done, failed = Copied(0, 0, 0), 0
    with _progress() as progress:
        task = progress.add_task("", total=None)
        work = Conversion(source.maildrops, target.maildrops, removing, lambda octets: progress.advance(task, octets))
        for name in names:
            progress.reset(task, description=name, total=None)
            try:
                account = await behind.account(name)
                copied = await work.convert(
                    source.account(account), target.account(account), lambda octets: progress.update(task, total=octets)
                )
            except (StorageError, LoginError) as problem:
                failed += 1
                progress.console.print(f"{name}: not converted: {problem}", markup=False, soft_wrap=True)
                continue
            click.echo(_said(name, copied))
            done = Copied(
                done.copied + copied.copied,
                done.there + copied.there,
                done.octets + copied.octets,
                done.removed + copied.removed,
            )
    click.echo(_said("all together", done) + (f"; {failed} accounts were not converted" if failed else ""))
    return not failed


def _said(name: str, done: Copied) -> str:
    also = f", {done.removed} removed from the old place" if done.removed else ""
    return f"{name}: {done.copied} messages copied ({done.octets} octets), {done.there} were there; compared{also}"


@contextmanager
def _progress() -> Iterator[Progress]:
    """On standard error, where somebody looks at it."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        yield progress
