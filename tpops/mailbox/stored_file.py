"""
A message in a file of its own, read without ever stalling the reactor.

Purpose: what is in the page cache is read at once (C{preadv} with C{RWF_NOWAIT}); what is not is read in a thread, so
no session waits for another's disk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from typing import Any

from zope.interface import implementer

from tpops.errors import StorageUnavailable
from tpops.interfaces import IStoredMessage

#: Runs a blocking function in a thread: callable and its arguments.
RunInThread = Callable[..., Awaitable[Any]]

_NOT_NOW = (errno.EAGAIN, errno.EOPNOTSUPP)

# Reads are copied out of it before anything else runs, so one serves all sessions.
_buffer = bytearray(1 << 18)
_window = memoryview(_buffer)


@implementer(IStoredMessage)
class StoredFile:
    """
    See L{IStoredMessage}.

    @param offset: where the message begins
    """

    __slots__ = ("_descriptor", "_offset", "_run_in_thread")

    def __init__(self, descriptor: int, run_in_thread: RunInThread, offset: int = 0) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._run_in_thread = run_in_thread

    def read(self, octets: int) -> bytes | Awaitable[bytes]:
        """See L{IStoredMessage.read}."""
        window = _window if octets >= len(_window) else _window[:octets]
        try:
            got = os.preadv(self._descriptor, [window], self._offset, os.RWF_NOWAIT)
        except OSError as problem:
            if problem.errno in _NOT_NOW:
                return self._read_later(len(window))
            raise StorageUnavailable(str(problem)) from problem
        self._offset += got
        return bytes(window[:got])

    async def _read_later(self, octets: int) -> bytes:
        try:
            chunk: bytes = await self._run_in_thread(os.pread, self._descriptor, octets, self._offset)
        except OSError as problem:
            raise StorageUnavailable(str(problem)) from problem
        self._offset += len(chunk)
        return chunk

    def close(self) -> None:
        """See L{IStoredMessage.close}."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
