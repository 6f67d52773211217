"""
Messages that come into a Maildir from another store, and keep their unique-ids.

Purpose: as L{tpops.mailbox.maildir_append}, but the unique-id is written to C{tpops_uidl} first, durably, and the name
and the file's time are of the message's arrival.  Killed in between, a line stays that no file has; it does no harm.
Order: messages that are restored one after the other, each not older than the last, stay in that order.
Limits: blocks.  The listing sees the unique-ids only where C{uidl_map} is on.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from itertools import count

from tpops.interfaces import IIncomingMessage
from tpops.mailbox import maildir_size
from tpops.mailbox.maildir_append import publish_as, write
from tpops.mailbox.quota import Quota
from tpops.mailbox.unique_ids import MAP_FILE

#: In the names, so wide that they sort: later runs come behind earlier ones.
_numbers = count(time.time_ns())

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def restore(maildir: bytes, message: IIncomingMessage, name: str, unique_id: bytes, at: float) -> None:
    """
    Store a message.

    @param maildir: its path, ending in '/'
    @param name: whose it is, for messages
    @param at: when it had arrived, seconds since the epoch
    @raise OSError: when it cannot be stored
    """
    temporary, stored, wire = write(maildir + b"tmp/", message)
    try:
        os.utime(temporary, (at, at))
        host = socket.gethostname().replace("/", "\\057").replace(":", "\\072").encode("ascii", "replace")
        base = b"%d.M%020dP%d.%s,S=%d,W=%d" % (at, next(_numbers), os.getpid(), host, stored, wire)
        _map(maildir + MAP_FILE, b"%s\t%s\n" % (base, unique_id))
        with maildir_size.place_for(maildir, name, Quota(), stored):
            publish_as(maildir + b"new/", temporary, base)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _map(path: bytes, line: bytes) -> None:
    """Add a line; one that was cut off before it ends first."""
    descriptor = os.open(path, _FLAGS, 0o600)
    try:
        if not _ends_a_line(path):
            line = b"\n" + line
        if os.write(descriptor, line) != len(line):
            raise OSError(f"{os.fsdecode(path)}: no room for a line")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _ends_a_line(path: bytes) -> bool:
    with open(path, "rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
