"""
The replies of LMTP: every text that a client may get.

Purpose: one place for reply codes (RFC 5321 section 4.2) with their enhanced status codes (RFC 2034, RFC 3463), and the
only translation from our errors to them.
Limits: no text of an exception and nothing that a client has sent is ever in a reply.

Rule for what becomes a bounce: 5xx only where the next try cannot end otherwise and the recipient or the sender can do
something about it: an unknown name, a full maildrop, a message that is too big.  What an administrator can mend is 4xx:
the mail waits in the client's queue.
"""

from __future__ import annotations

import errno

from tpops.errors import LookupUnavailable, MaildropBroken, QuotaExceeded, StorageError

#: Errors of the system that mean "no room" and are over when somebody has made some.
_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

# The connection.
BYE = b"221 2.0.0 bye\r\n"
SHUTDOWN = b"421 4.3.2 server is shutting down, try again later\r\n"
TOO_MANY_CONNECTIONS = b"421 4.3.2 too many connections, try again later\r\n"
NOT_ALLOWED = b"554 5.7.1 connections from this address are not allowed\r\n"
TIMEOUT = b"421 4.4.2 nothing heard for too long\r\n"
TOO_MANY_ERRORS = b"421 4.7.0 too many wrong commands\r\n"

# Commands.
OK = b"250 2.0.0 OK\r\n"
CANNOT_VERIFY = b"252 2.5.0 RCPT tells whether there is such a user\r\n"
HELP = b"214 2.0.0 LMTP (RFC 2033): LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\r\n"
SENDER_OK = b"250 2.1.0 sender OK\r\n"
RECIPIENT_OK = b"250 2.1.5 recipient OK\r\n"
SEND_DATA = b"354 send the message, end with CRLF.CRLF\r\n"
CHUNK_OK = b"250 2.6.0 chunk taken\r\n"
UNKNOWN_COMMAND = b"500 5.5.1 command not recognized\r\n"
NOT_SMTP = b"500 5.5.1 this is LMTP: say LHLO\r\n"
LINE_TOO_LONG = b"500 5.5.2 line too long\r\n"
BAD_LINE_END = b"500 5.5.2 lines end with CR LF, and have neither elsewhere\r\n"
NEEDS_LHLO = b"503 5.5.1 say LHLO first\r\n"
NEEDS_SENDER = b"503 5.5.1 MAIL comes first\r\n"
NESTED = b"503 5.5.1 there is a sender already; RSET forgets it\r\n"
NO_RECIPIENTS = b"503 5.5.1 no recipient was accepted\r\n"
CHUNKS_BEGUN = b"503 5.5.1 the message has begun with BDAT and must go on so\r\n"
BAD_SENDER = b"501 5.1.7 sender must be <address> or <>\r\n"
BAD_RECIPIENT = b"501 5.1.3 recipient must be <address>\r\n"
NO_ARGUMENTS = b"501 5.5.4 command takes no arguments\r\n"
NAME_MISSING = b"501 5.5.4 LHLO needs a name\r\n"
BAD_PARAMETER = b"501 5.5.4 parameter is malformed or there twice\r\n"
BAD_BDAT = b"501 5.5.4 BDAT needs a number of octets, then perhaps LAST; closing\r\n"
UNKNOWN_PARAMETER = b"555 5.5.4 parameter not recognized\r\n"
NEEDS_UTF8 = b"553 5.6.7 address needs SMTPUTF8\r\n"
TOO_MANY_RECIPIENTS = b"452 4.5.3 too many recipients, send the others in another transaction\r\n"
TOO_BIG = b"552 5.3.4 message is too big\r\n"

# Recipients, at RCPT or behind the message.
UNKNOWN_USER = b"550 5.1.1 no such user here\r\n"
DISABLED = b"450 4.2.1 mailbox is disabled, and nothing is known about where its mail lies\r\n"
OVER_QUOTA = b"552 5.2.2 mailbox is full\r\n"
OVER_QUOTA_FOR_NOW = b"452 4.2.2 mailbox is full\r\n"
NO_ROOM = b"452 4.3.1 not enough room, try again later\r\n"
UNAVAILABLE = b"451 4.3.0 temporarily unavailable, try again later\r\n"
BROKEN = b"451 4.3.5 mailbox needs the administrator, try again later\r\n"


def greeting(hostname: str) -> bytes:
    """The first line of the server."""
    return f"220 {hostname} LMTP ready\r\n".encode("ascii", "replace")


def lhlo(hostname: str, most_octets: int) -> bytes:
    """
    What the server can do (RFC 2033 section 4.1).

    @param most_octets: size of the biggest message, 0 for any (RFC 1870 section 3)
    """
    words = ("PIPELINING", f"SIZE {most_octets}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING")
    lines = [hostname, *words]
    text = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}\r\n"
    return text.encode("ascii", "replace")


def stored(delivery: str) -> bytes:
    """
    The message is in the recipient's maildrop.

    @param delivery: the delivery's name in our log
    """
    return f"250 2.1.5 {delivery} stored\r\n".encode("ascii")


def is_temporary(reply: bytes) -> bool:
    """Whether the client will try again."""
    return reply.startswith(b"4")


def from_error(error: BaseException, quota_defers: bool) -> bytes | None:
    """
    The reply for what a lookup or a driver raised; None for what nobody expected.

    @param quota_defers: whether the client shall try again when a maildrop is full
    """
    if isinstance(error, QuotaExceeded):
        return OVER_QUOTA_FOR_NOW if quota_defers else OVER_QUOTA
    if isinstance(error, StorageError | LookupUnavailable | OSError):
        if _no_room(error):
            return NO_ROOM
        return BROKEN if isinstance(error, MaildropBroken) else UNAVAILABLE
    return None


def _no_room(error: BaseException | None) -> bool:
    """Whether a full disk or a disk quota is behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return True
        error = error.__cause__
    return False
