"""The keys of the drivers that read lookup tables of Postfix."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, ValidationInfo, field_validator

from tpops.config import checks
from tpops.config.accounts.base import AccountSource, Domains
from tpops.config.section import NeededPath, key


class ApopDB(AccountSource):
    """Secrets in a lookup table as postmap makes it, for APOP, CRAM-MD5, SCRAM and passwords."""

    driver: Annotated[Literal["apop_db"], key("A lookup table of Postfix.")]
    table: Annotated[
        str,
        AfterValidator(checks.lookup_table),
        key(
            'Kind and path of the table as Postfix names them; kinds are "hash", "btree", "lmdb", "cdb", "dbm", "sdbm" '
            'and "texthash". The ending of the file (".db") may be left out.',
            example='"hash:/etc/tpops/apop"',
        ),
    ]
    system_users: Annotated[
        bool,
        key(
            "Whether the names are accounts of the machine, whose home, uid and gid are in `passwd_path`.",
            example="true",
        ),
    ] = False
    passwd_path: Annotated[NeededPath, key("The file of passwd(5); goes with `system_users = true`.")] = "/etc/passwd"  # noqa: S105
    domains: Domains = ()
    minimum_uid: Annotated[
        int,
        key(
            "Accounts of the machine with a lower uid do not exist for clients; goes with `system_users = true`.", ge=1
        ),
    ] = 1000

    @field_validator("passwd_path", "domains", "minimum_uid")
    @classmethod
    def _goes_with_system_users(cls, value: object, info: ValidationInfo) -> object:
        default = cls.model_fields[str(info.field_name)].default
        if info.data.get("system_users") is False and value != default:
            raise ValueError("goes with system_users = true only")
        return value
