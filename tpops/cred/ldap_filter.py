"""
Search filters of the driver "ldap", with a place for the login name.

Purpose: puts a login name into a filter so that it can be nothing but a value there, RFC 4515 §3: of it, all but
letters, digits and a few signs is written as C{\\XX}.
Format: C{$(user)} and C{%s} are the whole name, C{$(local_part)} and C{%u} what stands before the domain,
C{$(domain)} and C{%d} the domain, C{%%} a percent sign.  The letters are those of Postfix's ldap_table(5), which suits
tpop3d's filters as well.
Limits: a filter that needs a part which a name does not have fits nobody, as in Postfix.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sansldap import LDAPFilter

#: Octets that stand for themselves in a value.
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._@+")

_VARIABLE = re.compile(r"\$\(([^)]*)\)|%(.?)", re.DOTALL)

_LETTERS = {"s": "user", "u": "local_part", "d": "domain"}

_NAMES = ("user", "local_part", "domain")


def escape(value: str) -> str:
    """A value for a filter, RFC 4515 §3."""
    return "".join(chr(octet) if octet in _PLAIN else f"\\{octet:02x}" for octet in value.encode("utf-8"))


class FilterTemplate:
    """
    A filter with variables.

    @param split: parts a name into local part and domain
    @raise ValueError: when it is no filter; the text says why
    """

    def __init__(self, text: str, split: Callable[[str], tuple[str, str]]) -> None:
        self._text = text
        self._split = split
        self.needs = frozenset(name for found in _VARIABLE.finditer(text) if (name := _variable(found)))
        # A parenthesis can stand in values only.
        self.sample("(")

    def fill(self, name: str) -> LDAPFilter | None:
        """The filter for a login name; None when it fits nobody of this name."""
        local_part, domain = self._split(name)
        values = {"user": name, "local_part": local_part, "domain": domain}
        if not all(values[one] for one in self.needs):
            return None
        return self._parse(values)

    def sample(self, value: str) -> LDAPFilter:
        """The filter with one text for all variables."""
        return self._parse(dict.fromkeys(_NAMES, value))

    def _parse(self, values: dict[str, str]) -> LDAPFilter:
        def value(found: re.Match[str]) -> str:
            name = _variable(found)
            return escape(values[name]) if name else "%"

        try:
            return LDAPFilter.from_string(_VARIABLE.sub(value, self._text))
        except ValueError as error:
            raise ValueError(f"is no filter of RFC 4515: {error}") from None


def _variable(found: re.Match[str]) -> str:
    """
    The name of a variable, "" for a percent sign.

    @raise ValueError: when there is no such variable
    """
    name, letter = found[1], found[2]
    if letter == "%":
        return ""
    known = name if letter is None else _LETTERS.get(letter)
    if known not in _NAMES:
        raise ValueError(
            f"knows no variable {found[0]!r}; there are $(user) or %s, $(local_part) or %u, $(domain) or %d, and %%"
        )
    return known
