"""
The sinks that a configuration names, each made from what it says.

Purpose: the translation from [[sink]] to plain arguments; a driver's module is imported when the configuration asks
for it.
Errors: ConfigError when something cannot be used as it is configured.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tpops.config.schema import Config
from tpops.config.sinks.base import SinkSection
from tpops.config.sinks.network import Drac, UDPNotice, Whoson, host_and_port
from tpops.cred.password_file import read_secret
from tpops.events import drac, udp_notify, whoson
from tpops.events.sink import Sink
from tpops.interfaces import IReceiver

#: Octets of a challenge and of the numbers of calls.
_CHALLENGE_OCTETS = 8


def made(config: Config, reactor: Any, split: Callable[[str], tuple[str, str]]) -> list[Sink]:
    """
    Every sink, in order; nothing is opened yet.

    @raise ConfigError: when a library is missing, or a secret cannot be read
    """
    arguments: list[tuple[IReceiver, Any]] = [(_receiver(one, reactor), one.delivery()) for one in config.sink]
    return [Sink(receiver, reactor, split, config.server.hostname, **how) for receiver, how in arguments]


async def stop(sinks: Sequence[Sink]) -> None:
    """Stop all of them at the same time."""
    await gatherResults([Deferred.fromCoroutine(one.stop()) for one in sinks])


def _receiver(section: SinkSection, reactor: Any) -> IReceiver:
    """Whom a sink tells."""
    match section:
        case Whoson():
            servers = [_whoson_server(one) for one in section.servers]
            return whoson.Whoson(reactor, servers, section.timeout_seconds, "logout" in section.events)
        case Drac():
            return drac.Drac(reactor, section.host, section.port, section.portmapper_port, lambda: secrets.randbits(32))
        case UDPNotice():
            return udp_notify.UDPNotify(
                reactor,
                *host_and_port(section.destination),
                _secret(section, "secret"),
                _secret(section, "hmac_key"),
                section.multicast_ttl,
                lambda: secrets.token_hex(_CHALLENGE_OCTETS).encode("ascii"),
            )
    raise AssertionError(section)


def _whoson_server(text: str) -> whoson.Server:
    transport, _, where = text.partition(":")
    return whoson.Server("unix", where) if transport == "unix" else whoson.Server(transport, *host_and_port(where))


def _secret(section: SinkSection, name: str) -> bytes:
    """A secret that is in the configuration or in a file, b"" where there is none."""
    path = str(getattr(section, f"{name}_file"))
    text = read_secret(path, f"sink {section.name}: {name}_file") if path else str(getattr(section, name))
    return text.encode()
