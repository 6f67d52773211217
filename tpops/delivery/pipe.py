"""
"tpops-pipe": deliver the message on standard input to some recipients, for an MTA that starts a program.

    tpops-pipe [-c FILE] [-f SENDER] [--] ADDRESS...

Exit statuses are in L{tpops.delivery.exits}; nothing that goes wrong makes an MTA give a message up by mistake.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from tpops.delivery import exits

USAGE = "tpops-pipe [-c FILE] [-f SENDER] [--] ADDRESS..."


_OPTIONS = {"-c": "config", "--config": "config", "-f": "sender", "--sender": "sender"}


def options(arguments: Sequence[str]) -> tuple[str | None, str | None, list[str]]:
    """
    Configuration file, sender and the rest of a command line.

    @raise WrongUsage: when it cannot be understood
    """
    given, rest = exits.options(arguments, _OPTIONS)
    sender = given.get("sender")
    return given.get("config"), sender.strip("<>") if sender is not None else None, rest


def run(arguments: Sequence[str]) -> int:
    """Deliver; gives the exit status."""
    config, sender, recipients = options(arguments)
    if not recipients or not all(recipients):
        raise exits.WrongUsage("no address is given" if not recipients else "an address is empty")
    # Only now, so that a wrong command line and a broken installation have the right status.
    from tpops.delivery import deliver

    settings = deliver.configuration(config)
    outcomes = deliver.deliver(settings, recipients, [lambda: deliver.read(sys.stdin.buffer, settings, sender)])
    exits.say(outcomes)
    return exits.worst(outcomes)


def command(arguments: Sequence[str]) -> int:
    """The exit status for a command line."""
    return exits.guarded("tpops-pipe", USAGE, run, arguments)


def main() -> NoReturn:
    """The console script."""
    exits.leave(command(sys.argv[1:]))
