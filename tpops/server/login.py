"""
Logs a client in, through the portal.

Purpose: from credentials to an open mailbox, or to the one reply that a refusal deserves.  Unknown user and wrong
password look the same and last the same: the answer to any failure leaves a fixed time after the command came.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.cred.credentials import ICredentials
from twisted.cred.error import LoginFailed
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.mail.interfaces import IMailboxPOP3

from tpops.credentials import Acting, APOPCredentials, CRAMMD5Credentials, NamePassword, Proven
from tpops.errors import BadCredentials, LimitReached, LoginError, LoginRefused, StorageError, TpopsError
from tpops.mailbox.view import Mailbox
from tpops.model import Account, Caller
from tpops.protocol import replies, sasl
from tpops.protocol.actions import (
    AnyLogin,
    Consult,
    Login,
    LoginByDigest,
    LoginByKeyedDigest,
    LoginProven,
    LoginRejected,
    Result,
)
from tpops.server.apart import open_apart, serve_apart
from tpops.server.foreign import open_foreign
from tpops.server.reasons import AUTH_FAILED

if TYPE_CHECKING:
    from tpops.server.pop3 import POP3Server

_log = Logger()

_T = TypeVar("_T")

#: Ends a session at the portal.
Logout = Callable[[], Awaitable[object] | object]


async def log_in(server: POP3Server, action: AnyLogin) -> None:
    """Carry out USER/PASS, APOP or a finished AUTH."""
    session = server.session
    session.named, session.master = action.name, None
    if isinstance(action, Login):
        action = _parted(action, server.shared.options.master_separator)
        if action.authorization:
            session.named, session.master = action.authorization, action.name
    session.mechanism = server.conversation.mechanism
    started = server.shared.clock.seconds()
    apart = server.shared.apart
    if apart is not None:
        begun = await _answered(server, action, open_apart(server, action, apart))
        if begun is not None:
            session.login_seconds = server.shared.clock.seconds() - started
            await serve_apart(server, begun)
        return
    found = await _answered(server, action, _open(server, action))
    if found is None:
        return
    mailbox, logout = found
    session.user = mailbox.account.name
    session.folder, session.driver = mailbox.account.folder, mailbox.account.driver
    session.messages_at_login, session.octets_at_login = mailbox.stat()
    session.messages_left, session.octets_left = session.messages_at_login, session.octets_at_login
    session.listing = mailbox.messages
    session.login_seconds = server.shared.clock.seconds() - started
    server.logged_in(mailbox, logout)
    if server.gone:
        return
    unfinished = server.shared.events.logged_in(session)
    if unfinished is not None:
        await unfinished
    if not server.gone:
        server.send(replies.logged_in(mailbox.account.name, session.messages_at_login, session.octets_at_login))


async def _answered(server: POP3Server, action: AnyLogin, opening: Coroutine[Deferred[Any], Any, _T]) -> _T | None:
    """What the opening of a maildrop gives; None when that was refused, and the client has his answer."""
    started = server.shared.clock.seconds()
    try:
        return await opening
    except (LoginRefused, StorageError, LimitReached) as refused:
        _tell(server, "login-refused", refused)
        server.refused(refused)
    except BadCredentials as failed:
        await _fail(server, failed, started, action)
    except LoginError as unavailable:
        _tell(server, "login-failed", unavailable)
        server.refused(unavailable)
    return None


async def consult(server: POP3Server, action: Consult) -> None:
    """Find out what a SASL exchange asks, and go on with it."""
    result: Result = action
    while isinstance(result, Consult):
        try:
            answer = await server.shared.consult(result.question)
        except LoginError as unavailable:
            server.session.named = getattr(result.question, "name", None)
            _tell(server, "login-failed", unavailable)
            server.refused(unavailable)
            return
        result = result.resume(answer)
    if isinstance(result, bytes):
        server.send(result)
    elif isinstance(result, AnyLogin):
        await log_in(server, result)


def _parted(action: Login, separator: bytes) -> Login:
    """The same, with the two names parted where the client could give only one: user, separator, master."""
    user, _, master = action.name.rpartition(separator) if separator else (b"", b"", b"")
    if action.authorization or not (user and master):
        return action
    return Login(master, action.password, user)


def _own_password(action: AnyLogin) -> bytes | None:
    """The password of the account that is to be opened, where the client has sent that and not a master's."""
    if isinstance(action, Login) and action.authorization in (b"", action.name):
        return action.password
    return None


def _credentials(server: POP3Server, action: AnyLogin, caller: Caller) -> ICredentials:
    """
    What the portal is asked with.

    @raise BadCredentials: when there is nothing to ask
    """
    if isinstance(action, Login):
        if action.authorization:
            return Acting(action.name, action.password, action.authorization, caller)
        return NamePassword(action.name, action.password, caller)
    peer = server.session.peer
    if isinstance(action, LoginByDigest):
        return APOPCredentials(action.name, server.conversation.stamp or b"", action.digest, peer)
    if isinstance(action, LoginByKeyedDigest):
        return CRAMMD5Credentials(action.name, action.challenge, action.digest, peer)
    if isinstance(action, LoginProven):
        return Proven(action.name, peer, action.source)
    raise BadCredentials(action.why if isinstance(action, LoginRejected) else "nobody here gives tickets")


def _proof(action: AnyLogin) -> bytes:
    """What the client wants to have proven himself with."""
    if isinstance(action, Login):
        return action.password
    return action.digest if isinstance(action, LoginByDigest | LoginByKeyedDigest) else action.proof


async def _open(server: POP3Server, action: AnyLogin) -> tuple[Mailbox, Logout]:
    caller = Caller.of(server.session.peer, _own_password(action))
    credentials = _credentials(server, action, caller)
    try:
        avatar: Any
        _, avatar, logout = await server.shared.portal.login(credentials, caller, IMailboxPOP3)
    except TpopsError:
        raise
    except LoginFailed as failed:
        # What a checker that is not ours says for a wrong password or name.
        raise BadCredentials(str(failed)) from failed
    finally:
        caller.empty()
    if isinstance(avatar, Mailbox):
        return avatar, logout
    try:
        named = server.session.named or b""
        account = Account(named.decode("utf-8", "backslashreplace"), "portal")
        return Mailbox(await open_foreign(avatar), account), logout
    except BaseException:
        await maybeDeferred(logout)
        raise


async def _fail(server: POP3Server, failed: BadCredentials, started: float, action: AnyLogin) -> None:
    session = server.session
    session.login_failures += 1
    _tell(server, "login-failed", failed)
    whose = server.shared.whose(action.name)
    answer_at = started + server.shared.limiter.failed(session.peer, whose, _proof(action))
    await server.sleep(answer_at - server.shared.clock.seconds())
    if session.login_failures >= server.shared.options.auth_tries:
        server.send(replies.from_error(failed))
        server.close(AUTH_FAILED)
    elif isinstance(action, LoginRejected) and action.challenge is not None:
        server.send(replies.challenge(sasl.encode(action.challenge)))
    else:
        server.refused(failed)


def _tell(server: POP3Server, kind: str, why: TpopsError) -> None:
    words = [type(why).__name__]
    if isinstance(why, LimitReached):
        words.append(why.limit)
    if str(why):
        words.append(str(why))
    server.shared.events.emit(kind, server.session, ": ".join(words))
