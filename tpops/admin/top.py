"""
"tpops top": the running server, live, until q or Ctrl-C.

Purpose: sessions by state, rates of the last minute, failures and limits since the start, and the sessions, the busiest
first.
Limits: for terminals; as many sessions as fit.  For programs there are "tpops who --json" and "tpops stats --json".
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tpops.admin.running import duration, octets, sessions_table
from tpops.admin.server_socket import Server

#: Lines that are not sessions.
_OTHER_LINES = 10


@click.command()
@click.option(
    "--interval", type=click.FloatRange(0.2, 60), default=2.0, show_default=True, help="Seconds between looks."
)
@click.pass_context
def top(context: click.Context, interval: float) -> None:
    """Watch the running server; q ends it."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.ClickException("this is for terminals; use 'tpops who --json' and 'tpops stats --json'")
    server = Server(context)
    console = Console(markup=False)
    view = _view(server, console)
    with _keys(), Live(view, console=console, screen=True, auto_refresh=False) as live:
        live.refresh()
        with contextlib.suppress(KeyboardInterrupt):
            while not _quits(interval):
                live.update(_view(server, console), refresh=True)


@contextlib.contextmanager
def _keys() -> Iterator[None]:
    """Each key counts at once, and is not shown."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _quits(seconds: float) -> bool:
    """Wait; whether somebody has pressed q, or has gone."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left)
        if ready and os.read(sys.stdin.fileno(), 1) in (b"q", b"Q", b""):
            return True
    return False


def _view(server: Server, console: Console) -> Group:
    """What is shown."""
    answer = server.ask("stats")
    sessions: list[dict[str, Any]] = server.ask("who")["sessions"]
    sessions.sort(key=lambda one: (not one["doing"], one["idle"]))
    shown = sessions[: max(1, console.height - _OTHER_LINES)]
    rest = len(sessions) - len(shown)
    last = f"{rest} more sessions; q ends this" if rest > 0 else "q ends this"
    return Group(*_head(answer), sessions_table(shown), Text(last, style="dim"))


def _head(answer: dict[str, Any]) -> Iterator[Text | Table]:
    totals = answer["totals"]
    up = duration(time.time() - min(one["started"] for one in answer["processes"]))
    recent, states = totals["recent"], totals["sessions"]
    yield Text(
        f"tpops: {sum(states.values())} sessions ({', '.join(f'{count} {name}' for name, count in states.items())}),"
        f" {totals['processes']} processes, up {up}"
    )
    yield Text(
        f"last minute: {recent['logins']} logins, {recent['failures']} failed, {recent['ended']} sessions ended;"
        f" since the start: {sum(totals['logins'].values())} logins, {octets(sum(totals['octets'].values()))} sent"
    )
    for title, name in (("failed", "failures"), ("refused", "refusals"), ("limits", "limits")):
        yield Text(f"{title}: " + (", ".join(f"{one} {count}" for one, count in totals[name].items()) or "none"))
