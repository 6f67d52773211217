"""
A program in place of our own TRANSACTION, such as popserv's C{popit} or whatever replaces qmail-pop3d.

Purpose: starts it as the owner of the mail, with the client's connection as standard input and output, and waits for
its end; what it writes to standard error goes to the server's log.

    working directory    the Maildir, or the folder in it; of a spool, the home directory
    SHELL HOME USER      of the owner; USER is the login name in its canonical form
    LOGNAME              the login name as the client sent it
    EXTENSION            the folder that it names, "" for none
    MAILDIR              the Maildir, the folder, or the spool
    REMOTE_ADDR          the client's address, also as TCPREMOTEIP; and TCPREMOTEPORT
    PATH                 /usr/local/bin:/usr/bin:/bin
    PROTO                POP3

Limits: how long the client may be silent is the program's affair; C{protocol.session_max_seconds} holds here.
A program with a set-user-id bit does not get that user's rights.
Errors: one that cannot be started ends the session, and the log says why.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, cast

import attrs

from tpops import file_assembly
from tpops.cred.names import split
from tpops.errors import MaildropBroken
from tpops.mailbox import folder_names
from tpops.model import Account
from tpops.process.owners import Owner
from tpops.process.records import MOST_OCTETS, BadRecord, Ended, Go, LoginRecord, pack, parse

if TYPE_CHECKING:
    from tpops.config.schema import Config

#: Exit status of a program that could not be started.
_CANNOT_RUN = 127

#: Seconds from TERM to KILL.
_PATIENCE_SECONDS = 10.0

#: Seconds until the front must have handed the connection over.
_HAND_OVER_SECONDS = 120.0

_PATH = "/usr/local/bin:/usr/bin:/bin"

_VARIABLE = re.compile(r"\$\(([^)\[]*)(?:\[(-?\d{1,3})\])?\)")


def serve(
    config: Config, account: Account, owner: Owner, useropt: str, login: LoginRecord, control: socket.SocketType
) -> None:
    """
    Serve a session; this process is the owner's already.

    @raise MaildropBroken: when there is no such maildrop, or it cannot be entered
    """
    kind, place = _place(config, account)
    directory = place if kind == "maildir" else os.fsencode(owner.home or "/")
    try:
        os.chdir(directory)
    except OSError as problem:
        raise MaildropBroken(f"cannot enter {os.fsdecode(directory)}: {problem.strerror}") from problem
    arguments = command(config, account, useropt, os.fsdecode(place))
    environment = variables(account, owner, login, os.fsdecode(place))
    control.send(pack({"opened": [0, 0, 0], "program": True, "listings": [0, 0]}))
    handed = _wait_for_go(control)
    if handed is None:
        return
    go, client = handed
    client.setblocking(True)
    if not config.sessions.program_greets:
        client.sendall(go.first)
    pid = os.fork()
    if pid == 0:
        _become(arguments, environment, client.fileno())
    client.close()
    status, why = _wait_for_end(pid, control, config.protocol.session_max_seconds)
    if status != 0 and not why:
        control.send(pack({"log": ["error", f"{arguments[0]} has ended, {_how(status)}"]}), socket.MSG_NOSIGNAL)
    ended = Ended(why or ("quit" if status == 0 else "error"), 0, 0)
    control.send(pack({"ended": attrs.asdict(ended)}), socket.MSG_NOSIGNAL)


def _place(config: Config, account: Account) -> tuple[str, bytes]:
    """Kind and path of the maildrop, or of the folder in it."""
    maildrops = file_assembly.file_maildrops(config, "", _NoReactor(), None)
    account, kind, place = maildrops.where(account)
    if kind == "maildir" and account.folder and not folder_names.is_inbox(account.folder):
        place = os.path.join(place, folder_names.directory_of(account.folder))
    return kind, place


class _NoReactor:
    """Nothing is waited for where only places are looked up."""

    seconds = staticmethod(time.monotonic)


def command(config: Config, account: Account, useropt: str, place: str) -> list[str]:
    """The program and its arguments for this session."""
    local_part, domain = split(account.name, config.names.separators)
    values = {
        "user": account.name,
        "local_part": local_part,
        "domain": domain,
        "home": account.home or "",
        "folder": account.folder,
        "maildir": place,
        "useropt": useropt,
    }

    def value(found: re.Match[str]) -> str:
        whole = values[found[1]]
        if found[2] is None:
            return whole
        try:
            return whole[int(found[2])]
        except IndexError:
            return ""

    program, *rest = config.sessions.program
    arguments = [program, *(_VARIABLE.sub(value, one) for one in rest)]
    named = any("$(useropt" in one for one in rest)
    return [*arguments, "--", useropt] if useropt and not named else arguments


def variables(account: Account, owner: Owner, login: LoginRecord, place: str) -> dict[str, str]:
    """The whole environment of the program."""
    found = {
        "SHELL": owner.shell,
        "HOME": owner.home,
        "USER": account.name,
        "LOGNAME": (login.target or login.name).decode("utf-8", "replace"),
        "EXTENSION": account.folder,
        "MAILDIR": place,
        "REMOTE_ADDR": login.host,
        "TCPREMOTEIP": login.host,
        "TCPREMOTEPORT": str(login.port),
        "PROTO": "POP3",
        "PATH": _PATH,
    }
    return {key: value.replace("\0", "") for key, value in found.items()}


def _wait_for_go(control: socket.SocketType) -> tuple[Go, socket.socket] | None:
    """The connection; None when there will be none."""
    control.settimeout(_HAND_OVER_SECONDS)
    try:
        octets, descriptors, _, _ = socket.recv_fds(cast(Any, control), MOST_OCTETS, 1)
    except OSError:
        return None
    if not octets or not descriptors:
        return None
    client = socket.socket(fileno=descriptors[0])
    try:
        return Go.of(parse(octets).get("go")), client
    except BadRecord:
        client.close()
        return None


def _become(arguments: list[str], environment: Mapping[str, str], client: int) -> NoReturn:
    """In the new process: turn into the program."""
    try:
        os.setsid()
        for number in (0, 1):
            os.dup2(client, number, inheritable=True)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_DFL)
        os.execve(arguments[0], arguments, dict(environment))  # noqa: S606
    except OSError as problem:
        os.write(2, f"cannot run {arguments[0]}: {problem.strerror}\n".encode())
    finally:
        os._exit(_CANNOT_RUN)


def _wait_for_end(pid: int, control: socket.SocketType, most_seconds: float) -> tuple[int, str]:
    """
    Wait for the program, which is told to end when the front says so, or is gone, or the time is over.

    @return: exit status, and why it had to end, "" where it has by itself
    """
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(control, select.POLLIN)
    until = time.monotonic() + most_seconds if most_seconds else None
    why = ""
    while True:
        left = None if until is None else max(0.0, until - time.monotonic())
        ready = dict(poll.poll(None if left is None else left * 1000 + 1))
        if ended in ready:
            _, status = os.waitpid(pid, 0)
            return os.waitstatus_to_exitcode(status), why
        if why:
            _signal(pid, signal.SIGKILL)
            until = None
            continue
        why = "server shutdown" if control.fileno() in ready else "session limit"
        poll.unregister(control)
        _signal(pid, signal.SIGTERM)
        until = time.monotonic() + _PATIENCE_SECONDS


def _signal(pid: int, number: int) -> None:
    """A signal to the program and all that it has started; it is not reaped, so the number is its own."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        os.kill(pid, number)


def _how(status: int) -> str:
    return f"status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"
