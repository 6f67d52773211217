"""
The stores of the kinds that are files, each loaded and made when it is wanted.

Purpose: most machines have mail of one kind, and commands start for each message.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tpops.mailbox import spool_locks
from tpops.mailbox.locations import Store
from tpops.mailbox.spool_locks import Dotlocks

if TYPE_CHECKING:
    from tpops.config.schema import Config


def makers(
    config: Config,
    spool_state: str,
    reactor: Any,
    run_in_thread: Any,
    dotlocks: Dotlocks = spool_locks.HERE,
    whose: str = "",
) -> dict[str, Callable[[], Store]]:
    """
    What makes the stores, by kind.

    @param spool_state: directory for what is remembered of spools, where none is configured
    @param dotlocks: who makes dotlocks
    @param whose: name of the owner's directory in those for indexes
    """

    def sleep(seconds: float) -> Deferred[None]:
        return deferLater(reactor, seconds, lambda: None)

    means = (run_in_thread, sleep, reactor.seconds)
    return {
        "maildir": partial(_maildir_store, config, whose, *means),
        "mbox": partial(_mbox_store, config, spool_state, whose, *means, dotlocks),
    }


def _maildir_store(config: Config, whose: str, *means: Any) -> Store:
    from tpops.mailbox.maildir import MaildirDriver, MaildirOptions

    maildir = config.maildir
    options = MaildirOptions(
        create=maildir.create,
        sizes=maildir.sizes,
        mark_seen=maildir.mark_seen == "retr",
        index=maildir.index,
        index_dir=maildir.index_dir and os.path.join(maildir.index_dir, whose),
        lock_wait_seconds=maildir.lock_wait_seconds,
        uidl_map=maildir.uidl_map,
        cache_octets=maildir.cache_mib << 20,
        tpop3d=maildir.unique_ids == "tpop3d",
        recursive=maildir.recursive,
        ignored_folders=maildir.ignored_folders,
    )
    return MaildirDriver(options, *means)


def _mbox_store(config: Config, spool_state: str, whose: str, *means: Any) -> Store:
    from tpops.mailbox.mbox import MboxDriver, MboxOptions

    mbox = config.mbox
    options = MboxOptions(
        directory=(mbox.index_dir and os.path.join(mbox.index_dir, whose)) or spool_state,
        unique_ids=mbox.unique_ids,
        unquote=mbox.quoting == "mboxrd",
        dotlock=mbox.dotlock,
        mark_seen=mbox.mark_seen == "retr",
        index=mbox.index,
        lock_wait_seconds=mbox.lock_wait_seconds,
        cache_octets=mbox.cache_mib << 20,
    )
    return MboxDriver(options, *means)
