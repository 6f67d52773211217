r"""
A program for each event, as tpop3d's onlogin.

Purpose: starts a program of the operator's, with the rights that the server has, without a shell.  Its arguments are
templates in which C{$(user)} and others stand for values; the same values, and more, are in its environment:

    TPOPS_EVENT TPOPS_TIME TPOPS_SESSION TPOPS_USER TPOPS_LOCAL_PART TPOPS_DOMAIN TPOPS_NAMED TPOPS_MASTER TPOPS_PEER
    TPOPS_PEER_PORT TPOPS_LOCAL TPOPS_LOCAL_PORT TPOPS_SERVER TPOPS_MECHANISM TPOPS_DRIVER TPOPS_FOLDER TPOPS_TLS
    TPOPS_SECONDS TPOPS_MESSAGES TPOPS_OCTETS TPOPS_RETR_COUNT TPOPS_RETR_OCTETS TPOPS_DELE_COUNT TPOPS_DETAIL
    popserv's: USER LOGNAME (as the client gave it) EXTENSION (the folder) REMOTE_ADDR SHELL

and C{PATH}.  What is not printable, a space, a backslash or a parenthesis in a name is C{\xNN}; so is a C{-} with which
a value begins where an argument begins with it, since that would be an option.
The program has a session and process group of its own, C{/} as its directory, nothing on standard input, and no
standard output.  What it writes to standard error first goes into the log when it fails.
Limits: when its time is up, or when it ends and has left others in its group, all of the group are killed.
Errors: NotTold: it cannot be started, its exit status is not 0, or a signal has ended it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from tpops.events.deliveries import NotTold
from tpops.events.text import one_field, one_line
from tpops.interfaces import IReceiver
from tpops.model import Notice
from tpops.pipes import PATH, Watched

#: Octets of standard error that are kept.
_KEPT_OCTETS = 400

_VARIABLE = re.compile(r"\$\(([a-z_]+)\)")


def environment(notice: Notice) -> dict[str, str]:
    """What the program finds in its environment."""
    named = notice.named or notice.user
    values = {
        "TPOPS_EVENT": notice.kind,
        "TPOPS_TIME": f"{int(notice.at)}",
        "TPOPS_SESSION": notice.session,
        "TPOPS_USER": one_field(notice.user),
        "TPOPS_LOCAL_PART": one_field(notice.local_part),
        "TPOPS_DOMAIN": one_field(notice.domain),
        "TPOPS_NAMED": one_field(notice.named),
        "TPOPS_MASTER": one_field(notice.master),
        "TPOPS_PEER": one_field(notice.peer),
        "TPOPS_PEER_PORT": f"{notice.port}",
        "TPOPS_LOCAL": one_field(notice.local_host),
        "TPOPS_LOCAL_PORT": f"{notice.local_port}",
        "TPOPS_SERVER": one_field(notice.server),
        "TPOPS_MECHANISM": one_field(notice.mechanism),
        "TPOPS_DRIVER": notice.driver,
        "TPOPS_FOLDER": one_field(notice.folder),
        "TPOPS_TLS": notice.tls,
        "TPOPS_SECONDS": f"{notice.seconds:.3f}",
        "TPOPS_MESSAGES": f"{notice.messages}",
        "TPOPS_OCTETS": f"{notice.octets}",
        "TPOPS_RETR_COUNT": f"{notice.retr_count}",
        "TPOPS_RETR_OCTETS": f"{notice.retr_octets}",
        "TPOPS_DELE_COUNT": f"{notice.dele_count}",
        "TPOPS_DETAIL": one_line(notice.detail),
    }
    old = {
        "USER": one_field(notice.user),
        "LOGNAME": one_field(named),
        "EXTENSION": one_field(notice.folder),
        "REMOTE_ADDR": one_field(notice.peer),
        "SHELL": "/bin/sh",
        "PATH": PATH,
    }
    return {**values, **old}


def arguments(templates: Sequence[str], notice: Notice) -> list[str]:
    """The program and its arguments."""
    values = {
        "event": notice.kind,
        "user": notice.user,
        "local_part": notice.local_part,
        "domain": notice.domain,
        "named": notice.named,
        "clienthost": notice.peer,
        "serverhost": notice.local_host,
        "hostname": notice.server,
        "session": notice.session,
        "folder": notice.folder,
        "epoch": f"{int(notice.at)}",
    }
    return [_expanded(one, values) for one in templates]


def _expanded(template: str, values: Mapping[str, str]) -> str:
    text = _VARIABLE.sub(lambda found: one_field(values[found[1]]), template)
    return "\\x2d" + text[1:] if text.startswith("-") and not template.startswith("-") else text


def _started(command: Sequence[str], given: Mapping[str, str], stderr: int) -> subprocess.Popen[bytes]:
    """Start a program.  @raise OSError: when that cannot be done"""
    return subprocess.Popen(
        command,
        env=dict(given),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )


class _Run:
    """
    A program that runs.

    @ivar ended: fires with its status, as waitpid has it; cancelling kills it
    """

    def __init__(self, reactor: Any, command: Sequence[str], given: Mapping[str, str]) -> None:
        self.ended: Deferred[int] = Deferred(lambda cancelled: self.kill())
        self.said = bytearray()
        reading, writing = os.pipe()
        try:
            self._process = _started(command, given, writing)
            end = self._watchable()
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        os.set_blocking(reading, False)
        self._stderr = Watched(reactor, reading, self._read)
        self._end = Watched(reactor, end, self._has_ended)

    def _watchable(self) -> int:
        """
        A descriptor that can be read when the program has ended.

        @raise OSError: when there is none; then the program has been ended
        """
        try:
            return os.pidfd_open(self._process.pid)
        except OSError:
            self.kill()
            self._process.wait()
            raise

    def kill(self) -> None:
        """End it and all of its group; nothing when it has ended."""
        if self._process.returncode is not None:
            return
        # One that has got other rights (setuid) is not ours to end.
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _read(self) -> None:
        """Take what it says, and forget what is too much."""
        try:
            octets = os.read(self._stderr.fileno(), 65536)
        except BlockingIOError:
            return
        if not octets:
            self._stderr.close()
        self.said += octets[: _KEPT_OCTETS - len(self.said)]

    def _has_ended(self) -> None:
        if self._stderr.fileno() >= 0:
            self._read()
        # As long as nobody has waited for it, its number is nobody else's.
        self.kill()
        status = self._process.wait()
        self._stderr.close()
        self._end.close()
        if not self.ended.called:
            self.ended.callback(status)


@implementer(IReceiver)
class Program:
    """
    See the module.

    @param command: the program's path, and templates for its arguments
    """

    def __init__(self, reactor: Any, command: Sequence[str]) -> None:
        self._reactor = reactor
        self._command = tuple(command)

    def start(self) -> None:
        """Nothing to do."""

    def line(self, notice: Notice) -> str | None:
        """Each session by itself."""
        return notice.session

    async def send(self, notice: Notice) -> None:
        """See L{IReceiver.send}."""
        try:
            running = _Run(self._reactor, arguments(self._command, notice), environment(notice))
        except OSError as problem:
            raise NotTold(f"cannot start {self._command[0]}: {problem.strerror}") from None
        status = await running.ended
        if status:
            how = f"ends with exit status {status}" if status > 0 else f"was ended by signal {-status}"
            words = one_line(running.said.decode("utf-8", "backslashreplace").strip().replace("\n", " | "))
            raise NotTold(f"{self._command[0]} {how}{f': {words}' if words else ''}")

    async def stop(self) -> None:
        """Nothing is left: what ran has been ended."""
