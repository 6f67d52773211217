"""
The configuration of the process as a whole: table [server].

Purpose: see L{tpops.config.schema}.
"""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field, PlainValidator

from tpops.config import checks
from tpops.config.section import PathText, Section, key, machine_name

#: Where the state lies when nobody says otherwise.
STATE_DIRECTORY = "/var/lib/tpops"


class Server(Section):
    """The process as a whole."""

    hostname: Annotated[
        str,
        key("Name of this machine for clients.", example='"mail.example.org"', shown="the machine's full host name"),
    ] = Field(default_factory=machine_name)
    user: Annotated[
        str,
        key(
            'User to run as once the ports are bound, when started as root; "" stays who started it.', example='"mail"'
        ),
    ] = ""
    group: Annotated[str, key('Group to run as; "" is the primary group of `user`.', example='"mail"')] = ""
    state_dir: Annotated[
        PathText, key("Directory for files that tpops writes itself, such as the accounts database.")
    ] = STATE_DIRECTORY
    workers: Annotated[
        int | str,
        PlainValidator(checks.workers),
        key(
            'Processes that serve clients, 1 to 64; "auto" is one for each processor. With 1 there is one process in '
            "all; with more, one of its own keeps the ports and looks after them.",
            example='"auto"',
        ),
    ] = 1
    drain_seconds: Annotated[
        float,
        key("How long sessions may go on after TERM; then they are ended, and nothing of theirs is deleted.", ge=0),
    ] = 30.0
    autoclose_seconds: Annotated[
        float,
        key(
            "In the `wait` mode of inetd: give the port back when nobody has been connected for so long; 0 keeps it.",
            ge=0,
        ),
    ] = 60.0

    @property
    def processes(self) -> int:
        """How many processes serve clients."""
        return self.workers if isinstance(self.workers, int) else len(os.sched_getaffinity(0))
