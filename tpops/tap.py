"""
The twistd plugin: C{twistd tpops --config FILE}.

Purpose: reads and checks the configuration before anything starts, so that every mistake in it is shown at once and
nothing has happened yet.
"""

from __future__ import annotations

import os
import sys

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from tpops.config.load import Loaded, default_path, load
from tpops.errors import ConfigError
from tpops.process import activation, notify, upgrade
from tpops.process.output import Output
from tpops.process.sockets import Sockets
from tpops.process.steady import steady
from tpops.process.supervisor import Supervisor
from tpops.service import POP3Service

_log = Logger()


class Options(usage.Options):
    """Command line of the plugin."""

    synopsis = "[options]"
    longdesc = "POP3 mail access service. 'tpops init' writes a first configuration, 'tpops check' examines one."
    optParameters = [
        ["config", "c", None, "configuration file (default: $TPOPS_CONFIG, ./tpops.toml, then /etc/tpops/tpops.toml)"]
    ]

    loaded: Loaded | None = None
    output: Output | None = None

    def postOptions(self) -> None:
        """Read the configuration; end with all its problems when it cannot be used."""
        try:
            self.loaded = load(os.path.abspath(self["config"] or default_path()))
        except ConfigError as problem:
            for line in problem.problems:
                sys.stderr.write(f"{line}\n")
            raise SystemExit(1) from None
        self._choose_output(self.loaded.config.log.level)

    def _choose_output(self, level: str) -> None:
        """Write twistd's log ourselves, unless the operator chose a logger of his own, or the system's."""
        twistd = self.parent
        if twistd is None or twistd.get("logger") or twistd.get("syslog"):
            return
        path = twistd.get("logfile") or ("" if twistd.get("nodaemon") else "twistd.log")
        if path == "-":
            if not twistd.get("nodaemon"):
                return  # twistd refuses that
            path = ""
        self.output = Output(level, os.path.join(twistd.get("rundir") or ".", path) if path else "")


def makeService(options: Options) -> IService:
    """The service of a command line."""
    from twisted.internet import reactor

    loaded = options.loaded
    assert loaded is not None
    steady(reactor)
    for warning in loaded.warnings:
        _log.warn("{warning}", event="config-warning", warning=warning)
    try:
        several = loaded.config.server.processes > 1 or loaded.config.sessions.apart
        if several or upgrade.waits():
            return Supervisor(loaded, reactor, options.output)
        sockets, systemd = Sockets(activation.take()), notify.take(reactor)
        return POP3Service(
            loaded.config, reactor, path=loaded.path, output=options.output, sockets=sockets, notify=systemd
        )
    except ConfigError as problem:
        for line in problem.problems:
            sys.stderr.write(f"{line}\n")
        raise SystemExit(1) from None
