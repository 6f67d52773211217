"""The keys of [masters]: accounts that may read the mail of others."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from tpops.config import checks
from tpops.config.section import Network, Section, key


class Masters(Section):
    """Accounts that may log in as others, with their own password."""

    names: Annotated[
        tuple[str, ...],
        Field(strict=False),
        key("Names of these accounts, of any source; empty is nobody.", example='["admin@example.org"]'),
    ] = ()
    targets: Annotated[
        tuple[str, ...],
        Field(strict=False),
        key('Names of those as whom they may log in; "*" stands for any text.', example='["*@example.org"]'),
    ] = ("*",)
    networks: Annotated[
        tuple[Network, ...],
        Field(strict=False),
        key("Networks (CIDR) from which they may; empty is everywhere. UNIX sockets always may."),
    ] = ()
    separator: Annotated[
        str,
        AfterValidator(checks.master_separator),
        key(
            'Sign between the two names for clients that can give only one ("joe*admin" is joe\'s mail for admin); '
            '"" is none.',
            example='"*"',
        ),
    ] = ""
    disabled_targets: Annotated[
        bool, key("Whether they may open the mail of disabled accounts, where the source still tells of them.")
    ] = False

    @model_validator(mode="after")
    def _mean_something(self) -> Masters:
        if not self.names:
            for name, field in type(self).model_fields.items():
                if getattr(self, name) != field.default:
                    raise ValueError(f"has {name}, which means nothing without names")
        return self

    def settings(self) -> dict[str, Any]:
        """The arguments of L{tpops.cred.masters.Masters} that are keys of the section."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "separator"}
