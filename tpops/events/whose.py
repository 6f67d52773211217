"""
Whose events a receiver is told of: popserv's expressions.

Purpose: a list of C{allow EXPRESSION} and C{deny EXPRESSION}; the first whose expression is found in the user's name
decides, and who fits none is denied.  Capital letters are as good as small ones.
Limits: verdicts on the names that came last are kept.
Errors: ValueError, for the operator.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from tpops.patterns import Pattern

_VERDICTS = {"allow": True, "deny": False}

#: Names whose verdicts are kept.
_KEPT = 4096


class Whose:
    """
    See the module.

    @ivar everybody: whether nobody is denied
    @raise ValueError: when a rule is none
    """

    def __init__(self, rules: Sequence[str]) -> None:
        self._rules = [parse(rule) for rule in rules]
        self.everybody = bool(rules) and rules[0].split() == ["allow", ".*"]
        self.allows = functools.lru_cache(maxsize=_KEPT)(self._allows)

    def _allows(self, name: str) -> bool:
        """Whether events of this user are told."""
        for verdict, pattern in self._rules:
            if pattern.search(name) is not None:
                return verdict
        return False


def parse(rule: str) -> tuple[bool, Pattern]:
    """
    One rule.

    @raise ValueError: when it is none
    """
    verb, _, expression = rule.partition(" ")
    expression = expression.strip()
    if verb not in _VERDICTS or not expression:
        raise ValueError(f'must be "allow" or "deny" and an extended regular expression, not {rule!r}')
    try:
        return _VERDICTS[verb], Pattern(expression, ignore_case=True)
    except ValueError as problem:
        raise ValueError(f"has no extended regular expression in {rule!r}: {problem}") from None
