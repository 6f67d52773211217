"""
Checks and conversions of single configuration values.

Purpose: what the types of the schema cannot say: networks, addresses, mail locations, paths.  Each check takes a
value and gives it back, made absolute where it is a path.
Limits: pure; no file is looked at.  Relative paths are relative to the directory that the
loader hands in as validation context.
Errors: ValueError, whose text the loader puts behind the name of the key.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from urllib.parse import urlsplit

from pydantic import ValidationInfo
from pydantic_core import PydanticCustomError

from tpops.patterns import Pattern

#: Kinds of maildrops, and what "$(...)" may name, in a mail location.
LOCATION_KINDS = ("maildir", "mbox", "mysql", "proxy", "plugin")
LOCATION_VARIABLES = ("user", "local_part", "domain", "home", "folder")

#: What "$(...)" may name in the arguments of a program for sessions.
PROGRAM_VARIABLES = (*LOCATION_VARIABLES, "maildir", "useropt")

#: Kinds of lookup tables that can be read.
LOOKUP_TABLES = ("hash", "btree", "lmdb", "cdb", "dbm", "sdbm", "texthash")

#: Processes that may serve clients.
MOST_WORKERS = 64

_VARIABLE = re.compile(r"\$\(([^()\[]*)(?:\[-?\d{1,3}\])?\)")
_BETWEEN_LOCATIONS = re.compile(rf"\s+(?=(?:{'|'.join(LOCATION_KINDS)}):)")


def _absolute(path: str, info: ValidationInfo) -> str:
    directory = (info.context or {}).get("directory", "")
    return path if not path or os.path.isabs(path) else os.path.normpath(os.path.join(directory, path))


def path(value: str, info: ValidationInfo) -> str:
    """A path, made absolute; "" stays."""
    if "\0" in value:
        raise ValueError("must not contain a NUL")
    return _absolute(value, info)


def needed_path(value: str, info: ValidationInfo) -> str:
    """A path that must be there, made absolute."""
    if not value:
        raise PydanticCustomError("missing", "is missing")
    return path(value, info)


def lookup_table(value: str, info: ValidationInfo) -> str:
    """A lookup table as Postfix names it, with its path made absolute."""
    kind, colon, rest = value.partition(":")
    if kind not in LOOKUP_TABLES or not colon or not rest:
        known = ", ".join(f'"{one}:"' for one in LOOKUP_TABLES)
        raise ValueError(f'must be {known} and a path, such as "hash:/etc/tpops/apop"')
    return f"{kind}:{path(rest, info)}"


def listen_address(value: str, info: ValidationInfo) -> str:
    """An IP address, or "unix:" and a path."""
    if value.startswith("unix:"):
        if not value[5:] or "\0" in value:
            raise ValueError('must have a path after "unix:"')
        return "unix:" + _absolute(value[5:], info)
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError('must be an IP address such as "127.0.0.1", "::" or "0.0.0.0", or "unix:/path"') from None


def ip_address(value: str) -> str:
    """An IP address."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f"must have an IP address, not {value}") from None


def host(value: str) -> str:
    """A host's name or address."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", value):
        raise ValueError('must be a host such as "smtp.example.org" or "192.0.2.1"')
    return value


def is_local(address: str) -> bool:
    """Whether only programs on this machine get to a listener."""
    return address.startswith("unix:") or ipaddress.ip_address(address).is_loopback


def octal_mode(value: str) -> str:
    """File permissions in octal."""
    if not re.fullmatch(r"0?[0-7]{3}", value):
        raise ValueError('must be three octal digits such as "0660"')
    return value


def workers(value: object) -> int | str:
    """A number of processes, or "auto"."""
    if value == "auto" or (type(value) is int and 1 <= value <= MOST_WORKERS):
        return value if isinstance(value, int) else "auto"
    raise ValueError(f'must be "auto" or a whole number from 1 to {MOST_WORKERS}')


def network(value: str) -> str:
    """A network in CIDR notation."""
    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError(f'must be a network such as "192.0.2.0/24" or "2001:db8::/32" ({error})') from None


def greeting(value: str) -> str:
    """One printable line without angle brackets: they would look like an APOP timestamp (RFC 1939 section 7)."""
    if not value.isprintable() or not value.isascii() or "<" in value or ">" in value or len(value) > 400:
        raise ValueError('must be one line of at most 400 ASCII characters without "<" and ">"')
    return value


def source_name(value: str) -> str:
    """The name of an accounts source: it stands before the colon of an avatar id."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value):
        raise ValueError('must be 1 to 64 letters, digits, "_", "." or "-"')
    return value


def default_domain(value: str) -> str:
    """What is appended to a login name."""
    if not value.isprintable() or " " in value or "/" in value or value in {".", ".."}:
        raise ValueError("must be a domain name")
    return value


def own_domain(value: str) -> str:
    """A domain, in lower case as in canonical names."""
    if not value:
        raise ValueError("must be a domain name")
    return default_domain(value).lower()


def separators(value: str) -> str:
    """Characters between local part and domain."""
    if any(not 0x21 <= ord(sign) <= 0x7E or sign.isalnum() or sign in "/." for sign in value):
        raise ValueError('must consist of ASCII punctuation other than "/" and "."')
    return value


def mail_location(value: str, info: ValidationInfo) -> str:
    """Where mail lies: one place or several, each with its kind and a path with variables."""
    return " ".join(_one_location(one, info) for one in _BETWEEN_LOCATIONS.split(value))


def _one_location(value: str, info: ValidationInfo) -> str:
    kind, colon, rest = value.partition(":")
    if kind not in LOCATION_KINDS or not colon or not (rest or kind in ("mysql", "proxy")):
        raise ValueError(
            'must be "maildir:" or "mbox:" and a path, such as "maildir:~/Maildir", "mysql:", or "proxy:" and a server'
        )
    for name in _VARIABLE.findall(rest):
        if name not in LOCATION_VARIABLES:
            near = difflib.get_close_matches(name, LOCATION_VARIABLES, n=1)
            known = ", ".join(f"$({variable})" for variable in LOCATION_VARIABLES)
            hint = f"did you mean $({near[0]})?" if near else f"known are {known}"
            raise ValueError(f"has the unknown variable $({name}); {hint}")
    if "$" in _VARIABLE.sub("", rest) or "\0" in rest:
        raise ValueError('has a "$" that starts no variable; variables are written $(name)')
    if kind == "mysql":
        return value
    if kind == "plugin":
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}:.+", rest):
            raise ValueError('must have the name of a [[store]] and a place behind "plugin:"')
        return value
    if kind == "proxy":
        return f"{kind}:{proxy_server(rest)}"
    if rest.startswith("~") and not rest.startswith("~/"):
        raise ValueError('must write the home directory as "~/" at the beginning of the path')
    if rest.startswith(("~/", "$(home)/")):
        return value
    return f"{kind}:{_absolute(rest, info)}"


_SERVER = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")


def proxy_server(value: str) -> str:
    """Where a POP3 server is: a host and a port, with variables; "" stays."""
    found = _SERVER.fullmatch(_VARIABLE.sub("x", proxy_user(value)))
    if value and (found is None or not 0 < int(found[3] or 110) < 65536 or not _is_ipv6(found[1] or "::")):
        raise ValueError('must be a server such as "pop.example.org", "pop.example.org:110" or "[2001:db8::1]:110"')
    return value


def _is_ipv6(value: str) -> bool:
    try:
        return ipaddress.ip_address(value).version == 6
    except ValueError:
        return False


def proxy_user(value: str) -> str:
    """Text with variables for the parts of a login name."""
    for name in _VARIABLE.findall(value):
        if name not in LOCATION_VARIABLES:
            known = ", ".join(f"$({variable})" for variable in LOCATION_VARIABLES)
            raise ValueError(f"has the unknown variable $({name}); known are {known}")
    if "$" in _VARIABLE.sub("", value) or not value.isprintable():
        raise ValueError('has a "$" that starts no variable; variables are written $(name)')
    return value


def command(value: tuple[str, ...]) -> tuple[str, ...]:
    """A program by its absolute path, and its arguments."""
    if not value or not value[0].startswith("/"):
        raise ValueError(
            'must be a list that begins with the absolute path of a program, such as ["/bin/checkpassword"]'
        )
    if any("\0" in one for one in value):
        raise ValueError("must not contain a NUL")
    return value


def pam_service(value: str) -> str:
    """The name of a PAM service: a file name in lower case."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", value):
        raise ValueError('must be the name of a file in /etc/pam.d: 1 to 64 of a-z, 0-9, "_", "." or "-"')
    return value


def not_empty(value: str) -> str:
    """Some text."""
    if not value:
        raise ValueError("must not be empty")
    return value


def web_address(value: str) -> str:
    """An address for HTTPS; HTTP stays on this machine."""
    if not value:
        return value
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https") or not value.isascii() or re.search(r"[\x00-\x20#@]", value):
        raise ValueError('must be a web address such as "https://login.example.org/keys"')
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError("must begin with https://, since http:// is safe on this machine only")
    return value


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def printable(value: str) -> str:
    """Printable ASCII."""
    if not value.isprintable() or not value.isascii():
        raise ValueError("must consist of printable ASCII characters")
    return value


def master_separator(value: str) -> str:
    """A sign between two login names."""
    if value and (len(value) != 1 or not 0x21 <= ord(value) <= 0x7E or value.isalnum() or value in "/.@"):
        raise ValueError('must be one punctuation sign such as "*"')
    return value


def extension_separator(value: str) -> str:
    """Signs that may part an address from its extension."""
    bad = sorted({sign for sign in value if sign.isalnum() or sign in "@/" or not sign.isprintable() or sign.isspace()})
    if bad:
        raise ValueError(f"cannot have {' '.join(bad)}; usual are + and -")
    return value


def name_part(value: str) -> str:
    """An extended regular expression with one pair of parentheses, or nothing."""
    if value and _expression(value).groups != 1:
        raise ValueError("must have one pair of parentheses, around the part that is meant")
    return value


def ignored_folders(value: tuple[str, ...]) -> tuple[str, ...]:
    """Names of folders, or extended regular expressions that begin with "^"."""
    for one in value:
        if not one:
            raise ValueError("has an empty name")
        if one.startswith("^"):
            _expression(one)
    return value


def stores_named(location: str) -> list[str]:
    """The names of the stores of other packages in a mail location."""
    each = _BETWEEN_LOCATIONS.split(location)
    return [one.split(":", 2)[1] for one in each if one.startswith("plugin:")]


def folders_named(location: str) -> tuple[bool, bool]:
    """Whether some of the places of a mail location have $(folder), and whether all have."""
    found = ["folder" in _VARIABLE.findall(one) for one in _BETWEEN_LOCATIONS.split(location)]
    return any(found), all(found)


def user_rule(value: str) -> str:
    """ "allow" or "deny", and an extended regular expression."""
    verb, _, expression = value.partition(" ")
    if verb not in ("allow", "deny") or not expression.strip():
        raise ValueError(
            f'must consist of "allow ..." and "deny ..." with an extended regular expression, not {value!r}'
        )
    _expression(expression.strip())
    return value


def location_kinds(location: str) -> frozenset[str]:
    """The kinds of the places of a mail location."""
    return frozenset(one.partition(":")[0] for one in _BETWEEN_LOCATIONS.split(location))


def session_program(value: tuple[str, ...]) -> tuple[str, ...]:
    """A program with arguments that may have variables, or nothing."""
    for one in command(value)[1:] if value else ():
        for name in _VARIABLE.findall(one):
            if name not in PROGRAM_VARIABLES:
                known = ", ".join(f"$({variable})" for variable in PROGRAM_VARIABLES)
                raise ValueError(f"has the unknown variable $({name}); known are {known}")
        if "$" in _VARIABLE.sub("", one):
            raise ValueError('has a "$" that starts no variable; variables are written $(name)')
    return value


def _expression(value: str) -> Pattern:
    try:
        return Pattern(value)
    except ValueError as problem:
        raise ValueError(f"is no extended regular expression: {value!r} {problem}") from None
