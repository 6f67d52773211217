"""The keys of the drivers where somebody else judges the password."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tpops.config import checks
from tpops.config.accounts.base import AccountSource, Domains
from tpops.config.section import PathText, key

_Command = Annotated[tuple[str, ...], Field(strict=False), AfterValidator(checks.command)]
_Processes = Annotated[int, key("Checks at the same time; more of them wait in order.", ge=1, le=100)]
_Timeout = Annotated[
    float, key("How long a check may take; then its process is ended and the client told to try later.", ge=0.1, le=600)
]


class PAM(AccountSource):
    """The rules of the machine (Linux-PAM)."""

    driver: Annotated[Literal["pam"], key("PAM.")]
    service: Annotated[
        str,
        AfterValidator(checks.pam_service),
        key("Name of the file with the rules, in /etc/pam.d.", example='"pop3"'),
    ] = "tpops"
    directory: Annotated[PathText, key('Directory of that file, "" for the machine\'s; others need Linux-PAM 1.4.')] = (
        ""
    )
    domains: Domains = ()
    minimum_uid: Annotated[int, key("Accounts with a lower uid do not exist for clients.", ge=1)] = 1000
    mail_user: Annotated[
        str,
        key(
            "User whose uid and gid a name without an account of the machine has, as in tpop3d's auth-pam-mail-user; "
            '"" where only accounts of the machine log in.',
            example='"mail"',
        ),
    ] = ""
    processes: _Processes = 4
    timeout_seconds: _Timeout = 30.0


class External(AccountSource):
    """A program that stays, in the format of tpop3d's auth-other."""

    driver: Annotated[Literal["external"], key("A program that stays.")]
    command: Annotated[_Command, key("The program and its arguments.", example='["/usr/local/sbin/who-may", "--fast"]')]
    user: Annotated[
        str, key("User that it runs as, name or number; needed when root starts the server.", example='"nobody"')
    ] = ""
    group: Annotated[str, key('Its group; "" is the primary group of `user`.', example='"nogroup"')] = ""
    apop: Annotated[bool, key("Whether it can verify APOP.")] = False
    timeout_seconds: _Timeout = 5.0


class Checkpassword(AccountSource):
    """A program of DJB's checkpassword interface, started for each login."""

    driver: Annotated[Literal["checkpassword"], key("A program for each login.")]
    command: Annotated[_Command, key("The program and its arguments.", example='["/bin/checkpassword"]')]
    processes: _Processes = 8
    timeout_seconds: _Timeout = 30.0


class Strcred(AccountSource):
    """A checker of twisted.cred."""

    driver: Annotated[Literal["strcred"], key("A checker of Twisted.")]
    checker: Annotated[
        str,
        AfterValidator(checks.not_empty),
        key(
            "Its description, as for the option --auth of Twisted's programs: type, colon and argument. May hold a "
            "password.",
            example='"file:/etc/tpops/passwords"',
            secret=True,
        ),
    ]
