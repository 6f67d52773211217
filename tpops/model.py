"""
Values that every layer of tpops shares.

Purpose: plain data without behaviour: who is connected, whose mail it is, what
happened in a session.  Nothing here does I/O.
Limits: names and reasons held here may come from the client; whoever writes
them to a log escapes them.
"""

from __future__ import annotations

from typing import Protocol

import attrs


@attrs.frozen(slots=True)
class Peer:
    """
    The far end of a connection; it is the C{mind} of every portal login.

    @ivar host: address of the client as text; the socket's path, or "unix", for a UNIX socket
    @ivar port: port of the client, 0 for a UNIX socket
    @ivar local_host: address at which the client arrived
    @ivar local_port: port at which the client arrived, 0 for a UNIX socket
    @ivar session: identifier of the session, the same in every log line
    """

    host: str
    port: int = 0
    local_host: str = ""
    local_port: int = 0
    session: str = ""


class Closes(Protocol):
    """Something that is closed when nobody has a use for it."""

    def close(self) -> None:
        """Let go of it; does not wait."""


@attrs.frozen(slots=True, eq=False)
class Caller(Peer):
    """
    The far end of a connection during one login: the C{mind} then, and what the credentials name as their peer.

    It carries what maildrops on other servers need, from the login to the driver and no further: it is emptied when the
    login is over, however that ends.

    @ivar brought: what was opened on the way and may be of use for the maildrop, by a key that both sides know; who
        takes it out closes it
    """

    brought: dict[object, Closes] = attrs.field(factory=dict, repr=False)
    _secret: list[bytes] = attrs.field(factory=list, repr=False)

    @classmethod
    def of(cls, peer: Peer, password: bytes | None) -> Caller:
        """The same far end, with the account's own password where the client has sent that."""
        return cls(
            peer.host,
            peer.port,
            peer.local_host,
            peer.local_port,
            peer.session,
            secret=[] if password is None else [password],
        )

    @property
    def password(self) -> bytes | None:
        """The account's own password, None where the client has proven himself in another way."""
        return self._secret[0] if self._secret else None

    def forget_password(self) -> None:
        """It is not the account's own, but another that lets him in here."""
        self._secret.clear()

    def empty(self) -> None:
        """The login is over."""
        self._secret.clear()
        while self.brought:
            self.brought.popitem()[1].close()


@attrs.frozen(slots=True)
class Elsewhere:
    """
    Name and password of an account on another server that has its mail.

    @ivar user: the name there, None for the configured one
    @ivar password: the password there, None where it is not known
    """

    user: str | None = None
    password: bytes | None = attrs.field(default=None, repr=False)


@attrs.frozen(slots=True)
class Account:
    """
    A user who may log in, as an accounts source knows him.

    @ivar name: canonical login name
    @ivar driver: the source's name in the configuration
    @ivar home: home directory, or None where the source has none
    @ivar maildrop: where his mail lies, when the source says so ("maildir:/path"); None means the configured default
    @ivar uid: numeric user id that owns the mail, or None
    @ivar gid: numeric group id that owns the mail, or None
    @ivar quota_octets: most stored octets of all his messages together, 0 for any; None means the configured default
    @ivar quota_messages: most messages, 0 for any; None means the configured default
    @ivar folder: the folder of his mail that is asked for, "" for none; as the client wrote it
    """

    name: str
    driver: str
    home: str | None = None
    maildrop: str | None = None
    uid: int | None = None
    gid: int | None = None
    quota_octets: int | None = None
    quota_messages: int | None = None
    folder: str = ""


@attrs.frozen(slots=True)
class Envelope:
    """
    What is known of a message that arrives, beside its octets (RFC 5321 section 2.3.1).

    @ivar sender: the reverse-path without angle brackets, "" for the null sender
    @ivar recipient: the forward-path without angle brackets, as the sender gave it
    @ivar at: when it arrived, seconds since the epoch
    """

    sender: str
    recipient: str
    at: float


class Listed(Protocol):
    """Messages that are listed, see L{tpops.interfaces.ISnapshot}."""

    def uidl_checksum(self) -> int:
        """CRC-32 of the list of unique-ids."""


@attrs.define(slots=True)
class Session:
    """
    What is known of one connection: filled while it runs, handed to the event sinks, closed once.

    Octets are wire octets (CRLF line ends, before dot-stuffing, RFC 1939 section 11).

    @ivar peer: the far end
    @ivar connected_at: seconds since the epoch
    @ivar ended_at: seconds since the epoch, 0 while the session runs
    @ivar named: the name that the client gave last, as he gave it, or None
    @ivar mechanism: how he gave it: PASS, APOP or the name of a SASL mechanism
    @ivar master: the name with whose password the client logs in as another, as he gave it, or None
    @ivar user: canonical name, once logged in
    @ivar folder: the folder that his name named, once logged in, "" for none
    @ivar driver: name of the accounts source that said yes
    @ivar messages_at_login: messages in the maildrop
    @ivar octets_at_login: their octets
    @ivar messages_left: messages after the session's deletions
    @ivar octets_left: their octets
    @ivar listing: the messages at login, None before; shared, so that nothing is copied for logs
    @ivar login_seconds: how long the successful login took
    @ivar update_seconds: how long QUIT took in UPDATE (RFC 1939 section 6), None where it did not come to that
    @ivar tls: version and cipher of TLS, "" without
    @ivar reason: why the session ended, one of: quit, client closed, idle, login timeout, session limit,
        write stalled, line too long, authentication failed, plaintext refused, too many errors
        (or: before the login, after the login), too many commands before the login, or after the login,
        made room for a newer client, TLS handshake failed, refused, server shutdown, ended by administrator, error
    """

    peer: Peer
    connected_at: float
    ended_at: float = 0.0
    named: bytes | None = None
    mechanism: str = ""
    master: bytes | None = None
    user: str | None = None
    folder: str = ""
    driver: str | None = None
    messages_at_login: int = 0
    octets_at_login: int = 0
    messages_left: int = 0
    octets_left: int = 0
    retr_count: int = 0
    retr_octets: int = 0
    top_count: int = 0
    top_octets: int = 0
    dele_count: int = 0
    login_failures: int = 0
    listing: Listed | None = None
    login_seconds: float = 0.0
    update_seconds: float | None = None
    tls: str = ""
    reason: str = ""


@attrs.frozen(slots=True)
class Event:
    """
    Something that happened in a session.

    @ivar kind: one of L{KINDS}
    @ivar at: seconds since the epoch
    @ivar session: the session's facts at that moment (shared, not a copy)
    @ivar detail: a short reason in English, "" where there is none
    """

    kind: str
    at: float
    session: Session
    detail: str = ""

    @property
    def limit(self) -> str:
        """The configuration's key of the limit that has brought it about, "" where it was none."""
        detail = self.detail
        if self.kind == "login-refused":
            error, _, detail = detail.partition(": ")
            if error == "TooSoon":
                return "login_delay_seconds"
            if error != "LimitReached":
                return ""
        elif self.kind not in LIMITING:
            return ""
        return detail.partition(":")[0]


#: Kinds whose detail begins with the key of a limit.
LIMITING = frozenset(("greeting-refused", "limit"))

#: Every kind of L{Event}.
KINDS = frozenset(
    ("connect", "greeting-refused", "login", "login-failed", "login-refused", "remove", "logout", "disconnect", "limit")
)


@attrs.frozen(slots=True, kw_only=True)
class Notice:
    """
    An event as others are told of it: a copy of what was so at that moment, as text that is fit for JSON.

    Names may come from the client; octets of them that are no UTF-8 are written in hexadecimal digits.

    @ivar kind: one of L{KINDS}
    @ivar at: seconds since the epoch
    @ivar session: identifier of the session
    @ivar user: canonical name, "" where nobody is logged in
    @ivar local_part: its part before the domain
    @ivar domain: the other part, "" for none
    @ivar named: the name that the client gave last, as he gave it, cut where it is long
    @ivar master: the name with whose password he logs in as another, "" where he does not
    @ivar peer: address of the client, IPv4 within IPv6 as IPv4; the path, or "unix", for a UNIX socket
    @ivar port: its port, 0 for a UNIX socket
    @ivar local_host: address at which the client arrived
    @ivar local_port: port at which he arrived
    @ivar server: name of this machine
    @ivar seconds: how long the session has lasted
    @ivar detail: a short reason in English, "" where there is none
    """

    kind: str
    at: float
    session: str = ""
    user: str = ""
    local_part: str = ""
    domain: str = ""
    named: str = ""
    master: str = ""
    peer: str = ""
    port: int = 0
    local_host: str = ""
    local_port: int = 0
    server: str = ""
    mechanism: str = ""
    driver: str = ""
    folder: str = ""
    tls: str = ""
    seconds: float = 0.0
    messages: int = 0
    octets: int = 0
    retr_count: int = 0
    retr_octets: int = 0
    dele_count: int = 0
    detail: str = ""
