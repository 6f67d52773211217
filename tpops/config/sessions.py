"""The keys of [sessions]: who reads the mail of a session, and with which program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tpops.config import checks
from tpops.config.section import Section, key


class Sessions(Section):
    """Who reads the mail of a session; see docs/separation.md."""

    run_as: Annotated[
        Literal["server", "owner"],
        key(
            '"server": `server.user` serves everybody. "owner": once logged in, each session is a process of its own, '
            "with the user and group ids of whose mail it is; needs a start as root."
        ),
    ] = "server"
    minimum_uid: Annotated[
        int, key("Owners with a lower user id are refused; root always is.", ge=1, le=4294967294)
    ] = 1000
    groups: Annotated[
        tuple[str, ...],
        Field(strict=False),
        key(
            "Groups that every session has beside those of its owner, such as the one that may write locks into "
            '/var/mail: ["mail"].'
        ),
    ] = ()
    memory_mib: Annotated[
        int, key("Most memory of a session's process (its address space), in MiB; 0 is no limit.", ge=0)
    ] = 1024
    open_files: Annotated[int, key("Most files that a session's process may have open.", ge=32)] = 256
    confine: Annotated[
        Literal["auto", "landlock", "none"],
        key(
            'What a session\'s process can touch beside its maildrop. "auto": nothing, as far as the kernel can do '
            'that (Landlock, Linux 5.19 or newer; TCP since 6.7, signals since 6.12). "landlock": the same, and no '
            'start without it. "none": whatever its user can touch. A `program` is never confined.'
        ),
    ] = "auto"
    program: Annotated[
        tuple[str, ...],
        Field(strict=False),
        AfterValidator(checks.session_program),
        key(
            "Program that serves the session after the login in place of tpops, by its absolute path, with its "
            "arguments, in which `$(user)`, `$(local_part)`, `$(domain)`, `$(home)`, `$(folder)`, `$(maildir)` and "
            '`$(useropt)` stand for what they say, as ["/usr/local/libexec/popit", "$(user)"]; [] is tpops itself.'
        ),
    ] = ()
    program_greets: Annotated[
        bool, key("The program answers PASS itself; otherwise tpops has sent the +OK before it starts.")
    ] = False
    useropt: Annotated[
        str,
        AfterValidator(checks.name_part),
        key(
            "Extended regular expression, as popserv's `useropt`; what it finds is taken off the login name, and its "
            'one pair of parentheses has what the program gets: where `$(useropt)` stands, else behind "--" as its '
            "last argument; as `/([^%@+]*)`."
        ),
    ] = ""

    @model_validator(mode="after")
    def _owner_is_needed(self) -> Sessions:
        if self.run_as == "owner":
            return self
        for name in ("program", "useropt", "groups"):
            if getattr(self, name):
                raise ValueError(f'has {name}, which means nothing without run_as = "owner"')
        return self

    @model_validator(mode="after")
    def _programs_are_not_confined(self) -> Sessions:
        if self.confine == "landlock" and self.program:
            raise ValueError(
                'has confine = "landlock", and a program, whose needs are not known; leave one of them out'
            )
        return self

    @model_validator(mode="after")
    def _a_program_for_the_option(self) -> Sessions:
        if self.useropt and not self.program:
            raise ValueError("has useropt, which means nothing without program")
        return self

    @property
    def apart(self) -> bool:
        """Whether sessions are processes of their owners."""
        return self.run_as == "owner"

    def must_do(self, user: str, location: str, others: Sequence[str]) -> None:
        """
        Refuse what cannot be had together.

        @param user: whom the server runs as
        @param location: of mail
        @param others: keys that mean something no session of an owner can have
        """
        if not self.apart:
            return
        if user in ("", "0", "root"):
            raise ValueError(
                'has run_as = "owner", which needs server.user, somebody without rights to talk to clients'
            )
        kinds = checks.location_kinds(location) - {"maildir", "mbox"}
        if kinds:
            raise ValueError(f'has run_as = "owner", which serves maildir: and mbox:, not {", ".join(sorted(kinds))}:')
        if others:
            raise ValueError(f'has run_as = "owner", which cannot be used together with {", ".join(others)}')
