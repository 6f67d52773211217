"""
checkpassword: the interface of DJB's programs (https://cr.yp.to/checkpwd/interface.html).

Purpose: the program reads name, password and a timestamp, each with a NUL behind it, from descriptor 3.  When the
password is right it becomes the user, sets USER, HOME and SHELL, and runs its arguments; here that is a line of shell,
which writes who it is and its environment to descriptor 4.  A keeper starts the program with the rights that the server
was started with, root's where accounts of the machine are judged.

    exit status    0 right, 1 wrong, 2 misused, 111 cannot say now; whatever else is a failure as well

Limits: name and password have at most 512 octets together with what belongs to them; longer ones are wrong.  Every
login starts the program anew.  The environment is PATH, PROTO, TCPREMOTEIP, TCPREMOTEPORT, TCPLOCALIP, TCPLOCALPORT.
Known deviations: as in Dovecot, userdb_uid, userdb_gid, userdb_home and userdb_mail of the environment go before the
process's own ids and HOME.  MAILDIR is the Maildir, beginning at HOME where it is relative.  USER does not rename the
account: programs for virtual domains leave the domain out there.
Errors: whatever is neither right nor wrong, and a program that takes too long, is LookupUnavailable.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from tpops.cred import identities
from tpops.cred.keeper import CANNOT_RUN, Settings
from tpops.cred.programs import Program, Programs, program_problem
from tpops.cred.source import AskingSource, Means
from tpops.cred.turns import Turns
from tpops.credentials import NamePassword
from tpops.errors import BadCredentials, ConfigError, LookupUnavailable
from tpops.model import Account, Peer
from tpops.pipes import PATH

#: What the program gets at most on descriptor 3.
MOST_OCTETS = 512

#: What is read of the reply at most.
_REPLY_OCTETS = 65536

#: What a program that says yes runs.
_REPLY = (
    "{ printf 'uid=%s\\000gid=%s\\000' \"$(id -u)\" \"$(id -g)\" && env -0 && printf 'whole=1\\000'; } >&4 || exit 111"
)

_VARIABLES = ["PROTO", "TCPREMOTEIP", "TCPREMOTEPORT", "TCPLOCALIP", "TCPLOCALPORT"]

_FAILURES = {
    2: "the program says that it was misused (exit status 2)",
    111: "the program cannot say now (exit status 111)",
    CANNOT_RUN: "the program could not be run (exit status 127)",
}


class _Run:
    """
    One run of the program.

    @ivar over: fires with the exit status
    @ivar octets: what came back
    """

    def __init__(self) -> None:
        self.over: Deferred[int | None] = Deferred()
        self.octets = b""

    def received(self, octets: bytes) -> None:
        """See L{tpops.cred.programs.Receiver}."""
        if len(self.octets) <= _REPLY_OCTETS:
            self.octets += octets

    def ended(self, status: int | None) -> None:
        """See L{tpops.cred.programs.Receiver}."""
        self.over.callback(status)


class CheckpasswordAccounts(AskingSource):
    """
    See the module.

    @param command: the program's path and its arguments
    @param processes: runs at the same time
    @param timeout_seconds: how long a run may take
    """

    needs_rights = True

    def __init__(
        self,
        name: str,
        means: Means,
        command: tuple[str, ...],
        processes: int = 8,
        timeout_seconds: float = 30.0,
    ) -> None:
        super().__init__(name, means)
        self._command = command
        self._timeout_seconds = timeout_seconds
        self._reactor: Any = means.reactor
        self._run_in_thread = means.run_in_thread
        argv = [*command, "/bin/sh", "-c", _REPLY]
        self._programs = Programs(name, Settings(argv, [3, 4, 2], {"PATH": PATH}, _VARIABLES), means.reactor)
        self._turns = Turns(name, processes, means.reactor)

    async def verify(self, credentials: NamePassword) -> Account:
        """See L{AskingSource.verify}."""
        name, password = credentials.username, credentials.password
        sent = b"%s\0%s\0%d\0" % (name, password, int(time.time()))
        if not password or sent.count(b"\0") != 3:
            raise BadCredentials("password is empty, or name or password has a NUL")
        if len(sent) > MOST_OCTETS:
            raise BadCredentials(f"name and password are too long for checkpassword, which takes {MOST_OCTETS} octets")
        await self._turns.take()
        try:
            status, octets = await self._run(sent, password, _variables(credentials.peer))
        finally:
            self._turns.give()
        if status == 1:
            raise BadCredentials("checkpassword says no")
        if status != 0:
            raise LookupUnavailable(f"{self.name}: {_failure(status)}")
        account = Account(name.decode("utf-8"), self.name)
        return await self._run_in_thread(self._filled, account, octets)

    def start(self) -> None:
        """See L{Source.start}."""
        problems = self.check()
        if problems:
            raise ConfigError(problems)
        try:
            self._programs.start()
        except OSError as error:
            raise ConfigError([f"accounts source {self.name}: {error}"]) from None

    def stop(self) -> Deferred[None]:
        """See L{Source.stop}."""
        return Deferred.fromCoroutine(self._programs.stop())

    def check(self) -> list[str]:
        """See L{Source.check}."""
        problems = (program_problem(self._command[0]), program_problem("/bin/sh"))
        return [f"accounts source {self.name}: {problem}" for problem in problems if problem]

    async def _run(self, sent: bytes, password: bytes, variables: Mapping[str, str]) -> tuple[int | None, bytes]:
        """Exit status and reply of a run; the status is None or negative where it did not end by itself."""
        run = _Run()
        program: Program = self._programs.run(run, variables)
        program.secrets = (password,)
        late = self._reactor.callLater(self._timeout_seconds, program.kill)
        try:
            program.write(sent)
        except LookupUnavailable:
            program.kill()  # its exit status says why it does not read
        program.end_input()
        try:
            return await run.over, run.octets
        finally:
            if late.active():
                late.cancel()

    def _filled(self, account: Account, octets: bytes) -> Account:
        """What the reply says of the account.  Blocks: the name service may be asked."""
        if not octets.endswith(b"\0whole=1\0") or len(octets) > _REPLY_OCTETS:
            raise LookupUnavailable(f"{self.name}: the program did not run its arguments")
        pairs = dict(line.partition("=")[::2] for line in reversed(os.fsdecode(octets).split("\0")) if "=" in line)
        try:
            owner = identities.user(pairs.get("userdb_uid") or pairs["uid"])
            gid = identities.group(pairs.get("userdb_gid") or pairs["gid"])
        except ValueError as error:
            raise LookupUnavailable(f"{self.name}: the reply cannot be used: {error}") from None
        home = pairs.get("userdb_home") or pairs.get("HOME") or None
        maildrop = pairs.get("userdb_mail") or None
        if maildrop is None and pairs.get("MAILDIR"):
            maildrop = "maildir:" + os.path.normpath(os.path.join(home or "", pairs["MAILDIR"]))
        return Account(account.name, self.name, home=home, maildrop=maildrop, uid=owner.uid, gid=gid)


def _failure(status: int | None) -> str:
    if status is None:
        return "the keeper of the program has ended"
    if status < 0:
        return f"no answer in time, or the program crashed (signal {-status})"
    return _FAILURES.get(status, f"exit status {status}, which is not of the interface")


def _variables(peer: Peer | None) -> dict[str, str]:
    """The connection, as tcpserver has it in the environment; nothing for a UNIX socket."""
    if peer is None or not peer.port:
        return {}
    return {
        "PROTO": "TCP",
        "TCPREMOTEIP": peer.host,
        "TCPREMOTEPORT": str(peer.port),
        "TCPLOCALIP": peer.local_host,
        "TCPLOCALPORT": str(peer.local_port),
    }
