"""The section of application passwords."""

from __future__ import annotations

from typing import Annotated

from pydantic import ValidationInfo, field_validator

from tpops.config.section import PathText, Section, key


class AppPasswords(Section):
    """Passwords for single programs or devices, which users can have beside their own; see `tpops apppasswd`."""

    path: Annotated[
        PathText,
        key(
            'The database, which `tpops apppasswd init` makes; "" is no application passwords.',
            example='"/var/lib/tpops/app-passwords.sqlite"',
        ),
    ] = ""
    instead: Annotated[
        bool,
        key("Who has an application password logs in with such ones only, never with the account's own password."),
    ] = False
    key_file: Annotated[
        PathText,
        key(
            "File with the keys that encrypt the application passwords of `tpops apppasswd add --apop`; "
            '`tpops apppasswd key` makes it. "" where nobody has such ones.',
            example='"/var/lib/tpops/app-passwords.key"',
        ),
    ] = ""
    minimum_length: Annotated[
        int, key("Fewest characters of an application password that somebody chooses himself.", ge=8, le=128)
    ] = 12
    last_used_seconds: Annotated[
        float, key("How exact the time of the last use is that is noted; 0 notes none.", ge=0)
    ] = 600

    @field_validator("instead", "key_file")
    @classmethod
    def _needs_the_database(cls, value: str | bool, info: ValidationInfo) -> str | bool:
        if value and not info.data.get("path"):
            raise ValueError("needs app_passwords.path")
        return value
