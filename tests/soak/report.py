"""What is printed: the fate of all mail, what went wrong on purpose, how sessions ended, and the verdict."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Self

import attrs

from tests.soak.gauges import Gauges
from tests.soak.ledger import ACCEPTED, REFUSED, UNKNOWN, Ledger, Letter
from tests.soak.sites import Process
from tests.soak.world import World


@attrs.frozen
class Totals:
    """What has happened up to a moment."""

    letters: int = 0
    sessions: int = 0
    retrieved: int = 0
    deleted: int = 0
    faults: int = 0
    broken: int = 0

    @classmethod
    def of(cls, ledger: Ledger) -> Self:
        """Up to now."""
        counts = list(ledger.counts.items())
        letters = list(ledger.letters.values())
        _, retrieved, deleted = _work(letters)
        return cls(
            len(letters),
            sum(count for (kind, what), count in counts if kind.startswith("sessions of ") and what == "completed"),
            retrieved,
            deleted,
            sum(count for (kind, _), count in counts if kind.startswith("faults of ")),
            len(ledger.violations),
        )

    def line(self, seconds: float, before: Self, since_seconds: float) -> str:
        """How it goes; rates are a minute's, since then."""

        def rate(now: int, then: int) -> str:
            return f"{(now - then) * 60 / since_seconds:.0f}"

        return (
            f"{seconds / 60:5.1f} min: a minute: {rate(self.sessions, before.sessions)} sessions, "
            f"{rate(self.letters, before.letters)} letters, {rate(self.retrieved, before.retrieved)} retrieved, "
            f"{rate(self.deleted, before.deleted)} deleted; {self.faults} faults, {self.broken} promises broken"
        )


def work(world: World, ledger: Ledger, site: str) -> tuple[int, int, int]:
    """How many messages were accepted, retrieved and deleted for certain, at one of the servers."""
    return _work(letter for letter in ledger.letters.values() if world.boxes[letter.mailbox].site == site)


def _work(letters: Iterable[Letter]) -> tuple[int, int, int]:
    accepted = retrieved = deleted = 0
    for letter in letters:
        accepted += ACCEPTED in letter.outcomes
        retrieved += letter.seen
        deleted += letter.gone
    return accepted, retrieved, deleted


def lines(world: World, ledger: Ledger, gauges: Gauges, seconds: float, seed: int) -> Iterator[str]:
    """All of it."""
    yield from _mail(ledger)
    yield from _work_a_minute(world, ledger, seconds)
    yield from _table("faults", _turned(_counts(ledger, "faults of ")))
    yield from _table("sessions, by kind and by server", _counts(ledger, "sessions, ", _outcome), _OUTCOMES)
    yield from _table("", _counts(ledger, "sessions of ", _outcome), _OUTCOMES)
    told = ("fate", "faults of ", "sessions of ", "sessions, ")
    yield ""
    yield "further:"
    for kind in sorted({kind for kind, _ in ledger.counts}):
        if not kind.startswith(told):
            counts = sorted((what, count) for (one, what), count in ledger.counts.items() if one == kind)
            yield f"  {kind}: " + ", ".join(f"{what} {count}" for what, count in counts)
    for what, reason in world.left_out.items():
        yield f"  left out: {what}: {reason}"
    yield from _processes(gauges)
    yield ""
    yield from ledger.shown()
    broken = len(ledger.violations)
    yield f"verdict: {f'{broken} promises broken' if broken else 'every promise was kept'} (--seed {seed})"


def _mail(ledger: Ledger) -> Iterator[str]:
    letters = ledger.letters.values()
    yield ""
    yield f"letters offered   {len(letters):8}"
    for outcome in (ACCEPTED, REFUSED, UNKNOWN):
        count = sum(letter.outcomes[-1] == outcome for letter in letters)
        yield f"  {outcome:15} {count:8}"
    yield f"  seen by clients {sum(letter.seen > 0 for letter in letters):8}"
    yield f"times retrieved   {sum(letter.seen for letter in letters):8}"
    yield "what became of them:"
    fates = sorted((fate, count) for (kind, fate), count in ledger.counts.items() if kind == "fate")
    for fate, count in fates:
        yield f"  {fate:60} {count:8}"


def _work_a_minute(world: World, ledger: Ledger, seconds: float) -> Iterator[str]:
    """What was done, by server."""
    minutes = max(seconds, 1.0) / 60
    rows = []
    for site in world.sites:
        completed = ledger.counts[f"sessions of {site}", "completed"]
        rows.append((site, completed, *work(world, ledger, site)))
    rows.append(("all", *(sum(row[column] for row in rows) for column in range(1, 5))))
    yield ""
    yield f"a minute, over {minutes:.1f} minutes:"
    yield f"  {'':10}{'sessions':>12}{'accepted':>12}{'retrieved':>12}{'deleted':>12}"
    for name, *counts in rows:
        yield f"  {name:10}" + "".join(f"{count / minutes:12.0f}" for count in counts)


def _counts(
    ledger: Ledger, begins: str, called: Callable[[str], str] = lambda what: what
) -> dict[str, collections.Counter[str]]:
    """By what comes behind the beginning of a kind, and by what that is called."""
    found: dict[str, collections.Counter[str]] = {}
    for (kind, what), count in sorted(ledger.counts.items()):
        if kind.startswith(begins):
            found.setdefault(kind.removeprefix(begins), collections.Counter())[called(what)] += count
    return found


def _turned(counts: Mapping[str, collections.Counter[str]]) -> dict[str, collections.Counter[str]]:
    """Rows become columns."""
    return {
        one: collections.Counter({row: counts[row][one] for row in counts})
        for one in sorted({what for row in counts.values() for what in row})
    }


def _outcome(what: str) -> str:
    """How a session has ended, in a few kinds."""
    for code in ("SYS/TEMP", "IN-USE"):
        if f"[{code}" in what:
            return code
    if what.startswith("exit status"):
        return "exit status"
    return what if what in _OUTCOMES else "other"


#: How sessions end.
_OUTCOMES = ("completed", "SYS/TEMP", "IN-USE", "nobody there", "broken", "no answer in time", "exit status", "other")


def _table(title: str, counts: Mapping[str, collections.Counter[str]], columns: Sequence[str] = ()) -> Iterator[str]:
    """Numbers in rows and columns; columns without any are left out."""
    columns = columns or sorted({what for row in counts.values() for what in row})
    columns = [one for one in columns if any(row[one] for row in counts.values())]
    widths = [max(10, len(one) + 2) for one in columns]
    head = f"{title + ':' if title else '':32}" + "".join(map(str.rjust, columns, widths))
    if title:
        yield ""
    yield head.rstrip()
    for name, row in counts.items():
        cells = [str(row[one] or "-") for one in columns]
        yield f"  {name:30}" + "".join(map(str.rjust, cells, widths))


def _processes(gauges: Gauges) -> Iterator[str]:
    """Memory of their own, and descriptors: at the beginning, at the end, and the most that there was."""
    yield ""
    yield f"{'processes:':30}{'beginning':>18}{'end':>18}{'most':>18}"
    first, last = (_largest(one) for one in (gauges.first, gauges.last))
    for kind, most in gauges.peaks().items():
        cells = [f"{one[0]} fd {one[1]:5.0f} MiB" if one else "-" for one in (first.get(kind), last.get(kind), most)]
        yield f"  {' '.join(kind):28}" + "".join(f"{cell:>18}" for cell in cells)
    for life in gauges.long_lives():
        one = life.process
        yield (
            f"  {one.site} {one.role} {one.pid}, {life.seconds / 60:.0f} minutes: "
            f"{life.settled_mib():.1f} MiB when settled, {life.last_mib():.1f} MiB at last"
        )


def _largest(processes: Sequence[Process]) -> dict[tuple[str, str], tuple[int, float]]:
    found: dict[tuple[str, str], tuple[int, float]] = {}
    for one in processes:
        descriptors, mib = found.get((one.site, one.role), (0, 0.0))
        found[one.site, one.role] = max(descriptors, one.descriptors), max(mib, one.memory_mib)
    return found
