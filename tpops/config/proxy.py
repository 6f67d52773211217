"""The keys of [proxy]: mail that is on another POP3 server."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from tpops.config import checks
from tpops.config.accounts.proxy import ProxyAccounts
from tpops.config.accounts.union import AnyAccounts
from tpops.config.section import PathText, Section, key


class Proxy(Section):
    """The POP3 servers behind locations that begin with "proxy:"; see docs/mail/proxy.md."""

    server: Annotated[
        str,
        AfterValidator(checks.proxy_server),
        key(
            'The server of `proxy:` alone and of `driver = "proxy"`: a host, with ":" and a port if that is not 110 '
            "(995 with implicit TLS); may have `$(domain)`, `$(local_part)` and `$(user)` in it.",
            example='"pop.example.org"',
        ),
    ] = ""
    tls: Annotated[
        Literal["off", "starttls", "implicit"],
        key(
            '"starttls" turns TLS on with STLS and sends no password without, "implicit" is TLS from the first octet, '
            '"off" sends everything as it is.'
        ),
    ] = "starttls"
    tls_ca: Annotated[
        PathText,
        key(
            'PEM file with the authorities that sign the servers\' certificates; "" takes those of the machine.',
            example='"/etc/ssl/certs/example-ca.pem"',
        ),
    ] = ""
    tls_verify: Annotated[
        bool, key("Verify the servers' certificates and names; without, anybody in between can read everything.")
    ] = True
    user: Annotated[
        str,
        AfterValidator(checks.proxy_user),
        key(
            "Name there: `$(user)` is the login name, `$(local_part)` and `$(domain)` are its parts.",
            example='"$(local_part)"',
        ),
    ] = "$(user)"
    password: Annotated[
        str,
        key(
            'Password there for everybody, such as a master user\'s; "" is the one that the client has sent.',
            secret=True,
        ),
    ] = ""
    password_file: Annotated[
        PathText,
        key("File that has this password in its first line; read at the start.", example='"/etc/tpops/proxy-password"'),
    ] = ""
    login: Annotated[
        Literal["auto", "plain", "apop", "user"],
        key(
            'How to log in: "plain" is AUTH PLAIN, "user" is USER and PASS; "auto" is AUTH PLAIN over TLS where it is '
            "announced, APOP without TLS where it is possible, else USER and PASS."
        ),
    ] = "auto"
    unique_ids: Annotated[
        Literal["upstream", "headers"],
        key(
            'What a server without UIDL is good for: nothing ("upstream"), or the unique-ids are hashes of the header '
            'and the size of each message, which are asked for at each login ("headers").'
        ),
    ] = "upstream"
    connect_timeout_seconds: Annotated[float, key("Time until there is a connection.", ge=0.1, le=600)] = 20.0
    timeout_seconds: Annotated[
        float,
        key("Time until an answer, or more of it, is there; QUIT may take five times as long.", ge=0.1, le=3600),
    ] = 60.0
    keepalive_seconds: Annotated[
        float,
        key(
            "Time after which a session in which the client does nothing gets a NOOP, so that the server does not end "
            "it; 0 is never. The client's own limit is `protocol.idle_timeout_seconds`.",
            ge=0,
            le=3600,
        ),
    ] = 120.0
    connections: Annotated[int, key("Connections at the same time; 0 is no limit.", ge=0)] = 1000

    @model_validator(mode="after")
    def _fits_together(self) -> Proxy:
        if self.password and self.password_file:
            raise ValueError("has both password and password_file")
        if self.tls == "off" and self.tls_ca:
            raise ValueError('tls_ca does not go with tls = "off"')
        if not self.tls_verify and (self.tls_ca or self.tls == "off"):
            raise ValueError('tls_verify = false goes neither with tls_ca nor with tls = "off"')
        return self

    def must_do(self, location: str, accounts: Iterable[AnyAccounts]) -> None:
        """
        Look whether it has what others in the configuration need.

        @param location: where mail is
        @raise ValueError: when it has not
        """
        asking = [one for one in accounts if isinstance(one, ProxyAccounts)]
        if not self.server and ("proxy:" in location.split() or asking):
            wanting = 'driver = "proxy"' if asking else "mail.location"
            raise ValueError(f"needs server, for {wanting}")
        if "$" in self.server and not all(one.domains for one in asking):
            raise ValueError(
                'has a server that depends on the login name: accounts of driver "proxy" need domains then'
            )

    def warnings(self) -> Iterable[str]:
        """What is allowed and unwise, one line each."""
        if self.tls == "off" and self.server and not _is_local(self.server):
            yield f'proxy: {self.server} gets all passwords and all mail without TLS (tls = "off")'
        if not self.tls_verify:
            yield "proxy: without tls_verify, whoever is in between can read all passwords and all mail"


def _is_local(server: str) -> bool:
    """Whether a server is on this machine."""
    host = server[1:].partition("]")[0] if server.startswith("[") else server.partition(":")[0]
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
