"""The keys of [log]: what is written down, and where."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo

from tpops.config import checks
from tpops.config.section import Network, PathText, Section, key

#: Facilities by their numbers (RFC 5424 section 6.2.1), under the names that syslog.conf(5) has for them.
FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock"),
    *(f"local{number}" for number in range(8)),
)

#: What kern is for, nobody else may use.
_USABLE = ", ".join(name for name in FACILITIES[1:] if name not in ("ntp", "audit", "alert", "clock"))

_PLACE = re.compile(r"(udp|tcp):(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})")
_TAG = re.compile(r"[!-9;-Z\\^-~]{1,32}")


def syslog_place(value: str, info: ValidationInfo) -> str:
    """A receiver of syslog."""
    if value in ("", "local"):
        return value
    if value.startswith("unix:"):
        return checks.listen_address(value, info)
    found = _PLACE.fullmatch(value)
    wrong = ValueError(
        'must be "local" (/dev/log), "unix:" and a path, or "udp:" or "tcp:" with an IP address and a port, such as '
        '"udp:192.0.2.5:514" or "tcp:[2001:db8::5]:601"'
    )
    if found is None or not 0 < int(found[4]) <= 65535:
        raise wrong
    try:
        address = ipaddress.ip_address(found[2] or found[3])
    except ValueError:
        raise wrong from None
    host = f"[{address}]" if address.version == 6 else str(address)
    return f"{found[1]}:{host}:{found[4]}"


def facility(value: object) -> str:
    """The name of a facility that is given by name or number."""
    number = value if isinstance(value, int) and not isinstance(value, bool) else -1
    if isinstance(value, str):
        text = value.lower().removeprefix("log_")
        number = int(text) if re.fullmatch(r"\d{1,2}", text) else FACILITIES.index(text) if text in FACILITIES else -1
    if not 0 < number < len(FACILITIES):
        raise ValueError(f"must be a number from 1 to {len(FACILITIES) - 1}, or one of {_USABLE}")
    return FACILITIES[number]


def tag(value: str) -> str:
    """The name of a program in syslog."""
    if not _TAG.fullmatch(value):
        raise ValueError('must be 1 to 32 printable ASCII characters without spaces, ":" and "["')
    return value


class Log(Section):
    """What is written down."""

    access_log: Annotated[
        PathText,
        key('File with one line per connection, as TPOPS wrote it; "" is none.', example='"/var/log/tpops/access.log"'),
    ] = ""
    json_log: Annotated[
        PathText,
        key('File with one JSON object per event; "" is none.', example='"/var/log/tpops/events.json"'),
    ] = ""
    syslog: Annotated[
        str,
        AfterValidator(syslog_place),
        key(
            'Where one line per connection, login, logout and failure goes by syslog: "local" is /dev/log (RFC 3164), '
            '"unix:/path" another such socket, "udp:ADDRESS:PORT" and "tcp:ADDRESS:PORT" are other machines '
            '(RFC 5424); "" is nowhere.',
            example='"local"',
        ),
    ] = ""
    syslog_facility: Annotated[
        str, PlainValidator(facility), key("Facility of these lines, by name or number (2 is mail).", example='"mail"')
    ] = "mail"
    syslog_tag: Annotated[str, AfterValidator(tag), key("Name of the program in these lines.")] = "tpops"
    transcript: Annotated[
        PathText,
        key(
            "File with the commands of sessions and the first line of each answer, without passwords and mail, "
            'for debugging; "" is none. It tells who reads what: not for every day.',
            example='"/var/log/tpops/transcript.log"',
        ),
    ] = ""
    transcript_networks: Annotated[
        tuple[Network, ...],
        Field(strict=False),
        key("Networks (CIDR) of the clients in it; empty is everybody.", example='["192.0.2.7/32"]'),
    ] = ()
    level: Annotated[
        Literal["debug", "info", "warn", "error", "critical"], key("Least important messages that are logged.")
    ] = "info"

    def syslog_address(self) -> tuple[str, str, int]:
        """Kind ("unix", "udp" or "tcp"), path or address, and port of the syslog receiver."""
        if self.syslog == "local":
            return "unix", "/dev/log", 0
        kind, _, rest = self.syslog.partition(":")
        if kind == "unix":
            return kind, rest, 0
        address, _, port = rest.rpartition(":")
        return kind, address.strip("[]"), int(port)
