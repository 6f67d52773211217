"""
Transcripts of sessions in a file that only its owner may read.

Purpose: for debugging a mail program; see L{tpops.server.transcript} for what is left out.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Sequence

from tpops.events.log_file import LogFile
from tpops.events.text import one_line


class Transcripts:
    """
    See L{tpops.server.shared.Transcript}.

    @param networks: whose; empty is everybody's
    """

    def __init__(self, log: LogFile, networks: Sequence[str]) -> None:
        self._log = log
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def wants(self, host: str) -> bool:
        """Whether a transcript of a client at this address is kept."""
        if not self._networks:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def tell(self, session: str, text: str) -> None:
        """Write a line."""
        self._log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {session} {one_line(text)}".encode())
