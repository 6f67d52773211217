"""What "tpops check" looks at where mail comes in by LMTP."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tpops.admin.rights import RunsAs
from tpops.config.schema import Config
from tpops.delivery.lmtp_places import places
from tpops.errors import ConfigError

#: Longest path of a UNIX socket (unix(7)).
_MOST_OCTETS = 107


def problems(config: Config, who: RunsAs) -> Iterator[str]:
    """What a start or a delivery would stumble over."""
    try:
        listeners = places(config.lmtp)
    except ConfigError as error:
        yield from error.problems
        return
    for listener in listeners:
        if listener.path is not None:
            directory = os.path.dirname(listener.path)
            if not os.path.isdir(directory):
                yield f"lmtp.listen: there is no directory {directory} for the socket"
            if len(os.fsencode(listener.path)) > _MOST_OCTETS:
                yield f"lmtp.listen: {listener.path} is longer than {_MOST_OCTETS} octets, the most for a socket's path"
    spool_dir = config.delivery.spool_dir
    if spool_dir and not os.path.isdir(spool_dir):
        yield f"delivery.spool_dir: there is no directory {spool_dir}, so messages of more than 1 MiB would wait"
    elif spool_dir and not who.may(spool_dir, os.W_OK | os.X_OK):
        yield f"delivery.spool_dir: the server's user may not write in {spool_dir}; bigger messages would wait"
