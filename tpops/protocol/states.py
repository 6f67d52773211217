"""
The three states of a POP3 session (RFC 1939 section 3) and what is legal in each.

Purpose: a L{Conversation} is fed lines and gives, for each, either the reply or an action that needs I/O (log in,
send a message, ...), which the server carries out and then reports back.  All transitions are here:

    Authorization --login--> Transaction --QUIT--> Update
         |  ^
       AUTH  | done, cancelled or failed
         v  |
      Exchange

Nothing here waits, reads a clock or touches a socket.
"""

from __future__ import annotations

from collections.abc import Callable

from tpops.errors import BadCommand
from tpops.protocol import replies, sasl
from tpops.protocol.actions import Close, Consult, Login, LoginByDigest, LoginRejected, Result, StartTLS
from tpops.protocol.capabilities import LANGUAGES, Offer, capabilities
from tpops.protocol.commands import (
    SASL_LINE_OCTETS,
    no_argument,
    refuse,
)
from tpops.protocol.transaction import Mailbox, Transaction, Update


class Conversation:
    """
    One connection's protocol state.

    @ivar offer: what is possible on this connection now
    @ivar stamp: the APOP timestamp of the greeting, or None
    @ivar state: the state that the next line meets
    @ivar utf8: the client has said UTF8 (RFC 6856 section 2)
    @ivar language: tag of the reply texts
    @ivar mechanism: how the client wants to log in, or has: PASS, APOP or the name of a SASL mechanism
    @ivar longest_line: a longer line is too long for this state, None for the server's limit
    """

    __slots__ = ("language", "longest_line", "mechanism", "offer", "stamp", "state", "utf8")

    def __init__(self, offer: Offer, stamp: bytes | None = None) -> None:
        self.offer = offer
        self.stamp = stamp
        self.utf8 = False
        self.language = b"i-default"
        self.longest_line: int | None = None
        self.mechanism = ""
        self.state: Authorization | Exchange | Transaction | Update = Authorization(self)

    def greeting(self) -> bytes:
        """The server's first line."""
        return replies.greeting(self.offer.greeting, self.stamp if self.offer.apop else None)

    def handle(self, line: bytes) -> Result:
        """
        The result of a line (without its line end).

        @raise CommandError: when it cannot be carried out; nothing has changed then
        """
        return self.state.handle(line)

    def logged_in(self, mailbox: Mailbox) -> None:
        """The login succeeded."""
        self.state = Transaction(self, mailbox)

    def tls_started(self, offer: Offer) -> None:
        """Nothing of the plaintext conversation is kept, the APOP timestamp neither (RFC 2595 section 4)."""
        self.offer = offer
        self.stamp = None
        self.utf8 = False
        self.language = b"i-default"
        self.state = Authorization(self)

    def authorization(self) -> bool:
        """Nobody is logged in yet."""
        return isinstance(self.state, Authorization | Exchange)

    def updating(self) -> bool:
        """QUIT has come."""
        return isinstance(self.state, Update)

    def capabilities(self) -> bytes:
        """CAPA's answer."""
        lines = capabilities(self.offer, transaction=not self.authorization())
        return replies.multi_line(replies.CAPABILITIES_FOLLOW, lines)

    def speak(self, rest: bytes) -> bytes:
        """LANG (RFC 6856 section 3)."""
        tag = rest.strip(b" ")
        if not tag:
            return replies.multi_line(replies.LANGUAGES_FOLLOW, [b"%s %s" % one for one in LANGUAGES])
        if tag == b"*":
            tag = b"i-default"
        for known, description in LANGUAGES:
            if tag.lower() == known:
                self.language = known
                return b"+OK %s %s\r\n" % (known, description)
        raise BadCommand("language not available, LANG lists those that are")


class Authorization:
    """Before login (RFC 1939 section 4)."""

    __slots__ = ("conversation", "name")

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.name: bytes | None = None

    def handle(self, line: bytes) -> Result:
        """See L{Conversation.handle}."""
        word, _, rest = line.partition(b" ")
        verb = word.upper()
        act = self.verbs.get(verb)
        if act is None:
            raise refuse(verb)
        return act(self, rest)

    def user(self, rest: bytes) -> Result:
        """USER: always accepted, so that it tells nothing about who exists."""
        if not self.conversation.offer.plaintext:
            return self._no_plaintext()
        name = rest.rstrip(b" ")
        if not name:
            raise BadCommand("USER needs a name")
        if self.name is not None:
            raise BadCommand("a name was given already, send PASS")
        self.name = name
        return replies.NAME_TAKEN

    def password(self, rest: bytes) -> Result:
        """PASS: the rest of the line as it is, spaces included."""
        if not self.conversation.offer.plaintext:
            return self._no_plaintext()
        if self.name is None:
            raise BadCommand("send USER first")
        if not rest:
            raise BadCommand("PASS needs a password")
        name, self.name = self.name, None
        self.conversation.mechanism = "PASS"
        return Login(name, rest)

    def apop(self, rest: bytes) -> Result:
        """APOP: name and MD5 digest in lower-case hexadecimal."""
        if not self.conversation.offer.apop or self.conversation.stamp is None:
            raise BadCommand("APOP is not available")
        name, _, digest = rest.rstrip(b" ").rpartition(b" ")
        if not name or len(digest) != 32:
            raise BadCommand("APOP needs a name and a digest of 32 hexadecimal digits")
        self.conversation.mechanism = "APOP"
        return LoginByDigest(name, digest.lower())

    def auth(self, rest: bytes) -> Result:
        """AUTH; without argument it lists the mechanisms, as old clients expect."""
        mechanisms = self.conversation.offer.mechanisms
        words = [word for word in rest.split(b" ") if word]
        if not words:
            return replies.multi_line(replies.MECHANISMS_FOLLOW, list(mechanisms))
        mechanism = words[0].upper()
        start = mechanisms.get(mechanism)
        if start is None:
            raise BadCommand("SASL mechanism not available")
        if len(words) > 2:
            raise BadCommand("AUTH needs a mechanism and at most one initial response")
        initial = sasl.decode_initial(words[1]) if len(words) == 2 else None
        self.conversation.mechanism = mechanism.decode("ascii")
        exchange = Exchange(self.conversation, start())
        return exchange.step(initial)

    def stls(self, rest: bytes) -> Result:
        """STLS (RFC 2595 section 4)."""
        no_argument("STLS", rest)
        if not self.conversation.offer.stls:
            raise BadCommand("TLS is not available")
        if self.conversation.utf8:
            raise BadCommand("STLS comes before UTF8")
        return StartTLS()

    def utf8(self, rest: bytes) -> Result:
        """UTF8 (RFC 6856 section 2.1)."""
        no_argument("UTF8", rest)
        self.conversation.utf8 = True
        return replies.UTF8_ON

    def lang(self, rest: bytes) -> Result:
        """See L{Conversation.speak}."""
        return self.conversation.speak(rest)

    def capa(self, rest: bytes) -> Result:
        """CAPA (RFC 2449 section 5)."""
        no_argument("CAPA", rest)
        return self.conversation.capabilities()

    def quit(self, rest: bytes) -> Result:
        """QUIT before login removes nothing (RFC 1939 section 4)."""
        no_argument("QUIT", rest)
        self.conversation.state = Update()
        return Close(replies.BYE)

    def _no_plaintext(self) -> Result:
        if not self.conversation.offer.apop_only:
            raise BadCommand("USER and PASS are not available")
        # A client that does not wait for the answer sends the password next; it must not find anybody listening.
        self.conversation.state = Update()
        return Close(replies.PLAINTEXT_REFUSED, "plaintext refused")

    verbs: dict[bytes, Callable[[Authorization, bytes], Result]] = {
        b"USER": user,
        b"PASS": password,
        b"APOP": apop,
        b"AUTH": auth,
        b"STLS": stls,
        b"UTF8": utf8,
        b"LANG": lang,
        b"CAPA": capa,
        b"QUIT": quit,
    }


class Exchange:
    """Inside AUTH: every line is a response (RFC 5034 section 4)."""

    __slots__ = ("conversation", "mechanism")

    def __init__(self, conversation: Conversation, mechanism: sasl.Exchange) -> None:
        self.conversation = conversation
        self.mechanism = mechanism

    def handle(self, line: bytes) -> Result:
        """See L{Conversation.handle}."""
        self._leave()
        word = line.strip(b" ")
        if word == b"*":
            raise BadCommand("authentication cancelled")
        return self.step(sasl.decode(word))

    def step(self, response: bytes | None) -> Result:
        """Hand a response to the mechanism."""
        return self._go_on(self.mechanism.respond(response))

    def _go_on(self, outcome: sasl.Outcome) -> Result:
        if isinstance(outcome, sasl.Challenge):
            self._stay()
            return replies.challenge(sasl.encode(outcome.data))
        if isinstance(outcome, sasl.Ask):
            consulted = outcome.consulted
            return Consult(outcome.question, lambda answer: self._go_on(consulted(answer)))
        if isinstance(outcome, LoginRejected) and outcome.challenge is not None:
            self._stay()
        return outcome

    def _stay(self) -> None:
        self.conversation.state = self
        self.conversation.longest_line = SASL_LINE_OCTETS

    def _leave(self) -> None:
        # Whatever the response brings, the exchange goes on only through another challenge.
        self.conversation.state = Authorization(self.conversation)
        self.conversation.longest_line = None
