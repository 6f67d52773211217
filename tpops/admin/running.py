"""
"tpops who", "kick", "stats", "penalty", "reload", "drain": a running server, through its control socket.

Limits: who may use the socket may do all of this; see [admin].
"""

from __future__ import annotations

import json
from typing import Any

import click
from rich.table import Column, Table

from tpops.admin.context import show
from tpops.admin.server_socket import Server

_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.command()
@click.option("--user", metavar="NAME", help="Only of this user.")
@click.option("--address", metavar="ADDRESS", help="Only from this address.")
@click.option("--state", type=click.Choice(["login", "transaction", "update"]), help="Only in this state.")
@_json
@click.pass_context
def who(context: click.Context, user: str | None, address: str | None, state: str | None, as_json: bool) -> None:
    """List the sessions of the running server, the oldest first."""
    sessions = Server(context).ask("who", user=user, address=address, state=state)["sessions"]
    sessions.sort(key=lambda one: -one["seconds"])
    if as_json:
        click.echo(json.dumps(sessions, ensure_ascii=False, indent=2))
        return
    show(sessions_table(sessions))
    click.echo(f"{len(sessions)} sessions")


def sessions_table(sessions: list[dict[str, Any]]) -> Table:
    """Sessions, one a row."""
    right = ("Time", "Idle", "Sent")
    names = ("Session", "User", "From", "State", *right, "TLS", "Does")
    table = Table(*(Column(name, justify="right" if name in right else "left") for name in names))
    for one in sessions:
        table.add_row(
            one["session"],
            user_of(one),
            one["peer"],
            one["state"],
            duration(one["seconds"]),
            duration(one["idle"]),
            octets(one["octets"]),
            one["tls"].partition(" ")[0] or "-",
            one["doing"] or "-",
        )
    return table


def user_of(session: dict[str, Any]) -> str:
    """The user; in parentheses the name of somebody who has not logged in."""
    text = session["user"] if session["user"] is not None else f"({session['named'] or ''})"
    return "".join(one if one.isprintable() else "?" for one in text)


def duration(seconds: float) -> str:
    """Seconds as people write them."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole // 60 % 60:02d}m"


def octets(count: float) -> str:
    """Octets, in units of 1024."""
    for unit in ("", "K", "M", "G"):
        if count < 1024:
            return f"{count:.0f}{unit}" if not unit or count >= 10 else f"{count:.1f}{unit}"
        count /= 1024
    return f"{count:.1f}T"


@click.command()
@click.argument("session", required=False)
@click.option("--user", metavar="NAME", help="All sessions of this user.")
@click.option("--address", metavar="ADDRESS", help="All sessions from this address.")
@_json
@click.pass_context
def kick(context: click.Context, session: str | None, user: str | None, address: str | None, as_json: bool) -> None:
    """End SESSION, as "tpops who" names it, or all of a user or an address; nothing of theirs is deleted."""
    if not (session or user or address):
        raise click.UsageError("say whom: SESSION, --user or --address")
    answer = Server(context).ask("kick", session=session, user=user, address=address)
    if as_json:
        click.echo(json.dumps(answer))
    else:
        click.echo(f"ended {len(answer['ended'])} sessions {' '.join(answer['ended'])}".rstrip())
        if answer["updating"]:
            click.echo(f"removing their mail just now, left alone: {' '.join(answer['updating'])}")
    if not answer["ended"]:
        context.exit(1)


@click.command()
@_json
@click.pass_context
def stats(context: click.Context, as_json: bool) -> None:
    """Show what has happened since the server started."""
    answer = Server(context).ask("stats")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    show(processes_table(answer["processes"]))
    show(figures_table(answer["totals"]))


def processes_table(processes: list[dict[str, Any]]) -> Table:
    """The processes that serve."""
    table = Table("Worker", "Process", Column("Sessions", justify="right"), Column("CPU", justify="right"))
    for one in sorted(processes, key=lambda one: (one["worker"], one["pid"])):
        name = str(one["worker"]) if one["worker"] else "-"
        table.add_row(name, str(one["pid"]), str(one["sessions"]), f"{one['cpu_seconds']:.1f}s")
    return table


def figures_table(totals: dict[str, Any]) -> Table:
    """Figures, one a row."""
    table = Table("What", Column("Count", justify="right"), Column("Last minute", justify="right"))
    recent = totals["recent"]
    lately = {"ended": recent["ended"], "logins": recent["logins"], "failures": recent["failures"]}
    for name, title in _TITLES:
        value = totals.get(name, 0)
        if isinstance(value, dict):
            total = sum(value.values())
            table.add_row(title, str(total), str(lately.get(name, "")))
            for part, count in sorted(value.items(), key=lambda one: -one[1]):
                if count:
                    table.add_row(f"  {part or '-'}", octets(count) if name == "octets" else str(count), "")
        else:
            table.add_row(title, str(value), str(lately.get(name, "")))
    for sink, told in totals["sinks"].items():
        for outcome, count in told.items():
            table.add_row(f"Sink {sink}: {outcome}", str(count), "")
    for name, title in _MEANS:
        count = sum(totals[name]["buckets"])
        table.add_row(title, f"{totals[name]['total'] / count:.3f}s" if count else "-", "")
    return table


_MEANS = (("login_seconds", "Mean login"), ("update_seconds", "Mean QUIT"), ("session_seconds", "Mean session"))

_TITLES = (
    ("sessions", "Sessions now"),
    ("ended", "Sessions ended"),
    ("encrypted", "of them with TLS"),
    ("logins", "Logins"),
    ("failures", "Failed logins"),
    ("refusals", "Refused logins"),
    ("limits", "Limits reached"),
    ("ends", "Ends of sessions"),
    ("messages", "Messages"),
    ("octets", "Octets sent"),
    ("listings", "Listings"),
    ("queues", "Waiting"),
    ("dropped", "Lost log lines, failed sinks"),
    ("worker_restarts", "Workers restarted"),
)


@click.group()
def penalty() -> None:
    """Who waits longer for the answer to a wrong password."""


@penalty.command("list")
@_json
@click.pass_context
def list_penalties(context: click.Context, as_json: bool) -> None:
    """List clients and names with failed logins that still count."""
    found = Server(context).ask("penalties")["penalties"]
    found.sort(key=lambda one: (-one["failures"], one["seconds"]))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    table = Table("Kind", "Who", Column("Failures", justify="right"), Column("Last one", justify="right"))
    for one in found:
        shown = "".join(sign if sign.isprintable() else "?" for sign in one["key"])
        table.add_row(one["kind"], shown, str(one["failures"]), f"{duration(one['seconds'])} ago")
    show(table)


@penalty.command()
@click.argument("name", metavar="NAME|ADDRESS")
@click.pass_context
def clear(context: click.Context, name: str) -> None:
    """Forget the failed logins of a name or an address."""
    if not Server(context).ask("forgive", who=name)["forgiven"]:
        raise click.ClickException(f"{name} has no failed logins that count; 'tpops penalty list' shows all")
    click.echo(f"forgot the failed logins of {name}")


@click.command()
@click.pass_context
def reload(context: click.Context) -> None:
    """Let the server read its configuration again, as HUP does; 1 and every problem where that fails."""
    answer = Server(context).ask("reload")
    if answer["reloaded"]:
        click.echo("reloaded: new connections get the new configuration")
        return
    for problem in answer["problems"]:
        click.echo(problem, err=True)
    click.echo("nothing has changed", err=True)
    context.exit(1)


@click.command()
@click.pass_context
def drain(context: click.Context) -> None:
    """Stop the server as TERM does: nobody gets in any more, sessions have server.drain_seconds to end."""
    answer = Server(context).ask("drain")
    click.echo(f"the server stops; {answer['draining']} sessions may come to their end")
