"""
"tpops mailbox export": copy messages of an account out of whatever store they are in.

Purpose: a backup, or the move to another server: octet by octet, in pieces of bounded size, with the unique-ids that
clients know.  What is written, and that it is complete or not there, is in L{tpops.admin.export_targets}.
Limits: the maildrop is locked until the last message is read: with C{-} as the target, as long as the reader at the
other end of the pipe needs.  Flags are not copied: POP3 has none.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tpops.admin import mailbox_choice, mailbox_header, mailbox_open
from tpops.admin.context import configuration
from tpops.admin.export_targets import About, EmlDirectory, MaildirDirectory, MboxFile, MboxStream, Taken, Target
from tpops.admin.mailbox_choice import Choice, Row
from tpops.admin.mailbox_open import Mailbox
from tpops.errors import MessageVanished, StorageError
from tpops.interfaces import IMaildrop, IStoredMessage
from tpops.process.privileges import Deputy

_KINDS: dict[str, Callable[[str], Target]] = {"mbox": MboxFile, "maildir": MaildirDirectory, "eml": EmlDirectory}


@click.command()
@click.argument("user")
@click.argument("target", metavar="TARGET")
@click.argument("unique_ids", metavar="[UNIQUE-ID]...", nargs=-1)
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(_KINDS)),
    default="mbox",
    show_default=True,
    help="One mbox file, a Maildir, or a directory of .eml files.",
)
@mailbox_choice.options
@click.pass_context
def export(
    context: click.Context,
    user: str,
    target: str,
    unique_ids: tuple[str, ...],
    kind: str,
    older_than: int | None,
    larger_than: int | None,
) -> None:
    """
    Copy messages of USER to TARGET, which must not be there yet: all, those with these unique-ids, or those that fit.

    With - as TARGET, an mbox goes to standard output.  Nothing of USER's mail is changed.
    """
    to_stdout = target == "-"
    if to_stdout and kind != "mbox":
        raise click.UsageError(f"only an mbox goes to standard output; give --format {kind} a TARGET")
    if not target.rstrip("/"):
        raise click.UsageError("TARGET must be the name of a file or directory")
    choice = Choice(unique_ids, older_than, larger_than)
    deputy = mailbox_open.deputy_of(configuration(context).config)
    made = MboxStream(sys.stdout.buffer) if to_stdout else _KINDS[kind](target)
    with _opened(made, target, deputy), _progress() as progress:
        writing = _Writing(made, deputy, progress)

        async def all_of_it(mail: Mailbox) -> None:
            async with mail.opened() as maildrop:
                chosen = await mailbox_choice.choose(maildrop, choice, time.time(), headers=False)
                writing.begin(sum(row.octets for row in chosen.rows))
                for row in chosen.rows:
                    await writing.copy(mail, maildrop, row)

        mailbox_open.work_on(context, user, all_of_it, deputy)
        with deputy.as_root():
            made.publish()
    for row in writing.gone:
        click.echo(f"left out: another program has just removed message {row.number}, {row.unique_id}", err=True)
    click.echo(f"exported {writing.count} messages, {writing.octets} octets", err=to_stdout)


@contextmanager
def _opened(target: Target, path: str, deputy: Deputy) -> Iterator[None]:
    """Within, the target takes messages; nothing of it is left unless it is published."""
    # The reactor has a word for it only while it runs; a command that is ended leaves nothing behind.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    try:
        with deputy.as_root():
            target.open()
        yield
    except Taken as taken:
        raise click.ClickException(f"{taken} is there already; nothing is exported") from None
    except BrokenPipeError:
        raise
    except OSError as problem:
        raise click.ClickException(f"{path}: {problem.strerror or problem}; nothing is exported") from None
    finally:
        with deputy.as_root():
            target.discard()
        signal.signal(signal.SIGTERM, before)


def _progress() -> Progress:
    """On standard error, where somebody looks at it."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


@attrs.define
class _Writing:
    """
    Messages on their way.

    @ivar count: how many have been written
    @ivar octets: their stored octets
    @ivar gone: those that were not there any more
    """

    _target: Target
    _deputy: Deputy
    _progress: Progress
    count: int = 0
    octets: int = 0
    gone: list[Row] = attrs.Factory(list)
    _task: TaskID = attrs.field(init=False)

    def begin(self, octets: int) -> None:
        """So much there will be."""
        self._task = self._progress.add_task("exporting", total=octets)

    async def copy(self, mail: Mailbox, maildrop: IMaildrop, row: Row) -> None:
        """Copy one message."""
        try:
            try:
                stored = await maildrop.open(row.number)
            except MessageVanished:
                self.gone.append(row)
                return
            try:
                await self._copy(mail, stored, row)
            finally:
                stored.close()
        except StorageError as problem:
            raise click.ClickException(
                f"message {row.number}, {row.unique_id}: {problem}; nothing is exported"
            ) from None
        self.count += 1

    async def _copy(self, mail: Mailbox, stored: IStoredMessage, row: Row) -> None:
        chunk = await mailbox_header.beginning(stored)
        header = mailbox_header.parse(chunk)
        arrived = time.time() if header.arrived is None else max(header.arrived, 0.0)
        about = About(self.count + 1, row.unique_id.encode("ascii"), arrived, header.sender)
        await mail.run_in_thread(self._as_root, self._target.begin, about)
        while chunk:
            await mail.run_in_thread(self._as_root, self._target.write, chunk)
            self.octets += len(chunk)
            self._progress.advance(self._task, len(chunk))
            chunk = await mailbox_open.read(stored)
        await mail.run_in_thread(self._as_root, self._target.end)

    def _as_root(self, work: Callable[..., Any], *arguments: Any) -> None:
        """For a thread."""
        with self._deputy.as_root():
            work(*arguments)
