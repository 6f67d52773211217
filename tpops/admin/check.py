"""
"tpops check": is the configuration right, and is there on this machine what it needs?

Purpose: loads the configuration as the server does, then looks at what a start or a login would stumble over:
certificates, accounts sources, application passwords, the user to run as, the directories of the logs, the mail
locations of the accounts, the database with mail, POP before SMTP.
Limits: nothing is bound, written or locked.  Rights of the server's user are judged by owner, group and mode
only, not by access lists.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator

import click

from tpops import mail_database
from tpops.admin import (
    folder_check,
    log_check,
    sink_check,
    sources,
)
from tpops.admin.context import configuration
from tpops.admin.rights import RunsAs, runs_as
from tpops.config.schema import Config
from tpops.cred import drivers
from tpops.cred.source import AskingSource, Source
from tpops.errors import ConfigError, LookupUnavailable, MaildropBroken
from tpops.interfaces import IAccountAdmin
from tpops.mailbox import locations
from tpops.process import confinement

#: How many accounts without a mail location are named.
_NAMED_ACCOUNTS = 5


@click.command("check")
@click.pass_context
def check(context: click.Context) -> None:
    """Tell every problem of the configuration; exit status 0 when there is none."""
    loaded = configuration(context)
    warnings = list(loaded.warnings)
    problems = list(_problems(loaded.config, warnings))
    for warning in warnings:
        click.echo(f"warning: {warning}")
    for problem in problems:
        click.echo(f"problem: {problem}", err=True)
    if problems:
        context.exit(1)
    if loaded.config.sessions.apart:
        click.echo(confinement.in_words(loaded.config, confinement.version_of(loaded.config)))
    click.echo(f"{loaded.path} is right")


def _problems(config: Config, warnings: list[str]) -> Iterator[str]:
    """
    What is wrong.

    @param warnings: gets what is not wrong yet
    """
    try:
        who = runs_as(config)
    except KeyError as error:
        yield f"server: {error.args[0]}"
        return
    if config.tls.certificate:
        yield from _tls_problems(config, who, warnings)
    # Passwords are verified by a process of root's where sessions are those of their owners.
    verifies = RunsAs(0, frozenset()) if config.sessions.apart else who
    for source in sources.open_all(config):
        try:
            yield from source.check()
        except LookupUnavailable as error:
            yield f"accounts source {source.name}: {error}"
            continue
        for path in source.paths:
            yield from _right_problems(source, path, verifies)
        yield from _location_problems(config, source)
        warnings.extend(folder_check.warnings(config, source))
    if config.sessions.apart:
        yield from _confinement_problems(config)
    if mail_database.wanted(config):
        yield from mail_database.problems(config)
    if config.lmtp.listen:
        from tpops.admin import lmtp_check

        yield from lmtp_check.problems(config, who)
    if config.pop_before_smtp.store:
        from tpops.admin import pbs_check

        yield from pbs_check.problems(config, who, warnings)
    if "delivery" in config.model_fields_set or config.lmtp.listen:
        warnings.extend(_delivery_warnings(config))
    if config.oauth.used:
        yield from _oauth_problems(config, verifies)
    if config.app_passwords.path:
        from tpops.admin import app_password_check

        yield from app_password_check.problems(config, verifies.may)
    yield from sink_check.problems(config, who)
    warnings.extend(sink_check.warnings(config, who))
    if config.status.listen:
        from tpops.admin import status_check

        yield from status_check.problems(config, who, warnings)
    yield from log_check.problems(config.log, who)
    warnings.extend(log_check.warnings(config.log))


def _tls_problems(config: Config, who: RunsAs, warnings: list[str]) -> Iterator[str]:
    """What is wrong with certificates."""
    from tpops.admin import tls_files

    for level, text in tls_files.problems(config, who, datetime.datetime.now(datetime.UTC)):
        if level == "problem":
            yield text
        elif level == "warning":
            warnings.append(text)


def _right_problems(source: Source, path: str, who: RunsAs) -> Iterator[str]:
    """What the server's user may not do with a source's file."""
    written = IAccountAdmin.providedBy(source)
    if not who.may(path, os.R_OK | (os.W_OK if written else 0)):
        hint = f"; {source.hint}" if source.hint else ""
        yield f"accounts source {source.name}: the server's user may not {'write' if written else 'read'} {path}{hint}"
    elif written and not who.may(os.path.dirname(path), os.W_OK | os.X_OK):
        yield f"accounts source {source.name}: the server's user may not write in {os.path.dirname(path)}"


def _location_problems(config: Config, source: Source) -> Iterator[str]:
    """Accounts whose mail location cannot be made out."""
    bad = 0
    split = sources.login_names(config).split
    for record in source.records():
        try:
            found = locations.expand(config.mail.location, record.account, split)
            kinds = {one.kind for one in found} - set(locations.FILES)
            if config.sessions.apart and kinds:
                raise MaildropBroken(
                    f"{record.account.name!r} has his mail in {', '.join(sorted(kinds))}:, which belongs to no user of "
                    'this machine; sessions.run_as = "owner" serves maildir: and mbox:'
                )
        except MaildropBroken as error:
            bad += 1
            if bad <= _NAMED_ACCOUNTS:
                yield f"accounts source {source.name}: {error}"
    if bad > _NAMED_ACCOUNTS:
        yield f"accounts source {source.name}: {bad - _NAMED_ACCOUNTS} more accounts without a usable mail location"


def _delivery_warnings(config: Config) -> Iterator[str]:
    """What makes mail wait."""
    for source in sources.open_all(config):
        if isinstance(source, AskingSource) and source.name not in config.delivery.complete_sources:
            yield (
                f"delivery: the accounts source {source.name} may know somebody by his password only, so mail for "
                "addresses that nobody has waits; if it can look everybody up, name it in delivery.complete_sources"
            )


def _confinement_problems(config: Config) -> Iterator[str]:
    """What this kernel cannot do, and must."""
    try:
        confinement.version_of(config)
    except ConfigError as error:
        yield from error.problems


def _oauth_problems(config: Config, who: RunsAs) -> Iterator[str]:
    """What is wrong with the files that tokens are verified with."""
    oauth = config.oauth
    try:
        found = drivers.load("tpops.cred.oauth", "problems", "oauth", "[oauth]")(
            oauth.jwks_file, oauth.client_secret_file, oauth.ca_file
        )
    except ConfigError as error:
        found = error.problems
    yield from (f"oauth: {problem}" for problem in found)
    if not found and oauth.jwks_file and not who.may(oauth.jwks_file, os.R_OK):
        yield f"oauth: the server's user may not read {oauth.jwks_file}"
