"""What the tables [metrics] and [status] have in common: a place where HTTP is spoken, and who gets to it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from tpops.config import checks
from tpops.config.lmtp import place
from tpops.config.section import Section


def _listen(value: str, info: ValidationInfo) -> str:
    return place(value, info) if value else ""


#: An IP address and a port, or "unix:" and a path, or "" for nowhere.
WebPlace = Annotated[str, AfterValidator(_listen)]


class WebSection(Section):
    """A table with C{listen}, and C{public} for places that other machines get to."""

    listen: WebPlace = ""
    public: bool = False

    def place(self) -> tuple[str, int]:
        """Address and port; "unix:..." has port 0."""
        if self.listen.startswith("unix:"):
            return self.listen, 0
        address, _, port = self.listen.rpartition(":")
        return address.strip("[]"), int(port)

    @property
    def open_to_others(self) -> bool:
        """Whether other machines get there."""
        return bool(self.listen) and not checks.is_local(self.place()[0])

    def refuse_others(self, what: str) -> None:
        """
        Others get there only where the configuration says so.

        @param what: they would see, and what to do instead
        """
        if self.open_to_others and not self.public:
            raise ValueError(
                f'has listen = "{self.listen}", where other machines get to it: {what}; if that is right, say '
                "public = true"
            )
