"""
Sends messages and long listings, with back-pressure.

Purpose: memory per session is bounded by a chunk and the transport's buffer, whatever is sent and however slowly the
client reads.  When reading a message fails after its first line has gone out, the connection is cut: a terminator would
make the client believe that it has the whole message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from tpops.errors import NeedsUTF8, StorageError
from tpops.interfaces import IStoredMessage
from tpops.protocol import replies
from tpops.protocol.actions import Listing, Retrieve
from tpops.protocol.transparency import TERMINATOR, Encoder, Top, has_utf8_header
from tpops.server.pace import Pace, send_at_pace

if TYPE_CHECKING:
    from tpops.server.pop3 import POP3Server

_log = Logger()

#: Stored octets that are read, made fit for the wire and written at a time.
CHUNK_OCTETS = 262144

#: The same at least where a limit on bandwidth holds the session back.
_SLOW_CHUNK_OCTETS = 16384

#: Octets after which a fast client's transfer lets the other sessions have their turn.
_TURN_OCTETS = 4 * CHUNK_OCTETS


async def send_listing(server: POP3Server, listing: Listing) -> None:
    """Send a multi-line reply chunk by chunk."""
    server.send(listing.first)
    for chunk in listing.chunks:
        if server.pace is None:
            server.send(chunk)
        else:
            await send_at_pace(server, server.pace, chunk)
            if server.gone:
                return
        if server.paused:
            await server.drained()
            if server.gone:
                return
    server.send(TERMINATOR)


async def send_message(server: POP3Server, retrieve: Retrieve) -> None:
    """
    RETR and TOP.

    @raise MessageVanished: when the message is no longer stored; nothing was sent then
    @raise StorageUnavailable: when it cannot be opened or its beginning cannot be read; nothing was sent then
    @raise NeedsUTF8: when it must not be sent to this client
    """
    mailbox = server.mailbox
    assert mailbox is not None
    if retrieve.lines is None:
        stored = await mailbox.open(retrieve.number)
    else:
        stored = await mailbox.open_top(retrieve.number, retrieve.lines)
    try:
        chunk = stored.read(CHUNK_OCTETS)
        if not isinstance(chunk, bytes):
            chunk = await chunk
            if server.gone:
                return
        if server.shared.options.refuse_utf8_headers and not server.conversation.utf8 and has_utf8_header(chunk):
            raise NeedsUTF8(f"message {retrieve.number} has UTF-8 header fields")
        try:
            if retrieve.lines is None:
                await _whole(server, retrieve, stored, chunk)
            else:
                await _top(server, retrieve.lines, stored, chunk)
        except StorageError as problem:
            _log.error(
                "session {session}: message {number} broke off: {problem}",
                session=server.session.peer.session,
                number=retrieve.number,
                problem=str(problem),
            )
            server.abort("error")
    finally:
        stored.close()


async def _whole(server: POP3Server, retrieve: Retrieve, stored: IStoredMessage, chunk: bytes) -> None:
    encoder = Encoder()
    server.send(replies.retr(retrieve.octets))
    turn = _TURN_OCTETS
    pace = server.pace
    octets = _octets_at_a_time(pace)
    while chunk:
        if pace is None:
            server.send(encoder.feed(chunk))
        else:
            await send_at_pace(server, pace, encoder.feed(chunk))
            if server.gone:
                return
        turn -= len(chunk)
        if server.paused or turn <= 0:
            await server.drained()
            turn = _TURN_OCTETS
            if server.gone:
                return
        more = stored.read(octets)
        chunk = more if isinstance(more, bytes) else await more
        if server.gone:
            return
    server.send(encoder.finish() + TERMINATOR)
    session = server.session
    session.retr_count += 1
    session.retr_octets += encoder.octets
    assert server.mailbox is not None
    server.mailbox.sent(retrieve.number, encoder.octets)


def _octets_at_a_time(pace: Pace | None) -> int:
    """How much is read; little where it will lie here for a while."""
    return CHUNK_OCTETS if pace is None else max(_SLOW_CHUNK_OCTETS, pace.slice_octets)


async def _top(server: POP3Server, lines: int, stored: IStoredMessage, chunk: bytes) -> None:
    encoder, top = Encoder(), Top(lines)
    server.send(replies.TOP_FOLLOWS)
    pace = server.pace
    octets = _octets_at_a_time(pace)
    while chunk:
        if pace is None:
            server.send(encoder.lines(top.feed(chunk)))
        else:
            await send_at_pace(server, pace, encoder.lines(top.feed(chunk)))
            if server.gone:
                return
        if top.done:
            break
        if server.paused:
            await server.drained()
            if server.gone:
                return
        more = stored.read(octets)
        chunk = more if isinstance(more, bytes) else await more
        if server.gone:
            return
    server.send(encoder.lines(top.finish()) + encoder.finish() + TERMINATOR)
    server.session.top_count += 1
    server.session.top_octets += encoder.octets
