"""
Pipes to programs, in the reactor.

Purpose: what reads from a descriptor that is not Twisted's own; and where programs are looked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

#: Where programs that the server starts look for others.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@implementer(IReadDescriptor)
class Watched:
    """
    A descriptor that something is done about when it can be read; it is closed here.

    @param readable: is called then
    """

    def __init__(self, reactor: Any, descriptor: int, readable: Callable[[], object]) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._readable = readable
        reactor.addReader(self)

    def fileno(self) -> int:
        """The descriptor; -1 when it is closed."""
        return self._descriptor

    def logPrefix(self) -> str:
        """For the log of errors in here."""
        return "program"

    def doRead(self) -> None:
        """It can be read."""
        self._readable()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has found it to be broken, or stops."""
        self.close()

    def close(self) -> None:
        """Stop watching.  Idempotent."""
        if self._descriptor >= 0:
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = -1
