"""
Where in a TOML text each key stands.

Purpose: tomllib tells values but not lines; messages for operators need them.  C{lines} walks over the text once
and gives the line of every table header and key.
Limits: the text must be valid TOML (tomllib has parsed it before).  Keys inside inline tables have no line of
their own; L{find} gives the nearest that has one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: A key path: names, and 0-based indexes into arrays of tables.
Path = tuple[str | int, ...]

_KEY_PART = re.compile(r"""[ \t]*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)[ \t]*""")

#: What ends, opens or hides something inside a value.
_TOKEN = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*|[\[\]{}\n]''', re.DOTALL
)


def lines(text: str) -> dict[Path, int]:
    """The 1-based line of every key path; the first place counts."""
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    at = 0
    while at < len(text):
        if text[at] in " \t\r\n":
            at += 1
        elif text[at] == "#":
            at = _end_of_line(text, at)
        elif text[at] == "[":
            array = text.startswith("[[", at)
            name, _ = _key(text, at + (2 if array else 1))
            table = _resolve(name, counts)
            if array:
                counts[table] = counts.get(table, -1) + 1
                found.setdefault(table, _line(text, at))
                table = (*table, counts[table])
            found.setdefault(table, _line(text, at))
            at = _end_of_line(text, at)
        else:
            name, end = _key(text, at)
            for length in range(1, len(name) + 1):
                found.setdefault((*table, *name[:length]), _line(text, at))
            at = _after_value(text, end + 1)
    return found


def find(places: Mapping[Path, int], path: Path) -> int:
    """The line of a key path or of the nearest thing around it; 0 for none."""
    while path:
        if path in places:
            return places[path]
        path = path[:-1]
    return 0


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _key(text: str, at: int) -> tuple[tuple[str, ...], int]:
    """A dotted key, and where it ends."""
    parts: list[str] = []
    while match := _KEY_PART.match(text, at):
        part = match[1]
        parts.append(part[1:-1] if part[0] in "\"'" else part)
        at = match.end()
        if not text.startswith(".", at):
            break
        at += 1
    return tuple(parts), at


def _resolve(name: tuple[str, ...], counts: Mapping[Path, int]) -> Path:
    """A header's name as key path: names of arrays before the last part mean their last element."""
    path: Path = ()
    for position, part in enumerate(name):
        path = (*path, part)
        if position < len(name) - 1 and path in counts:
            path = (*path, counts[path])
    return path


def _after_value(text: str, at: int) -> int:
    """Where the value that starts at C{at} is over: at a line end outside strings and brackets."""
    depth = 0
    for match in _TOKEN.finditer(text, at):
        sign = match[0]
        if sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        elif sign == "\n" and depth == 0:
            return match.end()
    return len(text)
