"""
What "tpops check" says of sinks and of the file with the last logins.

Limits: nobody is told anything, no program is started and no server is asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from tpops import plugins, sinks
from tpops.admin.rights import RunsAs
from tpops.config.schema import Config
from tpops.config.sinks.base import SinkSection
from tpops.config.sinks.programs import ProgramSink
from tpops.errors import ConfigError


def problems(config: Config, who: RunsAs) -> Iterator[str]:
    """What a start or a login would stumble over."""
    for section in config.sink:
        if not section.driver.startswith(plugins.PREFIX):
            try:
                sinks.receiver(section, None)
            except ConfigError as error:
                yield from error.problems
        if isinstance(section, ProgramSink):
            yield from _program_problems(section, who)
    if config.last_login.keep:
        yield from _file_problems(sinks.last_logins(config).path, who)


def warnings(config: Config, who: RunsAs) -> Iterator[str]:
    """What works until a reload."""
    for section in config.sink:
        for key, path in _files(section):
            closed = who.closed(path) if os.path.exists(path) else None
            if closed is not None:
                yield (
                    f"sink {section.name}: {key}: the server's user may not read {path} ({closed}), so a reload fails "
                    "where tpops was started as root"
                )


def _files(section: SinkSection) -> Iterator[tuple[str, str]]:
    """The files that are read at the start."""
    for key in type(section).model_fields:
        value = getattr(section, key)
        if key.endswith("_file") and isinstance(value, str) and value:
            yield key, value


def _program_problems(section: ProgramSink, who: RunsAs) -> Iterator[str]:
    path = section.command[0]
    if not os.path.isfile(path):
        yield f"sink {section.name}: there is no program {path}"
    elif not who.may(path, os.X_OK) or not os.access(path, os.X_OK):
        yield f"sink {section.name}: the server's user may not execute {path}"


def _file_problems(path: str, who: RunsAs) -> Iterator[str]:
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        yield f"last_login.path: there is no directory {directory}"
    elif not who.may(directory, os.W_OK | os.X_OK):
        yield f"last_login.path: the server's user may not write in {directory}"
    elif os.path.exists(path) and not who.may(path, os.R_OK | os.W_OK):
        yield f"last_login.path: the server's user may not write {path}"
