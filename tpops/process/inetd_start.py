"""
What C{tpops-inetd} does when it is known who is at standard input: reads the configuration, and begins to serve.

Limits: the log goes to standard error, or to syslog (/dev/log) where that is the client.
Errors: a client whose session cannot begin gets C{-ERR [SYS/TEMP]}.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    eventAsText,
    globalLogBeginner,
    textFileLogObserver,
)
from zope.interface import implementer

from tpops.config.listen import Listen
from tpops.config.load import Loaded, default_path, load
from tpops.config.log import FACILITIES
from tpops.config.schema import Config
from tpops.errors import ConfigError
from tpops.events import syslog_wire
from tpops.events.syslog_senders import open_sender
from tpops.events.text import one_line
from tpops.process.inherited import Inherited, ends
from tpops.process.output import Output
from tpops.process.steady import steady

_log = Logger()

_UNAVAILABLE = b"-ERR [SYS/TEMP] this server cannot serve at the moment\r\n"

_ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104 (compared with, not bound to)

_SEVERITIES = {LogLevel.debug: 7, LogLevel.info: 6, LogLevel.warn: 4, LogLevel.error: 3, LogLevel.critical: 2}


@implementer(ILogObserver)
class ToSyslog:
    """Writes the log of the process to the syslog daemon of this machine."""

    def __init__(self, reactor: Any, path: str = "/dev/log") -> None:
        self._sender = open_sender(reactor, "unix", path, 0)
        self.facility = "mail"
        self.tag = "tpops"

    def __call__(self, event: LogEvent) -> None:
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        severity = _SEVERITIES.get(event.get("log_level") or LogLevel.info, 6)
        at, facility = event["log_time"], FACILITIES.index(self.facility)
        for line in text.splitlines():
            self._sender.send(syslog_wire.local(facility, severity, at, self.tag, os.getpid(), one_line(line)))

    def close(self) -> None:
        """Send what waits; what comes later is not sent any more."""
        self._sender.close()


class InetdOutput(Output):
    """The log of a process that has no terminal, and perhaps no standard error."""

    def __init__(self, reactor: Any, to_error: bool) -> None:
        super().__init__("info", "")
        self._syslog = None if to_error else ToSyslog(reactor)
        observer = self._syslog or textFileLogObserver(sys.stderr)
        globalLogBeginner.beginLoggingTo([FilteringLogObserver(observer, [self._levels])], redirectStandardIO=False)

    def close(self) -> None:
        """Let go of it."""
        if self._syslog is not None:
            self._syslog.close()

    def configure(self, config: Config) -> None:
        """As the configuration has it."""
        self.set_level(config.log.level)
        if self._syslog is not None:
            self._syslog.facility, self._syslog.tag = config.log.syslog_facility, config.log.syslog_tag


def choose(listeners: Sequence[Listen], local: tuple[str, int], place: str) -> Listen:
    """
    The listener for a socket.

    @param local: its address and port; ("unix", 0) where it has none
    @param place: of a listener, "" where the address decides
    @raise ConfigError: when there is none, or several could be meant
    """
    if place:
        fits = [one for one in listeners if one.where == place]
        if not fits:
            known = ", ".join(one.where for one in listeners)
            raise ConfigError([f"--listen {place}: no [[listen]] has this address; there are: {known}"])
        return fits[0]
    host, port = local
    tcp = [one for one in listeners if not one.address.startswith("unix:") and one.port == port]
    for fits in (
        [one for one in tcp if one.address == host],
        [one for one in tcp if one.address in _ALL_ADDRESSES],
        tcp,
        [one for one in listeners if one.address == f"unix:{host}"],
        list(listeners) if not port else [],
    ):
        if len(fits) == 1:
            return fits[0]
    known = ", ".join(one.where for one in listeners)
    where = f"{host}:{port}" if port else host
    raise ConfigError([f"no [[listen]] fits the connection to {where}: add one, or say --listen with one of {known}"])


def _local(inherited: Inherited) -> tuple[str, int]:
    if not inherited.listening:
        return ends(inherited.socket, os.environ)[1]
    name = inherited.socket.getsockname()
    return (name[0], name[1]) if inherited.internet else (str(name) or "unix", 0)


def _begin(inherited: Inherited, loaded: Loaded, place: str, output: InetdOutput, reactor: Any) -> None:
    """
    Serve, once the reactor runs.

    @raise ConfigError: when that is not possible
    """
    listen = choose(loaded.config.listen, _local(inherited), place)
    if inherited.listening:
        from tpops.process.inetd_wait import WaitService

        WaitService(loaded, listen, inherited.socket, output, reactor).begin_and_start()
    else:
        from tpops.process.inetd_session import OneSession

        peer, local = ends(inherited.socket, os.environ)
        OneSession(loaded.config, listen, reactor).begin(inherited.socket, peer, local)


def _refuse(inherited: Inherited) -> None:
    """The client shall come again."""
    if inherited.listening:
        return
    with contextlib.suppress(OSError):  # it has gone
        inherited.socket.send(_UNAVAILABLE)
        inherited.socket.shutdown(socket.SHUT_WR)


def serve(inherited: Inherited, path: str, place: str) -> int:
    """
    Serve until the end.

    @param path: of the configuration, "" where nobody says
    @param place: of a listener, "" where the address decides
    @return: the exit status
    """
    from twisted.internet import reactor

    steady(reactor)
    output = InetdOutput(reactor, inherited.error_is_ours)
    try:
        return _serve(inherited, path or default_path(), place, output, reactor)
    finally:
        output.close()


def _serve(inherited: Inherited, path: str, place: str, output: InetdOutput, reactor: Any) -> int:
    """Until the end; the exit status."""
    try:
        loaded = load(os.path.abspath(path))
        output.configure(loaded.config)
        for warning in loaded.warnings:
            _log.debug("{warning}", event="config-warning", warning=warning)
        _begin(inherited, loaded, place, output, reactor)
    except ConfigError as problem:
        for line in problem.problems:
            _log.critical("{problem}", event="inetd-failed", problem=line)
        _refuse(inherited)
        return 1
    except Exception:
        _log.failure("internal error", event="inetd-failed")
        _refuse(inherited)
        return 1
    reactor.run()
    return 0
