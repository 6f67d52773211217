"""
A session that is played before the first real one, in the process that real ones are forked from.

Purpose: what is made at first use (caches of Python, of zope.interface and of our own) is then made once, and shared
by all sessions, which so start in less time and with less memory of their own.
How: the usual dialog with a Maildir that has one message, in a temporary directory; without sockets and reactor.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tpops import assembly
from tpops.config.schema import Config
from tpops.coroutines import run
from tpops.mailbox.view import Mailbox
from tpops.model import Account
from tpops.process.records import Ended
from tpops.server.entered import Entered

#: Python adapts code after so many calls.
_TIMES = 40

_DIALOG = b"CAPA\r\nSTAT\r\nLIST\r\nUIDL\r\nTOP 1 0\r\nRETR 1\r\nDELE 1\r\nRSET\r\nNOOP\r\nQUIT\r\n"

_MESSAGE = b"Subject: rehearsal\n\nNobody reads this.\n"


def rehearse(config: Config, enter: Callable[[Any, Mailbox], Entered]) -> None:
    """
    Play it.

    @param enter: makes the server of a session, with a clock
    """
    with tempfile.TemporaryDirectory(prefix="tpops-") as home:
        maildir = os.path.join(home, "Maildir")
        for part in ("tmp", "new", "cur"):
            os.makedirs(os.path.join(maildir, part))
        with open(os.path.join(maildir, "new", "1.rehearsal"), "wb") as file:
            file.write(_MESSAGE)
        account = Account("rehearsal", "", home=home, maildrop="maildir:~/Maildir", uid=os.getuid(), gid=os.getgid())
        for _ in range(_TIMES):
            run(_play(config, account, enter)).addErrback(_raise)


async def _play(config: Config, account: Account, enter: Callable[[Any, Mailbox], Entered]) -> None:
    clock = Clock()
    maildrop = await assembly.file_maildrops(config, "", clock, maybeDeferred).open_maildrop(account)
    server = enter(clock, Mailbox(maildrop, account))
    server.makeConnection(_Transport())
    server.dataReceived(_DIALOG)
    clock.advance(1)
    server.connectionLost()
    Ended.as_session(server.session)


class _Transport(StringTransport):
    """Takes everything, and can do what the server asks of a connection."""

    def abortConnection(self) -> None:
        """See ITCPTransport."""


def _raise(failure: Failure) -> None:
    failure.raiseException()
