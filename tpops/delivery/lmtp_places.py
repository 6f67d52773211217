"""
Where LMTP listens, as the table [lmtp] says.

Purpose: known without making what serves there.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable

from tpops.config.lmtp import LMTP
from tpops.errors import ConfigError
from tpops.server.listeners import Listener

_BACKLOG = 128


def places(config: LMTP) -> list[Listener]:
    """
    Its listeners, in the order of the configuration.

    @raise ConfigError: when a socket shall belong to somebody who is not there
    """
    mode = int(config.socket_mode, 8)
    uid = _number(config.socket_user, "socket_user", lambda name: pwd.getpwnam(name).pw_uid)
    gid = _number(config.socket_group, "socket_group", lambda name: grp.getgrnam(name).gr_gid)
    return [Listener(address, port, _BACKLOG, mode, uid, gid) for address, port in config.places()]


def _number(name: str, key: str, look: Callable[[str], int]) -> int:
    """
    The number of a user or a group, -1 for none.

    @raise ConfigError: when there is none of that name
    """
    if not name or name.isdigit():
        return int(name or -1)
    try:
        return look(name)
    except KeyError:
        raise ConfigError([f"lmtp.{key}: there is no {key.removeprefix('socket_')} {name!r} on this machine"]) from None
