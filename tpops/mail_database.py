"""
Mail in MySQL or MariaDB, as the configuration says: the connection, the tables, and whether all is well there.

Purpose: what the service, deliveries and commands need to get at mail in a database.
Limits: the modules that need the client library are loaded when it is asked for.
Errors: ConfigError, also where the library is not installed.
"""

from __future__ import annotations

import secrets
from typing import Any

import attrs

from tpops.config.accounts.sql import MySQL
from tpops.config.mysql import Connection
from tpops.config.schema import Config
from tpops.cred import drivers
from tpops.cred.password_file import read_secret
from tpops.db.mysql_servers import Access, access_of
from tpops.errors import ConfigError
from tpops.mailbox.locations import Store

_LOCATION = "mysql:"


def wanted(config: Config) -> bool:
    """Whether mail is said to be there, by [mail] or by [mysql]."""
    return _LOCATION in config.mail.location or bool(config.mysql.model_fields_set)


def used(config: Config) -> bool:
    """Whether mail may be there: accounts of a database may name it in their own locations."""
    return wanted(config) or any(isinstance(one, MySQL) for one in config.accounts)


def access(config: Config) -> Access:
    """
    How to get into the database, with the password.

    @raise ConfigError: when nothing says which one, or the file with the password cannot be used
    """
    mysql = config.mysql
    given: Connection | None = mysql
    what = "[mysql]"
    if not mysql.servers:
        given = next((one for one in config.accounts if isinstance(one, MySQL)), None)
        what = "accounts source " + (given.name if isinstance(given, MySQL) else "")
    if given is None:
        raise ConfigError(
            ['no database for "mysql:": neither [mysql] `servers` nor an accounts source of driver "mysql" names it']
        )
    keys = given.connection() | {"timeout_seconds": mysql.timeout_seconds}
    path = str(keys.pop("password_file"))
    del keys["connections"]
    if path:
        keys["password"] = read_secret(path, f"{what}: password_file")
    found: Any = keys
    return access_of(**found)


def driver(config: Config, reactor: Any) -> Store:
    """
    The store of all mail there.

    @raise ConfigError: when the library is missing
    """
    mysql = config.mysql
    what = '[mysql], for mail in "mysql:",'
    if not mysql.servers and not any(isinstance(one, MySQL) for one in config.accounts):
        access(config)
    make = drivers.load("tpops.mailbox.mysql", "MySQLDriver", "mysql", what)
    options = drivers.load("tpops.mailbox.mysql", "MySQLOptions", "mysql", what)(
        lock_wait_seconds=mysql.lock_wait_seconds,
        cache_octets=mysql.cache_mib << 20,
        stop_seconds=mysql.timeout_seconds,
    )
    pool = drivers.load("tpops.db.mysql_pool", "Pool", "mysql", what)
    made: Store = make(
        options, schema(config), lambda: pool(access(config), mysql.connections, reactor, writable=True), reactor
    )
    return made


def schema(config: Config) -> Any:
    """The tables."""
    mysql = config.mysql
    what = "[mysql]"
    changes = drivers.load("tpops.db.mysql_changes", "Changes", "mysql", what)(mysql.timeout_seconds)
    if mysql.schema == "classic":
        classic = drivers.load("tpops.mailbox.mysql_classic", "Classic", "mysql", what)
        return classic(mysql.keep_seconds, changes, mysql.lock_pids)
    owner = f"{config.server.hostname[:200]}/{secrets.token_hex(8)}"
    return drivers.load("tpops.mailbox.mysql_v2", "V2", "mysql", what)(owner, mysql.lease_seconds, changes)


def problems(config: Config) -> list[str]:
    """What is wrong with the database, for an operator; every server is asked."""
    try:
        there = access(config)
        tables = schema(config)
        look = drivers.load("tpops.mailbox.mysql_schema", "look", "mysql", "[mysql]")
    except ConfigError as error:
        return list(error.problems)
    each = [attrs.evolve(there, servers=(server,)) for server in there.servers]
    return [f"[mysql]: {problem}" for one in each for problem in look(one, tables)]
