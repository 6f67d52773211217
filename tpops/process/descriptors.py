"""
How many files this process may have open.

Purpose: each connection is one, its maildrop's lock another, and a message that is being sent a third.  The soft limit,
often 1024, is raised to what C{limits.connections} needs, as far as the hard limit goes.
"""

from __future__ import annotations

import resource

from twisted.logger import Logger

_log = Logger()

#: For a connection, and for everything else.
EACH = 3
OTHERS = 512

#: Where any number of connections is allowed.
_MANY = 65536


def make_room(connections: int) -> None:
    """
    Raise the limit for so many connections; warn where that cannot be done.

    @param connections: at the same time, 0 for any number
    """
    wanted = EACH * connections + OTHERS if connections else _MANY
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if connections and possible < wanted:
        _log.warn(
            "few-descriptors: at most {hard} files may be open, and limits.connections = {connections} may need "
            "{wanted}: raise that (systemd: LimitNOFILE=, else ulimit -Hn), or lower it to {fitting}",
            event="few-descriptors",
            hard=hard,
            connections=connections,
            wanted=wanted,
            fitting=max(1, (hard - OTHERS) // EACH),
        )
