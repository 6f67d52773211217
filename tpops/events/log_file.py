"""
A file of log lines that several processes may write to.

Purpose: each line leaves in one C{write} to a descriptor opened with O_APPEND, so lines of several
workers never mix.  C{reopen} follows logrotate.
Limits: no rotation of its own.  A line that cannot be written (disk full, I/O error, a FIFO without a
reader) is dropped, counted and reported through twisted.logger at most once a minute; no session fails
or waits for it.
Known deviation: when the disk fills up in the middle of a line, the rest of that line is lost; the next
line starts on a line of its own.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from twisted.logger import Logger

#: Seconds between two reports of dropped lines.
QUIET_SECONDS = 60.0

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


class LogFile:
    """
    An open log file.

    @ivar path: its name in the file system
    @ivar dropped: lines that could not be written
    """

    _log = Logger()

    def __init__(self, path: str, mode: int = 0o640, seconds: Callable[[], float] = time.monotonic) -> None:
        """
        Open the file; one that is not there is made with exactly this mode, whatever the umask.

        @raise OSError: when it cannot be opened
        """
        self.path = path
        self.dropped = 0
        self._mode = mode
        self._seconds = seconds
        self._reported_at: float | None = None
        self._torn = False
        self._descriptor = _open(path, mode)

    def write(self, line: bytes) -> None:
        """Append one line, given without its line end.  Never raises."""
        data = b"\n" + line + b"\n" if self._torn else line + b"\n"
        written = 0
        try:
            if self._descriptor < 0:
                raise OSError("the file is closed")
            written = os.write(self._descriptor, data)
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError as error:
            self._torn = self._torn if written == 0 else not data[:written].endswith(b"\n")
            self._dropped(error)
        else:
            self._torn = False

    def reopen(self) -> None:
        """
        Open the path anew, for logrotate.  Never raises: when that fails, the reason is logged and lines go
        on into the old file.  A closed file stays closed.
        """
        if self._descriptor < 0:
            return
        try:
            descriptor = _open(self.path, self._mode)
        except OSError as error:
            self._log.error(
                "log-reopen-failed: {path}: {reason}, still writing to the old file",
                event="log-reopen-failed",
                path=self.path,
                reason=error.strerror or str(error),
            )
            return
        old, self._descriptor = self._descriptor, descriptor
        self._torn = False
        with contextlib.suppress(OSError):
            os.close(old)

    def close(self) -> None:
        """Close the file; later lines are dropped.  Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _dropped(self, error: OSError) -> None:
        """Count a lost line and report it, unless one was reported just now."""
        self.dropped += 1
        now = self._seconds()
        if self._reported_at is not None and 0 <= now - self._reported_at < QUIET_SECONDS:
            return
        self._reported_at = now
        self._log.error(
            "log-dropped: {path}: {reason}, {dropped} lines lost since the start",
            event="log-dropped",
            path=self.path,
            reason=error.strerror or str(error),
            dropped=self.dropped,
        )


def _open(path: str, mode: int) -> int:
    """A descriptor for appending; the mode counts only for a file that is made here."""
    try:
        return os.open(path, _FLAGS)
    except FileNotFoundError:
        descriptor = os.open(path, _FLAGS | os.O_CREAT, mode)
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, mode)
    return descriptor
