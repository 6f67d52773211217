"""
The sinks that a configuration names, each made from what it says.

Purpose: the translation from [[sink]] to plain arguments; a driver's module is imported when the configuration asks
for it.
Errors: ConfigError when something cannot be used as it is configured.
"""

from __future__ import annotations

import os
import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThreadPool

from tpops import plugins
from tpops.config.schema import Config
from tpops.config.sinks.base import SinkSection
from tpops.config.sinks.network import Drac, UDPNotice, Whoson, host_and_port
from tpops.config.sinks.programs import SQL_VARIABLES, ProgramSink, SQLSink, WebhookSink
from tpops.cred import drivers
from tpops.cred.password_file import read_secret
from tpops.db import sql_template
from tpops.db.last_logins import LastLogins
from tpops.db.mysql_servers import access_of
from tpops.events.last_login import LastLoginSink
from tpops.events.sink import Sink
from tpops.interfaces import IReceiver

#: Octets of a challenge and of the numbers of calls.
_CHALLENGE_OCTETS = 8


def made(config: Config, reactor: Any, split: Callable[[str], tuple[str, str]]) -> list[Sink]:
    """
    Every sink, in order; nothing is opened yet.

    @raise ConfigError: when a library is missing, or a secret cannot be read
    """
    arguments: list[tuple[IReceiver, Any]] = [(receiver(one, reactor), one.delivery()) for one in config.sink]
    return [Sink(one, reactor, split, config.server.hostname, **how) for one, how in arguments]


def last_login(config: Config, reactor: Any) -> LastLoginSink | None:
    """What keeps the last logins, None where they are not kept."""
    if not config.last_login.keep:
        return None
    run_in_thread = partial(deferToThreadPool, reactor, reactor.getThreadPool())
    return LastLoginSink(last_logins(config), reactor, run_in_thread, time.time, config.last_login.write_seconds)


def last_logins(config: Config) -> LastLogins:
    """The file with the last logins."""
    settings = config.last_login
    path = settings.path or os.path.join(config.server.state_dir, "last-logins.sqlite")
    return LastLogins(path, settings.addresses, settings.days)


async def stop(sinks: Sequence[Sink | LastLoginSink]) -> None:
    """Stop all of them at the same time."""
    await gatherResults([Deferred.fromCoroutine(one.stop()) for one in sinks])


def receiver(section: SinkSection, reactor: Any) -> IReceiver:
    """
    Whom a sink tells; nothing is opened yet.

    @raise ConfigError: when a library is missing, or a secret cannot be read
    """
    if section.driver.startswith(plugins.PREFIX):
        theirs: IReceiver = plugins.factory("sink", section.driver).make(reactor, section.settings())
        return theirs
    match section:
        case Whoson():
            from tpops.events import whoson

            servers = [whoson.Server(*_whoson_place(one)) for one in section.servers]
            return whoson.Whoson(reactor, servers, section.timeout_seconds, "logout" in section.events)
        case Drac():
            from tpops.events import drac

            return drac.Drac(reactor, section.host, section.port, section.portmapper_port, lambda: secrets.randbits(32))
        case UDPNotice():
            from tpops.events import udp_notify

            return udp_notify.UDPNotify(
                reactor,
                *host_and_port(section.destination),
                _secret(section, "secret"),
                _secret(section, "hmac_key"),
                section.multicast_ttl,
                lambda: secrets.token_hex(_CHALLENGE_OCTETS).encode("ascii"),
            )
        case SQLSink():
            return _sql(section, reactor)
        case ProgramSink():
            from tpops.events import program

            return program.Program(reactor, section.command)
        case WebhookSink():
            from tpops.events import webhook

            return webhook.Webhook(
                reactor,
                section.address,
                section.ca_file,
                section.timeout_seconds,
                _secret(section, "secret"),
                lambda: str(uuid.uuid4()),
                time.time,
            )
    raise AssertionError(section)


def _sql(section: SQLSink, reactor: Any) -> IReceiver:
    what = f"sink {section.name}"
    keys: dict[str, Any] = section.connection()
    path = str(keys.pop("password_file"))
    connections = keys.pop("connections")
    if path:
        keys["password"] = read_secret(path, f"{what}: password_file")
    make = drivers.load("tpops.events.sql_log", "SQLLog", "mysql", what)
    query = sql_template.parse(section.statement, SQL_VARIABLES)
    made: IReceiver = make(reactor, access_of(**keys), query, connections)
    return made


def _whoson_place(text: str) -> tuple[str, str, int]:
    """Transport, host or path, and port."""
    transport, _, where = text.partition(":")
    return (transport, where, 0) if transport == "unix" else (transport, *host_and_port(where))


def _secret(section: SinkSection, name: str) -> bytes:
    """A secret that is in the configuration or in a file, b"" where there is none."""
    path = str(getattr(section, f"{name}_file"))
    text = read_secret(path, f"sink {section.name}: {name}_file") if path else str(getattr(section, name))
    return text.encode()
