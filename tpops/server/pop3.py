"""
The POP3 server: carries out what L{tpops.protocol.states.Conversation} decides.

Purpose: a subclass of Twisted's POP3 for the seams (portal, IMailboxPOP3, factory); none of its commands is used.
A command that has to wait runs as a coroutine, one at a time.  Nothing is cancelled when the client goes: what runs
comes to its end and then lets go of the maildrop, once.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tpops.coroutines import run, run_then
from tpops.errors import CommandError, LimitReached, RemoveFailed, StorageError, TpopsError
from tpops.interfaces import ITicket
from tpops.mailbox.view import Mailbox
from tpops.protocol import replies
from tpops.protocol.actions import Action, AnyLogin, Close, Commit, Consult, Listing, Retrieve, StartTLS
from tpops.server.apart import Control
from tpops.server.connection import Connection
from tpops.server.glance import Seen
from tpops.server.login import Logout, consult, log_in
from tpops.server.offers import IMPLICIT
from tpops.server.pace import Pace, send_at_pace
from tpops.server.reasons import LIMITS, NO_LOGIN
from tpops.server.transfer import send_listing, send_message

_log = Logger()

#: What a session's TLS is while the handshake lasts.
_PENDING = "handshake"

#: Seconds that a client gets to take our last word when it has to make room.
_FAREWELL_SECONDS = 1.0


@implementer(IHandshakeListener)
class POP3Server(Connection):
    """
    See the module.

    @ivar mailbox: the maildrop, after login
    @ivar doing: what was begun last that may have to wait
    @ivar pace: how fast it may send, None for as fast as it goes
    @ivar apart: the process that serves the session, after login
    @ivar seen: what that has said last
    @ivar transcribed: a transcript is kept of it
    @ivar stopped_for: why it was told to end, "" where it was not
    """

    mailbox: Mailbox | None = None
    doing: Action | None = None
    pace: Pace | None = None
    apart: Control | None = None
    seen: Seen | None = None
    transcribed = False
    stopped_for: str = ""

    _ticket: ITicket | None = None
    _logout: Logout | None = None

    # The connection's life.

    def connectionMade(self) -> None:
        """Greet the client, or refuse it."""
        if not self.session.peer.local_host:
            self._find_local_address()
        self.shared.connections.add(self)
        self.timer.arm()
        if self.tls == IMPLICIT:
            self._handshake()
        self.transport.registerProducer(self, True)
        if not self.shared.limiter.exempt(self.session.peer):
            self.shared.strangers.come(self)
        try:
            self._ticket = self.shared.limiter.admit(self.session.peer)
        except LimitReached as refused:
            self.shared.events.emit("greeting-refused", self.session, f"{refused.limit}: {refused}")
            self.send(replies.from_error(refused))
            self.close("refused")
            return
        self.shared.events.emit("connect", self.session)
        self.transport.write(self.conversation.greeting())

    def make_room(self, most: int) -> None:
        """See L{tpops.server.strangers.Stranger}."""
        if self.paused or self.session.tls == _PENDING:
            self.abort(NO_LOGIN)
            return
        self.send(replies.NEW_CLIENTS)
        self.close(NO_LOGIN)
        self.shared.clock.callLater(_FAREWELL_SECONDS, self.abort, NO_LOGIN)

    def close(self, reason: str) -> None:
        """See L{Connection.close}; where another process serves, it is told, and closes then."""
        if self.apart is not None:
            self.stopped_for = self.stopped_for or reason
            self.apart.stop()
        else:
            super().close(reason)

    def interruptible(self) -> bool:
        """See L{Connection.interruptible}."""
        return self.apart is None and super().interruptible()

    def _find_local_address(self) -> None:
        """Our end of the connection, where the listener alone does not tell."""
        host = self.transport.getHost()
        self.session.peer = attrs.evolve(
            self.session.peer, local_host=getattr(host, "host", "unix"), local_port=getattr(host, "port", 0)
        )

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Let go of everything; of the maildrop when no command works on it any more."""
        if self.session.tls == _PENDING:
            self._tell_handshake_failed(reason)
        self.session.reason = self.session.reason or "client closed"
        if self._ticket is not None:
            self._ticket.release()
        self.shared.strangers.leave(self)
        was_busy = self.busy
        self.stop_waiting()
        if not was_busy:
            self._end()

    def _tell_handshake_failed(self, reason: Failure) -> None:
        self.session.tls = ""
        self.session.reason = self.session.reason or "TLS handshake failed"
        _log.info(
            "tls-failed: session {session}, {peer}: {why}",
            event="tls-failed",
            session=self.session.peer.session,
            peer=self.session.peer.host,
            why=self._objection() or _openssl_reason(reason),
        )

    def _objection(self) -> str:
        """What was wrong with the client's certificate, "" where it did not come to that."""
        # Where there is no TLS, nothing for it is loaded.
        from OpenSSL.SSL import Connection as Encrypted

        from tpops.server.client_certificates import objection

        connection = self.transport.getHandle()
        return objection(connection) if isinstance(connection, Encrypted) else ""

    def _end(self) -> None:
        """The connection is gone and no command runs: the session is over."""
        self.shared.connections.discard(self)
        if self._logout is not None:
            run(self._log_out()).addErrback(self._log_failure)
        self.session.ended_at = self.shared.epoch()
        limit = LIMITS.get(self.session.reason)
        if limit is not None:
            self.shared.events.emit("limit", self.session, f"{limit}: {self.session.reason}")
        if self.pace is not None:
            for slowed in self.pace.slowed():
                self.shared.events.emit("limit", self.session, slowed)
        if self.session.user is not None:
            self.shared.events.emit("logout", self.session, self.session.reason)
        self.shared.events.emit("disconnect", self.session, self.session.reason)

    async def _log_out(self) -> None:
        logout, self._logout = self._logout, None
        if logout is not None:
            released = logout()
            if isinstance(released, Deferred):
                await released

    def _log_failure(self, failure: Failure) -> None:
        _log.failure("session {session}: internal error", failure, session=self.session.peer.session)

    def lineReceived(self, line: bytes) -> None:
        """Handle one line."""
        if self.count_command():
            return
        try:
            result = self.conversation.handle(line)
        except CommandError as refused:
            self.refused(refused)
        except Exception:
            self._log_failure(Failure())
            self.send(replies.INTERNAL)
        else:
            self._errors = 0
            if not isinstance(result, bytes):
                self._act(result)
            elif self.pace is None:
                self.send(result)
            else:
                self._run(send_at_pace(self, self.pace, result))

    # Actions.

    def _act(self, action: Action) -> None:
        self.doing = action
        if isinstance(action, Retrieve):
            self._run(send_message(self, action))
        elif isinstance(action, Listing):
            self._run(send_listing(self, action))
        elif isinstance(action, AnyLogin):
            self._run(log_in(self, action))
        elif isinstance(action, Consult):
            self._run(consult(self, action))
        elif isinstance(action, Commit):
            self._run(self._commit())
        elif isinstance(action, Close):
            self.send(action.reply)
            self.close(action.reason)
        else:
            assert isinstance(action, StartTLS)
            self._start_tls()

    def _run(self, command: Coroutine[Deferred[Any], Any, None]) -> None:
        """Carry out a command that may have to wait; lines behind it wait with it."""
        self.busy = self.timer.busy = True
        run_then(command, self._done)

    def _done(self, result: object) -> None:
        self.busy = self.timer.busy = False
        if isinstance(result, Failure):
            error = result.value
            if isinstance(error, TpopsError):
                self.refused(error)
            elif not (self.gone and isinstance(error, CancelledError)):
                self._log_failure(result)
                self.send(replies.INTERNAL)
        if self.gone:
            self._end()
        elif not self._handling:
            self.handle_input()

    async def _commit(self) -> None:
        """UPDATE (RFC 1939 section 6).  Goes on to its end even when the client has gone."""
        assert self.mailbox is not None
        marked = self.mailbox.marked()
        started = self.shared.clock.seconds()
        reply = b""
        try:
            await self.mailbox.commit()
        except RemoveFailed as failed:
            _log.error("session {session}: {why}", session=self.session.peer.session, why=str(failed))
            reply = replies.from_error(failed)
            marked -= len(failed.kept)
        except StorageError as failed:
            reply = replies.from_error(failed)
            marked = 0
        left, octets = self.mailbox.stat()
        self.session.dele_count = marked
        self.session.messages_left, self.session.octets_left = left, octets
        if marked:
            self.shared.events.emit("remove", self.session, str(marked))
        await self._log_out()
        self.session.update_seconds = self.shared.clock.seconds() - started
        self.send(reply or replies.bye(left))
        self.close("quit")

    def _start_tls(self) -> None:
        if self.input_behind():
            # Somebody between client and server may have put it there (RFC 2595 section 4).
            self.send(replies.TLS_NOT_CLEAN)
            self.close("plaintext behind STLS")
            return
        self.send(replies.BEGIN_TLS)
        self._flush()
        self.transport.unregisterProducer()
        self._handshake()
        self.transport.registerProducer(self, True)
        self.conversation.tls_started(self.shared.offers.with_tls())

    def _handshake(self) -> None:
        self.session.tls = _PENDING
        self.transport.startTLS(self.shared.tls_context)

    def handshakeCompleted(self) -> None:
        """IHandshakeListener: TLS is on."""
        connection = self.transport.getHandle()
        self.session.tls = f"{connection.get_protocol_version_name()} {connection.get_cipher_name()}"
        self.conversation.offer = self.shared.offers.over(connection)

    def logged_in(self, mailbox: Mailbox, logout: Logout) -> None:
        """The portal has given a mailbox; when the client has gone meanwhile, it is given back."""
        self.mailbox = mailbox
        self._logout = logout
        self.shared.strangers.leave(self)
        if self.shared.bandwidth is not None and not self.shared.limiter.exempt(self.session.peer):
            self.pace = self.shared.bandwidth.pace()
        options = self.shared.options
        self.count_anew(options.commands_after_login, options.errors_after_login)
        if not self.gone:
            self.timer.login()
            self.conversation.logged_in(mailbox)


def _openssl_reason(failure: Failure) -> str:
    """OpenSSL's words for a failed handshake, or that the client went."""
    for one in failure.value.args if failure.value is not None else ():
        if isinstance(one, list) and one:
            return "; ".join(str(part[-1]) for part in one)
    return failure.getErrorMessage()
