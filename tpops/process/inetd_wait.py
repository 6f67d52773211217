"""
A port that inetd lends until nobody is there any more: "wait" mode.

Purpose: the service as it is everywhere, in one process, on a socket that inetd has opened.  When no client has been
connected for C{server.autoclose_seconds}, it listens no more and ends, and inetd watches the port again.
Limits: the socket is inetd's, too: a client that comes in between waits in the kernel's queue and is served by the
next process.  As long as one session goes on the port is kept, so nobody waits behind a long one.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from tpops.config.listen import Listen
from tpops.config.load import Loaded
from tpops.config.schema import Config
from tpops.errors import ConfigError
from tpops.generation import Generation
from tpops.process.output import Output
from tpops.process.sockets import Sockets
from tpops.server.listeners import Listener
from tpops.service import POP3Service

_log = Logger()

#: Under this name the listener finds its socket.
_NAME = "inetd"

#: Seconds between two looks at whether somebody is there, at most.
_LOOK_SECONDS = 1.0


class WaitService(POP3Service):
    """
    See the module.

    @param listen: the listener whose settings hold
    @param opened: the listening socket
    """

    def __init__(self, loaded: Loaded, listen: Listen, opened: socket.socket, output: Output, reactor: Any) -> None:
        self._place = listen.where
        config = self._alone(loaded.config)
        super().__init__(config, reactor, path=loaded.path, output=output, sockets=Sockets({opened: _NAME}))
        self._accepted = -1
        self._idle_since = 0.0

    def begin_and_start(self) -> None:
        """
        Serve, once the reactor runs.

        @raise ConfigError: when something cannot be used as it is configured
        """
        self.begin()
        self._reactor.addSystemEventTrigger("before", "shutdown", self.stopService)
        self.startService()
        self._look()

    def wanted(self, generation: Generation) -> list[tuple[Listener, Factory[Any]]]:
        """The port that inetd has lent, and nothing else."""
        return [next(iter(generation.listeners()))]

    def open_control(self, config: Config) -> None:
        """None: it would be that of a server that runs all the time, or of the process for another port."""

    def _replace(self, config: Config) -> Generation:
        """See L{POP3Service}."""
        return super()._replace(self._alone(config))

    def _alone(self, config: Config) -> Config:
        """One listener, in one process."""
        there = [one for one in config.listen if one.where == self._place]
        if not there:
            raise ConfigError(
                [f"[[listen]] {self._place} is no longer there, which inetd has started this process for"]
            )
        return config.model_copy(
            update={
                "listen": (there[0].model_copy(update={"systemd_name": _NAME}),),
                "server": config.server.model_copy(update={"workers": 1}),
            }
        )

    def _look(self) -> None:
        """End when nobody has been there for long enough."""
        if not self.running:
            return
        now, limit = self._reactor.seconds(), self.config.server.autoclose_seconds
        accepted = sum(port.sessionno for port in self.ports.values())
        if self.busy or accepted != self._accepted:
            self._accepted, self._idle_since = accepted, now
        if limit and now - self._idle_since >= limit:
            _log.info(
                "nobody has been there for {seconds:g} seconds: inetd gets the port back",
                event="autoclose",
                seconds=limit,
            )
            Deferred.fromCoroutine(self._return()).addErrback(_failed)
        else:
            self._reactor.callLater(min(_LOOK_SECONDS, limit / 4 or _LOOK_SECONDS), self._look)

    async def _return(self) -> None:
        await self.leave()
        with contextlib.suppress(ReactorNotRunning):  # TERM has come
            self._reactor.stop()


def _failed(failure: object) -> None:
    _log.error("the port could not be given back: {why}", why=str(failure))
