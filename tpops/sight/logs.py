"""
The logs of one configuration: opened, reopened, closed together.

Purpose: makes the sinks that [log] asks for and hangs them on the bus.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.logger import Logger

from tpops.config.log import FACILITIES, Log
from tpops.errors import ConfigError
from tpops.events.access_log import AccessLog
from tpops.events.bus import EventBus
from tpops.events.json_log import JSONLog
from tpops.events.log_file import LogFile
from tpops.events.process_log import ProcessLog
from tpops.events.syslog import Syslog
from tpops.events.syslog_senders import Sender, open_sender
from tpops.sight.transcript import Transcripts

_log = Logger()


class Logs:
    """
    See the module.

    @ivar files: the open log files
    @ivar transcripts: of sessions, None where they are not wanted
    @ivar events: the event log, None where that is not wanted
    @ivar sender: sends to syslog, None where that is not wanted
    """

    def __init__(self) -> None:
        self.files: list[LogFile] = []
        self.events: JSONLog | None = None
        self.transcripts: Transcripts | None = None
        self.sender: Sender | None = None

    def open(self, config: Log, hostname: str, bus: EventBus, reactor: Any) -> None:
        """
        Open them.

        @raise ConfigError: when one cannot be written
        """
        bus.add(ProcessLog(config.level == "debug"))
        if config.access_log:
            bus.add(AccessLog(self._file(config.access_log)))
        if config.json_log:
            self.events = JSONLog(self._file(config.json_log))
            bus.add(self.events)
        if config.transcript:
            self.transcripts = Transcripts(self._file(config.transcript, 0o600), config.transcript_networks)
            _log.warn("transcripts of sessions are kept in {path}", path=config.transcript, event="transcripts")
        if config.syslog:
            kind, address, port = config.syslog_address()
            self.sender = open_sender(reactor, kind, address, port)
            facility = FACILITIES.index(config.syslog_facility)
            bus.add(Syslog(self.sender, facility, config.syslog_tag, None if kind == "unix" else hostname))

    def reopen(self) -> None:
        """The log files have been moved away."""
        for log in self.files:
            log.reopen()

    def dropped(self) -> dict[str, int]:
        """Lines that could not be written, by log."""
        found = {os.path.basename(log.path): log.dropped for log in self.files}
        if self.sender is not None:
            found["syslog"] = self.sender.dropped
        return found

    def close(self) -> None:
        """Write no more."""
        for log in self.files:
            log.close()
        if self.sender is not None:
            self.sender.close()

    def _file(self, path: str, mode: int = 0o640) -> LogFile:
        try:
            log = LogFile(path, mode)
        except OSError as problem:
            raise ConfigError([f"cannot write the log {path}: {problem.strerror}"]) from problem
        self.files.append(log)
        return log
