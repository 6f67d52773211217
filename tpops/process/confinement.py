"""
What a session's process may touch once it is its owner: the maildrop that it serves, and nothing else.

Purpose: whoever takes such a process over can do less than its user: he reads and writes this maildrop, and has no
other file, no TCP, and no signals for others (L{tpops.process.landlock}).

    Maildir    everything beneath it: read, write, make, move and remove files; make directories with maildir.create
    spool      the spool itself, and the directory with what is remembered of it; its dotlock is made by a process
               beside (L{tpops.process.dotlocks}), which may touch files in the spool's directory and knows nothing else

How: directories that are missing and may be made are made before.  C{new}, C{cur} and C{tmp} of a Maildir, or of the
folder that is asked for, may be symbolic links; those of other folders may not.
Limits: not for programs that serve in place of tpops, which need files of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tpops.errors import ConfigError, MaildropBroken
from tpops.mailbox import folder_names, maildir, spool_locks
from tpops.mailbox.locations import FILES, Maildrops
from tpops.model import Account
from tpops.process import landlock
from tpops.process.dotlocks import DotlocksBeside
from tpops.process.landlock import KEEP_FILES, MAKE_DIR, REFER, WRITE, Rule

if TYPE_CHECKING:
    from tpops.config.schema import Config

_PARTS = (b"new", b"cur", b"tmp")


def version_of(config: Config) -> int:
    """
    The ABI of Landlock that sessions are confined by, 0 for none.

    @raise ConfigError: when there is none, and there must be
    """
    sessions = config.sessions
    if sessions.confine == "none" or sessions.program:
        return 0
    version = landlock.abi()
    if version >= landlock.LEAST_ABI:
        return version
    if sessions.confine == "landlock":
        has = f"version {version}" if version else "none, or keeps it from tpops"
        why = f"this kernel has {has}; version {landlock.LEAST_ABI} (Linux 5.19) is needed"
        raise ConfigError([f'sessions.confine is "landlock", and {why}'])
    return 0


def in_words(config: Config, version: int) -> str:
    """What an operator is told of it."""
    if version:
        return f"sessions are confined by Landlock {version}: they have no {landlock.words(version)}"
    if config.sessions.program:
        return "sessions are not confined: a program serves them"
    if config.sessions.confine == "none":
        return 'sessions are not confined: sessions.confine is "none"'
    return (
        "sessions are not confined: this kernel has no Landlock that is of use (Linux 5.19 or newer has), or the "
        "unit's SystemCallFilter keeps it from tpops"
    )


def confine(
    config: Config,
    version: int,
    maildrops: Maildrops,
    account: Account,
    dotlocks: DotlocksBeside,
    enforce: bool = True,
) -> None:
    """
    Give up everything but the account's maildrop.

    @param enforce: else everything is made ready only
    @raise TpopsError: when there is no such maildrop
    @raise OSError: when the kernel refuses
    """
    account, kind, place = maildrops.where(account)
    if kind not in FILES:
        raise MaildropBroken(
            f"{account.name!r} has his mail in a '{kind}:' location, which belongs to no user of this machine; "
            'sessions.run_as = "owner" serves maildir: and mbox:'
        )
    if not version:
        return
    if kind == "mbox":
        rules = tuple(_spool(config, maildrops, place))
        if config.mbox.dotlock != spool_locks.NEVER:
            beside = Rule(os.path.dirname(place), KEEP_FILES & ~REFER)
            dotlocks.begin(place, lambda: landlock.restrict((beside,), version))
    else:
        rules = tuple(_maildir(config, account, place))
    landlock.restrict(rules, version, enforce)


def _maildir(config: Config, account: Account, place: bytes) -> Iterator[Rule]:
    path = place.rstrip(b"/") + b"/"
    rights = KEEP_FILES
    if config.maildir.create:
        rights |= MAKE_DIR
        try:
            maildir.create(path)
        except OSError as problem:
            raise maildir.as_storage_error(problem, path) from problem
    yield Rule(path, rights)
    if config.maildir.index_dir:
        yield Rule(os.fsencode(os.path.join(config.maildir.index_dir, str(os.getuid()))), KEEP_FILES)
    inside = [path]
    if account.folder and not folder_names.is_inbox(account.folder):
        inside.append(os.path.join(path, folder_names.directory_of(account.folder)))
    for directory in inside:
        for part in _PARTS:
            linked = os.path.join(directory, part)
            if os.path.islink(linked):
                yield Rule(linked, rights)


def _spool(config: Config, maildrops: Maildrops, spool: bytes) -> Iterator[Rule]:
    directory = os.path.dirname(maildrops.remembered("mbox", spool))
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
    except OSError as problem:
        raise MaildropBroken(f"cannot make {os.fsdecode(directory)}: {problem.strerror}") from problem
    yield Rule(directory, KEEP_FILES)
    # The driver follows no links here.
    yield Rule(spool, WRITE, link=False)
