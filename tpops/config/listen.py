"""
The configuration of a place where clients connect: table [[listen]].

Purpose: see L{tpops.config.schema}.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tpops.config import checks
from tpops.config.section import Network, Section, key


class Listen(Section):
    """An address where clients connect; the section may be there several times."""

    address: Annotated[
        str,
        AfterValidator(checks.listen_address),
        key('IP address ("0.0.0.0" and "::" are all of the machine), or "unix:" and the path of a socket.'),
    ] = "127.0.0.1"
    tls: Annotated[
        Literal["auto", "off", "optional", "required", "implicit"],
        key(
            '"optional" offers STLS, "required" lets nobody log in without it, "implicit" is TLS from the first octet '
            '(RFC 8314); "auto" is "optional" where `tls.certificate` is set, else "off".'
        ),
    ] = "auto"
    port: Annotated[
        int,
        key(
            "TCP port; not for UNIX sockets. 0 takes any free port.",
            shown="110, with implicit TLS 995",
            example="110",
            ge=0,
            le=65535,
        ),
    ] = Field(default_factory=lambda data: 995 if data.get("tls") == "implicit" else 110)
    mode: Annotated[
        str,
        AfterValidator(checks.octal_mode),
        key("Permissions of a UNIX socket, in octal; it belongs to `user` and `group`. Not for TCP."),
    ] = "0660"
    backlog: Annotated[int, key("Connections that the kernel queues until they are accepted.", ge=1, le=65535)] = 1024
    systemd_name: Annotated[
        str,
        key(
            "Name of a socket that systemd has opened (`FileDescriptorName=`) and that is served here, whatever its "
            "address; without a name, one with the same address and port is. Started otherwise, tpops opens its own.",
            example='"tpops.socket"',
        ),
    ] = ""
    proxy_protocol: Annotated[
        bool,
        key(
            "Clients come through a load balancer that says who they are, by the PROXY protocol, version 1 or 2; "
            "whoever connects without its header is sent away.",
            example="true",
        ),
    ] = False
    proxy_networks: Annotated[
        tuple[Network, ...],
        Field(strict=False),
        key(
            "Networks (CIDR) of the load balancers that are believed; UNIX sockets always are.",
            example='["192.0.2.10/32"]',
        ),
    ] = ("127.0.0.0/8", "::1/128")

    @model_validator(mode="after")
    def _fits_the_address(self) -> Listen:
        unix = self.address.startswith("unix:")
        if unix and "port" in self.model_fields_set:
            raise ValueError("port does not go with a unix: address")
        if not unix and "mode" in self.model_fields_set:
            raise ValueError("mode goes with a unix: address only")
        if "proxy_networks" in self.model_fields_set and not self.proxy_protocol:
            raise ValueError("proxy_networks goes with proxy_protocol = true only")
        return self

    @property
    def where(self) -> str:
        """The address with its port, for messages."""
        if self.address.startswith("unix:"):
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
