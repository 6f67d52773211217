"""What the connections of an LMTP server have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from tpops.delivery.lmtp_content import Content
from tpops.delivery.lmtp_deliveries import Deliveries


class Open(Protocol):
    """A connection, as the server sees it."""

    @property
    def receiving(self) -> bool:
        """Whether a message is on its way in, from MAIL to its last reply."""

    def stop(self) -> None:
        """The server ends: say so, where a delivery is under way once that is answered."""

    def abort(self) -> None:
        """End at once."""


@attrs.frozen
class Options:
    """
    What clients may do.

    @ivar hostname: this machine's name
    @ivar most_octets: biggest message, 0 for any
    @ivar most_recipients: of one message
    @ivar most_connections: at the same time
    @ivar timeout_seconds: time without anything from the client
    @ivar networks: from where TCP clients may come (CIDR)
    """

    hostname: str
    most_octets: int
    most_recipients: int
    most_connections: int
    timeout_seconds: float
    networks: Sequence[str]


@attrs.define(eq=False)
class Shared:
    """
    What all connections have in common.

    @ivar content: begins a message
    @ivar clock: the reactor's time
    @ivar epoch: seconds since the epoch
    @ivar connections: those that are open
    @ivar stopping: the server ends; no message begins any more
    """

    options: Options
    deliveries: Deliveries
    content: Callable[[], Content]
    clock: Any
    epoch: Callable[[], float]
    connections: set[Open] = attrs.field(factory=set)
    stopping: bool = False
