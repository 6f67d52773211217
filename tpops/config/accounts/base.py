"""
What every accounts source has in the configuration.

Purpose: the base of the models in this package.  A model's keys other than "driver" and "name" are the arguments, by
name, of the driver's class in tpops.cred.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field

from tpops.config import checks
from tpops.config.section import Section, key

#: A key of the drivers whose accounts are the machine's.
Domains = Annotated[
    tuple[Annotated[str, AfterValidator(checks.own_domain)], ...],
    Field(strict=False),
    key(
        "Domains of the machine: a name with one of them, or with none, is the account of its local part; with any "
        "other it is nobody's. `names.default_domain` belongs here where it is set.",
        example='["example.org"]',
    ),
]


class AccountSource(Section):
    """A source of accounts; the section may be there several times, the first source that says yes wins."""

    driver: Annotated[str, key("What kind of source it is; each kind has its own keys.")]
    name: Annotated[
        str,
        AfterValidator(checks.source_name),
        key("Name of the source in logs and for `tpops user --source`.", shown="the driver's name"),
    ] = Field(default_factory=lambda data: str(data.get("driver", "")).rpartition(":")[2])

    def settings(self) -> dict[str, object]:
        """The keys of this driver, with their values."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in AccountSource.model_fields}

    def warnings(self) -> Iterable[str]:
        """What is allowed and unwise, one line each."""
        return ()
