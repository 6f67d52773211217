"""
The store for POP before SMTP that a configuration names.

Purpose: L{store} is for commands, L{Served} for the server, where a database server must not be waited for.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from tpops import mail_database
from tpops.config.schema import Config
from tpops.cred import drivers
from tpops.cred.password_file import read_secret
from tpops.db.mysql_servers import Access, Line, access_of
from tpops.db.relay import IRelayStore, StoreFailed
from tpops.db.relay_sqlite import SQLiteRelayStore
from tpops.process import privileges

_log = Logger()

_WHAT = '[pop_before_smtp], with store = "mysql",'

#: The stores in MySQL, by "mysql_tables".
_MYSQL = {"v2": "MySQLRelayStore", "classic": "ClassicRelayStore", "both": "BothRelayStore"}


def sqlite_path(config: Config) -> str:
    """The file of store "sqlite"."""
    return config.pop_before_smtp.path or os.path.join(config.server.state_dir, "pbs.sqlite")


def store(config: Config) -> IRelayStore:
    """
    The store, for commands; nothing is opened yet.

    @raise ConfigError: when the library is missing, or a file with a password cannot be used
    """
    if config.pop_before_smtp.store == "sqlite":
        return _sqlite(config)
    there = access(config)
    make = drivers.load("tpops.db.mysql", "Client", "mysql", _WHAT)
    client = make(there, Line(there.servers, time.monotonic), writable=True)
    return _mysql(config, lambda: client)


def access(config: Config) -> Access:
    """
    How to get into the database server.

    @raise ConfigError: when nothing says where it is, or the file with the password cannot be used
    """
    given = config.pop_before_smtp_mysql
    if not given.servers:
        return mail_database.access(config)
    keys: dict[str, Any] = given.connection()
    path = str(keys.pop("password_file"))
    del keys["connections"]
    if path:
        keys["password"] = read_secret(path, "[pop_before_smtp_mysql]: password_file")
    return access_of(**keys)


class Served:
    """
    The store in the running server.

    @ivar store: the store
    @ivar at_once: whether facts may be asked for where the reactor runs
    """

    def __init__(self, config: Config, reactor: Any) -> None:
        self.at_once = config.pop_before_smtp.store == "sqlite"
        self._pool: Any = None
        self._threads: Callable[..., Deferred[Any]] = partial(deferToThreadPool, reactor, reactor.getThreadPool())
        if self.at_once:
            self.store = _sqlite(config)
            return
        self._here = threading.local()
        self.store = _mysql(config, lambda: self._here.client)
        pool = drivers.load("tpops.db.mysql_pool", "Pool", "mysql", _WHAT)
        self._pool = pool(access(config), config.pop_before_smtp_mysql.connections, reactor, writable=True)

    def start(self) -> None:
        """Be ready."""
        if self._pool is not None:
            self._pool.start()

    def stop(self) -> None:
        """Let go of everything; no call is under way."""
        if self._pool is not None:
            self._pool.stop()
        self.store.close()

    def run_in_thread(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Call a method of the store in a thread; the Deferred fails with L{StoreFailed}."""
        if self._pool is None:
            return self._threads(work, *arguments)

        def with_client(client: Any, until: float) -> Any:
            self._here.client = client
            return work(*arguments)

        answer: Deferred[Any] = self._pool.run(with_client)
        return answer.addErrback(_as_store_failed)


def _as_store_failed(failure: Failure) -> None:
    """What the pool itself says."""
    failure.trap(drivers.load("tpops.db.mysql", "DatabaseFailed", "mysql", _WHAT))
    raise StoreFailed(str(failure.value)) from None


def _sqlite(config: Config) -> IRelayStore:
    def made(path: str) -> None:
        who = privileges.identity(config.server.user, config.server.group)
        if who is not None and os.geteuid() == 0:
            os.chown(path, who.uid, who.gid, follow_symlinks=False)
        _log.info("made {path}, with nothing in it", path=path)

    return SQLiteRelayStore(sqlite_path(config), config.pop_before_smtp.expire_seconds, made=made)


def _mysql(config: Config, connection: Callable[[], Any]) -> IRelayStore:
    settings = config.pop_before_smtp
    make = drivers.load("tpops.db.relay_mysql", _MYSQL[settings.mysql_tables], "mysql", _WHAT)
    made: IRelayStore = make(connection, settings.expire_seconds, config.pop_before_smtp_mysql.timeout_seconds)
    return made
