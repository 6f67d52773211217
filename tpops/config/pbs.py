"""The keys about POP before SMTP: the store, what it means, and who is told."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from tpops.config import checks
from tpops.config.mysql import Connection, ServerText
from tpops.config.section import PathText, Section, key

#: What may be said when the store fails: nothing that lets a client relay.
_HARMLESS = re.compile(
    r"(?:DUNNO|DEFER_IF_REJECT|DEFER_IF_PERMIT|DEFER|REJECT|[45][0-9][0-9])(?: [ -~]+)?", re.IGNORECASE
)

#: Kinds of lookup tables that can be made.
_MAPS = ("hash", "btree", "cdb", "lmdb", "texthash")

_TCP = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})", re.ASCII)


def _socket(value: str, info: ValidationInfo) -> str:
    """Where a service for other programs listens."""
    if value.startswith("unix:"):
        return checks.listen_address(value, info)
    found = _TCP.fullmatch(value)
    if not found or int(found[3]) > 65535:
        raise ValueError('must be an address and a port such as "127.0.0.1:10040" or "[::1]:10040", or "unix:/path"')
    checks.listen_address(found[1] or found[2], info)
    return value


def _action(value: str) -> str:
    if not value.strip() or not re.fullmatch(r"[ -~]{1,400}", value):
        raise ValueError('must be one line of printable ASCII such as "OK"')
    return value


def _harmless(value: str) -> str:
    if not _HARMLESS.fullmatch(value):
        raise ValueError(
            'must not let anybody relay when the store fails: "DUNNO", or "DEFER_IF_REJECT" and a text, or "DEFER", '
            '"DEFER_IF_PERMIT", "REJECT" or a number such as 450'
        )
    return value


def _map(value: str, info: ValidationInfo) -> str:
    kind, _, path = value.partition(":")
    if value and (kind not in _MAPS or not path):
        known = ", ".join(f'"{one}:"' for one in _MAPS)
        raise ValueError(f'must be {known} and a path, such as "hash:/var/lib/tpops/relay"')
    return f"{kind}:{checks.path(path, info)}" if value else ""


SocketText = Annotated[str, AfterValidator(_socket)]


class PopBeforeSMTP(Section):
    """Clients that have logged in may send mail from the same address for some time; see `tpops pbs`."""

    store: Annotated[
        Literal["", "sqlite", "mysql"],
        key(
            'Where logins are written down: a file ("sqlite"), or a database server, for several hosts ("mysql", with '
            '[pop_before_smtp_mysql]); "" is no POP before SMTP.',
            example='"sqlite"',
        ),
    ] = ""
    path: Annotated[
        PathText,
        key(
            'The file of store "sqlite"; it is made when it is missing.',
            shown="`pbs.sqlite` in `server.state_dir`",
            example='"/var/lib/tpops/pbs.sqlite"',
        ),
    ] = ""
    match: Annotated[
        Literal["sender", "address"],
        key(
            'Who may send: "sender" wants a sender address that belongs to who has logged in (`tpops pbs user`), '
            '"address" takes every sender from where anybody has logged in.'
        ),
    ] = "sender"
    expire_seconds: Annotated[
        int,
        key("How long a login opens the way, unless `tpops pbs expire` has changed it.", ge=1, le=31536000),
    ] = 1800
    ipv6_prefix: Annotated[
        int,
        key("Leading bits of an IPv6 address that count as one place: 64 is one site's network.", ge=16, le=128),
    ] = 64
    ok_wait_seconds: Annotated[
        float, key("How long the +OK of a login waits until that is written down; then it leaves.", ge=0.1, le=60)
    ] = 2.0
    mysql_tables: Annotated[
        Literal["v2", "classic", "both"],
        key(
            'Tables in MySQL: tpops\' own ("v2"), the old `pbs(ip, timestamp)`, which has no users ("classic"), or '
            'both, so that SMTP servers which read the old one go on ("both").'
        ),
    ] = "v2"
    policy: Annotated[
        tuple[SocketText, ...],
        Field(strict=False),
        key(
            "Where Postfix' policy service listens: address and port, or `unix:` and a path.",
            example='["unix:/var/spool/postfix/private/tpops"]',
        ),
    ] = ()
    action: Annotated[
        str,
        AfterValidator(_action),
        key('What Postfix is told of a client that may relay, an action of access(5); everybody else is "DUNNO".'),
    ] = "OK"
    action_on_error: Annotated[
        str,
        AfterValidator(_harmless),
        key(
            "What it is told when the store cannot be read, nothing that lets a client relay.",
            example='"DEFER_IF_REJECT Service temporarily unavailable"',
        ),
    ] = "DUNNO"
    socketmap: Annotated[
        tuple[SocketText, ...],
        Field(strict=False),
        key("Where other mail servers ask by Sendmail's socketmap protocol.", example='["127.0.0.1:10041"]'),
    ] = ()
    tcp_table: Annotated[
        tuple[SocketText, ...],
        Field(strict=False),
        key("Where they ask by Postfix' tcp_table protocol.", example='["127.0.0.1:10042"]'),
    ] = ()
    map: Annotated[
        str,
        AfterValidator(_map),
        key(
            "Lookup table that postmap makes of the addresses from which every sender may relay, for servers that can "
            'do nothing else: "hash:", "btree:", "cdb:", "lmdb:" or "texthash:" and a path; "" is none.',
            example='"hash:/var/lib/tpops/relay"',
        ),
    ] = ""
    map_seconds: Annotated[float, key("How often it is looked whether that table has to change.", ge=1, le=3600)] = 5.0
    socket_mode: Annotated[
        str,
        AfterValidator(checks.octal_mode),
        key("Permissions of these UNIX sockets, in octal; they belong to `server.user` and `socket_group`."),
    ] = "0660"
    socket_group: Annotated[str, key('Group of these UNIX sockets; "" is that of the server.', example='"postfix"')] = (
        ""
    )

    @field_validator("policy", "socketmap", "tcp_table", "map")
    @classmethod
    def _needs_a_store(cls, value: tuple[str, ...] | str, info: ValidationInfo) -> tuple[str, ...] | str:
        if value and not info.data.get("store"):
            raise ValueError("needs pop_before_smtp.store")
        if isinstance(value, str):
            return value
        taken = [*value, *(one for name in ("policy", "socketmap") for one in info.data.get(name, ()))]
        for one in taken:
            if taken.count(one) > 1 and not one.endswith(":0"):
                raise ValueError(f"names an address twice: {one}")
        return value

    @model_validator(mode="after")
    def _fits_the_tables(self) -> PopBeforeSMTP:
        if self.mysql_tables != "v2" and self.store != "mysql":
            raise ValueError(f'mysql_tables = "{self.mysql_tables}" goes with store = "mysql" only')
        if self.mysql_tables == "classic" and self.match != "address":
            raise ValueError('mysql_tables = "classic" needs match = "address": the old table has no users')
        if self.mysql_tables != "v2" and self.ipv6_prefix != 128:
            raise ValueError(f'mysql_tables = "{self.mysql_tables}" needs ipv6_prefix = 128, for the old table')
        return self

    def warnings(self) -> Iterable[str]:
        """What is allowed and unwise, one line each."""
        for one in (*self.policy, *self.socketmap, *self.tcp_table):
            if not one.startswith("unix:") and not checks.is_local(one.rpartition(":")[0].strip("[]")):
                yield f"pop_before_smtp: whoever reaches {one} can ask who has logged in; let a firewall protect it"


class PopBeforeSMTPMySQL(Connection):
    """The database server for `store = "mysql"` of [pop_before_smtp]."""

    servers: Annotated[
        tuple[ServerText, ...],
        Field(strict=False),
        key(
            "Where it is, as in [mysql]. Without any, the connection of [mysql] is used, or that of the first accounts "
            "source with that driver, whose user then needs more rights.",
            example='["unix:/run/mysqld/mysqld.sock"]',
        ),
    ] = ()
