"""What is printed: the fate of all mail, what went wrong on purpose, how sessions ended, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.soak.ledger import ACCEPTED, REFUSED, UNKNOWN, Ledger
from tests.soak.world import Process, World


def lines(
    world: World, ledger: Ledger, before: Sequence[Process], after: Sequence[Process], seed: int
) -> Iterator[str]:
    """All of it."""
    yield from _mail(ledger)
    kinds = sorted({kind for kind, _ in ledger.counts} - {"fate"}, key=lambda kind: (kind != "faults", kind))
    for kind in kinds:
        counts = sorted((what, count) for (one, what), count in ledger.counts.items() if one == kind)
        yield f"{kind}: " + ", ".join(f"{what} {count}" for what, count in counts)
    for what, reason in world.left_out.items():
        yield f"left out: {what}: {reason}"
    for when, processes in (("at the beginning", before), ("at the end", after)):
        for one in processes:
            yield f"{when}: {one.role}: {one.descriptors} descriptors, {one.memory_mib:.0f} MiB"
    yield ""
    yield from ledger.shown()
    broken = len(ledger.violations)
    yield f"verdict: {f'{broken} promises broken' if broken else 'every promise was kept'} (--seed {seed})"


def _mail(ledger: Ledger) -> Iterator[str]:
    letters = ledger.letters.values()
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
