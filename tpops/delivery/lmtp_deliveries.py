"""
Deliveries by LMTP: who gets a message, and what the client is told about each of them.

Purpose: what all connections share: the way from an address to an account, the bound on deliveries at the same time,
one entry in the log for each recipient.  Nothing here raises: every outcome is a reply.
Limits: a delivery that has begun is never cut off; what the client's next try does then is in
L{tpops.delivery.lmtp_late}.  One that waits for its turn when the client goes is left out: he will try again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import attrs
from twisted.internet.defer import DeferredSemaphore
from twisted.logger import Logger

from tpops.delivery import lmtp_replies as replies
from tpops.delivery.incoming import Message
from tpops.delivery.lmtp_commands import unquoted
from tpops.delivery.lmtp_header import Headers, Hop, fields
from tpops.delivery.lmtp_late import LateReplies, Verdict
from tpops.errors import AccountDisabled, BadCredentials
from tpops.events.text import one_field, one_line
from tpops.interfaces import IAppendable
from tpops.model import Account, Envelope

_log = Logger()


#: Gets an event's name and its facts.
Tell = Callable[[str, Mapping[str, str | int | float]], None]


@attrs.frozen(slots=True)
class Recipient:
    """
    Somebody who gets mail.

    @ivar address: as the client gave it
    @ivar account: who that is
    """

    address: str
    account: Account


@attrs.frozen(slots=True)
class Arrival:
    """
    A message that has come, for all its recipients.

    @ivar hop: how
    @ivar sender: the reverse-path
    @ivar message: its octets
    @ivar digest: by which it is known again
    """

    hop: Hop
    sender: str
    message: Message
    digest: bytes


class Deliveries:
    """
    See the module.

    @ivar under_way: deliveries that have begun and not ended
    """

    def __init__(
        self,
        account: Callable[[str], Awaitable[Account]],
        maildrops: IAppendable,
        headers: Headers,
        at_a_time: int,
        quota_defers: bool,
        seconds: Callable[[], float],
        tell: Tell,
    ) -> None:
        """
        @param account: gives the account of an address; raises as L{tpops.interfaces.IAccounts.account}
        @param at_a_time: most deliveries at the same time
        @param quota_defers: whether a full maildrop is a reason to try again
        @param seconds: a clock
        @param tell: gets every outcome
        """
        self.under_way = 0
        self._account = account
        self._maildrops = maildrops
        self._headers = headers
        self._late = LateReplies(seconds)
        self._turns = DeferredSemaphore(at_a_time)
        self._quota_defers = quota_defers
        self._seconds = seconds
        self._tell = tell

    async def find(self, address: str, session: str, peer: str, sender: str) -> Recipient | bytes:
        """Who has an address; or the reply for why it is nobody."""
        why: object
        try:
            return Recipient(address, await self._account(unquoted(address)))
        except AccountDisabled as disabled:
            reply, why = replies.DISABLED, disabled
        except BadCredentials as unknown:
            reply, why = replies.UNKNOWN_USER, unknown
        except Exception as error:
            reply, why = self._reply(error, address), error
        _log.info(
            "recipient-refused: session {session}, from <{sender}>, to <{recipient}>: {reply} ({why})",
            event="recipient-refused",
            session=session,
            sender=one_field(sender),
            recipient=one_field(address),
            reply=_text(reply),
            why=one_line(str(why)),
        )
        facts = {"delivery": session, "peer": peer, "sender": sender, "recipient": address}
        self._tell("recipient-refused", {**facts, "reply": _text(reply), "detail": str(why)})
        return reply

    async def deliver(self, arrival: Arrival, recipient: Recipient, wanted: Callable[[], bool]) -> bytes:
        """
        Put a message into somebody's maildrop when there is a turn; the reply.

        @param wanted: whether the client still waits
        """
        await self._turns.acquire()
        try:
            if not wanted():
                self._told(arrival, recipient, replies.UNAVAILABLE, 0.0, why="the client has gone before its turn")
                return replies.UNAVAILABLE
            return await self._deliver_once(arrival, recipient, wanted)
        finally:
            self._turns.release()

    async def _deliver_once(self, arrival: Arrival, recipient: Recipient, wanted: Callable[[], bool]) -> bytes:
        """Deliver, unless an earlier try with the same message has done so, or is about to."""
        key = (arrival.digest, arrival.sender, recipient.address)
        verdict = self._late.begin(key, wanted)
        if verdict is not Verdict.DELIVER:
            done = verdict is Verdict.DONE
            reply = replies.stored(arrival.hop.delivery) if done else replies.UNAVAILABLE
            self._told(arrival, recipient, reply, 0.0, why=verdict.value)
            return reply
        self.under_way += 1
        reply = b""
        try:
            reply = await self._append(arrival, recipient, wanted)
        finally:
            self.under_way -= 1
            self._late.end(key, wanted, reply.startswith(b"2"))
        return reply

    async def _append(self, arrival: Arrival, recipient: Recipient, wanted: Callable[[], bool]) -> bytes:
        began = self._seconds()
        envelope = Envelope(arrival.sender, recipient.address, arrival.hop.at)
        message = arrival.message.under(fields(self._headers, arrival.hop, arrival.sender, recipient.address))
        try:
            unique_id = await self._maildrops.append(recipient.account, message, envelope)
        except Exception as error:
            reply = self._reply(error, recipient.account.name)
            self._told(arrival, recipient, reply, self._seconds() - began, why=str(error))
            return reply
        reply = replies.stored(arrival.hop.delivery)
        why = "" if wanted() else "the client has gone and may send it again"
        self._told(arrival, recipient, reply, self._seconds() - began, unique_id, why)
        return reply

    def _reply(self, error: Exception, whose: str) -> bytes:
        reply = replies.from_error(error, self._quota_defers)
        if reply is None:
            _log.failure("lmtp: error with the mail of {whose}", whose=one_field(whose))
            return replies.UNAVAILABLE
        return reply

    def _told(
        self,
        arrival: Arrival,
        recipient: Recipient,
        reply: bytes,
        seconds: float,
        unique_id: bytes = b"",
        why: str = "",
    ) -> None:
        """One entry in the log for one recipient."""
        event = "delivered" if reply.startswith(b"2") else "deferred" if replies.is_temporary(reply) else "bounced"
        delivery, octets = arrival.hop.delivery, arrival.message.octets
        sender, to, account = one_field(arrival.sender), one_field(recipient.address), one_field(recipient.account.name)
        found, said = one_field(unique_id) or "-", _text(reply)
        # The text is made here: Twisted takes several times as long for so many fields.
        _log.info(
            "{event}: {text}",
            event=event,
            text=f"{delivery}, from <{sender}>, to <{to}>, account {account}, {octets} octets, {seconds:.3f} s, "
            f"unique-id {found}: {said}" + (f" ({one_line(why)})" if why else ""),
            delivery=delivery,
            sender=sender,
            recipient=to,
            account=account,
            octets=octets,
            seconds=seconds,
            unique_id=found,
            reply=said,
        )
        self._tell(
            event,
            {
                "delivery": delivery,
                "peer": arrival.hop.peer,
                "sender": arrival.sender,
                "recipient": recipient.address,
                "account": recipient.account.name,
                "octets": octets,
                "seconds": round(seconds, 3),
                "unique_id": unique_id.decode("ascii", "replace"),
                "reply": said,
                "detail": why,
            },
        )


def _text(reply: bytes) -> str:
    return reply.decode("ascii").rstrip()
