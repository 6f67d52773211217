"""The keys of [metrics]: figures for Prometheus."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from tpops.config.lmtp import place
from tpops.config.section import Section, key


def _listen(value: str, info: ValidationInfo) -> str:
    return place(value, info) if value else ""


class Metrics(Section):
    """Figures for Prometheus, at `/metrics` by HTTP, for all workers together; needs the extra `metrics`."""

    listen: Annotated[
        str,
        AfterValidator(_listen),
        key(
            'Where: an IP address and a port, or "unix:" and a path; "" is nowhere. Whoever can connect can read the '
            "figures, which have no names of users and no addresses.",
            example='"127.0.0.1:9110"',
        ),
    ] = ""

    def place(self) -> tuple[str, int]:
        """Address and port; "unix:..." has port 0."""
        if self.listen.startswith("unix:"):
            return self.listen, 0
        address, _, port = self.listen.rpartition(":")
        return address.strip("[]"), int(port)
