"""
Which messages a command is about.

Purpose: the options with which "tpops mailbox" chooses messages, and the choosing.  Several options together choose
what fits all of them.
Limits: older than what is decided by L{tpops.admin.mailbox_header.Header.arrived}; a message that does not say when it
arrived is never older.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs
import click
from rich.table import Column, Table

from tpops.admin import mailbox_header
from tpops.admin.mailbox_header import Header, printable
from tpops.errors import MessageVanished, StorageUnavailable
from tpops.interfaces import IMaildrop

_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}
_OCTETS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

#: Unique-ids that are named when they are wrong.
_NAMED = 5


class Age(click.ParamType[int]):
    """A number and h, d or w, to seconds."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See L{click.ParamType.convert}."""
        found = re.fullmatch(r"(\d{1,6})([hdw])", str(value))
        if not found:
            self.fail(f"{value!r} is no age; write 12h, 30d or 8w", param, ctx)
        return int(found[1]) * _SECONDS[found[2]]


class Octets(click.ParamType[int]):
    """A number and nothing, K, M or G, to octets."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See L{click.ParamType.convert}."""
        found = re.fullmatch(r"(\d{1,15})([KMG]?)", str(value))
        if not found:
            self.fail(f"{value!r} is no size; write 500000, 500K, 10M or 1G", param, ctx)
        return int(found[1]) * _OCTETS[found[2]]


@attrs.frozen
class Choice:
    """
    What was asked for.

    @ivar unique_ids: these messages only, none for all
    @ivar older_than_seconds: those that arrived longer ago only
    @ivar larger_than_octets: those with more octets only
    """

    unique_ids: tuple[str, ...] = ()
    older_than_seconds: int | None = None
    larger_than_octets: int | None = None

    def __bool__(self) -> bool:
        return bool(self.unique_ids) or self.older_than_seconds is not None or self.larger_than_octets is not None


@attrs.frozen
class Row:
    """
    A chosen message.

    @ivar octets: as LIST announces them
    @ivar header: None where nobody has looked, or it cannot be read
    """

    number: int
    octets: int
    unique_id: str
    header: Header | None


@attrs.frozen
class Chosen:
    """
    What there is of it.

    @ivar undated: how many messages were left out since they do not say when they arrived
    """

    rows: list[Row]
    undated: int

    @property
    def octets(self) -> int:
        """Of all of them."""
        return sum(row.octets for row in self.rows)


def options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that both conditions have."""
    older = click.option("--older-than", metavar="AGE", type=Age(), help="Those that arrived longer ago: 12h, 30d, 8w.")
    larger = click.option("--larger-than", metavar="SIZE", type=Octets(), help="Those with more octets: 500K, 10M, 1G.")
    return older(larger(command))


async def choose(maildrop: IMaildrop, choice: Choice, now: float, headers: bool) -> Chosen:
    """
    The chosen messages in order.

    @param headers: look into each of them
    @raise click.ClickException: when there is no message with one of the unique-ids
    """
    messages = maildrop.messages
    wanted = set(choice.unique_ids)
    rows, undated = [], 0
    for number in range(1, messages.count + 1):
        unique_id, octets = messages.unique_id(number).decode("ascii"), messages.sizes[number - 1]
        if choice.unique_ids and unique_id not in wanted:
            continue
        wanted.discard(unique_id)
        if choice.larger_than_octets is not None and octets <= choice.larger_than_octets:
            continue
        try:
            header = await _header(maildrop, number) if headers or choice.older_than_seconds is not None else None
        except MessageVanished:
            continue  # another program has just removed it
        if choice.older_than_seconds is not None:
            if header is None or header.arrived is None:
                undated += 1
                continue
            if header.arrived >= now - choice.older_than_seconds:
                continue
        rows.append(Row(number, octets, unique_id, header))
    if wanted:
        raise click.ClickException(f"there is no message with the unique-id {_some(wanted)}; nothing was done")
    return Chosen(rows, undated)


def as_table(rows: list[Row]) -> Table:
    """For people."""
    table = Table(
        Column("No.", justify="right"),
        Column("Octets", justify="right"),
        Column("Date"),
        Column("From", overflow="ellipsis"),
        Column("Subject", overflow="ellipsis"),
        Column("Unique-id", overflow="fold"),
    )
    for row in rows:
        header = row.header
        told = (header.date_text or "", printable(header.author), printable(header.subject)) if header else ("", "", "")
        table.add_row(str(row.number), str(row.octets), *told, row.unique_id)
    return table


def as_json(row: Row) -> dict[str, Any]:
    """For programs."""
    said: dict[str, Any] = {"number": row.number, "octets": row.octets, "unique_id": row.unique_id}
    if row.header is not None:
        said.update(date=row.header.date_text, **{"from": row.header.author, "subject": row.header.subject})
    return said


async def _header(maildrop: IMaildrop, number: int) -> Header | None:
    """None when it cannot be read."""
    try:
        message = await maildrop.open(number)
        try:
            return mailbox_header.parse(await mailbox_header.beginning(message))
        finally:
            message.close()
    except StorageUnavailable:
        return None


def _some(unique_ids: set[str]) -> str:
    named = [printable(repr(one)) for one in sorted(unique_ids)]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more
