"""
Tells systemd how the service is doing: sd_notify(3), for units with C{Type=notify}.

    READY=1                         all listeners serve; also after a reload, whatever came of it
    RELOADING=1 MONOTONIC_USEC=...  a reload begins
    STOPPING=1                      a stop begins
    EXTEND_TIMEOUT_USEC=...         sessions come to their end, do not lose patience
    STATUS=...                      one line for people
    WATCHDOG=1                      the reactor turns; twice as often as WATCHDOG_USEC asks for

Purpose: a few octets to the socket that NOTIFY_SOCKET names, a path or "@" and an abstract name.
Limits: nothing here waits: a message that the socket does not take is dropped, which is told in the log once.
The variables are taken out of the environment: no program that is started from here speaks for the service.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from twisted.logger import Logger

_log = Logger()

_SOCKET, _WATCHDOG, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"

#: Seconds between two requests for patience, and how long each asks for.
_EXTEND_SECONDS = 5.0
_PATIENCE_SECONDS = 30.0


class Notify:
    """
    See the module.

    @param address: of the socket; "" where nobody listens
    @param watchdog_seconds: how long silence may last, 0 without a limit
    """

    def __init__(self, reactor: Any, address: str = "", watchdog_seconds: float = 0.0) -> None:
        self._reactor = reactor
        self._address = address
        self._watchdog_seconds = watchdog_seconds
        self._begun = False
        self._complained = False

    def state(self) -> dict[str, Any]:
        """What another program in this process must know."""
        return {"address": self._address, "watchdog_seconds": self._watchdog_seconds}

    def ready(self, places: Iterable[str], problems: Iterable[str] = ()) -> None:
        """
        All listeners serve.

        @param places: where
        @param problems: why the configuration is still the one from before a reload
        """
        refused = "; ".join(problems)
        text = f"serving {', '.join(places) or 'nobody'}"
        self._send(("READY", "1"), ("STATUS", f"reload refused, {text}: {refused}" if refused else text))
        if not self._begun and self._address and self._watchdog_seconds:
            self._begun = True
            self._live()

    def reloading(self) -> None:
        """The configuration is read again; L{ready} follows."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(("RELOADING", "1"), ("MONOTONIC_USEC", str(microseconds)), ("STATUS", "reloading"))

    def stopping(self) -> None:
        """The last sessions come to their end."""
        self._send(("STOPPING", "1"), ("STATUS", "stopping, sessions come to their end"))
        if self._address:
            self._extend()

    def _extend(self) -> None:
        self._send(("EXTEND_TIMEOUT_USEC", str(round(_PATIENCE_SECONDS * 1e6))))
        self._reactor.callLater(_EXTEND_SECONDS, self._extend)

    def _live(self) -> None:
        self._send(("WATCHDOG", "1"))
        self._reactor.callLater(self._watchdog_seconds / 2, self._live)

    def _send(self, *assignments: tuple[str, str]) -> None:
        if not self._address:
            return
        # A line is an assignment.
        message = "".join(f"{name}={' '.join(value.split())}\n" for name, value in assignments)
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto(message.encode("utf-8", "replace"), address)
        except OSError as problem:
            if not self._complained:
                self._complained = True
                _log.warn(
                    "systemd cannot be told how tpops is doing: {address}: {why}",
                    event="notify-failed",
                    address=self._address,
                    why=problem.strerror,
                )


def take(
    reactor: Any, environment: MutableMapping[str, str] = os.environ, kept: Mapping[str, Any] | None = None
) -> Notify:
    """
    What the environment says, once.

    @param kept: what a program in this process before has found there
    """
    if kept is not None:
        return Notify(reactor, **kept)
    address, watchdog, process = (environment.pop(name, "") for name in (_SOCKET, _WATCHDOG, _WATCHDOG_PID))
    if not address.startswith(("/", "@")):
        return Notify(reactor)
    watched = watchdog.isdigit() and process in ("", str(os.getpid()))
    return Notify(reactor, address, int(watchdog) / 1e6 if watched else 0.0)
