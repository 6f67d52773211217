"""
What "tpops check" says of the status page.

Limits: nothing is bound; only the file with the token is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from tpops.admin.rights import RunsAs
from tpops.config.schema import Config
from tpops.errors import ConfigError
from tpops.sight.listeners import token


def problems(config: Config, who: RunsAs, warnings: list[str]) -> Iterator[str]:
    """
    What a start would stumble over.

    @param warnings: gets what works until a reload
    """
    status = config.status
    try:
        token(status)
    except ConfigError as error:
        yield from error.problems
        return
    closed = who.closed(status.token_file) if status.token_file else None
    if closed is not None:
        warnings.append(
            f"status.token_file: the server's user may not read {status.token_file} ({closed}), so a reload fails "
            "where tpops was started as root"
        )
