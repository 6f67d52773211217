"""
"tpops pw": stored passwords, made and tested; and how commands ask for a password.

Purpose: makes what goes into a passwd-file or another server's accounts, and tells whether a stored one fits.
Limits: passwords come from a hidden prompt or, with --stdin, from the first line of standard input; never from
the command line, where others could read them.  The prompts of "tpops pw" go to standard error, so that standard
output has the hash alone.
"""

from __future__ import annotations

import sys

import click
from click.core import ParameterSource
from rich.table import Table

from tpops.admin.context import show
from tpops.cred import hashes

stdin_option = click.option("--stdin", "from_stdin", is_flag=True, help="Read the password from standard input.")
scheme_option = click.option(
    "--scheme",
    metavar="S",
    default=hashes.DEFAULT_SCHEME,
    show_default=True,
    help=f"How the password is stored: {', '.join(hashes.schemes())}; .b64 or .hex behind it encodes the data.",
)


def read_password(from_stdin: bool, twice: bool, err: bool) -> bytes:
    """
    A password from the first line of standard input, or from a hidden prompt.

    @param err: prompt on standard error
    """
    if from_stdin:
        return sys.stdin.buffer.readline().rstrip(b"\r\n")
    again = "The same again" if twice else False
    typed: str = click.prompt("Password", hide_input=True, confirmation_prompt=again, err=err)
    return typed.encode("utf-8", "surrogateescape")


def new_hash(from_stdin: bool, scheme: str, err: bool = False) -> str:
    """
    Ask for a new password.

    @param err: prompt on standard error
    @return: its stored form
    """
    try:
        return hashes.hash_password(read_password(from_stdin, twice=True, err=err), scheme)
    except ValueError as error:
        raise click.ClickException(str(error)) from None


@click.command("pw")
@scheme_option
@stdin_option
@click.option("--test", "stored", metavar="HASH", help="Say whether HASH fits the password: exit status 0 or 1.")
@click.option("--list", "as_list", is_flag=True, help="List the schemes, the best first.")
@click.pass_context
def pw(context: click.Context, scheme: str, from_stdin: bool, stored: str | None, as_list: bool) -> None:
    """Make the stored form of a password, or test one.  Put HASH into single quotes."""
    chosen = context.get_parameter_source("scheme") is not ParameterSource.DEFAULT
    if chosen + as_list + (stored is not None) > 1:
        raise click.UsageError("--scheme, --test and --list exclude each other")
    if as_list:
        _list()
    elif stored is None:
        click.echo(new_hash(from_stdin, scheme, err=True))
    elif _fits(read_password(from_stdin, twice=False, err=True), stored):
        click.echo("right")
    else:
        click.echo("wrong")
        context.exit(1)


def _fits(password: bytes, stored: str) -> bool:
    try:
        return hashes.password_is(password, stored)
    except ValueError as error:
        raise click.ClickException(f"this hash cannot be used: {error}") from None


def _list() -> None:
    table = Table("Scheme", "Also called", "Serves beside PASS, PLAIN and LOGIN")
    for name in hashes.schemes():
        others = ", ".join(other for other, meant in hashes.aliases().items() if meant == name)
        table.add_row(name, others, ", ".join(sorted(hashes.serves(name))))
    show(table)
    click.echo(
        "Behind each, .b64 or .hex says how the data is encoded.  Without braces, 32 hexadecimal digits, or\n"
        "22 characters of base64 and ==, are PLAIN-MD5, as tpop3d has it; anything else is CRYPT."
    )
