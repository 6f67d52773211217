"""
Exit statuses of the commands that deliver, and how an MTA reads them.

Purpose: TPOPS' numbers, which are those of sysexits.h: 0 delivered; 64 wrong command line; 67 nobody has the address;
73 the maildrop is full; 75 anything else, and the MTA tries again.  Of several recipients the worst status counts, in
this order: 75, 73, 67, 0.  75 comes first since the others make the MTA give up: a message that is delivered twice is
better than one that is not delivered.
The line that a command prints begins with an enhanced status code (RFC 3463), which Postfix takes over.
Limits: the standard library only, so that a broken installation still ends with 75.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, NoReturn

DELIVERED, USAGE, UNKNOWN_USER, FULL, TRY_AGAIN = 0, 64, 67, 73, 75

#: The worse, the further behind.
_ORDER = (DELIVERED, UNKNOWN_USER, FULL, TRY_AGAIN)


class Outcome(NamedTuple):
    """
    What became of a delivery.

    @ivar status: an exit status
    @ivar text: for the MTA's log, "" where it went well
    """

    status: int
    text: str = ""


class WrongUsage(Exception):
    """The command line cannot be understood; the text says why."""


def options(arguments: Sequence[str], known: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """
    The options in front of a command line, each with a value, and the words behind them.

    @param known: what each is called
    @raise WrongUsage: when it cannot be understood
    """
    found: dict[str, str] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if name not in known:
            raise WrongUsage(f"there is no option {name}")
        if not equals:
            if not rest:
                raise WrongUsage(f"{name} needs a value")
            value = rest.pop(0)
        found[known[name]] = value
    return found, rest


def worst(outcomes: Iterable[Outcome]) -> int:
    """The status that counts."""
    return max((one.status for one in outcomes), key=_ORDER.index, default=DELIVERED)


def say(outcomes: Sequence[Outcome]) -> None:
    """Print what did not go well, the worst first."""
    for one in sorted(outcomes, key=lambda one: -_ORDER.index(one.status)):
        if one.text:
            tell(one.text)


def tell(text: str) -> None:
    """Print a line on standard error.  Where nobody reads that, the status must still be right."""
    try:
        os.write(2, text.encode("utf-8", "replace") + b"\n")
    except OSError:
        return


def guarded(name: str, usage: str, run: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """
    The exit status of a command that delivers; whatever happens, it is one that loses no mail.

    @param run: does the work
    """
    try:
        from tpops.process.garbage import collect_seldom

        collect_seldom()
        return run(arguments)
    except WrongUsage as wrong:
        tell(f"5.3.5 {name}: {wrong}")
        tell(f"usage: {usage}")
        return USAGE
    except BaseException as error:
        problems = getattr(error, "problems", None)
        what = "; ".join(problems) if problems else str(error) or "no reason given"
        tell(f"4.3.0 {name}: {type(error).__name__}: {what}".replace("\n", " "))
        return TRY_AGAIN


def leave(status: int) -> NoReturn:
    """End the process with this status: nothing that fails while Python ends may turn it into another one."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        os._exit(status)
    os._exit(status)
