"""
"tpops doctor": looks at any POP3 server as mail programs see it, and explains what it finds.

Purpose: finds out why a program does not get on with a server, ours or another.
Limits: nothing is deleted or marked.  Without --user only what can be seen before a login.  The password comes from a
hidden prompt or, with --stdin, from the first line of standard input.
Exit status: 1 when there is a problem.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import attrs
import click

from tpops.admin.doctor import before_login, clients, sessions
from tpops.admin.doctor.findings import OK, PROBLEM, WARNING, Finding, Findings, problem
from tpops.admin.doctor.sessions import Login, Refused
from tpops.admin.doctor.wire import Address, Broken
from tpops.admin.tls_facts import Trust

_PORTS = {"none": 110, "stls": 110, "implicit": 995}

_COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}


@click.command()
@click.argument("server", metavar="HOST[:PORT]")
@click.option(
    "--tls",
    type=click.Choice(["none", "stls", "implicit"]),
    help="How to begin TLS.  [default: implicit for port 995, else none]",
)
@click.option("--name", metavar="NAME", default="", help="Name that the certificate must have.  [default: HOST]")
@click.option("--ca", metavar="FILE", default="", help="Trust these certificates instead of the machine's.")
@click.option("--user", metavar="NAME", help="Log in as this user, and look at his mail.")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--messages", metavar="N", type=click.IntRange(0), default=20, help="Newest messages to read.  [20]")
@click.option("--guess", is_flag=True, help="Also try a wrong password; costs one failed login.")
@click.option("--idle", metavar="SECONDS", type=float, help="Also see whether a session lives that long in silence.")
@click.option("--timeout", metavar="SECONDS", type=float, default=30.0, help="Longest wait for an answer.  [30]")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_context
def doctor(
    context: click.Context,
    server: str,
    tls: str | None,
    name: str,
    ca: str,
    user: str | None,
    from_stdin: bool,
    messages: int,
    guess: bool,
    idle: float | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Examine the POP3 server at HOST as mail programs see it."""
    address = _address(server, tls, timeout)
    login = _login(user, from_stdin)
    looks: list[Callable[[], Findings]] = [
        lambda: before_login.greeting(address),
        lambda: before_login.certificate(address, Trust(ca, False), name or address.host),
        lambda: before_login.capa(address),
        lambda: before_login.wrong_commands(address),
    ]
    if address.tls != "implicit":
        looks.append(lambda: before_login.stls(address))
    if guess:
        looks.append(lambda: before_login.refusal(address, login.name if login else b"doctor"))
    if login is not None:
        looks += _with(address, login, messages, idle)
    elif idle is not None:
        raise click.UsageError("--idle goes with --user")
    found = list(_tell(looks, as_json))
    if as_json:
        click.echo(json.dumps([attrs.asdict(one) for one in found], ensure_ascii=False, indent=2))
    else:
        levels = [one.level for one in found]
        click.echo(f"{levels.count(PROBLEM)} problems, {levels.count(WARNING)} warnings")
    if any(one.level == PROBLEM for one in found):
        context.exit(1)


def _with(address: Address, login: Login, messages: int, idle: float | None) -> list[Callable[[], Findings]]:
    """What needs an account."""
    looks: list[Callable[[], Findings]] = [
        lambda: sessions.look(address, login, messages),
        lambda: sessions.stability(address, login),
        lambda: clients.all_of_them(address, login),
        lambda: sessions.lock(address, login),
    ]
    if idle is not None:
        looks.append(lambda: sessions.idle(address, login, idle))
    return looks


def _address(text: str, tls: str | None, timeout: float) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = text, ""
    host = host.removeprefix("[").removesuffix("]")
    if not host or (port and not (port.isdigit() and 0 < int(port) < 65536)):
        raise click.BadParameter(f"{text!r} is not HOST or HOST:PORT", param_hint="HOST[:PORT]")
    how = tls or ("implicit" if port == "995" else "none")
    return Address(host, int(port) if port else _PORTS[how], how, timeout)


def _login(user: str | None, from_stdin: bool) -> Login | None:
    if user is None:
        if from_stdin:
            raise click.UsageError("--stdin goes with --user")
        return None
    password = (
        sys.stdin.readline().rstrip("\r\n") if from_stdin else click.prompt("Password", hide_input=True, err=True)
    )
    if any(sign in user + password for sign in "\r\n\0"):
        raise click.ClickException("name and password cannot have line ends or NUL")
    return Login(user.encode(), password.encode())


def _tell(looks: list[Callable[[], Findings]], as_json: bool) -> Iterator[Finding]:
    """Carry the looks out; each finding is shown as soon as it is there."""
    for look in looks:
        for finding in _carried_out(look):
            if not as_json:
                _show(finding)
            yield finding


def _show(finding: Finding) -> None:
    colour = _COLOURS.get(finding.level)
    click.echo(f"{click.style(f'{finding.level:<8}', fg=colour)} {finding.subject}: {finding.text}")
    if finding.meaning:
        click.echo(f"         {finding.meaning}")


def _carried_out(look: Callable[[], Findings]) -> Iterator[Finding]:
    """The findings of one look; one that cannot go on is a finding, too."""
    try:
        yield from look()
    except Refused as refused:
        yield problem("login", f"the server says {refused}", "Nothing can be said of this user's mail.")
    except Broken as broken:
        yield problem("connection", str(broken), "Mail programs stop here, too.")
