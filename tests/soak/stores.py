"""
Mail seen behind the server's back: what is in Maildirs and spools, and deliveries by others than tpops.

Limits: spools are read when nobody writes to them.  Fields that were put before the token do not count (L{letters}).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.soak.letters import known

#: Seconds that a delivery waits for the locks of a spool.
_PATIENCE_SECONDS = 20.0

_SEPARATOR = re.compile(rb"(?:\A|(?<=\n\n))From [^\n]* \d{4}\n")


class Busy(Exception):
    """The locks of a spool were not to be had."""


class Spool:
    """
    One mbox file.

    Locks of the kind fcntl belong to the process, so one thread at a time is let in.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._turn = threading.Lock()

    def deliver(self, octets: bytes) -> None:
        """Append a message as a delivery agent does; all of it or nothing."""
        text = re.sub(rb"^(>*From )", rb">\1", octets, flags=re.MULTILINE)
        entry = b"From soak@example.org  %s\n%s\n" % (time.asctime(time.gmtime(0)).encode(), text)
        end = time.monotonic() + _PATIENCE_SECONDS
        with self._turn:
            while not self._append(entry):
                if time.monotonic() > end:
                    raise Busy(f"no lock on {self.path}")
                time.sleep(0.02)

    def _append(self, entry: bytes) -> bool:
        """False when somebody has the locks."""
        dotlock = self.path.with_name(self.path.name + ".lock")
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(os.open(dotlock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        except (BlockingIOError, FileExistsError):
            os.close(descriptor)
            return False
        try:
            before = os.fstat(descriptor).st_size
            if os.write(descriptor, entry) < len(entry):
                os.ftruncate(descriptor, before)
                raise OSError(errno.ENOSPC, "no room")
            os.fsync(descriptor)
        finally:
            dotlock.unlink()
            os.close(descriptor)
        return True

    def stored(self) -> list[bytes]:
        """Its messages."""
        octets = self.path.read_bytes() if self.path.exists() else b""
        parts = [part[:-1] for part in _SEPARATOR.split(octets)[1:]]
        return [re.sub(rb"^>(>*From )", rb"\1", part, flags=re.MULTILINE) for part in parts]


def deliver_to_maildir(maildir: Path, name: str, octets: bytes, own: Callable[[Path], None]) -> None:
    """
    Deliver as the rules of Maildirs say.

    @param own: gives the file to the owner of the mail
    """
    temporary = maildir / "tmp" / name
    try:
        with open(temporary, "xb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        own(temporary)
        os.rename(temporary, maildir / "new" / name)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


def in_maildir(maildir: Path) -> list[bytes]:
    """Its messages."""
    return [path.read_bytes() for part in ("new", "cur") for path in (maildir / part).iterdir()]


def identified(messages: list[bytes]) -> list[tuple[str, str]]:
    """Token and hash of each."""
    return [known(one) for one in messages]
