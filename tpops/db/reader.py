"""
A connection for reading that sees what others do to the database.

Purpose: who keeps rows in memory learns whether they may be out of date: one stat tells whether another file has been
put in place of the database, one "PRAGMA data_version" whether another connection has written.
Limits: opened at the first use; for one thread.  A writer is waited for a quarter of a second.
Errors: sqlite3.Error and OSError; then close it, and the next use opens it again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

from tpops.db import sqlite as database

_TIMEOUT_SECONDS = 0.25


class Reader:
    """
    See the module.

    @param changed: called when what was read before may have changed
    """

    def __init__(self, path: str, family: str, changed: Callable[[], None]) -> None:
        self._path = path
        self._family = family
        self._changed = changed
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._data_version = 0

    def connection(self) -> sqlite3.Connection:
        """The connection to what the database is now."""
        facts = os.stat(self._path)
        if self._connection is not None and self._file != (facts.st_dev, facts.st_ino):
            self.close()
        if self._connection is None:
            self._connection = database.connect(self._path, self._family, _TIMEOUT_SECONDS)
            self._file = (facts.st_dev, facts.st_ino)
        data_version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if data_version != self._data_version:
            self._changed()
            self._data_version = data_version
        return self._connection

    def close(self) -> None:
        """Close the connection.  Idempotent."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._changed()
