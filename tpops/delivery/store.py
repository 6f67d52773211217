"""
"tpops-store": put messages in files, or the one on standard input, into somebody's maildrop.

    tpops-store [-c FILE] [-f SENDER] [--] ADDRESS [FILE...]

Exit statuses are those of tpops-pipe (L{tpops.delivery.exits}); of several files the worst counts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from tpops.delivery import exits
from tpops.delivery.pipe import options

USAGE = "tpops-store [-c FILE] [-f SENDER] [--] ADDRESS [FILE...]"


def run(arguments: Sequence[str]) -> int:
    """Deliver; gives the exit status."""
    config, sender, rest = options(arguments)
    if not rest or not rest[0]:
        raise exits.WrongUsage("no address is given")
    from tpops.delivery import deliver

    settings = deliver.configuration(config)
    address, *files = rest

    def arrival(path: str) -> Callable[[], deliver.Arrived]:
        def arrive() -> deliver.Arrived:
            if path == "-":
                return deliver.read(sys.stdin.buffer, settings, sender)
            with open(path, "rb") as file:
                return deliver.read(file, settings, sender)

        return arrive

    outcomes = deliver.deliver(settings, [address], map(arrival, files or ["-"]))
    exits.say(outcomes)
    return exits.worst(outcomes)


def command(arguments: Sequence[str]) -> int:
    """The exit status for a command line."""
    return exits.guarded("tpops-store", USAGE, run, arguments)


def main() -> NoReturn:
    """The console script."""
    exits.leave(command(sys.argv[1:]))
