"""
The front's side of privilege separation: the broker as a front sees it, and the lines to its sessions.

Purpose: starts the broker while the process is still root; afterwards hands it logins and listens to the sessions.
Trust: a session's process belongs to its user, who may be anybody.  It says something about its own session only, in
words that are looked at one by one (L{tpops.process.records}); whose session it is, root has said before.
Errors: when the broker is gone, logins are refused with [SYS/TEMP] and C{lost} is called, once; sessions go on.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger, LogLevel
from zope.interface import implementer

from tpops.config.load import Loaded
from tpops.config.schema import Config
from tpops.errors import ConfigError, LookupUnavailable, TpopsError
from tpops.events.text import one_line
from tpops.mailbox.tally import TALLY
from tpops.model import Peer
from tpops.process import handoff
from tpops.process.exchanges import packed
from tpops.process.packets import Reading, taken
from tpops.process.records import (
    MOST_OCTETS,
    MOST_SECRET_OCTETS,
    BadRecord,
    Ended,
    Go,
    LoginRecord,
    Now,
    error_of,
    number,
    pack,
    parse,
    text,
)
from tpops.process.step_line import Answer, StepLine
from tpops.protocol.actions import AnyLogin, Login, LoginByDigest, LoginByKeyedDigest, LoginByTicket
from tpops.protocol.relayed import Step
from tpops.server.apart import Opened, take_note, take_transcript
from tpops.server.pop3 import POP3Server

_log = Logger()

#: Seconds until the broker must be ready.
_START_SECONDS = 90.0

#: Seconds until a login must have its answer; locks are waited for meanwhile.
_ANSWER_SECONDS = 700.0

#: Tables of the configuration that sessions need; there are no secrets in them.
SESSION_TABLES: dict[str, Any] = {
    **dict.fromkeys(("server", "protocol", "limits", "names", "folders", "mail", "maildir", "mbox"), True),
    **dict.fromkeys(("sessions", "log"), True),
    "masters": {"separator"},
}

#: Folders that one session may have listed.
_MOST_LISTINGS = 100_000

#: Log entries of one session that are passed on.
_MOST_ENTRIES = 100


def session_settings(config: Config) -> dict[str, Any]:
    """What L{tpops.process.session_start.settings} makes objects of."""
    tables = config.model_dump(mode="json", include=SESSION_TABLES)
    tables["server"]["processes"] = config.server.processes
    return tables


def start_broker(loaded: Loaded) -> tuple[subprocess.Popen[bytes], socket.socket, frozenset[str]]:
    """
    Start the broker: its process, the socket to it, and what proves a password without sending it.

    @raise ConfigError: when it cannot start
    """
    if os.geteuid() != 0:
        raise ConfigError(['sessions.run_as = "owner" needs a start as root: only root can become the owner of mail'])
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    plan = handoff.put({"config": session_settings(loaded.config)})
    judge = handoff.put({"path": loaded.path, "text": loaded.text})
    given = (its.fileno(), plan, judge)
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tpops.process.broker", *map(str, given)],
            stdin=subprocess.DEVNULL,
            pass_fds=given,
        )
    finally:
        its.close()
        os.close(plan)
        os.close(judge)
    ours.settimeout(_START_SECONDS)
    try:
        said = parse(ours.recv(MOST_OCTETS) or b"{}")
    except OSError:
        said = {}
    if "ready" in said:
        return process, ours, frozenset(said["ready"])
    ours.close()
    process.kill()
    process.wait()
    raise ConfigError(said.get("failed") or ["the broker of sessions does not start; see its output"])


@implementer(IReadDescriptor)
class BrokerLink(Reading):
    """
    See the module, and L{tpops.server.apart.Apart}.

    @param connected: the socket to the broker
    @param greets: a program answers logins itself
    @param lost: called when the broker is gone
    """

    def __init__(self, reactor: Any, connected: socket.socket, greets: bool, lost: Callable[[], None]) -> None:
        connected.setblocking(False)
        super().__init__(reactor, connected.fileno())
        self._socket = connected
        self._greets = greets
        self._lost = lost
        self._gone = False

    def doRead(self) -> None:
        """IReadDescriptor: it says nothing, but for its end."""
        if taken(self._socket, MOST_OCTETS) != b"":
            return
        self._gone = True
        self.stop_reading()
        self._socket.close()
        self._lost()

    def ask(self, action: AnyLogin, peer: Peer, stamp: bytes) -> ControlLine:
        """See L{tpops.server.apart.Apart}."""
        return ControlLine(self._reactor, self._send(_record(action, peer, stamp)), self._greets)

    def step(self, step: Step) -> Deferred[Answer]:
        """See L{tpops.server.apart.Apart}."""
        record = LoginRecord("sasl", step.mechanism, step.message, step.ticket, packed(step.bindings))
        return StepLine(self._reactor, self._send(record)).answer

    def _send(self, login: LoginRecord) -> socket.socket:
        """Send a record; gives our end of its control."""
        if self._gone:
            raise LookupUnavailable("the broker is gone")
        record = pack(login.record())
        try:
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as problem:
            raise LookupUnavailable(f"the broker cannot be asked: {problem.strerror}") from None
        try:
            socket.send_fds(self._socket, [record], [its.fileno()])
        except OSError as problem:
            ours.close()
            raise LookupUnavailable(f"the broker cannot be asked: {problem.strerror}") from None
        finally:
            its.close()
        return ours


def _record(action: AnyLogin, peer: Peer, stamp: bytes) -> LoginRecord:
    """A login for the broker; raises LookupUnavailable where there is none for it."""
    if isinstance(action, Login):
        record = LoginRecord("password", action.name, action.password, target=action.authorization)
    elif isinstance(action, LoginByDigest):
        record = LoginRecord("apop", action.name, action.digest, stamp)
    elif isinstance(action, LoginByKeyedDigest):
        record = LoginRecord("cram-md5", action.name, action.digest, action.challenge)
    elif isinstance(action, LoginByTicket):
        record = LoginRecord("ticket", action.name, b"", action.proof)
    else:
        raise LookupUnavailable(f"{type(action).__name__} proves nothing to the broker")
    if max(map(len, (record.name, record.proof, record.challenge, record.target))) > MOST_SECRET_OCTETS:
        raise LookupUnavailable(f"name or password has more than {MOST_SECRET_OCTETS} octets")
    return attrs.evolve(
        record,
        host=peer.host[:256],
        port=peer.port,
        local_host=peer.local_host[:256],
        local_port=peer.local_port,
        session=peer.session[:256],
    )


@implementer(IReadDescriptor)
class ControlLine(Reading):
    """See L{tpops.server.apart.Control}."""

    def __init__(self, reactor: Any, connected: socket.socket, greets: bool) -> None:
        connected.setblocking(False)
        super().__init__(reactor, connected.fileno())
        self._socket = connected
        self._greets = greets
        self._whose: tuple[str, str, str] | None = None
        self._opened: Deferred[Opened] = Deferred()
        self._answered = False
        self._ended: Deferred[Ended | None] = Deferred()
        self._server: POP3Server | None = None
        self._entries = 0
        self._over = False
        self._patience = reactor.callLater(_ANSWER_SECONDS, self._no_answer)

    # What the server asks.

    def opened(self) -> Deferred[Opened]:
        """See L{tpops.server.apart.Control}."""
        return self._opened

    def ended(self) -> Deferred[Ended | None]:
        """See L{tpops.server.apart.Control}."""
        return self._ended

    def go(self, server: POP3Server, first: bytes, rest: bytes, descriptor: int) -> None:
        """See L{tpops.server.apart.Control}."""
        conversation = server.conversation
        mechanisms = tuple(name.decode("ascii") for name in conversation.offer.mechanisms)
        plaintext, language = conversation.offer.plaintext, conversation.language.decode("ascii")
        shared = server.shared
        go = Go(
            first,
            rest,
            plaintext,
            mechanisms,
            conversation.utf8,
            language,
            server.transcribed,
            paced=shared.bandwidth is not None and not shared.limiter.exempt(server.session.peer),
        )
        self._server = server
        if not self._over:
            try:
                socket.send_fds(self._socket, [pack(go.record())], [descriptor])
            except OSError:
                self._end()

    def stop(self) -> None:
        """See L{tpops.server.apart.Control}."""
        if not self._over:
            try:
                self._socket.send(pack({"stop": True}))
            except OSError:
                self._end()

    def close(self) -> None:
        """See L{tpops.server.apart.Control}."""
        self._end()

    # What comes in.

    def doRead(self) -> None:
        """IReadDescriptor."""
        octets = taken(self._socket, MOST_OCTETS)
        if octets is None:
            return
        if not octets:
            self._end()
            return
        try:
            self._received(parse(octets))
        except BadRecord as problem:
            _log.error("a session's process says what makes no sense, and is left alone: {why}", why=str(problem))
            self._end()

    def _received(self, said: Mapping[str, Any]) -> None:
        if "verified" in said and self._whose is None:
            whose = said["verified"]
            if not isinstance(whose, dict):
                raise BadRecord("it is nobody's")
            self._whose = (text(whose.get("user")), text(whose.get("driver")), text(whose.get("folder")))
        elif "refused" in said and not self._answered:
            self._refuse(error_of(said))
        elif "opened" in said and self._whose is not None and not self._answered:
            self._open(said)
        elif "log" in said:
            self._log(said["log"])
        elif "now" in said and self._server is not None:
            take_note(self._server, Now.of(said["now"]))
        elif "transcript" in said and self._server is not None:
            take_transcript(self._server, text(said["transcript"]))
        elif "ended" in said and self._answered and not self._ended.called:
            self._ended.callback(Ended.of(said["ended"]))
        else:
            raise BadRecord("it comes at the wrong time")

    def _open(self, said: Mapping[str, Any]) -> None:
        figures, program, listings = said["opened"], said.get("program"), said.get("listings")
        if not isinstance(figures, list) or len(figures) != 3 or type(program) is not bool:
            raise BadRecord("it opens nothing")
        if not isinstance(listings, list) or len(listings) != 2:
            raise BadRecord("it does not say where its listing is from")
        TALLY.add(*(number(one, _MOST_LISTINGS) for one in listings))
        assert self._whose is not None
        messages, octets, checksum = map(number, figures)
        self._answer_has_come()
        self._opened.callback(Opened(*self._whose, messages, octets, checksum, program, program and self._greets))

    def _refuse(self, problem: TpopsError) -> None:
        self._answer_has_come()
        self._opened.errback(problem)

    def _answer_has_come(self) -> None:
        self._answered = True
        if self._patience.active():
            self._patience.cancel()

    def _no_answer(self) -> None:
        self._refuse(LookupUnavailable(f"no answer within {_ANSWER_SECONDS:g} seconds"))
        self._end()

    def _log(self, entry: object) -> None:
        if (
            not isinstance(entry, list)
            or len(entry) != 2
            or entry[0] not in ("debug", "info", "warn", "error", "critical")
        ):
            raise BadRecord("it is no log entry")
        self._entries += 1
        if self._entries <= _MOST_ENTRIES:
            whose = self._whose[0] if self._whose is not None else "nobody"
            level = LogLevel.lookupByName(entry[0])
            _log.emit(level, "session of {user}: {text}", user=whose, text=one_line(text(entry[1])))

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        self.stop_reading()
        self._socket.close()
        if not self._answered:
            self._refuse(LookupUnavailable("the process that should serve the session has ended"))
        if not self._ended.called:
            self._ended.callback(None)
