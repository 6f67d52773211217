"""
The process that verifies passwords for the broker: C{python -m tpops.process.judge CHANNEL ORDERS}.

Purpose: it alone has the accounts sources, the memory of right passwords and whatever opens them (the rights to read
/etc/shadow, PAM, passwords of databases).  Session processes are forked from the broker, which has nothing of that.
How: it is asked over one socket (see L{tpops.process.records}), by the broker and nobody else, and answers in any
order.
Limits: it sees no client and no front; it ends when the broker is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from typing import Any

import attrs
from twisted.cred.error import LoginFailed
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from zope.interface import provider

from tpops.backend import Backend
from tpops.config.load import load
from tpops.config.schema import Config
from tpops.cred.masters import Masters
from tpops.cred.names import NamePart
from tpops.credentials import Acting, APOPCredentials, CRAMMD5Credentials, NamePassword, Proven
from tpops.errors import BadCredentials, ConfigError, LookupUnavailable, TpopsError
from tpops.model import Account, Caller, Peer
from tpops.process import handoff
from tpops.process.exchanges import Exchanges
from tpops.process.packets import Packets
from tpops.process.records import NUMBER, VERDICT, BadRecord, LoginRecord, account_record, parse, refusal

_log = Logger()


class Verdicts:
    """
    Verifies logins.

    @param backend: the accounts
    """

    def __init__(self, config: Config, backend: Backend, reactor: Any) -> None:
        self._backend = backend
        self.proofs = backend.proofs()
        self._useropt = NamePart(config.sessions.useropt) if config.sessions.useropt else None
        self._masters = Masters(backend.checker.requestAvatarId, backend.names, **config.masters.settings())
        self.exchanges = Exchanges(config, backend, reactor, self.proofs, lambda name: self._taken(name)[0])

    async def of(self, login: LoginRecord) -> tuple[Account, str]:
        """
        The account that somebody may open, and what his name says beside it.

        @raise LoginError: when he may not
        """
        proven = self.exchanges.proven(login.challenge) if login.kind == "ticket" else None
        name, useropt = self._taken(login.name if proven is None else proven.name)
        target, option = self._taken(login.target) if login.target else (b"", "")
        peer = Peer(login.host, login.port, login.local_host, login.local_port, login.session)
        own = login.kind == "password" and login.target in (b"", login.name)
        caller = Caller.of(peer, login.proof if own else None)
        checker: Any = self._backend.checker
        try:
            credentials: object
            if proven is not None:
                credentials = Proven(name, peer, proven.source)
            elif login.kind == "apop":
                credentials = APOPCredentials(name, login.challenge, login.proof, peer)
            elif login.kind == "cram-md5":
                credentials = CRAMMD5Credentials(name, login.challenge, login.proof, peer)
            elif target:
                credentials, checker = Acting(name, login.proof, target, caller), self._masters
            else:
                credentials = NamePassword(name, login.proof, caller)
            avatar = await maybeDeferred(checker.requestAvatarId, credentials)
            return await self._backend.checker.account(avatar), option or useropt
        except TpopsError:
            raise
        except LoginFailed as failed:
            raise BadCredentials(str(failed)) from failed
        finally:
            caller.empty()

    def _taken(self, raw: bytes) -> tuple[bytes, str]:
        """A name without what is for the program."""
        if self._useropt is None:
            return raw, ""
        try:
            name, option = self._useropt.take(raw.decode("utf-8"))
        except UnicodeDecodeError:
            raise BadCredentials("login name is not UTF-8") from None
        if not name or not option.isprintable():
            raise BadCredentials("login name names an option and nobody")
        return name.encode(), option


class Judge:
    """
    See the module.

    @param connected: the channel's socket
    """

    def __init__(self, reactor: Any, connected: socket.socket) -> None:
        self._reactor = reactor
        self._channel = Packets(reactor, connected, self._received, self._abandoned, decode=bytes)
        self._backend: Backend | None = None
        self._verdicts: Verdicts | None = None

    def begin(self, path: str, text: str) -> bool:
        """Answer from now on; False when that is not possible, and the broker knows why."""
        try:
            config = load(path, text=text).config
            self._backend = Backend(config, self._reactor)
            for source in self._backend.sources:
                source.start()
            self._verdicts = Verdicts(config, self._backend, self._reactor)
        except ConfigError as problem:
            self._channel.send({"failed": list(problem.problems)})
            return False
        self._reactor.addSystemEventTrigger("before", "shutdown", self._stop)
        self._channel.send({"ready": sorted(self._verdicts.proofs)})
        return True

    def _received(self, octets: bytes) -> None:
        Deferred.fromCoroutine(self._answer(octets)).addErrback(_failed)

    async def _answer(self, octets: bytes) -> None:
        assert self._verdicts is not None
        (number,) = NUMBER.unpack_from(octets)
        answer: dict[str, object]
        try:
            login = LoginRecord.of(parse(octets[NUMBER.size :]))
            if login.kind == "sasl":
                answer = {"step": await self._verdicts.exchanges.step(login)}
            else:
                account, useropt = await self._verdicts.of(login)
                known = attrs.evolve(login, proof=b"").record()
                answer = {"account": account_record(account), "useropt": useropt, "login": known}
        except BadRecord as problem:
            answer = {"bad": str(problem)}
        except TpopsError as problem:
            answer = refusal(problem)
        except Exception:
            _log.failure("a login could not be judged")
            answer = refusal(LookupUnavailable("internal error"))
        self._channel.send(answer, VERDICT.pack(number, "account" in answer))

    def _abandoned(self) -> None:
        with contextlib.suppress(ReactorNotRunning):
            self._reactor.stop()

    def _stop(self) -> Deferred[None] | None:
        if self._verdicts is not None:
            self._verdicts.exchanges.stop()
        return Deferred.fromCoroutine(self._backend.stop()) if self._backend is not None else None


def _failed(failure: Failure) -> None:
    _log.failure("a login could not be judged", failure)


def write_log(level: str) -> None:
    """Write the log of this process to standard error, a line for each entry."""
    levels = LogLevelFilterPredicate(LogLevel.lookupByName(level))

    @provider(ILogObserver)
    def write(event: LogEvent) -> None:
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        if text:
            os.write(2, (text[:8000] + "\n").encode("utf-8", "backslashreplace"))

    globalLogBeginner.beginLoggingTo([FilteringLogObserver(write, [levels])], redirectStandardIO=False)


def main(arguments: list[str]) -> int:
    """Serve until the broker is gone; the exit status."""
    from twisted.internet import reactor

    channel, orders = (int(argument) for argument in arguments)
    given = handoff.take(orders)
    os.set_inheritable(channel, False)
    write_log("warn")
    running: Any = reactor
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        # It ends with the broker; the reactor's own handlers come when it starts.
        signal.signal(number, signal.SIG_IGN)
        running.callWhenRunning(signal.signal, number, signal.SIG_IGN)
    if not Judge(running, socket.socket(fileno=channel)).begin(given["path"], given["text"]):
        return 1
    running.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
