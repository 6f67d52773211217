"""
Dotlocks of a session that may touch its spool alone: a process beside it makes them.

Purpose: whoever makes files in the directory of a spool can touch the spools of others as well, as far as their modes
let him.  So the session gives that up (L{tpops.process.confinement}), and a process of the same user, which sees
nothing of the client and knows three words, makes the dotlock of this one spool and takes it away.
Limits: one lock at a time; what the session asks is answered at once, as by L{spool_locks}.
Errors: those of L{spool_locks.Dotlocks}.  When the session is gone, however it went, its dotlock is taken away.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import NoReturn

from tpops.mailbox.spool_locks import HERE, Dotlock
from tpops.process.records import MOST_OCTETS, pack, parse

_MAKE, _MUST_MAKE, _REMOVE = b"make", b"must make", b"remove"

#: Seconds for an answer, which comes at once.
_ANSWER_SECONDS = 60.0


class DotlocksBeside:
    """See the module; before L{begin}, this process makes them itself."""

    def __init__(self) -> None:
        self._beside: socket.socket | None = None

    def begin(self, spool: bytes, confine: Callable[[], None]) -> None:
        """
        Start the process.

        @param confine: takes everything from it that it does not need
        @raise OSError: when it cannot be started
        """
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            _serve(its, spool, confine)
        its.close()
        ours.settimeout(_ANSWER_SECONDS)
        self._beside = ours

    def make(self, spool: bytes, required: bool) -> Dotlock | None:
        """See L{tpops.mailbox.spool_locks.Dotlocks}."""
        if self._beside is None:
            return HERE.make(spool, required)
        return Dotlock(spool) if self._ask(self._beside, _MUST_MAKE if required else _MAKE) else None

    def remove(self, made: Dotlock) -> None:
        """See L{tpops.mailbox.spool_locks.Dotlocks}."""
        if self._beside is None:
            HERE.remove(made)
        else:
            self._ask(self._beside, _REMOVE)

    def _ask(self, beside: socket.socket, word: bytes) -> bool:
        beside.send(word, socket.MSG_NOSIGNAL)
        octets = beside.recv(MOST_OCTETS)
        if not octets:
            raise ConnectionAbortedError(0, "the process that makes dotlocks is gone")
        said = parse(octets)
        if "code" in said:
            raise OSError(said["code"], said["why"])
        return bool(said["made"])


def _serve(session: socket.socket, spool: bytes, confine: Callable[[], None]) -> NoReturn:
    """Make and remove, until the session is gone."""
    status = 1
    made = None
    try:
        os.closerange(3, session.fileno())
        os.closerange(session.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        confine()
        while word := session.recv(64):
            answer: dict[str, object] = {"made": False}
            try:
                if word == _REMOVE:
                    if made is not None:
                        HERE.remove(made)
                    made = None
                elif made is None and word in (_MAKE, _MUST_MAKE):
                    made = HERE.make(spool, word == _MUST_MAKE)
                    answer["made"] = made is not None
            except OSError as problem:
                answer = {"code": problem.errno or 0, "why": problem.strerror or str(problem)}
            session.send(pack(answer), socket.MSG_NOSIGNAL)
        status = 0
    finally:
        # The session may have been killed, or this process finds it gone.
        if made is not None:
            HERE.remove(made)
        os._exit(status)
