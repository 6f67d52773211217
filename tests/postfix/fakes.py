"""A store that knows what a test tells it."""

from __future__ import annotations

from tpops.db.relay import Facts, StoreFailed

#: Somebody with these facts may send as anybody.
OPEN = Facts(any_sender=1, here=True)


class FakeStore:
    """
    See IRelayStore; what is asked here.

    @ivar known: facts by site, address and sender
    @ivar broken: why the store cannot say, "" while it can
    """

    def __init__(self) -> None:
        self.known: dict[tuple[str, str, str], Facts] = {}
        self.broken = ""
        self.asked: list[tuple[str, str, str]] = []

    def open(self, address: str, sender: str) -> None:
        """Let a client send."""
        self.known[address, address, sender] = OPEN

    def facts(self, site: str, address: str, sender: str) -> Facts:
        """See IRelayStore."""
        self.asked.append((site, address, sender))
        if self.broken:
            raise StoreFailed(self.broken)
        return self.known.get((site, address, sender), Facts())
