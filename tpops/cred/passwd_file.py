"""
Accounts in a text file, in the format of Dovecot's passwd-file.

Purpose: one line per account, read when the file has changed; no tool is needed to edit it:

    user:{SCHEME}hash:uid:gid:gecos:home:shell:extra

Fields at the end may be missing.  Lines that start with "#" and blank lines are skipped; of several lines for one
user the first counts.  Extra fields are separated by spaces; "nologin" disables the account,
"userdb_mail=maildir:/path" and "userdb_home=/path" say where the mail and the home are.
Limits: user names must be written in their canonical form (see tpops.cred.names).  The file is looked at once a
second at most, so a change may be seen a second late; big files are read again in a thread, so a little later.
Known deviations: a line with "allow_nets" is refused, since addresses are not looked at here and the line would let
in more than its author meant.  Other extra fields are ignored.
Errors: bad lines are logged once for each load, with number and reason and never the hash, and skipped.  A file
that cannot be read is LookupUnavailable.
"""

from __future__ import annotations

import grp
import os
import pwd
import time
from collections.abc import Callable, Iterator, Mapping

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from tpops.cred.hashes import Verifier
from tpops.cred.source import PasswordSource, Record
from tpops.errors import LookupUnavailable, UnknownUser
from tpops.interfaces import IAccounts
from tpops.model import Account

#: Seconds between two looks at the file.
LOOK_SECONDS = 1.0

#: A file over this size is read again in a thread; the old accounts hold until it is done.
BIG_OCTETS = 256 * 1024

#: Fields of a line: user, password, uid, gid, gecos, home, shell, extra.
_FIELDS = 8


class BadLine(ValueError):
    """A line that cannot be used; the text says why."""


def _number(text: str, what: str, by_name: Callable[[str], int]) -> int | None:
    """A uid or gid, as a number or by name."""
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return by_name(text)
    except KeyError:
        raise BadLine(f"{what} is neither a number nor known on this machine") from None


def _extra(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for field in text.split():
        key, _, value = field.partition("=")
        fields.setdefault(key.lower(), value)
    return fields


def parse_line(line: str, driver: str) -> Record | None:
    """
    The record of one line; None for a comment or a blank line.

    @raise BadLine: when it cannot be used
    """
    if not line.strip() or line.startswith("#"):
        return None
    fields = line.split(":", _FIELDS - 1)
    if len(fields) == 1:
        raise BadLine("no colon after the user name")
    fields += [""] * (_FIELDS - len(fields))
    user, password_hash, uid, gid, _, home, _, rest = fields
    if not user or not user.isprintable():
        raise BadLine("user name is empty or has control characters")
    if "\0" in line:
        raise BadLine("line has a NUL")
    extra = _extra(rest)
    if "allow_nets" in extra:
        raise BadLine("allow_nets is not supported, the account stays closed")
    account = Account(
        name=user,
        driver=driver,
        home=extra.get("userdb_home") or home or None,
        maildrop=extra.get("userdb_mail") or None,
        uid=_number(uid, "uid", lambda name: pwd.getpwnam(name).pw_uid),
        gid=_number(gid, "gid", lambda name: grp.getgrnam(name).gr_gid),
    )
    return Record(account, password_hash, enabled="nologin" not in extra)


@attrs.frozen(slots=True)
class _Content:
    """What a file said: who it was, the accounts, and the bad lines."""

    identity: tuple[int, ...] = ()
    records: Mapping[str, Record] = attrs.field(factory=dict, repr=False)
    complaints: tuple[str, ...] = ()


_NOTHING = _Content()


def _identity(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _unreadable(path: str, error: Exception) -> LookupUnavailable:
    if isinstance(error, LookupUnavailable):
        return error
    return LookupUnavailable(f"cannot read {path}: {error.strerror if isinstance(error, OSError) else error}")


def _read(path: str, driver: str) -> _Content:
    """
    Read a whole file.

    @raise LookupUnavailable: when it cannot be read
    """
    try:
        with open(path, "rb") as file:
            identity = _identity(os.fstat(file.fileno()))
            octets = file.read()
    except OSError as error:
        raise _unreadable(path, error) from None
    records: dict[str, Record] = {}
    complaints: list[str] = []
    for number, raw in enumerate(octets.split(b"\n"), start=1):
        try:
            record = parse_line(raw.rstrip(b"\r").decode("utf-8"), driver)
        except UnicodeDecodeError:
            complaints.append(f"{path}:{number}: line is not UTF-8")
        except BadLine as error:
            complaints.append(f"{path}:{number}: {error}")
        else:
            if record is not None:
                records.setdefault(record.account.name, record)
    return _Content(identity, records, tuple(complaints))


@implementer(IAccounts)
class PasswdFile(PasswordSource):
    """
    Accounts of one passwd-file.

    @param path: the file
    @param seconds: the time, to look at the file once a second at most
    """

    log = Logger()

    def __init__(self, name: str, path: str, verifier: Verifier, seconds: Callable[[], float] = time.monotonic) -> None:
        super().__init__(name, verifier)
        self._path = path
        self._seconds = seconds
        self._look_at: float | None = None
        self._content = _NOTHING
        self._reading: Deferred[None] | None = None

    def record(self, name: str) -> Record:
        """See L{PasswordSource.record}."""
        now = self._seconds()
        if self._look_at is None or now >= self._look_at:
            self._refresh()
            self._look_at = now + LOOK_SECONDS
        try:
            return self._content.records[name]
        except KeyError:
            raise UnknownUser(f"not in {self.name}") from None

    def check(self) -> list[str]:
        """See L{PasswordSource.check}."""
        self._take(_read(self._path, self.name))
        return list(self._content.complaints)

    def records(self) -> Iterator[Record]:
        """See L{PasswordSource.records}."""
        self._take(_read(self._path, self.name))
        return iter(self._content.records.values())

    def _refresh(self) -> None:
        """Read the file again if it is not the one that was read last; a big one in a thread."""
        if self._reading is not None:
            return
        try:
            facts = os.stat(self._path)
            if _identity(facts) == self._content.identity:
                return
            if facts.st_size > BIG_OCTETS and self._content.records:
                self._reading = Deferred.fromCoroutine(self._read_later())
            else:
                self._take(_read(self._path, self.name))
        except (OSError, LookupUnavailable) as error:
            self._content = _NOTHING
            self._look_at = None
            raise _unreadable(self._path, error) from None

    async def _read_later(self) -> None:
        try:
            self._take(await self._verifier.run_in_thread(_read, self._path, self.name))
        except LookupUnavailable as error:
            self._content = _NOTHING
            self._look_at = None
            self.log.error("{reason}", reason=str(error))
        finally:
            self._reading = None

    def _take(self, content: _Content) -> None:
        for complaint in content.complaints:
            self.log.warn("{complaint}; line skipped", complaint=complaint)
        self._content = content
