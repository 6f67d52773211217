"""
The log of the process: what twistd writes to its log file, or to standard output.

Purpose: leaves less important messages out, follows logrotate, and takes another level without a restart.
Limits: as twistd does, a file of a million octets is moved away, to C{twistd.log.1} and so on, where the directory
allows that.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    textFileLogObserver,
)
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile


class Output:
    """
    See the module.

    @param level: the least important level that is written
    @ivar path: of a file; "" is standard output
    """

    def __init__(self, level: str, path: str) -> None:
        self.path = os.path.abspath(path) if path else ""
        self._levels = LogLevelFilterPredicate()
        self.set_level(level)
        self._file: Any = LogFile.fromFullPath(path) if path else None

    def attach(self, application: object) -> None:
        """Let twistd write the log of this application here."""
        if isinstance(application, Componentized):
            observer = FilteringLogObserver(textFileLogObserver(self._file or sys.stdout), [self._levels])
            application.setComponent(ILogObserver, observer)

    def set_level(self, level: str) -> None:
        """From now on, leave less important messages out."""
        self._levels.defaultLogLevel = LogLevel.lookupByName(level)
        self._levels.clearLogLevels()

    def reopen(self) -> None:
        """The file has been moved away."""
        if self._file is not None:
            self._file.reopen()
