"""
The operator's SQL: from a template with variables to a statement with bound values.

Purpose: TPOPS writes %s %u %d (whole name, local part, domain), tpop3d $(user) $(local_part) $(domain) and more; which
there are, whoever reads a template says.  A variable is a value of its own: it becomes a placeholder, and what a client
sent never becomes part of the statement's text.  Quotes around a variable, as both programs needed them ('%s',
"$(user)"), are dropped.  "%%" is a percent sign, "$$" a dollar.
Limits: one statement.  Comments are dropped.  A variable next to other text within quotes, in a name or beside another
word is refused, with what to write instead: in '%u@example.org' the quotes could not be dropped.
Errors: ValueError, for the operator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import attrs

#: What each variable, as it is written, stands for.
Variables = Mapping[str, str]

#: One piece of SQL, as a server reads it with backslashes that escape and double quotes for strings.
_PIECE = re.compile(
    r"""
      (?P<string> '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" )
    | (?P<name> `(?:[^`]|``)*` )
    | (?P<comment> /\*.*?\*/ | --(?=[\s]|\Z)[^\n]* | \#[^\n]* )
    | (?P<variable> %[A-Za-z] | \$\([^()]*\) )
    | (?P<escape> %% | \$\$ )
    | (?P<percent> % )
    | (?P<unclosed> ['"`] | /\* )
    | (?P<end> ; )
    | (?P<other> [^'"`%$;/\#-]+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)

_INSIDE = re.compile(r"%%|\$\$|%[A-Za-z]|\$\([^()]*\)|%|[^%$]+|.", re.DOTALL)

#: What a variable cannot stand beside.
_WORD = re.compile(r"[A-Za-z0-9_$@.`'\"]")


@attrs.frozen
class Query:
    """
    A statement.

    @ivar sql: with "%s" for each value and "%%" for a percent sign
    @ivar variables: what the values are, in order
    """

    sql: str
    variables: tuple[str, ...]

    def values(self, given: Mapping[str, str]) -> list[str]:
        """The values in order."""
        return [given[name] for name in self.variables]


def parse(template: str, known: Variables) -> Query:
    """
    Read a template.

    @raise ValueError: when it cannot be used
    """
    parts: list[str] = []
    variables: list[str] = []
    ended = False
    for piece in _PIECE.finditer(template):
        text = piece[0]
        kind = str(piece.lastgroup)
        if ended and kind != "comment" and text.strip():
            raise ValueError('has more than one statement; nothing may follow the ";"')
        if kind == "end":
            ended = True
        elif kind == "comment":
            _refuse_comment(text)
            parts.append(" ")
        elif kind == "variable" or (kind == "string" and text[1:-1] in known):
            variable = text if kind == "variable" else text[1:-1]
            variables.append(_meaning(variable, known))
            _refuse_neighbours(template, piece.start(), piece.end(), variable)
            parts.append("%s")
        else:
            parts.append(_plain(kind, text, known))
    return Query("".join(parts).strip(), tuple(variables))


def listed(known: Variables) -> str:
    """The variables, for an error."""
    return ", ".join(known)


def _meaning(variable: str, known: Variables) -> str:
    try:
        return known[variable]
    except KeyError:
        hint = "; a percent sign is written %%" if variable.startswith("%") else ""
        raise ValueError(f"has the unknown variable {variable}; there are {listed(known)}{hint}") from None


def _refuse_comment(text: str) -> None:
    if text.startswith(("/*!", "/*M!")):
        raise ValueError("has a comment that servers execute (/*! ... */); write it without the comment")


def _refuse_neighbours(template: str, start: int, end: int, variable: str) -> None:
    """A variable is a value of its own, so no word may touch it."""
    before, after = template[start - 1 : start], template[end : end + 1]
    if _WORD.match(before) or _WORD.match(after):
        raise ValueError(
            f"has {variable} as a part of a longer word; join values with CONCAT, such as "
            f"CONCAT({variable}, '@example.org')"
        )


def _plain(kind: str, text: str, known: Variables) -> str:
    """A piece without a variable that may become one, as it goes into the statement."""
    if kind == "string":
        return _string(text, known)
    if kind == "escape":
        return "%%" if text == "%%" else "$"
    if kind == "percent":
        raise ValueError("has a single percent sign; write %%")
    if kind == "unclosed":
        raise ValueError(f"has no end of what {text} begins")
    if kind == "name" and any(one in text for one in known):
        raise ValueError(f"has a variable in the name {text}; a variable stands for a value only")
    return text.replace("%", "%%")


def _string(text: str, known: Variables) -> str:
    """A quoted string."""
    quote, inner = text[0], text[1:-1]
    pieces = _INSIDE.findall(inner)
    if any(piece in known for piece in pieces):
        raise ValueError(f"has a variable within the string {text}; write {_concat(quote, pieces, known)}")
    made = []
    for piece in pieces:
        if piece.startswith("$(") or (piece[0] == "%" and piece != "%%"):
            _refuse_inside(piece, text, known)
        made.append("$" if piece == "$$" else piece)
    return quote + "".join(made) + quote


def _refuse_inside(piece: str, text: str, known: Variables) -> None:
    what = f"the unknown variable {piece}" if len(piece) > 1 else "a single percent sign"
    sign = piece[0] * 2
    raise ValueError(
        f"has {what} in the string {text}; the sign itself is written {sign}; variables are {listed(known)}"
    )


def _concat(quote: str, pieces: Sequence[str], known: Variables) -> str:
    """The same string as an expression in which variables stand alone."""
    arguments: list[str] = []
    text = ""
    for piece in pieces:
        if piece not in known:
            text += piece
            continue
        if text:
            arguments.append(f"{quote}{text}{quote}")
        arguments.append(piece)
        text = ""
    if text:
        arguments.append(f"{quote}{text}{quote}")
    return f"CONCAT({', '.join(arguments)})"
