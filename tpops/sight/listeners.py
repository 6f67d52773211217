"""
Where the metrics and the status page of a configuration are, and what serves there.

Purpose: the token is read when the configuration is, so that a reload that cannot have it changes nothing.
Errors: ConfigError when the token cannot be used, or a library is missing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Factory

from tpops.config.schema import Config
from tpops.config.status import Status, checked_token
from tpops.cred import drivers
from tpops.cred.password_file import read_secret
from tpops.errors import ConfigError
from tpops.file_assembly import implementation
from tpops.server.listeners import Listener

if TYPE_CHECKING:
    from tpops.sight.site import Whole


class SightListeners:
    """
    See the module.

    @param whole: answers for all processes, None where there is nobody to ask; then there is nothing
    @raise ConfigError: when the token cannot be used
    """

    def __init__(self, config: Config, whole: Whole | None, reactor: Any) -> None:
        self._config = config
        self._whole = whole
        self._reactor = reactor
        self._token = token(config.status) if config.status.listen and whole is not None else ""

    def listeners(self) -> Iterator[tuple[Listener, Factory[Any]]]:
        """Where, and what serves there; new factories at each call."""
        metrics, status, whole = self._config.metrics, self._config.status, self._whole
        if whole is None:
            return
        if metrics.listen:
            site = drivers.load("tpops.sight.metrics", "site", "metrics", "[metrics]")
            yield Listener(*metrics.place()), site(whole, self._reactor)
        if status.listen:
            from tpops.sight.gate import Gate
            from tpops.sight.site import BoundedSite
            from tpops.sight.status import StatusPage

            gate = Gate(self._token, time.time, self._reactor.seconds)
            hostname = self._config.server.hostname
            about = {"version": implementation().decode(), "server": hostname}
            page = StatusPage(whole, gate, self._reactor, time.time, about, (*status.hosts, hostname))
            yield Listener(*status.place(), mode=int(status.socket_mode, 8)), BoundedSite(page, self._reactor)


def token(status: Status) -> str:
    """
    The token of the status page.

    @raise ConfigError: when its file cannot be used
    """
    if not status.token_file:
        return status.token
    found = read_secret(status.token_file, "status.token_file")
    try:
        return checked_token(found)
    except ValueError as problem:
        raise ConfigError([f"status.token_file: the first line of {status.token_file} {problem}"]) from None
