"""
The configuration's schema: the only place that says which keys there are.

Purpose: every key with type, default, range, unit (in its name), description and the version that brought it.
The loader validates with it; the reference page and the sample file are written from it.
Limits: values only.  Files are read by tpops.config.load; parts get plain arguments from the service.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from tpops.config import checks
from tpops.config.accounts.files import SQLite
from tpops.config.accounts.union import AnyAccounts
from tpops.config.admin import Admin
from tpops.config.app_passwords import AppPasswords
from tpops.config.delivery import Delivery, Quota
from tpops.config.folders import Folders
from tpops.config.last_login import LastLogin
from tpops.config.limits import Limits
from tpops.config.listen import Listen
from tpops.config.lmtp import LMTP
from tpops.config.log import Log
from tpops.config.mailboxes import Mail, Maildir, Mbox
from tpops.config.masters import Masters
from tpops.config.metrics import Metrics
from tpops.config.mysql import MySQLMail
from tpops.config.oauth import OAuth
from tpops.config.pbs import PopBeforeSMTP, PopBeforeSMTPMySQL
from tpops.config.proxy import Proxy
from tpops.config.section import Network, PathText, Section, key
from tpops.config.server import STATE_DIRECTORY, Server
from tpops.config.sessions import Sessions
from tpops.config.sinks.union import AnySink
from tpops.config.status import Status
from tpops.config.stores import StoreSection


class TLS(Section):
    """Certificates for STLS and implicit TLS."""

    certificate: Annotated[
        PathText,
        key(
            "PEM file with the certificate and its chain, or a directory of such files (each with its key), from which "
            'the name that a client asks for chooses; "" is no TLS. Renewed files are used without a restart.',
            example='"/etc/letsencrypt/live/mail.example.org/fullchain.pem"',
        ),
    ] = ""
    private_key: Annotated[
        PathText,
        key(
            'PEM file of the private key; "" where it is in the certificate\'s file.',
            example='"/etc/letsencrypt/live/mail.example.org/privkey.pem"',
        ),
    ] = ""
    minimum: Annotated[Literal["1.2", "1.3"], key("Lowest version of TLS.")] = "1.2"
    client_ca: Annotated[
        PathText,
        key(
            "PEM file, or directory of such files, with the certificates of the CAs whose client certificates are "
            "accepted. Renewed files are used without a restart.",
            example='"/etc/tpops/client-ca.pem"',
        ),
    ] = ""
    client_certificates: Annotated[
        Literal["off", "ask", "require"],
        key(
            'Whether clients are asked for a certificate, with which they can log in by SASL EXTERNAL: "ask" takes '
            'those without one too, "require" does not. One that is not accepted ends the connection either way.'
        ),
    ] = "off"
    client_crl: Annotated[
        PathText,
        key(
            "File (PEM or DER), or directory of `*.pem` files, with the revocation lists of these CAs; one that is out "
            'of date locks all clients of its CA out. "" is none.',
            example='"/etc/tpops/client-crl.pem"',
        ),
    ] = ""
    client_name: Annotated[
        Literal["san-email", "san-dns", "cn", "uid"],
        key(
            "Where the login name is in a client's certificate: the e-mail addresses or DNS names of its alternative "
            'names, or "cn" or "uid" of its subject.'
        ),
    ] = "san-email"

    @field_validator("client_certificates")
    @classmethod
    def _has_an_authority(cls, value: str, info: ValidationInfo) -> str:
        if value != "off" and not info.data.get("client_ca"):
            raise ValueError("needs client_ca, the CAs whose certificates are accepted")
        return value


class Protocol(Section):
    """What clients may do and how long they may take."""

    plaintext: Annotated[
        Literal["never", "tls", "networks", "always"],
        key(
            "Who may send a password as it is: nobody, whoever has TLS on, also `plaintext_networks` without TLS, or "
            "everybody. UNIX sockets count as a network of their own that may."
        ),
    ] = "networks"
    plaintext_networks: Annotated[
        tuple[Network, ...],
        Field(strict=False),
        key("Networks (CIDR) whose clients need no TLS.", example='["127.0.0.0/8", "::1/128", "192.0.2.0/24"]'),
    ] = ("127.0.0.0/8", "::1/128")
    apop_only: Annotated[
        bool,
        key(
            "Without TLS take no password from anybody, whatever `plaintext` says, and close the connection of who "
            "sends USER, before he can send PASS; APOP and mechanisms that do not send the password stay."
        ),
    ] = False
    auth_tries: Annotated[int, key("Failed logins on one connection until it is closed.", ge=1)] = 3
    auth_delay_seconds: Annotated[
        float, key("How long a failed login takes, seen by the client; doubled by each that follows.", ge=0, le=60)
    ] = 2.0
    auth_delay_max_seconds: Annotated[
        float, key("How long it takes at most; what is below `auth_delay_seconds` counts as that.", ge=0, le=60)
    ] = 15.0
    login_timeout_seconds: Annotated[float, key("Time a client has to log in.", ge=1)] = 180
    idle_timeout_seconds: Annotated[
        float, key("Time without a command until the connection is closed; RFC 1939 asks for at least 600.", ge=1)
    ] = 600
    session_max_seconds: Annotated[float, key("Longest session, whatever the client does; 0 is no limit.", ge=0)] = 0
    write_timeout_seconds: Annotated[
        float, key("Time a client may take without reading anything of what it is sent.", ge=1)
    ] = 300
    command_octets: Annotated[
        int,
        key("Longest command line with its line end; a longer one is refused (RFC 2449 has 255).", ge=255, le=65536),
    ] = 255
    disconnect_octets: Annotated[
        int,
        key("Line length at which the connection is closed; at least `command_octets`.", ge=255, le=1048576),
    ] = 1024
    bad_commands: Annotated[
        int, key("Wrong commands, one after the other, after which the connection is closed.", ge=1)
    ] = 20
    digests: Annotated[
        Literal["auto", "any", "never"],
        key(
            "APOP, CRAM-MD5 and SCRAM, each of which works with some of the ways to store a password (see "
            'docs/accounts/mechanisms.md): "auto" where it works for all accounts, "any" where it works for some '
            '(clients of the others may fail then), "never" not at all.'
        ),
    ] = "auto"
    last: Annotated[bool, key("Offer the command LAST of RFC 1460, which RFC 1939 has dropped.")] = False
    utf8_headers: Annotated[
        Literal["send", "refuse"],
        key(
            "What happens to a message with UTF-8 header fields when the client has not said UTF8 (RFC 6856 section 5)."
        ),
    ] = "send"
    greeting: Annotated[str, AfterValidator(checks.greeting), key("Text of the first line that a client gets.")] = (
        "tpops ready"
    )

    @field_validator("disconnect_octets")
    @classmethod
    def _not_below_the_refusal(cls, value: int, info: ValidationInfo) -> int:
        command_octets = info.data.get("command_octets", 0)
        if value < command_octets:
            raise ValueError(f"must be at least command_octets, which is {command_octets}")
        return value


class Names(Section):
    """How the login name that a client sends becomes the name of an account."""

    default_domain: Annotated[
        str,
        AfterValidator(checks.default_domain),
        key(
            'Appended with "@" to a name that has none of `separators`; as it is when it starts with a sign.',
            example='"example.org"',
        ),
    ] = ""
    lowercase: Annotated[bool, key("Turn the name to lower case.")] = True
    separators: Annotated[
        str, AfterValidator(checks.separators), key("Characters that part a name from its domain, the strongest first.")
    ] = "@%+"


class Passwords(Section):
    """Right passwords: their memory, which spares slow hashes for clients that come every minute, and better hashes."""

    cache_entries: Annotated[int, key("Right answers that are remembered; 0 is none.", ge=0)] = 10000
    cache_ttl_seconds: Annotated[float, key("How long each is remembered.", ge=0)] = 3600
    rehash: Annotated[
        Literal[
            "",
            "argon2id",
            "argon2i",
            "blf-crypt",
            "sha512-crypt",
            "sha256-crypt",
            "scram-sha-256",
            "scram-sha-1",
            "pbkdf2",
        ],
        key(
            "Scheme in which a password is stored anew after a login, where it was stored in a weaker one, or in the "
            'same with less work; for sources that tpops writes ("sqlite"). "" changes nothing.',
            example='"argon2id"',
        ),
    ] = ""
    rehash_plain: Annotated[
        bool,
        key(
            "Also where it was stored as it is, or for CRAM-MD5 or SCRAM; the account can then no longer use APOP, "
            "CRAM-MD5 or SCRAM."
        ),
    ] = False


def _default_accounts(validated: Mapping[str, object]) -> tuple[AnyAccounts, ...]:
    server = validated.get("server")
    state_dir = server.state_dir if isinstance(server, Server) else STATE_DIRECTORY
    return (SQLite(driver="sqlite", path=os.path.join(state_dir, "accounts.sqlite")),)


class Config(Section):
    """The whole configuration."""

    server: Server = Field(default_factory=Server)
    tls: TLS = TLS()
    listen: Annotated[tuple[Listen, ...], Field(strict=False, min_length=1)] = (Listen(),)
    protocol: Protocol = Protocol()
    limits: Limits = Limits()
    names: Names = Names()
    accounts: Annotated[tuple[AnyAccounts, ...], Field(strict=False, min_length=1)] = Field(
        default_factory=_default_accounts
    )
    passwords: Passwords = Passwords()
    masters: Masters = Masters()
    oauth: OAuth = OAuth()
    app_passwords: AppPasswords = AppPasswords()
    folders: Folders = Folders()
    store: Annotated[tuple[StoreSection, ...], Field(strict=False)] = ()
    mail: Mail = Mail()
    maildir: Maildir = Maildir()
    mbox: Mbox = Mbox()
    mysql: MySQLMail = MySQLMail()
    lmtp: LMTP = LMTP()
    quota: Quota = Quota()
    delivery: Delivery = Delivery()
    pop_before_smtp: PopBeforeSMTP = PopBeforeSMTP()
    pop_before_smtp_mysql: PopBeforeSMTPMySQL = PopBeforeSMTPMySQL()
    sink: Annotated[tuple[AnySink, ...], Field(strict=False)] = ()
    last_login: LastLogin = LastLogin()
    proxy: Proxy = Field(default_factory=Proxy, validate_default=True)
    log: Log = Log()
    admin: Admin = Admin()
    metrics: Metrics = Metrics()
    status: Status = Status()
    sessions: Sessions = Sessions()

    @field_validator("listen")
    @classmethod
    def _listeners_differ(cls, value: tuple[Listen, ...], info: ValidationInfo) -> tuple[Listen, ...]:
        tls = info.data.get("tls")
        wanting = [one.where for one in value if one.tls not in ("auto", "off")]
        if wanting and isinstance(tls, TLS) and not tls.certificate:
            raise ValueError(f"wants TLS at {wanting[0]}, and tls.certificate is not set")
        _no_duplicates([listener.where for listener in value if listener.port], "names an address twice:")
        return value

    def tls_mode(self, listen: Listen) -> str:
        """The TLS mode of a listener, with "auto" resolved."""
        if listen.tls == "auto":
            return "optional" if self.tls.certificate else "off"
        return listen.tls

    @field_validator("accounts")
    @classmethod
    def _sources_differ(cls, value: tuple[AnyAccounts, ...]) -> tuple[AnyAccounts, ...]:
        _no_duplicates([source.name for source in value], "names a source twice:")
        return value

    @field_validator("sink")
    @classmethod
    def _sinks_differ(cls, value: tuple[AnySink, ...]) -> tuple[AnySink, ...]:
        _no_duplicates([sink.name for sink in value], "names a sink twice:")
        return value

    @field_validator("store")
    @classmethod
    def _stores_differ(cls, value: tuple[StoreSection, ...]) -> tuple[StoreSection, ...]:
        _no_duplicates([store.name for store in value], "names a store twice:")
        return value

    @field_validator("mail")
    @classmethod
    def _stores_are_there(cls, value: Mail, info: ValidationInfo) -> Mail:
        stores = [store.name for store in info.data.get("store", ())]
        for name in checks.stores_named(value.location):
            if "store" in info.data and name not in stores:
                known = ", ".join(stores) or "none"
                raise ValueError(f"names the store {name} in location; in [[store]] there are {known}")
        return value

    @field_validator("delivery")
    @classmethod
    def _knows_the_sources(cls, value: Delivery, info: ValidationInfo) -> Delivery:
        sources = [source.name for source in info.data.get("accounts", ())]
        for name in value.complete_sources:
            if sources and name not in sources:
                raise ValueError(f"complete_sources names {name}; there are {', '.join(sources)}")
        return value

    @field_validator("proxy")
    @classmethod
    def _proxy_is_enough(cls, value: Proxy, info: ValidationInfo) -> Proxy:
        mail = info.data.get("mail")
        value.must_do(mail.location if isinstance(mail, Mail) else "", info.data.get("accounts", ()))
        return value

    @field_validator("sessions")
    @classmethod
    def _owners_can_serve(cls, value: Sessions, info: ValidationInfo) -> Sessions:
        tables = info.data
        if value.apart and {"server", "mail", "tls", "lmtp", "limits"} <= tables.keys():
            used = {
                "tls.client_certificates": tables["tls"].client_certificates != "off",
                "lmtp.listen": tables["lmtp"].listen,
                "limits.octets_per_second (octets_per_second_per_session can)": tables["limits"].octets_per_second,
                "sessions.program and limits.octets_per_second_per_session": (
                    value.program and tables["limits"].octets_per_second_per_session
                ),
            }
            value.must_do(tables["server"].user, tables["mail"].location, [name for name, on in used.items() if on])
        return value

    @field_validator("masters")
    @classmethod
    def _separators_differ(cls, value: Masters, info: ValidationInfo) -> Masters:
        names = info.data.get("names")
        if value.separator and isinstance(names, Names) and value.separator in names.separators:
            raise ValueError(f"has the separator {value.separator}, which is one of names.separators")
        return value

    @field_validator("folders")
    @classmethod
    def _folders_differ_from_masters(cls, value: Folders, info: ValidationInfo) -> Folders:
        masters = info.data.get("masters")
        if value.separator and isinstance(masters, Masters) and value.separator == masters.separator:
            raise ValueError(f"has the separator {value.separator}, which is masters.separator")
        return value

    @field_validator("mail")
    @classmethod
    def _folders_are_named(cls, value: Mail, info: ValidationInfo) -> Mail:
        folders = info.data.get("folders")
        some, every = checks.folders_named(value.location)
        if some and isinstance(folders, Folders) and not folders.used:
            raise ValueError("has $(folder) in location, which means nothing without folders.separator or expression")
        if every:
            raise ValueError("has no location without $(folder), for those who name no folder")
        return value


def _no_duplicates(values: list[str], what: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{what} {value}")
