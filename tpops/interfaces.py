"""
The interfaces between the parts of tpops: contracts, not code.

Twisted's own stay as they are: L{twisted.cred.checkers.ICredentialsChecker},
L{twisted.cred.portal.IRealm}, L{twisted.mail.pop3.IMailboxPOP3},
L{twisted.mail.pop3.IServerFactory}.

Message numbers are 1-based as in RFC 1939.  Octets are wire octets: with CRLF
line ends and before dot-stuffing, as LIST announces them (RFC 1939 section 11).
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterator, Mapping, Sequence

from zope.interface import Attribute, Interface

from tpops.model import Account, Caller, Elsewhere, Envelope, Event, Notice, Peer, Session


class ISnapshot(Interface):
    """The messages of a maildrop at one moment: immutable, shared between sessions."""

    count: int = Attribute("number of messages")
    octets: int = Attribute("wire octets of all messages together")
    sizes: Sequence[int] = Attribute("wire octets of each message, sizes[0] is message 1")
    list_body: bytes = Attribute("'number octets CRLF' of every message, one after the other")
    uidl_body: bytes = Attribute("'number unique-id CRLF' of every message, one after the other")

    def unique_id(number: int) -> bytes:
        """The unique-id of a message: 1 to 70 octets in 0x21-0x7E, unique in the maildrop (RFC 1939 section 7)."""

    def uidl_checksum() -> int:
        """CRC-32 of C{uidl_body}, for logs: whether the list is the one that a client has seen before."""


class IStoredMessage(Interface):
    """One message, open for reading from its first octet.  Whoever opened it closes it."""

    def read(octets: int) -> bytes | Awaitable[bytes]:
        """
        The next stored octets, at most as many as asked for; b"" at the end.

        An awaitable comes back where they are not at hand.  One read at a time: the caller waits for the
        awaitable, even when the client has gone, before it calls read or close.  Stored octets are as they
        lie in the store, with any line ends.

        @raise StorageUnavailable: when reading failed
        """

    def close() -> None:
        """Let go of it.  Idempotent, never raises."""


class IMaildrop(Interface):
    """
    An open, locked maildrop of one session.

    Marks belong to the session and are not known here.
    """

    messages: ISnapshot = Attribute("the messages; fixed until close")

    async def open(number: int) -> IStoredMessage:
        """
        Open a message.

        @raise MessageVanished: when it is no longer stored
        @raise StorageUnavailable: when it cannot be read now
        """

    async def remove(numbers: Collection[int]) -> None:
        """
        Remove exactly these messages for good.  Called at most once, from UPDATE (RFC 1939 section 6).

        A message that is already gone counts as removed.

        @raise RemoveFailed: when some stayed
        """

    async def close() -> None:
        """Release the lock and all else.  Idempotent, never raises."""


class INotesRetrieval(Interface):
    """Add-on of an IMaildrop that keeps note of what was sent."""

    def sent(number: int, octets: int) -> None:
        """Message was sent as a whole by RETR and had so many wire octets."""

    async def mark_seen(numbers: Collection[int]) -> None:
        """At UPDATE: these messages were retrieved and stay.  Failures are logged, never raised."""


class IOpensTop(Interface):
    """Add-on of an IMaildrop for which the beginning of a message is cheaper than all of it."""

    async def open_top(number: int, lines: int) -> IStoredMessage:
        """
        Open a message of which only the header and that many lines of the body are wanted; there may be more.

        @raise StorageError: as L{IMaildrop.open}
        """


class IToldOfUpdate(Interface):
    """Add-on of an IMaildrop that must know of a QUIT that removes nothing."""

    async def update() -> None:
        """UPDATE with no message to remove, instead of L{IMaildrop.remove}.  Failures are logged, never raised."""


class IMaildropDriver(Interface):
    """Opens maildrops of one kind."""

    async def open_maildrop(account: Account) -> IMaildrop:
        """
        Take the exclusive lock, then list the messages.

        Cancelling the Deferred that runs this releases whatever was taken.

        @raise MaildropBusy: when another session holds the lock
        @raise StorageUnavailable: when the storage cannot be reached
        @raise MaildropBroken: when an administrator is needed
        """


class IOpensForCaller(Interface):
    """Add-on of an IMaildropDriver that can use what a login brings along."""

    async def open_for(account: Account, caller: Caller) -> IMaildrop:
        """
        The same as L{IMaildropDriver.open_maildrop}.

        @raise BadCredentials: when the server that has the mail refuses the caller's password
        @raise TooSoon: when that server wants more time between logins
        """


class IIncomingMessage(Interface):
    """A message that is to be stored: complete, and kept until every recipient has it."""

    octets: int = Attribute("how many octets it has, with the line ends that it came with")

    def chunks() -> Iterator[bytes]:
        """Its octets from the first one, in pieces of at most 1 MiB; anew at each call.  Blocks: for threads."""


class IAppendable(Interface):
    """Add-on of an IMaildropDriver that takes new mail."""

    async def append(account: Account, message: IIncomingMessage, envelope: Envelope) -> bytes:
        """
        Store a message behind all others: when this returns, it survives a power cut; when it raises, nothing is there.

        No session is waited for or disturbed.  Of two at the same time, none gets over the quota.  Cancelling the
        Deferred that runs this does not stop what has begun.

        @return: the unique-id that the message has from now on, b"" where the store gives it at the next login only
        @raise QuotaExceeded: when it does not fit into the account's quota
        @raise StorageUnavailable: when it cannot be stored now
        @raise MaildropBroken: when an administrator is needed
        """


class IRestorable(Interface):
    """Add-on of an IMaildropDriver that takes messages over from another store."""

    async def restore(account: Account, message: IIncomingMessage, unique_id: bytes, at: float) -> None:
        """
        Store a message behind all others, as L{IAppendable.append} does, under the unique-id that it has already.

        Quotas do not count: it is no new mail.

        @param unique_id: that no message of the maildrop has
        @param at: when it arrived, seconds since the epoch; not before that of the last one
        @raise StorageUnavailable: when it cannot be stored now
        @raise MaildropBroken: when an administrator is needed
        """


class IAccounts(Interface):
    """A source of accounts."""

    async def account(name: str) -> Account:
        """
        Look a canonical name up.

        @raise UnknownUser: when this source surely does not have it
        @raise AccountDisabled: when the account may not log in
        @raise LookupUnavailable: when the source cannot say
        """


class IAddresses(Interface):
    """Add-on of an accounts source whose accounts have mail addresses beside their names."""

    async def account_of_address(address: str) -> Account:
        """
        The account that a canonical address belongs to, whether it may log in or not.

        @raise UnknownUser: when this source surely does not have it
        @raise LookupUnavailable: when the source cannot say
        """


class IAddressAdmin(Interface):
    """Add-on of such a source that can be written.  Blocking: for command lines, not for the reactor."""

    def add_with_address(account: Account, password_hash: str, address: str) -> None:
        """Add an account with its mail address.  @raise ValueError: when the name or the address is taken"""


class IKnowsElsewhere(Interface):
    """Add-on of an accounts source that knows passwords for other servers."""

    async def elsewhere(name: str) -> Elsewhere | None:
        """
        What a canonical name has at the server with its mail, None for nothing.

        @raise LoginError: as L{IAccounts.account}
        """


class IAccountAdmin(Interface):
    """Add-on of an accounts source that can be written.  Blocking: for command lines, not for the reactor."""

    def add(account: Account, password_hash: str) -> None:
        """Add an account.  @raise ValueError: when the name is taken"""

    def set_password(name: str, password_hash: str) -> None:
        """Replace the hash.  @raise UnknownUser: when there is no such name"""

    def set_enabled(name: str, enabled: bool) -> None:
        """Allow or refuse logins.  @raise UnknownUser: when there is no such name"""

    def remove(name: str) -> None:
        """Forget the account; its mail stays.  @raise UnknownUser: when there is no such name"""

    def names() -> list[tuple[str, bool]]:
        """All names in order, each with whether it is enabled."""


class IQuotaAdmin(Interface):
    """Add-on of such a source that keeps quotas."""

    def set_quota(name: str, octets: int | None, messages: int | None) -> None:
        """
        Say how much mail an account may have: 0 is any, None what is configured.

        @raise UnknownUser: when there is no such name
        """


class IRenewsHashes(Interface):
    """Add-on of an accounts source in which a stored password may be replaced by a better one of the same password."""

    def renew_hash(name: str, old: str, new: str) -> bool:
        """
        Replace a stored password, if it is still the old one; whether it was.  Called in any thread; may block.

        @raise LookupUnavailable: when the source cannot be written
        """


class IEventSink(Interface):
    """Somebody who is told what happens in sessions."""

    wants: frozenset[str] = Attribute("the event kinds (tpops.model.KINDS) that notify is called with")
    before_ok: bool = Attribute("whether the +OK of a login waits, not for ever, for the end of notify")

    def notify(event: Event) -> Awaitable[None] | None:
        """
        Take note; an awaitable comes back where that is not done at once.

        What it raises is logged and counted by the bus and never reaches a client, and no login fails of it.  It is
        not cancelled when the +OK has waited long enough, only when the server stops.
        """


class IReceiver(Interface):
    """
    Somebody outside who is told of events, one way to reach him for each kind of receiver.

    Calls are made where the reactor runs; nothing may block there.
    """

    def start() -> None:
        """Get ready, with the rights that the server keeps.  @raise ConfigError: when that cannot be"""

    def line(notice: Notice) -> str | None:
        """
        In which line a notice stands: those of the same line are sent one after the other, others beside them.

        The session's identifier is right for most.  Called once for each notice, in the order of the events.

        @return: None where the receiver is not told of this one
        """

    async def send(notice: Notice) -> None:
        """
        Tell, and come back when it is told for sure.

        It is cancelled when it takes longer than C{timeout_seconds}.  Whatever it raises is a failure.
        """

    async def stop() -> None:
        """Let go of everything.  Idempotent, never raises."""


class IPluginFactory(Interface):
    """What a package of somebody else's offers; see L{tpops.plugins}."""

    name: str = Attribute('what stands behind "plugin:" in the configuration: letters, digits, "_", "." or "-"')
    about: str = Attribute("one line for the operator")
    settings: type = Attribute("its keys: a class derived from tpops.config.section.Section")


class ISinkFactory(IPluginFactory):
    """Makes receivers of events: [[sink]]."""

    def make(reactor: object, settings: Mapping[str, object]) -> IReceiver:
        """One of them.  @raise ConfigError: when it cannot be used as it is configured"""


class IAccountsFactory(IPluginFactory):
    """Makes accounts sources: [[accounts]]."""

    def make(name: str, means: object, settings: Mapping[str, object]) -> IAccounts:
        """
        One of them, derived from one of the bases in L{tpops.cred.source}.

        @param name: of the source, in the configuration
        @param means: L{tpops.cred.source.Means}
        @raise ConfigError: when it cannot be used as it is configured
        """


class IStoreFactory(IPluginFactory):
    """Makes stores of maildrops: [[store]]."""

    def make(reactor: object, run_in_thread: object, settings: Mapping[str, object]) -> object:
        """
        One of them, as L{tpops.mailbox.locations.Store}.

        @param run_in_thread: runs a blocking function in a thread: C{run_in_thread(function, *arguments)}
        @raise ConfigError: when it cannot be used as it is configured
        """


class ITicket(Interface):
    """A place that a limiter gave."""

    def release() -> None:
        """Give the place back.  Idempotent."""


class ILimiter(Interface):
    """Decides who may connect and how fast."""

    def admit(peer: Peer) -> ITicket:
        """Give the connection a place.  @raise LimitReached: when there is none"""

    def failed(peer: Peer, name: bytes, proof: bytes) -> float:
        """
        A login failed: seconds from its start until the answer may leave.

        @param proof: the wrong password or digest; it is not kept
        """

    def admit_user(peer: Peer, name: str) -> ITicket | None:
        """
        A user has proven who he is, and his mail is about to be opened: give his session a place; None where nobody
        counts.

        @raise LimitReached: when he has too many
        """

    def exempt(peer: Peer) -> bool:
        """Whether only the limit on all connections together applies to this client."""

    def login_delay(peer: Peer, name: str) -> None:
        """A login is about to succeed.  @raise TooSoon: when the last one was too short a time ago"""


class IEvents(Interface):
    """Where the server tells what happens."""

    def emit(kind: str, session: Session, detail: str = "") -> None:
        """Tell every sink that wants this kind; returns at once."""

    def logged_in(session: Session) -> Awaitable[None] | None:
        """
        Tell every sink that wants "login", once for each login.

        @return: what the +OK has to wait for, which never fails and ends in bounded time; None where nobody asks for
            that, or where all is done
        """
