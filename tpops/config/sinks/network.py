"""The keys of the sinks that speak a small protocol of their own."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from tpops.config import checks
from tpops.config.section import PathText, key
from tpops.config.sinks.base import Rules, SinkSection, no_duplicates

_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")


def place(value: str) -> str:
    """A host and a port."""
    found = _PLACE.fullmatch(value)
    if found is None or not 0 < int(found[3]) < 65536:
        raise ValueError('must be a host and a port such as "192.0.2.1:9876", "[2001:db8::1]:9876"')
    if found[1]:
        checks.ip_address(found[1])
    return value


def host_and_port(value: str) -> tuple[str, int]:
    """A place, in two parts."""
    host, _, port = value.rpartition(":")
    return host.strip("[]"), int(port)


def _whoson_server(value: str, info: ValidationInfo) -> str:
    transport, _, where = value.partition(":")
    if transport == "unix":
        return checks.listen_address(value, info)
    if transport not in ("udp", "tcp"):
        raise ValueError('must be "udp:" or "tcp:" with a host and a port, or "unix:" and a path')
    return f"{transport}:{place(where)}"


_WhosonServer = Annotated[str, AfterValidator(_whoson_server)]


class Whoson(SinkSection):
    """WHOSON: whosond knows who is logged in from which address."""

    driver: Annotated[Literal["whoson"], key("A WHOSON server.")]
    events: Annotated[
        tuple[Literal["login", "logout"], ...],
        Field(strict=False, min_length=1),
        AfterValidator(no_duplicates),
        key(
            "What it is told. With a logout the address is forgotten when its last session has ended; without, when "
            "whosond's time is up, as POP before SMTP wants it.",
            example='["login", "logout"]',
        ),
    ] = ("login",)
    users: Annotated[
        Rules,
        key(
            "Of whom it is told, as for the others, and as popserv's whoson.allow and whoson.deny; there is no "
            "default, so that nobody is told by mistake.",
            example='["allow .*"]',
        ),
    ]
    servers: Annotated[
        tuple[_WhosonServer, ...],
        Field(strict=False, min_length=1),
        key(
            'Where whosond is: "udp:" or "tcp:" with host and port, or "unix:" and a path. Of several the first that '
            "takes it is enough.",
            example='["udp:192.0.2.1:9876", "tcp:192.0.2.2:9876"]',
        ),
    ] = ("udp:127.0.0.1:9876",)

    @model_validator(mode="after")
    def _logs_in_first(self) -> Whoson:
        if "login" not in self.events:
            raise ValueError('events = ["logout"] makes no sense without "login"')
        return self


class Drac(SinkSection):
    """DRAC: rpc.dracd knows the (IPv4) addresses that may relay."""

    driver: Annotated[Literal["drac"], key("A DRAC server.")]
    host: Annotated[str, AfterValidator(checks.host), key("Where rpc.dracd is.", example='"smtp.example.org"')] = (
        "127.0.0.1"
    )
    port: Annotated[int, key("Its UDP port; 0 asks the portmapper there.", ge=0, le=65535)] = 0
    portmapper_port: Annotated[int, key("The portmapper's UDP port.", ge=1, le=65535)] = 111


class UDPNotice(SinkSection):
    """A datagram for each login, in popserv's format (logudp)."""

    driver: Annotated[Literal["udp"], key("A datagram.")]
    destination: Annotated[
        str,
        AfterValidator(place),
        key("Host and port that it is sent to; may be a multicast address.", example='"192.0.2.1:7000"'),
    ]
    secret: Annotated[str, key('For popserv\'s line "md5", which covers nothing else.', secret=True)] = ""
    secret_file: Annotated[PathText, key("File whose first line is that secret.")] = ""
    hmac_key: Annotated[
        str,
        key('For the line "hmac-sha256", which covers the whole datagram; popserv did not have it.', secret=True),
    ] = ""
    hmac_key_file: Annotated[PathText, key("File whose first line is that key.")] = ""
    multicast_ttl: Annotated[
        int, key("How many routers a datagram to a multicast address may cross, and one more.", ge=0, le=255)
    ] = 1

    @model_validator(mode="after")
    def _secrets_once(self) -> UDPNotice:
        for one in ("secret", "hmac_key"):
            if getattr(self, one) and getattr(self, f"{one}_file"):
                raise ValueError(f"has both {one} and {one}_file")
        return self
