"""
A directory for each owner within one of root's, for what is remembered of his mail outside of it.

Purpose: C{maildir.index_dir} and C{mbox.index_dir} where sessions run as the owners of mail: each has the directory
with the number of his user id, which root makes when it is missing, before the session becomes its owner.
Limits: the directory above must be root's, and nobody else may write to it: whoever could would have root give him
other directories.
Errors: ConfigError at the start, MaildropBroken for one owner.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from tpops.errors import ConfigError, MaildropBroken
from tpops.process.owners import Owner

if TYPE_CHECKING:
    from tpops.config.schema import Config

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def wanted(config: Config) -> list[str]:
    """
    The directories that have one for each owner.

    @raise ConfigError: when one of them cannot have them
    """
    found = []
    for key, path, used in (
        ("maildir.index_dir", config.maildir.index_dir, config.maildir.index),
        ("mbox.index_dir", config.mbox.index_dir, True),
    ):
        if path and used and not config.sessions.program:
            prepare(key, path)
            found.append(path)
    return found


def prepare(key: str, path: str) -> None:
    """
    See that a directory can have those of the owners; make it where it is missing.

    @param key: of the configuration
    @raise ConfigError: when it cannot
    """
    try:
        os.makedirs(path, 0o711, exist_ok=True)
        facts = os.stat(path)
    except OSError as problem:
        raise ConfigError([f"{key}: cannot make {path}: {problem.strerror}"]) from None
    if facts.st_uid != 0 or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        why = 'with sessions.run_as = "owner" it must be root\'s, and nobody else may write to it'
        raise ConfigError([f"{key}: {path}: {why} (chown root, chmod 711); each owner has a directory in it"])
    if not facts.st_mode & stat.S_IXOTH:
        raise ConfigError([f"{key}: {path}: the owners of mail must be able to enter it (chmod 711)"])


def make(path: str, owner: Owner) -> None:
    """
    Make an owner's directory, where it is missing; by root.

    @raise MaildropBroken: when it cannot be made, or is somebody else's
    """
    name = str(owner.uid)
    try:
        above = os.open(path, _DIRECTORY)
        try:
            made = _made(above, name)
            here = os.open(name, _DIRECTORY, dir_fd=above)
        finally:
            os.close(above)
        try:
            if made:
                os.fchown(here, owner.uid, owner.gid)
            whose = os.fstat(here).st_uid
        finally:
            os.close(here)
    except OSError as problem:
        raise MaildropBroken(f"cannot make {os.path.join(path, name)}: {problem.strerror}") from problem
    if whose != owner.uid:
        raise MaildropBroken(f"{os.path.join(path, name)} belongs to user {whose}; remove it, it is made again")


def _made(above: int, name: str) -> bool:
    try:
        os.mkdir(name, 0o700, dir_fd=above)
    except FileExistsError:
        return False
    return True
