"""
What the tables of the configuration are made of.

Purpose: the base class of all tables, what can be said about a key, and types that several tables use.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from tpops.config import checks

PathText = Annotated[str, AfterValidator(checks.path)]
#: A path that must be given.
NeededPath = Annotated[str, AfterValidator(checks.needed_path)]
Network = Annotated[str, AfterValidator(checks.network)]


def key(
    description: str,
    *,
    since: str = "0.9",
    example: str = "",
    shown: str = "",
    secret: bool = False,
    ge: float | None = None,
    le: float | None = None,
) -> FieldInfo:
    """
    What is said about a key beside its type and default.

    @param example: TOML value for the sample file where the default teaches nothing
    @param shown: what the reference says for a default that is found out when loading
    @param secret: the value is never shown
    """
    extra: dict[str, str | bool] = {"since": since, "example": example, "shown": shown, "secret": secret}
    made: FieldInfo = Field(description=description, json_schema_extra=dict(extra), ge=ge, le=le)
    return made


def machine_name() -> str:
    """The machine's full host name, without asking the network when its own name is full."""
    name = socket.gethostname()
    return name if "." in name else socket.getfqdn()


class Section(BaseModel):
    """One table of the file: unknown keys are refused, nothing is converted, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)

    def in_force(self) -> Iterable[str]:
        """The names of the keys that mean something beside the others."""
        return type(self).model_fields
