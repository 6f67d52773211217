"""
What "tpops check" says of the logs.

Limits: nothing is written; whether a syslog receiver on another machine is there shows only when the server runs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from tpops.admin.rights import RunsAs
from tpops.config.log import Log


def problems(log: Log, who: RunsAs) -> Iterator[str]:
    """What a start would stumble over."""
    files = (
        ("log.access_log", log.access_log),
        ("log.json_log", log.json_log),
        ("log.transcript", log.transcript),
    )
    for key, path in files:
        if path:
            yield from _file_problems(key, path, who)


def warnings(log: Log) -> Iterator[str]:
    """What works, and not as it should."""
    if log.transcript:
        whom = ", ".join(log.transcript_networks) or "all clients"
        yield f"log.transcript is on: what {whom} do is written to {log.transcript}; do not leave it on"
    if log.syslog == "local" or log.syslog.startswith("unix:"):
        _, path, _ = log.syslog_address()
        try:
            found = os.stat(path)
        except OSError as problem:
            yield f"log.syslog: {path}: {problem.strerror}; lines wait until a syslog daemon makes it"
        else:
            if not stat.S_ISSOCK(found.st_mode):
                yield f"log.syslog: {path} is no socket"


def _file_problems(key: str, path: str, who: RunsAs) -> Iterator[str]:
    target = path if os.path.exists(path) else os.path.dirname(path)
    if not os.path.exists(target):
        yield f"{key}: there is no directory {target}"
    elif os.path.isdir(path):
        yield f"{key}: {path} is a directory"
    elif not who.may(target, os.W_OK):
        yield f"{key}: the server's user may not write {target}"
