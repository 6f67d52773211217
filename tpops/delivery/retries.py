"""
Which recipients have got a message whose delivery is tried again.

Purpose: tpops-pipe has one exit status for all its recipients.  When one of them must be tried again, the MTA tries all
of them again; who has got the message is in a file until then, and does not get it twice.
How a message is known: by the digest of its octets, sender and recipients.  An MTA puts its own number of the message
into the header before the first try (Received), so two messages never have the same.
Limits: a file is kept for L{DAYS} days, longer than an MTA tries.  Who is killed while he delivers has written nothing.
Where the directory cannot be used, the message is delivered all the same.  Blocks.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence

import attrs

from tpops.delivery.exits import tell
from tpops.interfaces import IIncomingMessage

#: How long is remembered who got a message.
DAYS = 10

_MOST_OCTETS = 1 << 20


@attrs.frozen
class Attempt:
    """
    One try.

    @ivar done: recipients who have got the message
    """

    done: frozenset[str]
    _path: str

    def ended(self, done: Sequence[str]) -> None:
        """
        Remember who has got it; with nobody, forget all of it.

        Never raises.
        """
        try:
            if done:
                _write(self._path, done)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
        except OSError as problem:
            if done:
                tell(f"4.3.0 cannot remember who has got the message: {problem}; he may get it twice")


class Retries:
    """
    See the module.

    @param directory: for the files; made when the first is needed
    @param clock: seconds since the epoch
    """

    def __init__(self, directory: str, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._clock = clock

    def attempt(self, message: IIncomingMessage, sender: str, recipients: Sequence[str]) -> Attempt:
        """Begin a try.  @raise OSError: when the message cannot be read"""
        digest = hashlib.sha256("\0".join((sender, *recipients, "")).encode("utf-8", "surrogateescape"))
        for chunk in message.chunks():
            digest.update(chunk)
        path = os.path.join(self._directory, digest.hexdigest())
        try:
            self._sweep()
            with open(path, "rb") as file:
                text = file.read(_MOST_OCTETS)
        except OSError:
            return Attempt(frozenset(), path)
        names = text.decode("utf-8", "surrogateescape").split("\0")
        # The last one ends with NUL, or the file is not whole.
        return Attempt(frozenset(names[:-1]), path)

    def _sweep(self) -> None:
        """Remove what is old."""
        with os.scandir(self._directory) as found:
            for one in found:
                with contextlib.suppress(OSError):
                    if self._clock() - one.stat(follow_symlinks=False).st_mtime > DAYS * 86400:
                        os.unlink(one.path)


def _write(path: str, done: Sequence[str]) -> None:
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o600)
    try:
        os.write(descriptor, "".join(f"{one}\0" for one in done).encode("utf-8", "surrogateescape"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(temporary, path)
