"""
The parts of the service that a session in a process of its own has, too: limits, timers, and mail in files.

Purpose: as L{tpops.assembly}, without what talks to others; what is loaded here is in the memory of all such processes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from tpops import file_stores
from tpops.cred import names
from tpops.mailbox import spool_locks
from tpops.mailbox.locations import Maildrops
from tpops.mailbox.spool_locks import Dotlocks
from tpops.server.options import ServerOptions
from tpops.server.pace import Bandwidth

if TYPE_CHECKING:
    from tpops.config.schema import Config


@cache
def implementation() -> bytes:
    """Name and version, as CAPA tells it."""
    try:
        return f"tpops-{version('tpops')}".encode("ascii")
    except PackageNotFoundError:
        return b"tpops"


def server_options(config: Config) -> ServerOptions:
    """Limits and timers of sessions."""
    protocol, limits = config.protocol, config.limits
    return ServerOptions(
        auth_tries=protocol.auth_tries,
        login_timeout_seconds=protocol.login_timeout_seconds,
        idle_timeout_seconds=protocol.idle_timeout_seconds,
        session_max_seconds=protocol.session_max_seconds,
        write_timeout_seconds=protocol.write_timeout_seconds,
        command_octets=protocol.command_octets,
        disconnect_octets=protocol.disconnect_octets,
        bad_commands=protocol.bad_commands,
        commands_before_login=limits.commands_before_login,
        commands_after_login=limits.commands_after_login,
        errors_before_login=limits.errors_before_login,
        errors_after_login=limits.errors_after_login,
        master_separator=config.masters.separator.encode(),
        refuse_utf8_headers=protocol.utf8_headers == "refuse",
    )


def bandwidth(config: Config, seconds: Callable[[], float]) -> Bandwidth | None:
    """How fast mail is sent, None for as fast as it goes."""
    limits = config.limits
    together = share(limits.octets_per_second, config.server.processes)
    if not (limits.octets_per_second_per_session or together):
        return None
    return Bandwidth(limits.octets_per_second_per_session, together, seconds)


def share(whole: int, processes: int) -> int:
    """What one process of several has of a limit, at least 1; 0 is no limit."""
    return -(-whole // processes)


def file_maildrops(
    config: Config,
    spool_state: str,
    reactor: Any,
    run_in_thread: Any,
    dotlocks: Dotlocks = spool_locks.HERE,
    whose: str = "",
) -> Maildrops:
    """
    The maildrops of a process that serves their owner: only what is in files.

    @param spool_state: directory for what is remembered of spools
    @param dotlocks: who makes dotlocks
    @param whose: name of the owner's directory in those for indexes
    """
    makers = file_stores.makers(config, spool_state, reactor, run_in_thread, dotlocks, whose)
    stores = {kind: make() for kind, make in makers.items()}
    return Maildrops(config.mail.location, lambda name: names.split(name, config.names.separators), stores)
