"""Where the control socket of a configuration is, and how it is opened."""

from __future__ import annotations

import grp
import os

from twisted.logger import Logger

from tpops.config.admin import SOCKET
from tpops.config.schema import Config
from tpops.errors import ConfigError
from tpops.process import privileges
from tpops.sight.control import Socket

_log = Logger()


def path_of(config: Config) -> str:
    """The path of the control socket, "" for none."""
    if not config.admin.enabled:
        return ""
    return config.admin.socket or os.path.join(config.server.state_dir, SOCKET)


def open_socket(control: Socket, config: Config) -> None:
    """
    Let it be where the configuration wants it.

    @raise ConfigError: when it cannot be, and the configuration names a place; otherwise that is only logged
    """
    path = path_of(config)
    if not path:
        control.close()
        return
    admin = config.admin
    uid = gid = -1
    owner = privileges.identity(config.server.user, config.server.group)
    if owner is not None and os.geteuid() == 0:
        uid, gid = owner.uid, owner.gid
    if admin.socket_group:
        try:
            gid = grp.getgrnam(admin.socket_group).gr_gid
        except KeyError:
            raise ConfigError([f"admin.socket_group: there is no group {admin.socket_group}"]) from None
    try:
        control.open(path, int(admin.socket_mode, 8), uid, gid)
    except OSError as problem:
        why = f"no control socket {path}: {problem.strerror or problem}"
        if admin.socket:
            raise ConfigError([f"admin.socket: {why}"]) from problem
        _log.warn("{why}; 'tpops who' and others cannot ask this server", why=why, event="control-failed")


def reopen(control: Socket, config: Config) -> None:
    """The same for a configuration that is in force already: what cannot be is logged."""
    try:
        open_socket(control, config)
    except ConfigError as problem:
        for line in problem.problems:
            _log.error("{problem}; it stays where it was", problem=line, event="control-failed")
