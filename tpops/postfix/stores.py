"""The store for POP before SMTP that a configuration names."""

from __future__ import annotations

import os

from twisted.logger import Logger

from tpops.config.schema import Config
from tpops.db.relay import IRelayStore
from tpops.db.relay_sqlite import SQLiteRelayStore
from tpops.process import privileges

_log = Logger()


def sqlite_path(config: Config) -> str:
    """The file of store "sqlite"."""
    return config.pop_before_smtp.path or os.path.join(config.server.state_dir, "pbs.sqlite")


def store(config: Config) -> IRelayStore:
    """The store; nothing is opened yet."""
    settings = config.pop_before_smtp

    def made(path: str) -> None:
        who = privileges.identity(config.server.user, config.server.group)
        if who is not None and os.geteuid() == 0:
            os.chown(path, who.uid, who.gid, follow_symlinks=False)
        _log.info("made {path}, with nothing in it", path=path)

    return SQLiteRelayStore(sqlite_path(config), settings.expire_seconds, made=made)
