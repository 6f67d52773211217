"""
Login names: from the octets a client sends to the one name every source knows.

Purpose: a mail program may send "Joe", "joe" or "joe@example.org"; accounts, maildrops and logs must
see one canonical name.  This is the only place where a login name becomes str.
Limits: a name is UTF-8 of at most 4096 octets; any other encoding is refused, not guessed.  Names
that could leave a directory when they are put into a path ("/", ".", "..") are refused here, so that no
maildrop location has to think of them.
Known deviations: the default domain is appended as TPOPS did with --domain; as in TPOPS 0.8 it comes
without "@" when it starts with a character that is neither letter nor digit.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from tpops.errors import BadCredentials, UnknownUser

#: Longest login name in octets.
MAX_NAME_OCTETS = 4096


def split(name: str, separators: str) -> tuple[str, str]:
    """
    Local part and domain of a name; the domain is "" where there is none.

    The last separator in the name counts: with "@%+" the name "joe+list@example.org" has the local part "joe+list".
    """
    at = max((name.rfind(separator) for separator in separators), default=-1)
    return (name, "") if at < 0 else (name[:at], name[at + 1 :])


def of_machine(name: str, domains: Container[str], split: Callable[[str], tuple[str, str]]) -> str:
    """
    The machine's own account that a canonical name means, where accounts have no domain.

    @param domains: those of the machine
    @raise UnknownUser: when the name has another domain
    """
    local_part, domain = split(name)
    if not domain or domain in domains:
        return local_part if domain else name
    raise UnknownUser(f"{domain} is no domain of the machine")


def harmless(part: str) -> bool:
    """Whether a part of a name that does not come through L{LoginNames.canonical} can stand in a path."""
    return bool(part) and part.isprintable() and "/" not in part and part not in {".", ".."}


class LoginNames:
    """
    The rules that make a login name canonical.

    @ivar separators: characters that part a name from its domain
    """

    def __init__(self, default_domain: str = "", lowercase: bool = True, separators: str = "@%+") -> None:
        self.separators = separators
        self._lowercase = lowercase
        self._slashes = str.maketrans(dict.fromkeys(separators, "/"))
        self._suffix = default_domain
        if default_domain and default_domain[0].isalnum():
            self._suffix = "@" + default_domain

    def split(self, name: str) -> tuple[str, str]:
        """Local part and domain of a canonical name."""
        return split(name, self.separators)

    def canonical(self, raw: bytes) -> str:
        """
        The canonical form of a name as the client sent it.

        @raise BadCredentials: when it cannot be anybody's name
        """
        if not raw or len(raw) > MAX_NAME_OCTETS:
            raise BadCredentials("login name is empty or too long")
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise BadCredentials("login name is not UTF-8") from None
        if not name.isprintable():
            raise BadCredentials("login name has control characters")
        if self._lowercase:
            name = name.lower()
        parts = name.translate(self._slashes)
        if self._suffix and parts == name:
            name += self._suffix
            parts = name.translate(self._slashes)
        if "/" in name or "/./" in (framed := f"/{parts}/") or "/../" in framed:
            raise BadCredentials("login name would be dangerous in a path")
        return name
