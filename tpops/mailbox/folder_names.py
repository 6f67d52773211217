"""
Names of folders: what a user calls them, and what they are called on disk.

Purpose: a folder of a Maildir is a directory in it whose name begins with a dot and has a dot between the levels
(Maildir++), with characters outside ASCII in the modified UTF-7 of IMAP (RFC 3501 section 5.1.3), as Dovecot and
Courier have it: "Lists/tpops" and "Lists.tpops" are C{.Lists.tpops}, "Entwürfe" is C{.Entw&APw-rfe}.  "INBOX", in
whatever case, is the Maildir itself.
Limits: pure; nothing is looked at.
Errors: NoSuchFolder for what cannot be a folder's name, such as one that would lead out of the Maildir.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence

from tpops.errors import NoSuchFolder
from tpops.patterns import Pattern

#: Longest name of a directory, in octets.
_MOST_OCTETS = 255

_SHIFTED = re.compile(r"[^\x20-\x7e]+")
_ENCODED = re.compile(rb"&([A-Za-z0-9+,]*)-")


def is_inbox(folder: str) -> bool:
    """Whether it is the maildrop itself."""
    return folder.upper() == "INBOX"


def directory_of(folder: str) -> bytes:
    """
    The directory of a folder in its Maildir, such as b".Lists.tpops".

    @raise NoSuchFolder: when it cannot be a folder's name
    """
    levels = re.split(r"[./]", _checked(folder))
    directory = b"".join(b"." + encoded(level) for level in levels)
    return _short_enough(directory, folder)


def path_of(folder: str) -> str:
    """
    The folder as a part of a path, for C{$(folder)}: as the user wrote it, with directories for its slashes.

    @raise NoSuchFolder: when it cannot be a folder's name
    """
    for level in _checked(folder).split("/"):
        _short_enough(level.encode(), folder)
    return folder


def encoded(level: str) -> bytes:
    """A name in modified UTF-7."""

    def shifted(found: re.Match[str]) -> str:
        octets = found[0].encode("utf-16-be")
        return f"&{binascii.b2a_base64(octets, newline=False).decode().rstrip('=').replace('/', ',')}-"

    return _SHIFTED.sub(shifted, level.replace("&", "&-")).encode("ascii")


def decoded(name: bytes) -> str:
    """What a name in modified UTF-7 says; what is none comes back as it is."""

    def plain(found: re.Match[bytes]) -> bytes:
        if not found[1]:
            return b"&"
        octets = binascii.a2b_base64(found[1].replace(b",", b"/") + b"==="[: -len(found[1]) % 4])
        return octets.decode("utf-16-be").encode("utf-8")

    try:
        return _ENCODED.sub(plain, name).decode("utf-8")
    except ValueError:
        return name.decode("utf-8", "backslashreplace")


class Ignored:
    """
    The folders that are left out where all of a Maildir is shown.

    @param names: names of folders; one that begins with "^" is an extended regular expression
    @raise ValueError: when such an expression is none
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(name.replace("/", ".") for name in names if not name.startswith("^"))
        self._patterns = [Pattern(name) for name in names if name.startswith("^")]

    def __call__(self, directory: bytes) -> bool:
        """Whether a folder is left out, by its directory; as it is called on disk, or as its user calls it."""
        for name in {decoded(directory), directory.decode("utf-8", "backslashreplace")}:
            called = ".".join(level.removeprefix(".") for level in name.split("/"))
            if called in self._names or any(one.search(called) for one in self._patterns):
                return True
        return False


def _checked(folder: str) -> str:
    if not folder.isprintable():
        raise NoSuchFolder(f"folder {folder!r} has control characters in its name")
    if any(not level for level in re.split(r"[./]", folder)):
        raise NoSuchFolder(f'folder {folder!r} begins or ends with "." or "/", or has two of them together')
    return folder


def _short_enough(directory: bytes, folder: str) -> bytes:
    if len(directory) > _MOST_OCTETS:
        raise NoSuchFolder(f"folder {folder[:40]!r}... has too long a name")
    return directory
