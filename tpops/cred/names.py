"""
Login names: from the octets a client sends to the one name every source knows.

Purpose: a mail program may send "Joe", "joe" or "joe@example.org"; accounts, maildrops and logs must
see one canonical name.  This is the only place where a login name becomes str, and where the folder that he may name
with it ("joe+lists") is taken off.
Limits: a name is UTF-8 of at most 4096 octets; any other encoding is refused, not guessed.  Names
that could leave a directory when they are put into a path ("/", ".", "..") are refused here, so that no
maildrop location has to think of them.
Known deviations: the default domain is appended as TPOPS did with --domain; as in TPOPS 0.8 it comes
without "@" when it starts with a character that is neither letter nor digit.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import lru_cache

from tpops.errors import BadCredentials, UnknownUser
from tpops.patterns import Pattern

#: Longest login name in octets.
MAX_NAME_OCTETS = 4096

#: Names that are remembered with their parts, and the longest of them.
_MOST_TAKEN, _LONGEST_TAKEN = 4096, 100


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


def avatar_of(source: str, name: str, folder: str = "") -> bytes:
    """What a checker says of a verified user: whose account, of which source, and which folder of his mail."""
    return (f"{source}:{name}\0{folder}" if folder else f"{source}:{name}").encode()


def read_avatar_id(text: bytes) -> tuple[str, str, str]:
    """Source, account and folder of what L{avatar_of} has made."""
    user, _, folder = text.decode("utf-8").partition("\0")
    source, _, name = user.partition(":")
    return source, name, folder


class NamePart:
    """
    A part of a login name that is not the account's: what an expression finds is taken off, its group is the part.

    @param expression: with one pair of parentheses
    @raise ValueError: when it is no such expression
    """

    def __init__(self, expression: str) -> None:
        self._pattern = Pattern(expression)
        if self._pattern.groups != 1:
            raise ValueError("must have one pair of parentheses, around the part that is meant")
        self._taken = lru_cache(maxsize=_MOST_TAKEN)(self._take)

    def take(self, name: str) -> tuple[str, str]:
        """The name without it, and the part; "" where there is none."""
        # Who polls comes again and again; nobody fills the memory with long names.
        return self._taken(name) if len(name) <= _LONGEST_TAKEN else self._take(name)

    def _take(self, name: str) -> tuple[str, str]:
        found = self._pattern.search(name)
        if found is None:
            return name, ""
        return name[: found.start] + name[found.end :], found.group or ""


def behind(separator: str, separators: str) -> str:
    """The expression of the part that stands behind a separator, up to one that begins the domain, or the end."""
    others = separators.replace(separator, "")
    # In brackets "]" comes first, "-" last, and "^" not first.
    inside = "".join(sorted(others, key=lambda sign: (sign != "]", sign in "^-", sign == "-")))
    # A backslash in front of these would mean something else.
    sign = separator if separator in "<>`'" else rf"\{separator}"
    return rf"{sign}([^{inside}]*)" if inside else rf"{sign}(.*)"


class LoginNames:
    """
    The rules that make a login name canonical.

    @ivar separators: characters that part a name from its domain
    @param folders: takes the folder off a name, None where names have none
    """

    def __init__(
        self,
        default_domain: str = "",
        lowercase: bool = True,
        separators: str = "@%+",
        folders: NamePart | None = None,
    ) -> None:
        self.separators = separators
        self._folders = folders
        self._lowercase = lowercase
        self._slashes = str.maketrans(dict.fromkeys(separators, "/"))
        self._suffix = default_domain
        if default_domain and default_domain[0].isalnum():
            self._suffix = "@" + default_domain

    def split(self, name: str) -> tuple[str, str]:
        """Local part and domain of a canonical name."""
        return split(name, self.separators)

    def parted(self, raw: bytes) -> tuple[str, str]:
        """
        Of a name as the client sent it: the canonical name of the account, and the folder, "" where it names none.

        @raise BadCredentials: when it cannot be anybody's name
        """
        name = _text(raw)
        if self._folders is None:
            return self._canonical(name), ""
        account, folder = self._folders.take(name)
        if not account:
            raise BadCredentials("login name names a folder and nobody")
        return self._canonical(account), folder

    def canonical(self, raw: bytes) -> str:
        """
        The canonical form of the name of an account.

        @raise BadCredentials: when it cannot be anybody's name
        """
        return self._canonical(_text(raw))

    def whole(self, raw: bytes) -> str:
        """
        The same of a name that somebody else vouches for: it is that of an account, or nobody's.

        @raise BadCredentials: when it cannot be anybody's name, or has a folder in it
        """
        name = self.canonical(raw)
        if self._folders is not None and self._folders.take(_text(raw)) != (_text(raw), ""):
            raise BadCredentials(f"{name} has what a client names a folder with, and is nobody's name")
        return name

    def guessed(self, raw: bytes) -> bytes:
        """Under which name failed logins are counted: one for all spellings and folders of an account."""
        try:
            return self.parted(raw)[0].encode()
        except BadCredentials:
            return raw

    def same(self, wanted: bytes, proven: bytes) -> bool:
        """
        Whether a client that somebody else vouches for under a name may log in as C{wanted}, in whatever folder.

        @raise BadCredentials: when one of them cannot be anybody's name
        """
        return self.parted(wanted)[0] == self.whole(proven)

    def _canonical(self, name: str) -> str:
        if self._lowercase:
            name = name.lower()
        parts = name.translate(self._slashes)
        if self._suffix and parts == name:
            name += self._suffix
            parts = name.translate(self._slashes)
        if "/" in name or "/./" in (framed := f"/{parts}/") or "/../" in framed:
            raise BadCredentials("login name would be dangerous in a path")
        return name


def _text(raw: bytes) -> str:
    if not raw or len(raw) > MAX_NAME_OCTETS:
        raise BadCredentials("login name is empty or too long")
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadCredentials("login name is not UTF-8") from None
    if not name.isprintable():
        raise BadCredentials("login name has control characters")
    return name
