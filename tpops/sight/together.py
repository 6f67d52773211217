"""
What several processes say, as one answer.

Purpose: adds figures up, and joins lists.
"""

from __future__ import annotations

from collections.abc import Iterable

from tpops.events.counters import add
from tpops.sight.control import Answer


def together(answers: Iterable[Answer]) -> Answer:
    """The answers of several processes to the same request."""
    whole: Answer = {}
    for answer in answers:
        for key, value in answer.items():
            if key == "started":
                whole[key] = min(value, whole.get(key, value))
            elif key not in whole:
                whole[key] = value
            elif isinstance(value, bool):
                whole[key] = whole[key] or value
            elif isinstance(value, list):
                whole[key] = [*whole[key], *value]
            else:
                whole[key] = add(whole[key], value)
    if "penalties" in whole:
        # Counts are shared, and every process knows them by the names that have failed there.
        known = {(one["kind"], one["key"]): one for one in whole["penalties"]}
        whole["penalties"] = list(known.values())
    return whole
