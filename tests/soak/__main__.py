"""The command: C{python -m tests.soak}, or C{scripts/soak}."""

from __future__ import annotations

import argparse
import secrets
import signal
import sys

from tests.soak.run import Plan, Soak
from tests.soak.world import namespace


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """The exit status: 0 when every promise was kept."""
    arguments = argparse.ArgumentParser(
        prog="scripts/soak",
        description="Many clients and faults at the same time; prints what became of every message.",
    )
    arguments.add_argument("--minutes", type=float, default=30, help="how long faults are injected (30)")
    arguments.add_argument("--clients", type=int, default=200, help="clients at the same time (200)")
    arguments.add_argument("--seed", type=int, default=0, help="repeats the choices of another run (any)")
    arguments.add_argument("--keep", action="store_true", help="keep the ledger when nothing is wrong, too")
    given = arguments.parse_args()
    if given.minutes <= 0 or given.clients < 1:
        arguments.error("--minutes and --clients must be more than nothing")
    namespace()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    plan = Plan(given.minutes * 60, given.clients, given.seed or secrets.randbelow(1 << 30) + 1, given.keep)
    return Soak(plan, _say).run()


if __name__ == "__main__":
    sys.exit(main())
