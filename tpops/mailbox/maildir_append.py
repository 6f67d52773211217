"""
Delivery into a Maildir.

Purpose: the message is written to C{tmp}, made durable, and then linked into C{new}: it is there whole or not at all,
and survives a power cut from the moment on at which this returns.  The name has its sizes (C{,S=} stored octets, C{,W=}
wire octets), so that no listing has to read it.
Rights: as root, everything is done as the account's owner (L{tpops.mailbox.acting_as}).
Killed: what is left then is a file in C{tmp}, which mail programs remove when it is 36 hours old; or, in the moment
after the link was made, the delivered message with a second name in C{tmp}.
Limits: blocks.  The order within C{new} is the clock's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable
from itertools import count

from twisted.logger import Logger

from tpops.errors import StorageUnavailable
from tpops.interfaces import IIncomingMessage
from tpops.mailbox import maildir_size
from tpops.mailbox.quota import Quota
from tpops.protocol.transparency import Octets

_log = Logger()

_numbers = count(1)

#: How often another name is tried when one is taken.
_TRIES = 5

#: File systems without hard links.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def unique_name() -> bytes:
    """A name that no other delivery has, on this machine or another."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    host = socket.gethostname().replace("/", "\\057").replace(":", "\\072").encode("ascii", "replace")
    return b"%d.M%06dP%dQ%d.%s" % (seconds, rest // 1000, os.getpid(), next(_numbers), host)


def append(
    maildir: bytes, message: IIncomingMessage, name: str, quota: Quota | None, identity: Callable[[bytes, bytes], bytes]
) -> bytes:
    """
    Deliver a message.

    @param maildir: its path, ending in '/'
    @param name: whose it is, for messages
    @param quota: None where the Maildir itself may say it
    @param identity: the unique-id of a base name in b"n", which stands for C{new}
    @return: the message's unique-id
    @raise QuotaExceeded: when it does not fit
    @raise StorageUnavailable: when another delivery holds the lock of the Maildir's quota for too long
    @raise OSError: when it cannot be stored
    """
    temporary, stored, wire = write(maildir + b"tmp/", message)
    try:
        with maildir_size.place_for(maildir, name, quota, stored):
            base = _publish(maildir + b"new/", temporary, b",S=%d,W=%d" % (stored, wire))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return identity(base, b"n")


def write(directory: bytes, message: IIncomingMessage) -> tuple[bytes, int, int]:
    """Write a message to C{tmp}, durably; gives its path there, its stored octets and its wire octets."""
    path, descriptor = _create(directory)
    try:
        octets, stored = Octets(), 0
        try:
            for chunk in message.chunks():
                octets.feed(chunk)
                stored += len(chunk)
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    return path, stored, octets.total()


def _create(directory: bytes) -> tuple[bytes, int]:
    for _ in range(_TRIES):
        path = directory + unique_name()
        with contextlib.suppress(FileExistsError):
            return path, os.open(path, _FLAGS, 0o600)
    raise StorageUnavailable(f"{os.fsdecode(directory)}: every name is taken")


def _publish(directory: bytes, temporary: bytes, ending: bytes) -> bytes:
    """Move a written message to C{new}, durably; gives its name."""
    for _ in range(_TRIES):
        name = unique_name() + ending
        with contextlib.suppress(FileExistsError):
            publish_as(directory, temporary, name)
            return name
    raise StorageUnavailable(f"{os.fsdecode(directory)}: every name is taken")


def publish_as(directory: bytes, temporary: bytes, name: bytes) -> None:
    """
    The same under a given name.

    @raise FileExistsError: when there is one
    """
    _link(directory, temporary, name)
    try:
        _sync(directory)
    except BaseException:
        os.unlink(directory + name)
        raise
    try:
        os.unlink(temporary)
    except FileNotFoundError:
        pass  # it was renamed
    except OSError as problem:
        _log.warn("cannot remove {path!r}: {why}", path=temporary, why=str(problem))


def _link(directory: bytes, temporary: bytes, name: bytes) -> None:
    try:
        os.link(temporary, directory + name)
    except OSError as problem:
        if problem.errno not in _NO_LINKS:
            raise
        if os.path.lexists(directory + name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), directory + name) from None
        os.rename(temporary, directory + name)


def _sync(directory: bytes) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
