"""
DRAC: Dynamic Relay Authorization Control, for mail servers that use rpc.dracd's database.

Purpose: tells rpc.dracd the address of who has logged in: procedure 1 (DRACPROC_ADD) of version 1 of program 900101, by
ONC RPC over UDP (RFC 5531), with one XDR word, the address as a number.  The port is asked of the portmapper (RFC 1833,
version 2), or fixed.
Limits: IPv4 clients only; the protocol has no others.  Master users who log in as others are left out.
Errors: NotTold, with what the server said.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from tpops.events import datagrams
from tpops.events.deliveries import NotTold
from tpops.interfaces import IReceiver
from tpops.model import Notice

PROGRAM, VERSION, ADD = 900101, 1, 1

_PORTMAPPER, _PORTMAPPER_VERSION, _GETPORT, _UDP = 100000, 2, 3, 17

_CALL, _REPLY, _RPC_VERSION, _ACCEPTED = 0, 1, 2, 0

#: RFC 5531 section 9, accept_stat.
_NOT_DONE = {
    1: "the program is not there",
    2: "the program has another version",
    3: "the procedure is not there",
    4: "the arguments are garbage to it",
    5: "system error",
}

#: What DRACPROC_ADD says.
_ANSWERS = {1: "permission denied", 2: "system error", 3: "error"}


def call(xid: int, program: int, version: int, procedure: int, words: tuple[int, ...]) -> bytes:
    """A call without credentials, whose arguments are words."""
    head = (xid, _CALL, _RPC_VERSION, program, version, procedure, 0, 0, 0, 0)
    return struct.pack(f">{len(head) + len(words)}I", *head, *words)


def answered(xid: int, reply: bytes) -> int:
    """
    The one word of a reply.

    @raise NotTold: when it is no reply to this call, or says that it is not done
    """
    try:
        _, message, status = struct.unpack_from(">3I", reply)
        if message != _REPLY:
            raise NotTold("the answer is none of RPC")
        if status != _ACCEPTED:
            raise NotTold("the call is refused")
        _, octets = struct.unpack_from(">2I", reply, 12)
        at = 20 + (octets + 3) // 4 * 4
        (done,) = struct.unpack_from(">I", reply, at)
        if done:
            raise NotTold(_NOT_DONE.get(done, f"the call fails with {done}"))
        (word,) = struct.unpack_from(">I", reply, at + 4)
    except struct.error:
        raise NotTold("the answer is too short") from None
    return int(word)


@implementer(IReceiver)
class Drac:
    """
    See the module.

    @param host: where rpc.dracd is
    @param port: its port; 0 asks the portmapper
    @param portmapper_port: the portmapper's
    @param xid: makes numbers of calls
    """

    def __init__(self, reactor: Any, host: str, port: int, portmapper_port: int, xid: Callable[[], int]) -> None:
        self._reactor = reactor
        self._host = host
        self._configured = port
        self._port = port
        self._portmapper_port = portmapper_port
        self._xid = xid

    def start(self) -> None:
        """Nothing to do."""

    def line(self, notice: Notice) -> str | None:
        """Each session by itself."""
        if notice.master:
            # Whoever looks at somebody else's mail is not him, and relays nothing in his name.
            return None
        try:
            ipaddress.IPv4Address(notice.peer)
        except ValueError:
            return None
        return notice.session

    async def send(self, notice: Notice) -> None:
        """See L{IReceiver.send}."""
        host = await datagrams.resolve(self._reactor, self._host)
        if not self._port:
            found = await self._call(
                (host, self._portmapper_port), _PORTMAPPER, _PORTMAPPER_VERSION, _GETPORT, (PROGRAM, VERSION, _UDP, 0)
            )
            if not 0 < found < 65536:
                raise NotTold(f"the portmapper of {self._host} knows no rpc.dracd")
            self._port = found
        address = int(ipaddress.IPv4Address(notice.peer))
        try:
            said = await self._call((host, self._port), PROGRAM, VERSION, ADD, (address,))
        except BaseException:
            # It may have another port by now.
            self._port = self._configured
            raise
        if said:
            raise NotTold(f"rpc.dracd says {_ANSWERS.get(said, f'{said}')!r}")

    async def stop(self) -> None:
        """Nothing is kept open."""

    async def _call(
        self, server: tuple[str, int], program: int, version: int, procedure: int, words: tuple[int, ...]
    ) -> int:
        xid = self._xid() & 0xFFFFFFFF
        mark = struct.pack(">I", xid)
        question = call(xid, program, version, procedure, words)
        try:
            reply = await datagrams.ask(self._reactor, server, question, lambda answer: answer[:4] == mark)
            return answered(xid, reply)
        except NotTold as problem:
            what = "the portmapper" if program == _PORTMAPPER else "rpc.dracd"
            raise NotTold(f"{what} at {self._host}, port {server[1]}: {problem}") from None
