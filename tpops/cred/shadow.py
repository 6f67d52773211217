"""
The accounts of the machine: /etc/passwd and /etc/shadow, in the formats of passwd(5) and shadow(5).

Purpose: whoever has an account on the machine reads his mail with the machine's password.  Both files are read here,
octet by octet and without the name service, and kept until one of them changes; passwords are verified by the
machine's libcrypt, whatever the method.  The rules of a shadow line are looked at with each login:

    account expiry (field 8)            from that day on nobody logs in; 0 is the first day of 1970
    last change (field 3) is 0          the password must be changed first, which POP3 cannot do
    last change + maximum (field 5)     the last day of a password; + inactive (field 7), days of grace after it

Limits: accounts with a uid below the minimum do not exist here.  The shell plays no part: who may not log in at a
terminal may still have mail.  Lines for other databases ("+name", "-name") are passed over.  A name with a
domain of the machine is looked up without it.
Known deviations: as in PAM, a hash in passwd itself counts where the field is not "x", and the dates of the shadow
line then hold all the same.  A password of no characters never logs in.  Days are those of UTC.
Errors: a locked password is a wrong password for the client, and the log has the reason.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs
from zope.interface import implementer

from tpops.cred.names import of_machine
from tpops.cred.schemes import NOTHING
from tpops.cred.source import Means, PasswordSource, Record
from tpops.cred.watched import BadLine, Parsed, WatchedFiles, each_line
from tpops.errors import UnknownUser
from tpops.interfaces import IAccounts
from tpops.model import Account

_PASSWD_FIELDS, _SHADOW_FIELDS = 7, 9

#: The hash field of a passwd line whose hash is in shadow.
_IN_SHADOW = "x"

#: What a crypt(3) hash looks like: "$method$", extended DES, or DES.
_HASH = re.compile(r"\$.+|_[./0-9A-Za-z]{19}|[./0-9A-Za-z]{13,}")

_SECONDS_OF_A_DAY = 86400


def today() -> int:
    """Days since 1970, in UTC."""
    return int(time.time() // _SECONDS_OF_A_DAY)


@attrs.frozen(slots=True)
class PasswdLine:
    """A line of passwd(5), as far as it matters for mail."""

    name: str
    stored: str = attrs.field(repr=False)
    uid: int
    gid: int
    home: str | None


@attrs.frozen(slots=True)
class ShadowLine:
    """
    A line of shadow(5); days are counted from 1970, None is no limit.

    @ivar stored: hash, or what stands in its place
    @ivar changed_day: last change of the password, 0 when it must be changed first
    @ivar maximum_days: how long a password is good
    @ivar inactive_days: how long it is accepted after that
    @ivar expiry_day: first day on which the account does not exist any more
    """

    name: str
    stored: str = attrs.field(repr=False)
    changed_day: int | None = None
    maximum_days: int | None = None
    inactive_days: int | None = None
    expiry_day: int | None = None

    def refusal(self, day: int) -> str:
        """Why nobody logs in on that day, "" where nothing is against it."""
        if self.expiry_day is not None and day >= self.expiry_day:
            return "account has expired"
        if self.changed_day == 0:
            return "password must be changed first"
        if self.changed_day is None or self.maximum_days is None:
            return ""
        last = self.changed_day + self.maximum_days + (self.inactive_days or 0)
        return "password has expired" if day > last else ""


@attrs.frozen(slots=True)
class _Entry:
    """
    What both files say of an account.

    @ivar stored: its hash for the verifier
    @ivar closed: why no password is right, "" where one may be
    """

    account: Account
    stored: str = attrs.field(repr=False)
    closed: str
    shadow: ShadowLine | None


def _fields(line: str, count: int) -> list[str] | None:
    """The fields of a line; None where it is none of an account."""
    if not line.strip() or line[0] in "#+-":
        return None
    fields = line.split(":")
    if len(fields) != count:
        raise BadLine(f"{len(fields)} fields instead of {count}")
    if not fields[0] or not fields[0].isprintable():
        raise BadLine("user name is empty or has characters that are not printable")
    if "\0" in line:
        raise BadLine("line has a NUL")
    if not fields[1].isascii():
        raise BadLine("password field is not ASCII")
    return fields


def _number(text: str, what: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise BadLine(f"{what} is not a number")
    return int(text)


def _days(text: str, what: str) -> int | None:
    """A field of shadow(5); empty and -1 are "no limit"."""
    return None if text in ("", "-1") else _number(text, what)


def parse_passwd_line(line: str) -> PasswdLine | None:
    """
    One line of passwd(5); None where it is none of an account.

    @raise BadLine: when it cannot be used
    """
    fields = _fields(line, _PASSWD_FIELDS)
    if fields is None:
        return None
    name, stored, uid, gid, _, home, _ = fields
    return PasswdLine(name, stored, _number(uid, "uid"), _number(gid, "gid"), home or None)


def parse_shadow_line(line: str) -> ShadowLine | None:
    """
    One line of shadow(5); None where it is none of an account.

    @raise BadLine: when it cannot be used
    """
    fields = _fields(line, _SHADOW_FIELDS)
    if fields is None:
        return None
    name, stored, changed, _, maximum, _, inactive, expiry, _ = fields
    return ShadowLine(
        name,
        stored,
        _days(changed, "last change (field 3)"),
        _days(maximum, "maximum age (field 5)"),
        _days(inactive, "inactivity (field 7)"),
        _days(expiry, "expiry (field 8)"),
    )


def _closed(stored: str) -> str:
    """Why no password matches this field, "" when it is a hash."""
    if not stored:
        return "password is empty"
    if stored[0] in "!*":
        return "password is locked"
    return "" if _HASH.fullmatch(stored) else "no password is set"


@implementer(IAccounts)
class ShadowAccounts(PasswordSource):
    """
    Accounts of a pair of files.

    @param shadow_path: "" where the hashes are in passwd itself
    @param domains: those of the machine; a name with another one is nobody's here
    @param minimum_uid: accounts with a lower uid do not exist here
    @param today: days since 1970
    """

    hint = (
        "put the server's user into the group that may read it (usermod -aG shadow USER, then restart), "
        "or use another driver"
    )

    def __init__(
        self,
        name: str,
        means: Means,
        passwd_path: str = "/etc/passwd",  # noqa: S107
        shadow_path: str = "/etc/shadow",
        domains: Sequence[str] = (),
        minimum_uid: int = 1000,
        today: Callable[[], int] = today,
    ) -> None:
        super().__init__(name, means, (passwd_path, shadow_path) if shadow_path else (passwd_path,))
        self._domains = frozenset(domains)
        self._split = means.split
        self._minimum_uid = minimum_uid
        self._today = today
        self._files = WatchedFiles(self.paths, self._parse, means.run_in_thread, means.seconds, self.hint)

    def record(self, name: str) -> Record:
        """See L{PasswordSource.record}."""
        try:
            return self._record(self._files.entries()[of_machine(name, self._domains, self._split)])
        except KeyError:
            raise UnknownUser(f"not in {self.name}") from None

    def check(self) -> list[str]:
        """See L{PasswordSource.check}."""
        return list(self._files.read().complaints)

    def records(self) -> Iterator[Record]:
        """See L{PasswordSource.records}."""
        return map(self._record, self._files.read().entries.values())

    def mechanisms(self) -> Iterable[frozenset[str]]:
        """See L{PasswordSource.mechanisms}: these files have hashes only."""
        return (NOTHING,)

    def _record(self, entry: _Entry) -> Record:
        refusal = entry.shadow.refusal(self._today()) if entry.shadow else ""
        return Record(
            entry.account,
            entry.stored,
            enabled=not refusal,
            why_disabled=refusal,
            why_wrong=entry.closed or "wrong password",
        )

    def _parse(self, octets: Sequence[bytes]) -> Parsed[_Entry]:
        """Both files together; of several lines for one name the first counts, as for the machine."""
        complaints: list[str] = []
        shadow: dict[str, ShadowLine] = {}
        # Comments of old files may be in any encoding.
        for path, text in zip(self.paths[1:], octets[1:], strict=True):
            for hidden in each_line(path, text, parse_shadow_line, complaints, "surrogateescape"):
                shadow.setdefault(hidden.name, hidden)
        users: dict[str, PasswdLine] = {}
        for user in each_line(self.paths[0], octets[0], parse_passwd_line, complaints, "surrogateescape"):
            users.setdefault(user.name, user)
        entries = {user.name: self._entry(user, shadow) for user in users.values() if user.uid >= self._minimum_uid}
        return Parsed(entries, tuple(complaints))

    def _entry(self, user: PasswdLine, shadow: Mapping[str, ShadowLine]) -> _Entry:
        hidden = shadow.get(user.name)
        if user.stored != _IN_SHADOW:
            stored, closed = user.stored, _closed(user.stored)
        elif hidden is not None:
            stored, closed = hidden.stored, _closed(hidden.stored)
        else:
            stored, closed = "", "password is in no shadow file"
        account = Account(user.name, self.name, home=user.home, uid=user.uid, gid=user.gid)
        # With its scheme in front, so that a "{PLAIN}" in the file is not taken for one.
        return _Entry(account, "" if closed else f"{{CRYPT}}{stored}", closed, hidden)
