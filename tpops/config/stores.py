"""The keys of [[store]]: mailbox drivers of other packages."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from tpops.config import checks
from tpops.config.section import Section, key


def _driver(value: str) -> str:
    """Each driver that is installed has a model of its own, so this one is none of them."""
    raise ValueError('must be "plugin:" and the name of an installed mailbox driver; "tpops plugins" lists them')


class StoreSection(Section):
    """A store of maildrops from another package, for the locations "plugin:NAME:PLACE"; there may be several."""

    driver: Annotated[
        str,
        AfterValidator(_driver),
        key('"plugin:" and the name of a mailbox driver; `tpops plugins` lists them, with their own keys.'),
    ]
    name: Annotated[
        str,
        AfterValidator(checks.source_name),
        key('Name of the store in locations: "plugin:NAME:PLACE".', shown="the driver's name"),
    ] = Field(default_factory=lambda data: str(data.get("driver", "")).rpartition(":")[2])

    def settings(self) -> dict[str, object]:
        """The keys of this driver, with their values."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in StoreSection.model_fields}
