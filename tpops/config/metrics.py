"""The keys of [metrics]: figures for Prometheus."""

from __future__ import annotations

from typing import Annotated

from pydantic import model_validator

from tpops.config.section import key
from tpops.config.web import WebPlace, WebSection


class Metrics(WebSection):
    """Figures for Prometheus, at `/metrics` by HTTP, for all workers together; needs the extra `metrics`."""

    listen: Annotated[
        WebPlace,
        key(
            'Where: an IP address and a port, or "unix:" and a path; "" is nowhere. Whoever can connect can read the '
            "figures, which have no names of users and no addresses.",
            example='"127.0.0.1:9110"',
        ),
    ] = ""
    public: Annotated[
        bool,
        key("Other machines may read the figures; without it `listen` must be a loopback address or a UNIX socket."),
    ] = False

    @model_validator(mode="after")
    def _others_may(self) -> Metrics:
        self.refuse_others("whoever can connect can read the figures")
        return self
