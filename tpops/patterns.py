"""
Extended regular expressions (POSIX.1-2017, XBD chapter 9.4) in time that grows with the text and nothing worse.

Purpose: expressions that an operator writes once and that are compared with what strangers send, as popserv and tpop3d
have them in their configurations.  Python's own expressions go back and try again, so that a careless one can be made
to take years; these follow all possibilities at once (K. Thompson, CACM 11:6, 1968).
What there is: C{.}, C{[...]} with ranges and classes such as C{[:alpha:]}, C{^ $ ( ) | * + ?}, C{{n}}, C{{n,m}},
C{{n,}}, and C{\\} before a sign.
Limits: the leftmost match counts, and of several that begin there the one that greedy repetition and the order of
alternatives give, which is not always the longest.  No back references, no collating elements.
Known deviations: C{* + ?} at the beginning of an expression or alternative, which POSIX leaves open, are themselves;
popserv's manual has C{+([^%@/]*)}.
Errors: ValueError, with what is wrong, for the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

#: Longest program; the time for a text is this times its length at most.
_MOST_STEPS = 500

#: POSIX: RE_DUP_MAX.
_MOST_TIMES = 255

#: How deep parentheses may be nested.
_MOST_DEPTH = 20

_CLASSES: dict[str, Callable[[str], bool]] = {
    "alpha": str.isalpha,
    "digit": lambda one: one in "0123456789",
    "alnum": str.isalnum,
    "upper": str.isupper,
    "lower": str.islower,
    "space": str.isspace,
    "blank": lambda one: one in " \t",
    "punct": lambda one: one.isprintable() and not one.isalnum() and not one.isspace(),
    "print": str.isprintable,
    "graph": lambda one: one.isprintable() and not one.isspace(),
    "cntrl": lambda one: not one.isprintable(),
    "xdigit": lambda one: one in "0123456789abcdefABCDEF",
}

#: Says whether a character fits.
Fits = Callable[[str], bool]


class Match(NamedTuple):
    """Where an expression was found: from C{start} to C{end}; C{group} is what the first parentheses have."""

    start: int
    end: int
    group: str | None


class _Step(NamedTuple):
    """
    One step of a program.

    @ivar fits: a character must fit, then comes the next step; None for a step that takes no character
    @ivar ways: the steps that come next, the first is tried first; relative to this one
    @ivar at: "begin" or "end": only there; a group's "(" or ")": the position is noted
    """

    fits: Fits | None
    ways: tuple[int, ...] = (1,)
    at: str = ""


#: A part of a program; it ends by going to what follows it.
_Part = list[_Step]


class Pattern:
    """
    One expression.

    @ivar groups: how many pairs of parentheses it has
    @param ignore_case: capital letters are as good as small ones (REG_ICASE)
    @raise ValueError: when it is none
    """

    def __init__(self, text: str, ignore_case: bool = False) -> None:
        parser = _Parser(text, ignore_case)
        self.text = text
        self._program = parser.parse()
        self.groups = parser.groups

    def search(self, text: str) -> Match | None:
        """The first place where it fits."""
        best: tuple[int, int, int, int] | None = None
        threads: dict[int, tuple[int, int, int]] = {}
        for position in range(len(text) + 1):
            if best is None:
                self._follow(threads, 0, (position, -1, -1), position, len(text))
            following: dict[int, tuple[int, int, int]] = {}
            for step, marks in threads.items():
                if step == len(self._program):
                    best = (marks[0], position, marks[1], marks[2])
                    # What comes behind in this list is worth less.
                    break
                fits = self._program[step].fits
                if fits is not None and position < len(text) and fits(text[position]):
                    self._follow(following, step + 1, marks, position + 1, len(text))
            threads = following
            if not threads and best is not None:
                break
        if best is None:
            return None
        start, end, opened, closed = best
        return Match(start, end, text[opened:closed] if 0 <= opened <= closed else None)

    def _follow(
        self, threads: dict[int, tuple[int, int, int]], step: int, marks: tuple[int, int, int], at: int, end: int
    ) -> None:
        """Add the steps that can be reached without taking a character, in their order; each only once."""
        waiting = [(step, marks)]
        while waiting:
            step, marks = waiting.pop()
            if step in threads:
                continue
            threads[step] = marks
            if step == len(self._program):
                continue
            here = self._program[step]
            if here.fits is not None or (here.at == "begin" and at) or (here.at == "end" and at != end):
                continue
            start, opened, _ = marks
            if here.at == "(":
                marks = (start, at, -1)
            elif here.at == ")":
                marks = (start, opened, at)
            waiting += [(step + way, marks) for way in reversed(here.ways)]


class _Parser:
    """Reads an expression into a program."""

    def __init__(self, text: str, ignore_case: bool = False) -> None:
        self._text = text
        self._ignore_case = ignore_case
        self._at = 0
        self._depth = 0
        self.groups = 0

    def parse(self) -> _Part:
        """All of it."""
        part = self._alternatives()
        if self._at < len(self._text):
            raise ValueError('has a ")" without a "("')
        return part

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        taken = self._next()
        self._at += 1
        return taken

    def _alternatives(self) -> _Part:
        part = self._branch()
        while self._next() == "|":
            self._take()
            other = self._branch()
            part = [_Step(None, (1, len(part) + 2)), *part, _Step(None, (len(other) + 1,)), *other]
        return _bounded(part)

    def _branch(self) -> _Part:
        branch: _Part = []
        first = True
        while self._next() and self._next() not in "|)":
            piece = self._atom(first)
            first = False
            while self._next() and self._next() in "*+?{":
                piece = self._repeated(piece)
            branch = _bounded(branch + piece)
        return branch

    def _atom(self, first: bool) -> _Part:
        sign = self._take()
        if sign == "(":
            return self._group()
        if sign == "[":
            return [_Step(self._bracket())]
        if sign == ".":
            return [_Step(lambda one: True)]
        if sign in "^$":
            return [_Step(None, at="begin" if sign == "^" else "end")]
        if sign == "\\":
            sign = self._take()
            if not sign or sign.isalnum() or sign in "<>`'":
                raise ValueError(f'has "\\{sign}"; a backslash may only stand before a sign that is to be itself')
        elif sign == "{" or (sign in "*+?" and not first):
            raise ValueError(f'has a "{sign}" with nothing before it that could be repeated')
        return [_Step(self._in_any_case(lambda one: one == sign))]

    def _in_any_case(self, fits: Fits) -> Fits:
        return (lambda one: fits(one.lower()) or fits(one.upper())) if self._ignore_case else fits

    def _group(self) -> _Part:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise ValueError(f"has more than {_MOST_DEPTH} parentheses in each other")
        self.groups += 1
        noted = self.groups == 1
        part = self._alternatives()
        if self._take() != ")":
            raise ValueError('has a "(" without a ")"')
        self._depth -= 1
        return [_Step(None, at="("), *part, _Step(None, at=")")] if noted else part

    def _repeated(self, part: _Part) -> _Part:
        least, most = self._times()
        if most is None:
            again = [_Step(None, (1, len(part) + 2)), *part, _Step(None, (-len(part) - 1,))]
        else:
            again = []
            for _ in range(most - least):
                # Each may be left out, with all that follow it.
                again = [_Step(None, (1, len(part) + len(again) + 1)), *part, *again]
                _bounded(again)
        return _bounded(part * least + again)

    def _times(self) -> tuple[int, int | None]:
        """How often: at least, and at most; None for any number."""
        sign = self._take()
        if sign != "{":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        inside, brace, _ = self._text[self._at :].partition("}")
        low, comma, high = inside.partition(",")
        numbers = [one for one in (low, high) if one]
        if not brace or not low or any(not one.isascii() or not one.isdigit() for one in numbers):
            raise ValueError('has a "{" without "n}", "n,}" or "n,m}" behind it')
        least = int(low[:9])
        most = int(high[:9]) if high else None if comma else least
        if least > _MOST_TIMES or (most is not None and not least <= most <= _MOST_TIMES):
            raise ValueError(f'has "{{{inside}}}", whose numbers must grow and be {_MOST_TIMES} at most')
        self._at += len(inside) + 1
        return least, most

    def _bracket(self) -> Fits:
        negated = self._next() == "^"
        if negated:
            self._take()
        fitting: list[Fits] = []
        singles = set()
        first = True
        while first or self._next() != "]":
            first = False
            if self._text.startswith(("[:", "[=", "[."), self._at):
                fitting.append(self._class())
                continue
            low = self._bracket_sign()
            if self._next() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._take()
                fitting.append(_between(low, self._bracket_sign()))
            else:
                singles.add(low)
        self._take()
        inside = self._in_any_case(lambda one: one in singles or any(fits(one) for fits in fitting))
        return (lambda one: not inside(one)) if negated else inside

    def _bracket_sign(self) -> str:
        sign = self._take()
        if not sign:
            raise ValueError('has a "[" without a "]"')
        return sign

    def _class(self) -> Fits:
        name, colon, _ = self._text[self._at + 2 :].partition(":]")
        if self._text[self._at + 1] != ":" or not colon or name not in _CLASSES:
            known = ", ".join(f"[:{one}:]" for one in _CLASSES)
            raise ValueError(f'has "{self._text[self._at : self._at + 12]}" between brackets; known are {known}')
        self._at += len(name) + 4
        return _CLASSES[name]


def _between(low: str, high: str) -> Fits:
    if low > high:
        raise ValueError(f'has the range "{low}-{high}", which is the wrong way round')
    return lambda one: low <= one <= high


def _bounded(part: _Part) -> _Part:
    if len(part) > _MOST_STEPS:
        raise ValueError("is too long, or repeats too often")
    return part
