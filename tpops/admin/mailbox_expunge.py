"""
"tpops mailbox expunge": remove messages of an account for good.

Purpose: by unique-id, age or size, or all of them; what will go is shown and asked first, and what went is told
afterwards, message by message.
Limits: messages that came or went while somebody was asked: only those that were shown are removed, known by their
unique-ids.  Nobody is asked with the lock in hand.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence
from typing import Any

import attrs
import click

from tpops.admin import mailbox_choice, mailbox_open
from tpops.admin.context import configuration, show
from tpops.admin.mailbox_choice import Choice, Chosen, Row
from tpops.admin.mailbox_open import Mailbox
from tpops.errors import RemoveFailed
from tpops.interfaces import IMaildrop


@attrs.frozen
class Outcome:
    """
    What became of the chosen messages.

    @ivar gone: those that somebody else had removed before
    @ivar why: the reason for what stayed, "" where nothing did
    @ivar left: how many messages there are now, without what was delivered meanwhile
    """

    removed: Sequence[Row]
    stayed: Sequence[Row]
    gone: Sequence[Row]
    why: str
    left: int


@click.command()
@click.argument("user")
@click.argument("unique_ids", metavar="[UNIQUE-ID]...", nargs=-1)
@mailbox_choice.options
@click.option("--all", "everything", is_flag=True, help="All messages.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and remove nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def expunge(
    context: click.Context,
    user: str,
    unique_ids: tuple[str, ...],
    older_than: int | None,
    larger_than: int | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """
    Remove messages of USER for good: those with these unique-ids, those that fit the options, or all.

    Several conditions together mean messages that fit all of them.
    """
    choice = Choice(unique_ids, older_than, larger_than)
    if everything == bool(choice):
        raise click.UsageError("say which: UNIQUE-IDs, --older-than and --larger-than, or --all alone")
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json does not ask: add --yes or --dry-run")

    async def all_of_it(mail: Mailbox) -> Outcome | None:
        async with mail.opened() as maildrop:
            headers = not (yes or as_json)
            chosen = await mailbox_choice.choose(maildrop, choice, time.time(), headers)
            if yes and not dry_run:
                return await _remove(mail, maildrop, chosen.rows)
        _tell_chosen(mail.name, chosen, as_json)
        if dry_run or not chosen.rows:
            return None
        _ask(f"Remove these {len(chosen.rows)} messages of {mail.name} for good?")
        async with mail.opened() as maildrop:
            return await _remove(mail, maildrop, chosen.rows)

    deputy = mailbox_open.deputy_of(configuration(context).config)
    outcome = mailbox_open.work_on(context, user, all_of_it, deputy)
    if outcome is None:
        return
    _tell_outcome(outcome, as_json)
    if outcome.stayed:
        raise click.ClickException(f"{len(outcome.stayed)} messages were not removed: {outcome.why}")


async def _remove(mail: Mailbox, maildrop: IMaildrop, rows: Sequence[Row]) -> Outcome:
    """Remove exactly these, wherever they stand now."""
    messages = maildrop.messages
    now = {messages.unique_id(number).decode("ascii"): number for number in range(1, messages.count + 1)}
    there = {now[row.unique_id]: row for row in rows if row.unique_id in now}
    kept: frozenset[int] = frozenset()
    why = ""
    try:
        if there:
            await mail.remove(maildrop, sorted(there))
    except RemoveFailed as failed:
        kept, why = frozenset(failed.kept), str(failed)
    removed = [row for number, row in there.items() if number not in kept]
    return Outcome(
        removed,
        [row for number, row in there.items() if number in kept],
        [row for row in rows if row.unique_id not in now],
        why,
        messages.count - len(removed),
    )


def _ask(question: str) -> None:
    """@raise click.Abort: at any answer but yes"""
    # The reactor has taken Ctrl-C for itself, and would wait for an answer all the same.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        click.confirm(question, abort=True)
    finally:
        signal.signal(signal.SIGINT, before)


def _tell_chosen(name: str, chosen: Chosen, as_json: bool) -> None:
    if as_json:
        _dump({"would_remove": [mailbox_choice.as_json(row) for row in chosen.rows], "undated": chosen.undated})
        return
    if chosen.rows:
        show(mailbox_choice.as_table(chosen.rows))
    click.echo(f"chosen: {len(chosen.rows)} messages of {name}, {chosen.octets} octets")
    if chosen.undated:
        click.echo(f"not chosen: {chosen.undated} messages that do not say when they arrived")


def _tell_outcome(outcome: Outcome, as_json: bool) -> None:
    groups = {"removed": outcome.removed, "stayed": outcome.stayed, "gone": outcome.gone}
    if as_json:
        ids: dict[str, Any] = {what: [row.unique_id for row in rows] for what, rows in groups.items()}
        _dump({**ids, "left": outcome.left})
        return
    for what, rows in groups.items():
        note = " (somebody else had removed it)" if what == "gone" else ""
        for row in rows:
            click.echo(f"{what} {row.unique_id}{note}")
    octets = sum(row.octets for row in outcome.removed)
    click.echo(f"removed {len(outcome.removed)} messages, {octets} octets; {outcome.left} are left")


def _dump(said: dict[str, Any]) -> None:
    click.echo(json.dumps(said, indent=2))
