"""
Accounts in a text file, in the format of Dovecot's passwd-file.

Purpose: one line per account, read when the file has changed; no tool is needed to edit it:

    user:{SCHEME}hash:uid:gid:gecos:home:shell:extra

Fields at the end may be missing.  Lines that start with "#" and blank lines are skipped; of several lines for one
user the first counts.  Extra fields are separated by spaces; "nologin" disables the account,
"userdb_mail=maildir:/path" and "userdb_home=/path" say where the mail and the home are; "proxy_user=name" and
"proxy_password=word" (without spaces) are the account's at another server, where its mail is there.
Limits: user names must be written in their canonical form (see tpops.cred.names).  A change of the file may be
seen a second late (see tpops.cred.watched).
Known deviations: a line with "allow_nets" is refused, since addresses are not looked at here and the line would let
in more than its author meant.  Other extra fields are ignored.
Errors: bad lines are logged and skipped, a quota that cannot be read is logged and is the configured one; a file that
cannot be read is LookupUnavailable.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Iterator, Sequence

from zope.interface import implementer

from tpops.cred import quota_rules
from tpops.cred.source import Means, PasswordSource, Record, has_secret
from tpops.cred.watched import BadLine, Parsed, WatchedFiles, each_line, open_to_all, readable_by_all
from tpops.errors import UnknownUser
from tpops.interfaces import IAccounts
from tpops.model import Account, Elsewhere

#: Fields of a line: user, password, uid, gid, gecos, home, shell, extra.
_FIELDS = 8


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


def _elsewhere(extra: dict[str, str]) -> Elsewhere | None:
    user, password = extra.get("proxy_user"), extra.get("proxy_password")
    if not user and not password:
        return None
    return Elsewhere(user or None, password.encode() if password else None)


def _quota(user: str, extra: dict[str, str], complain: Callable[[str], None]) -> tuple[int | None, int | None]:
    """Octets and messages, of all rules that there are."""
    octets = messages = None
    for key, value in extra.items():
        if key.startswith("userdb_quota_rule"):
            try:
                more = quota_rules.parse(value)
            except ValueError as problem:
                complain(f"{user}: {problem}; the configured quota counts")
                continue
            octets = more[0] if more[0] is not None else octets
            messages = more[1] if more[1] is not None else messages
    return octets, messages


def parse_line(line: str, driver: str, complain: Callable[[str], None] = lambda problem: None) -> Record | None:
    """
    The record of one line; None for a comment or a blank line.

    @param complain: told what is wrong in a line that can be used all the same
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
    quota_octets, quota_messages = _quota(user, extra, complain)
    account = Account(
        name=user,
        driver=driver,
        home=extra.get("userdb_home") or home or None,
        maildrop=extra.get("userdb_mail") or None,
        uid=_number(uid, "uid", lambda name: pwd.getpwnam(name).pw_uid),
        gid=_number(gid, "gid", lambda name: grp.getgrnam(name).gr_gid),
        quota_octets=quota_octets,
        quota_messages=quota_messages,
    )
    return Record(account, password_hash, enabled="nologin" not in extra, elsewhere=_elsewhere(extra))


@implementer(IAccounts)
class PasswdFile(PasswordSource):
    """
    Accounts of one passwd-file.

    @param path: the file
    """

    def __init__(self, name: str, means: Means, path: str) -> None:
        super().__init__(name, means, (path,))
        self._broken: frozenset[str] = frozenset()
        self._files = WatchedFiles(self.paths, self._parse, means.run_in_thread, means.seconds)

    def record(self, name: str) -> Record:
        """See L{PasswordSource.record}."""
        try:
            return self._files.entries()[name]
        except KeyError:
            raise UnknownUser(f"not in {self.name}") from None

    def unsure_of(self, name: str) -> str:
        """See L{Source.unsure_of}."""
        return f"has a line for {name} that cannot be used" if name in self._broken else ""

    def check(self) -> list[str]:
        """See L{PasswordSource.check}; also whether everybody may read passwords."""
        parsed = self._files.read()
        path = self.paths[0]
        exposed = any(map(has_secret, parsed.entries.values())) and readable_by_all(path)
        return [*parsed.complaints, *((open_to_all(path),) if exposed else ())]

    def records(self) -> Iterator[Record]:
        """See L{PasswordSource.records}."""
        return iter(self._files.read().entries.values())

    def _parse(self, octets: Sequence[bytes]) -> Parsed[Record]:
        records: dict[str, Record] = {}
        complaints: list[str] = []
        broken: set[str] = set()

        def parse(line: str) -> Record | None:
            try:
                return parse_line(line, self.name, lambda problem: complaints.append(f"{self.paths[0]}: {problem}"))
            except BadLine:
                broken.add(line.partition(":")[0])
                raise

        for record in each_line(self.paths[0], octets[0], parse, complaints):
            records.setdefault(record.account.name, record)
        self._broken = frozenset(broken)
        return Parsed(records, tuple(complaints))
