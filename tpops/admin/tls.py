"""
"tpops tls": are the certificates right, on disk and as clients get them?

Purpose: shows the certificates of the configuration and what its listeners serve, or what a server elsewhere serves.
Limits: nothing is changed.  Exit status 1 when there is a problem; warnings and notes do not count.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence

import attrs
import click
from cryptography import x509

from tpops.admin import tls_files, tls_probe
from tpops.admin.context import configuration
from tpops.admin.rights import runs_as
from tpops.admin.tls_facts import Facts, Finding, Trust, facts, is_address, is_for
from tpops.admin.tls_probe import Place
from tpops.config.schema import Config

#: Where to reach a listener that takes all addresses.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@attrs.frozen
class Look:
    """
    Facts of a server that was asked.

    @ivar tls: version and cipher, "" where there was no handshake
    """

    facts: Facts
    tls: str = ""


@click.group()
def tls() -> None:
    """Certificates: look at them."""


@tls.command("check")
@click.option("--ca", metavar="FILE", default="", help="Trust these certificates instead of the machine's.")
@click.option("--strict", is_flag=True, help="A self-signed certificate is a problem.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--connect", metavar="HOST:PORT", multiple=True, help="Look at this server only.  May be repeated.")
@click.option("--starttls", is_flag=True, help="Begin with STLS; for --connect.")
@click.option("--name", metavar="NAME", default="", help="Name to ask for; for --connect.  [default: its HOST]")
@click.pass_context
def check(
    context: click.Context,
    ca: str,
    strict: bool,
    as_json: bool,
    connect: tuple[str, ...],
    starttls: bool,
    name: str,
) -> None:
    """Look at the certificates of the configuration, and at what its running listeners serve."""
    if (starttls or name) and not connect:
        raise click.UsageError("--starttls and --name go with --connect")
    trust = Trust(ca, strict)
    now = datetime.datetime.now(datetime.UTC)
    if connect:
        files: list[tls_files.File] = []
        places = [_place(text, starttls) for text in connect]
        looks = [_look(place, name or place.host, now, trust, ()) for place in places]
    else:
        config = configuration(context).config
        try:
            who = runs_as(config)
        except KeyError as error:
            raise click.ClickException(f"server: {error.args[0]}") from None
        files = tls_files.look(config, who, now, trust)
        if not files:
            raise click.ClickException("there is no TLS: tls.certificate is not set")
        looks = _listeners(config, now, trust, [file.leaf for file in files if file.leaf is not None])
    shown = [Look(file.facts) for file in files] + looks
    _print(shown, as_json)
    if any(finding.level == "problem" for one in shown for finding in one.facts.findings):
        context.exit(1)


def _place(text: str, starttls: bool) -> Place:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise click.BadParameter(f"{text!r} is not HOST:PORT", param_hint="--connect")
    return Place(host, int(port), starttls)


def _listeners(
    config: Config, now: datetime.datetime, trust: Trust, expected: Sequence[x509.Certificate]
) -> list[Look]:
    """What the listeners of the configuration serve, where there is somebody."""
    looks = []
    for listen in config.listen:
        mode = config.tls_mode(listen)
        if mode == "off" or not (listen.port or listen.address.startswith("unix:")):
            continue
        if listen.address.startswith("unix:"):
            place = Place(listen.address.removeprefix("unix:"), 0, mode != "implicit")
        else:
            place = Place(_LOOPBACK.get(listen.address, listen.address), listen.port, mode != "implicit")
        looks.append(_look(place, config.server.hostname, now, trust, expected))
    return looks


def _look(place: Place, name: str, now: datetime.datetime, trust: Trust, expected: Sequence[x509.Certificate]) -> Look:
    """
    Ask one server.

    @param expected: certificates of which it should serve one; none for a server elsewhere
    """
    try:
        served = tls_probe.look(place, "" if is_address(name) else name)
    except OSError as error:
        level, more = ("note", "; is tpops running?") if expected else ("problem", "")
        if not isinstance(error, ConnectionError | FileNotFoundError):
            level, more = "problem", ""
        what = Finding(level, f"cannot look at it: {error.strerror or error}{more}")
        return Look(Facts(where=str(place), findings=(what,)))
    if not served.chain:
        return Look(Facts(where=str(place), findings=(Finding("problem", "it serves no certificate"),)))
    return Look(
        facts(str(place), served.chain, now, trust).also(tuple(_served_findings(served.chain[0], name, expected))),
        f"{served.version} {served.cipher}",
    )


def _served_findings(leaf: x509.Certificate, name: str, expected: Sequence[x509.Certificate]) -> Iterable[Finding]:
    if expected and leaf not in expected:
        why = "it serves another certificate than the files have: it could not read a renewed one, or is another server"
        yield Finding("problem", f"{why}; its log says more, a restart helps")
    if not expected and not is_for(leaf, name):
        yield Finding("problem", f"{name}, which clients ask for, is not among the names")


def _print(looks: Sequence[Look], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_row(one) for one in looks], ensure_ascii=False, indent=2))
        return
    for one in looks:
        click.echo(one.facts.where)
        for label, value in _lines(one):
            click.echo(f"  {label:<8} {value}")
    levels = [finding.level for one in looks for finding in one.facts.findings]
    click.echo(f"{levels.count('problem')} problems, {levels.count('warning')} warnings")


def _lines(one: Look) -> Iterable[tuple[str, str]]:
    what = one.facts
    if what.not_before is not None and what.not_after is not None:
        yield "names", ", ".join(what.names) or "none"
        yield "issuer", what.issuer
        left = f", {what.days_left} days left" if what.days_left is not None and what.days_left >= 0 else ""
        yield "valid", f"{what.not_before:%Y-%m-%d} to {what.not_after:%Y-%m-%d}{left}"
        yield "key", what.key
        yield "chain", f"{' < '.join(what.chain)} ({'trusted' if what.trusted else 'not trusted'})"
    if one.tls:
        yield "TLS", one.tls
    for finding in what.findings:
        yield f"{finding.level}:", finding.text


def _row(one: Look) -> dict[str, object]:
    row = attrs.asdict(one.facts)
    for key in ("not_before", "not_after"):
        row[key] = row[key] and row[key].isoformat()
    return {**row, "tls": one.tls}
