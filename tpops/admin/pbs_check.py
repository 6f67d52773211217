"""
What "tpops check" looks at for POP before SMTP: the store, the sockets, and whether anybody can relay at all.

Limits: nothing is made or written; rights are judged as L{tpops.admin.rights} does.
"""

from __future__ import annotations

import grp
import os
import shutil
from collections.abc import Iterator

from tpops.admin.rights import RunsAs
from tpops.config.schema import Config
from tpops.db.relay import IRelayStore, StoreFailed
from tpops.errors import ConfigError
from tpops.postfix import stores


def problems(config: Config, who: RunsAs, warnings: list[str]) -> Iterator[str]:
    """
    What is wrong.

    @param warnings: gets what is not wrong yet
    """
    settings = config.pop_before_smtp
    if settings.store == "sqlite":
        found = list(_file_problems(stores.sqlite_path(config), who))
        yield from found
        looked_at = not found and os.path.exists(stores.sqlite_path(config))
    else:
        looked_at = True
    if looked_at:
        yield from _store_problems(config, warnings)
    for address in (*settings.policy, *settings.socketmap, *settings.tcp_table):
        directory = os.path.dirname(address.removeprefix("unix:"))
        if address.startswith("unix:") and not os.path.isdir(directory):
            yield f"pop_before_smtp: there is no directory {directory} for the socket {address}"
    if settings.socket_group and not _is_group(settings.socket_group):
        yield f"pop_before_smtp.socket_group: there is no group {settings.socket_group}"
    if settings.map:
        yield from _map_problems(settings.map, who)


def _file_problems(path: str, who: RunsAs) -> Iterator[str]:
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        yield f"pop_before_smtp.path: there is no directory {directory}"
    elif not who.may(directory, os.W_OK | os.X_OK):
        yield f"pop_before_smtp.path: the server's user may not write in {directory}"
    elif os.path.exists(path) and not who.may(path, os.R_OK | os.W_OK):
        yield f"pop_before_smtp.path: the server's user may not write {path}"


def _store_problems(config: Config, warnings: list[str]) -> Iterator[str]:
    try:
        store = stores.store(config)
    except ConfigError as error:
        yield from error.problems
        return
    try:
        yield from (f"pop_before_smtp: {one}" for one in store.check())
        if store.detailed and config.pop_before_smtp.match == "sender" and not _anybody(store):
            warnings.append("pop_before_smtp: nobody can relay: there is no sender and no rule ('tpops pbs user add')")
    except StoreFailed as error:
        yield f"pop_before_smtp: {error}"
    finally:
        store.close()


def _anybody(store: IRelayStore) -> bool:
    return bool(store.senders(None) or store.rules())


def _map_problems(table: str, who: RunsAs) -> Iterator[str]:
    kind, _, path = table.partition(":")
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        yield f"pop_before_smtp.map: there is no directory {directory}"
    elif not who.may(directory, os.W_OK | os.X_OK):
        yield f"pop_before_smtp.map: the server's user may not write in {directory}"
    if kind != "texthash" and not (shutil.which("postmap") or os.path.exists("/usr/sbin/postmap")):
        yield "pop_before_smtp.map: there is no postmap, a program of Postfix, on this machine"


def _is_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True
