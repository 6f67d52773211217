"""
Login names and their secrets in a lookup table of Postfix: what TPOPS and ipop3d with APOP had beside the accounts.

Purpose: one table, key = login name, value = secret, serves PASS, APOP, CRAM-MD5 and SCRAM:

    secret            as it is; octets that are not UTF-8 are as good as others
    {PLAIN}secret     the same, for secrets that begin with "{", "!" or "*"
    {SCHEME}data      any other scheme of tpops.cred.schemes, for PASS and what the scheme can prove
    !... or *...      nobody logs in, and the log says that the password is locked; so with an empty value

One NUL at the end of key or value is no part of it: postmap writes it into some kinds of tables, TPOPS before 0.6 did,
others did not.  Where the accounts are those of the machine, passwd(5) has home, uid and gid, read without the name
service, and who is not in it does not exist.
Limits: keys are login names in their canonical form (see tpops.cred.names), in lower case as postmap makes them.  The
table is in memory as a whole, and read again when it has changed (see tpops.cred.watched).
Errors: a table that is damaged, or has secrets that everybody on the machine may read, is LookupUnavailable as a whole.
An entry that cannot be used is told and passed over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

from zope.interface import implementer

from tpops.cred import schemes
from tpops.cred.names import of_machine
from tpops.cred.shadow import PasswdLine, parse_passwd_line
from tpops.cred.source import Means, PasswordSource, Record, has_secret
from tpops.cred.tables.entries import BadEntry, Damaged, Pair
from tpops.cred.tables.kinds import file_of, split
from tpops.cred.watched import BadLine, Parsed, WatchedFiles, each_line, open_to_all, readable_by_all
from tpops.errors import UnknownUser
from tpops.interfaces import IAccounts
from tpops.model import Account

#: Bad entries that are told one by one.
_TOLD = 20

#: Keys that other programs put into tables and that are nobody's name.
_NO_NAMES = frozenset((b"@", b"YP_LAST_MODIFIED", b"YP_MASTER_NAME"))

_BRACES = re.compile(rb"\{([A-Za-z0-9_.-]*)\}")

_PLAIN = schemes.by_name("PLAIN")


def stored(value: bytes) -> tuple[str, str]:
    """
    A stored password, with its scheme, of a table's value; and what the log says where it does not match.

    @raise BadLine: when it cannot be used
    """
    if not value:
        return "", "password is empty"
    if value[:1] in (b"!", b"*"):
        return "!", "password is locked"
    label = _BRACES.match(value)
    if label is None:
        return schemes.render(_PLAIN, value), "wrong password"
    scheme = label[1].decode("ascii")
    try:
        schemes.by_name(scheme.partition(".")[0])
        return value.decode("utf-8"), "wrong password"
    except schemes.UnknownScheme:
        # It may be a hash: as a secret it would be the password of whoever has seen it.
        raise BadLine(f"unknown password scheme {{{scheme}}}; write {{PLAIN}} before a secret with a brace") from None
    except UnicodeDecodeError:
        raise BadLine("value is not UTF-8") from None


def _name(key: bytes) -> str:
    try:
        name = key.decode("utf-8")
    except UnicodeDecodeError:
        raise BadLine("key is not UTF-8") from None
    if not name or not name.isprintable():
        raise BadLine("key is empty or has control characters")
    if name.endswith(":"):
        raise BadLine('key ends with ":", as in an alias file')
    return name


@implementer(IAccounts)
class ApopTable(PasswordSource):
    """
    Accounts of one table.

    @param table: kind and path as Postfix names them, such as "hash:/etc/tpops/apop"
    @param system_users: whether the accounts are those of the machine
    @param passwd_path: where they are
    @param domains: those of the machine; a name with another one is none of its accounts
    @param minimum_uid: accounts of the machine with a lower uid do not exist here
    """

    hint = "let the server's group read it: chgrp GROUP and chmod 0640, for the text that postmap makes it of as well"

    def __init__(
        self,
        name: str,
        means: Means,
        table: str,
        system_users: bool = False,
        passwd_path: str = "/etc/passwd",  # noqa: S107
        domains: Sequence[str] = (),
        minimum_uid: int = 1000,
    ) -> None:
        path = file_of(table)
        super().__init__(name, means, (path, passwd_path) if system_users else (path,))
        kind, self._text_path = split(table)
        self._read = kind.read
        self._system_users = system_users
        self._domains = frozenset(domains)
        self._split = means.split
        self._minimum_uid = minimum_uid
        self._files = WatchedFiles(self.paths, self._parse, means.run_in_thread, means.seconds, self.hint, (path,))

    def record(self, name: str) -> Record:
        """See L{PasswordSource.record}."""
        entries = self._files.entries()
        try:
            return entries[of_machine(name, self._domains, self._split) if self._system_users else name]
        except KeyError:
            raise UnknownUser(f"not in {self.name}") from None

    def check(self) -> list[str]:
        """See L{PasswordSource.check}; also the text that the table was made of, where it lies beside it."""
        parsed = self._files.read()
        problems = list(parsed.complaints)
        has_secrets = any(map(has_secret, parsed.entries.values()))
        if has_secrets and os.path.exists(self._text_path) and readable_by_all(self._text_path):
            problems.append(open_to_all(self._text_path))
        return problems

    def records(self) -> Iterator[Record]:
        """See L{PasswordSource.records}."""
        return iter(self._files.read().entries.values())

    def _parse(self, octets: Sequence[bytes]) -> Parsed[Record]:
        path = self.paths[0]
        complaints: list[str] = []
        users = self._users(octets[1], complaints) if len(octets) > 1 else None
        records: dict[str, Record] = {}
        try:
            for entry in self._read(octets[0]):
                try:
                    record = self._record(entry, users)
                except BadLine as error:
                    complaints.append(f"{path}{_where(entry)}: {error}")
                else:
                    if record is not None:
                        records.setdefault(record.account.name, record)
        except Damaged as error:
            return Parsed(unusable=f"{path} is damaged, or is being written: {error}")
        if any(map(has_secret, records.values())) and readable_by_all(path):
            return Parsed(unusable=open_to_all(path))
        return Parsed(records, _some(complaints, path))

    def _users(self, octets: bytes, complaints: list[str]) -> dict[str, PasswdLine]:
        """The machine's accounts; of several lines for one name the first counts, as for the machine."""
        users: dict[str, PasswdLine] = {}
        for user in each_line(self.paths[1], octets, parse_passwd_line, complaints, "surrogateescape"):
            users.setdefault(user.name, user)
        return users

    def _record(self, entry: Pair | BadEntry, users: Mapping[str, PasswdLine] | None) -> Record | None:
        """
        The record of an entry; None for one that is nobody's.

        @raise BadLine: when it cannot be used
        """
        if isinstance(entry, BadEntry):
            raise BadLine(entry.why)
        key, value = (octets.removesuffix(b"\0") for octets in entry)
        if key in _NO_NAMES:
            return None
        name = _name(key)
        password_hash, why_wrong = stored(value)
        if users is None:
            account = Account(name, self.name)
        else:
            user = users.get(name)
            if user is None or user.uid < self._minimum_uid:
                raise BadLine(f"{self.paths[1]} has no such account with a uid of {self._minimum_uid} or more")
            account = Account(name, self.name, home=user.home, uid=user.uid, gid=user.gid)
        return Record(account, password_hash, why_wrong=why_wrong)


def _where(entry: Pair | BadEntry) -> str:
    """Where an entry is, without what is secret of it."""
    if isinstance(entry, BadEntry):
        return f":{entry.line}"
    return f": entry {entry[0].removesuffix(bytes(1)).decode('utf-8', 'replace')!r}"


def _some(complaints: Sequence[str], path: str) -> tuple[str, ...]:
    """The first of them, and how many more there are."""
    more = len(complaints) - _TOLD
    rest = (f"{path}: {more} more entries that cannot be used",) if more > 0 else ()
    return (*complaints[:_TOLD], *rest)
