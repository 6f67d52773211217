"""
"tpops mailbox": the mail of an account, for an administrator.

Purpose: list and show messages; L{tpops.admin.mailbox_export} and L{tpops.admin.mailbox_expunge} have the other two.
Every kind of maildrop, each under the lock that a POP3 session takes.
Limits: the lock is held while something is read, never while output is written or somebody is asked.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import IO

import click

from tpops.admin import mailbox_choice, mailbox_open
from tpops.admin.context import configuration, show
from tpops.admin.mailbox_choice import Choice, Chosen
from tpops.admin.mailbox_export import export
from tpops.admin.mailbox_expunge import expunge
from tpops.admin.mailbox_header import printable
from tpops.admin.mailbox_open import Mailbox
from tpops.errors import MessageVanished
from tpops.interfaces import ISnapshot
from tpops.protocol.transparency import LineEnds, Top

#: A longer message waits on disk for its turn to be shown.
_IN_MEMORY_OCTETS = 1 << 20

_CHUNK_OCTETS = 1 << 16


@click.group()
def mailbox() -> None:
    """The mail of an account: list, show, export and remove messages."""


mailbox.add_command(export)
mailbox.add_command(expunge)


@mailbox.command("list")
@click.argument("user")
@click.argument("unique_ids", metavar="[UNIQUE-ID]...", nargs=-1)
@mailbox_choice.options
@click.option("--unique-ids", "only_ids", is_flag=True, help="Nothing but the unique-ids, one a line.")
@click.option("--no-headers", is_flag=True, help="Numbers, octets and unique-ids only: looks into no message.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_context
def list_(
    context: click.Context,
    user: str,
    unique_ids: tuple[str, ...],
    older_than: int | None,
    larger_than: int | None,
    only_ids: bool,
    no_headers: bool,
    as_json: bool,
) -> None:
    """List the messages of USER."""
    choice = Choice(unique_ids, older_than, larger_than)

    async def listed(mail: Mailbox) -> Chosen:
        async with mail.opened() as maildrop:
            return await mailbox_choice.choose(maildrop, choice, time.time(), not (only_ids or no_headers))

    deputy = mailbox_open.deputy_of(configuration(context).config)
    chosen = mailbox_open.work_on(context, user, listed, deputy)
    if as_json:
        # ASCII only: what strangers write may do something to a terminal.
        click.echo(json.dumps([mailbox_choice.as_json(row) for row in chosen.rows], indent=2))
    elif only_ids:
        for row in chosen.rows:
            click.echo(row.unique_id)
    else:
        show(mailbox_choice.as_table(chosen.rows))
        click.echo(f"{len(chosen.rows)} messages, {chosen.octets} octets")
    if chosen.undated:
        click.echo(f"left out: {chosen.undated} messages that do not say when they arrived", err=True)


@mailbox.command("show")
@click.argument("user")
@click.argument("message", metavar="NUMBER|UNIQUE-ID")
@click.option("--number", "kind", flag_value="number", help="It is a number.")
@click.option("--unique-id", "kind", flag_value="unique-id", help="It is a unique-id.")
@click.option("--top", metavar="N", type=click.IntRange(0), help="The header and N lines of text only.")
@click.option("--raw", is_flag=True, help="Octet by octet as stored, whatever a terminal makes of it.")
@click.pass_context
def show_(context: click.Context, user: str, message: str, kind: str | None, top: int | None, raw: bool) -> None:
    """
    Show one message of USER, header and text as they are.

    Whatever is not printable is shown as \\x1b and the like.
    """
    # The output may be a pager's: nobody shall wait for its reader with the lock in hand.
    with tempfile.SpooledTemporaryFile(_IN_MEMORY_OCTETS) as waiting:

        async def fetched(mail: Mailbox) -> None:
            async with mail.opened() as maildrop:
                number = _number(maildrop.messages, message, kind)
                try:
                    stored = await maildrop.open(number)
                except MessageVanished:
                    raise click.ClickException(f"another program has just removed message {message}") from None
                cut = None if top is None else Top(top)
                try:
                    while (cut is None or not cut.done) and (chunk := await mailbox_open.read(stored)):
                        waiting.write(chunk if cut is None else cut.feed(chunk))
                    if cut is not None:
                        waiting.write(cut.finish())
                finally:
                    stored.close()

        deputy = mailbox_open.deputy_of(configuration(context).config)
        mailbox_open.work_on(context, user, fetched, deputy)
        waiting.seek(0)
        out = sys.stdout.buffer
        for piece in _pieces(waiting) if raw else _safe(waiting):
            out.write(piece)
        out.flush()


def _number(messages: ISnapshot, text: str, kind: str | None) -> int:
    """
    Which message somebody means.

    @raise click.ClickException: when there is none, or it may be two
    """
    unique_id = text.encode("utf-8", "surrogateescape")
    by_id = next((one for one in range(1, messages.count + 1) if messages.unique_id(one) == unique_id), 0)
    by_number = int(text) if text.isascii() and text.isdigit() and 0 < int(text[:20]) <= messages.count else 0
    found = {"number": by_number, "unique-id": by_id}.get(kind or "", by_number or by_id)
    if not found:
        raise click.ClickException(f"there is no message {printable(text)}; there are {messages.count}")
    if kind is None and by_number and by_id and by_number != by_id:
        raise click.ClickException(
            f"{text} is the number of one message and the unique-id of message {by_id}: say --number or --unique-id"
        )
    return found


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_CHUNK_OCTETS):
        yield piece


def _safe(file: IO[bytes]) -> Iterator[bytes]:
    """Fit for a terminal, with LF line ends."""
    encoding = sys.stdout.encoding or "ascii"
    ends = LineEnds()
    decoder = getincrementaldecoder("utf-8")("backslashreplace")
    last = "\n"
    for piece in _pieces(file):
        text = printable(decoder.decode(ends.feed(piece)), "\n\t")
        last = text[-1:] or last
        yield text.encode(encoding, "backslashreplace")
    text = printable(decoder.decode(ends.finish(), True), "\n\t")
    yield text.encode(encoding, "backslashreplace")
    if (text[-1:] or last) != "\n":
        yield b"\n"
