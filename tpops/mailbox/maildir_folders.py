"""
The folders in a Maildir: Maildirs within it.

What counts as one: a directory whose name begins with a dot and that has C{new} or C{cur} (Maildir++), and any other
that has both; folders may have folders.  Links do not count: one could show another user's mail.
Limits: blocking; for threads, but for L{is_folder}.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from tpops.errors import MaildropBroken
from tpops.mailbox.index import DirectoryStamp
from tpops.mailbox.maildir_scan import stamp

#: The directories that every Maildir has.
_OWN = frozenset((b"new", b"cur", b"tmp"))

#: More of them are not served as one maildrop.
MOST_FOLDERS = 2000

_MOST_LEVELS = 16


def is_folder(path: bytes) -> bool:
    """Whether this directory is a Maildir++ folder; no link is."""
    path = path.rstrip(b"/")
    return _is_directory(path) and (_is_directory(path + b"/new") or _is_directory(path + b"/cur"))


def is_there(path: bytes) -> bool:
    """Whether there is anything of this name."""
    return os.path.lexists(path.rstrip(b"/"))


def find(
    maildir: bytes, ignored: Callable[[bytes], bool]
) -> tuple[tuple[bytes, ...], tuple[tuple[bytes, DirectoryStamp], ...]]:
    """
    The directories of all folders in order, from the Maildir on, and the stamps of those that were read for it.

    @param maildir: its path, ending in '/'
    @param ignored: whether a folder is left out, with all folders in it
    @raise MaildropBroken: when there are too many
    @raise OSError: when a directory cannot be read
    """
    found: list[bytes] = []
    looked = []
    waiting = [b""]
    while waiting:
        above = waiting.pop()
        looked.append((above, stamp(maildir + above)))
        inside = [above + name for name in _directories(maildir + above)]
        inside = [one for one in inside if _counts(maildir, one) and not ignored(one)]
        found += inside
        if len(found) > MOST_FOLDERS:
            raise MaildropBroken(f"{os.fsdecode(maildir)} has more than {MOST_FOLDERS} folders")
        if above.count(b"/") < _MOST_LEVELS:
            waiting += [one + b"/" for one in inside]
    return tuple(sorted(found)), tuple(looked)


def _directories(path: bytes) -> list[bytes]:
    try:
        with os.scandir(path) as entries:
            return [one.name for one in entries if one.name not in _OWN and one.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _counts(maildir: bytes, directory: bytes) -> bool:
    path = maildir + directory
    if os.path.basename(directory).startswith(b"."):
        return is_folder(path)
    return _is_directory(path + b"/new") and _is_directory(path + b"/cur")


def _is_directory(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
