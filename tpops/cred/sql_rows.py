"""
From a row of a query to an account.

Purpose: columns are found by their names (SELECT x AS password), or by their position where the configuration names
them:

    password    needed: "{SCHEME}data", or in the scheme of the configuration; NULL and "" let nobody in
    name        the account's name, where it is not the one that was asked for
    maildrop    "maildir:/path", "mysql:", "proxy:host", or a path, which is below the configured base where it is
                relative; NULL and "" are none
    type        what a path is: "maildir" or "bsd" (also "mbox"); "maildir" where there is no such column
    home        home directory
    uid, gid    numbers
    unix_user   user of this machine, by name or number, for uid, gid and home where no column has them
    enabled     whether he may log in: 1, 0, and some words; NULL is no
    quota_octets, quota_messages    most octets and messages of his mail, 0 for any; NULL is what is configured
    proxy_user, proxy_password    the account's at another server that has its mail; NULL and "" are none

Some other names that tables use are known too (L{_ALIASES}).  A name that is not known is an error: it may have been
meant to keep somebody out.
Errors: ValueError, for the operator; passwords are not in it.
"""

from __future__ import annotations

import pwd
from collections.abc import Callable, Sequence

import attrs

from tpops.cred import schemes
from tpops.cred.legacy_schemes import TPOPS_MODES, from_tpops
from tpops.cred.source import Record
from tpops.db.account_columns import COLUMNS, IGNORED
from tpops.model import Account, Elsewhere

_ALIASES = {
    "passwd": "password",
    "password_hash": "password",
    "login": "name",
    "user": "name",
    "username": "name",
    "mailbox": "maildrop",
    "maildir": "maildrop",
    "mailbox_type": "type",
    "active": "enabled",
    "quota": "quota_octets",
}

_YES = frozenset(("1", "y", "yes", "t", "true", "on"))
_NO = frozenset(("0", "n", "no", "f", "false", "off", ""))

_TYPES = {"maildir": "maildir", "bsd": "mbox", "mbox": "mbox"}

#: How a location begins that is more than a path.
_LOCATIONS = ("maildir:", "mbox:", "mysql:", "proxy:")

#: TPOPS' own word for what the configuration says of passwords without "{SCHEME}".
_MODES = {word: mode for mode, word in TPOPS_MODES.items()}


def stored_password(text: str, scheme: str) -> str:
    """A password as it is in the database, with its scheme in front."""
    if not text or scheme == "auto" or _labelled(text):
        return text
    return f"{{MYSQL}}{text}" if scheme == "mysql" else from_tpops(_MODES[scheme], text)


def _labelled(text: str) -> bool:
    """Whether it begins with a scheme that there is, rather than with a brace."""
    label, closed, _ = text.partition("}")
    try:
        schemes.by_name(label[1:].partition(".")[0] if closed and label.startswith("{") else "")
    except schemes.UnknownScheme:
        return False
    return True


def meanings(columns: Sequence[str], positions: Sequence[str] = ()) -> tuple[str, ...]:
    """
    What the columns of a result are, in order.

    @param columns: their names, as the server gives them
    @param positions: what the configuration calls them, () for nothing
    @raise ValueError: when a column is missing, unknown, or there twice
    """
    if positions and len(positions) != len(columns):
        raise ValueError(f"the query gives {len(columns)} columns, and `columns` names {len(positions)}")
    found = tuple(_meaning(one) for one in positions or columns)
    for one in found:
        if one != IGNORED and found.count(one) > 1:
            raise ValueError(f"the query gives {one} twice")
    if "password" not in found:
        raise ValueError(f"the query gives no column password, but {', '.join(columns)}; name it: SELECT x AS password")
    return found


def _meaning(column: str) -> str:
    name = column.lower()
    name = _ALIASES.get(name, name)
    if name not in COLUMNS and name != IGNORED:
        shown = "".join(sign if sign.isprintable() else "?" for sign in column[:64])
        raise ValueError(
            f"the query gives the column {shown}, which means nothing here; leave it out, or name it by "
            f'"AS" or `columns` as one of {", ".join(COLUMNS)}'
        )
    return name


@attrs.frozen
class Rows:
    """
    Makes records of one source.

    @ivar driver: the source's name
    @ivar split: local part and domain of a name
    @ivar exact: whether a "name" must be the one that was asked for; letters may be large or small, and the sign before
        the domain another one
    @ivar scheme: what passwords without "{SCHEME}" are
    @ivar base: directory of relative paths, "" for none
    @ivar positions: what the columns are called, () for what the query calls them
    """

    driver: str
    split: Callable[[str], tuple[str, str]]
    exact: bool
    scheme: str = "auto"
    base: str = ""
    positions: tuple[str, ...] = ()

    def record(self, asked: str, columns: Sequence[str], row: Sequence[object]) -> Record | None:
        """
        The record of a row; None when it is of somebody else, whom the database takes for the same.

        May look into the machine's user database.

        @raise ValueError: when the row cannot be used
        """
        values = dict(zip(meanings(columns, self.positions), row, strict=True))
        name = _text(values, "name") or asked
        if self.exact and self._parts(name) != self._parts(asked):
            return None
        self._refuse_name(name)
        uid, gid, home = _number(values, "uid"), _number(values, "gid"), _text(values, "home") or None
        unix_user = _text(values, "unix_user")
        if unix_user:
            entry = _unix_user(unix_user)
            uid = entry.pw_uid if uid is None else uid
            gid = entry.pw_gid if gid is None else gid
            home = home or entry.pw_dir
        account = Account(
            name,
            self.driver,
            home=home,
            maildrop=self._maildrop(values),
            uid=uid,
            gid=gid,
            quota_octets=_number(values, "quota_octets"),
            quota_messages=_number(values, "quota_messages"),
        )
        stored = stored_password(_text(values, "password"), self.scheme)
        enabled = _truth(values["enabled"]) if "enabled" in values else True
        why_wrong = "wrong password" if stored else "password is NULL or empty"
        return Record(account, stored, enabled, why_wrong=why_wrong, elsewhere=_elsewhere(values))

    def _parts(self, name: str) -> tuple[str, str]:
        local_part, domain = self.split(name.lower())
        return local_part, domain

    def _refuse_name(self, name: str) -> None:
        """A name from a database goes into paths as one from a client does."""
        if not name.isprintable() or "/" in name or {".", ".."} & {name, *self.split(name)}:
            raise ValueError("the query gives a name that would be dangerous in a path")

    def _maildrop(self, values: dict[str, object]) -> str | None:
        path = _text(values, "maildrop")
        kind = _text(values, "type").lower() or "maildir"
        if kind not in _TYPES:
            raise ValueError(f"the query gives the type {kind!r}; there are {', '.join(_TYPES)}")
        if not path:
            return None
        if path.startswith(_LOCATIONS):
            return path
        if not path.startswith(("/", "~/", "$(home)/")):
            if not self.base:
                raise ValueError("the query gives a relative path as maildrop; set `maildrop_base`")
            path = f"{self.base.rstrip('/')}/{path}"
        return f"{_TYPES[kind]}:{path.rstrip('/')}"


def _elsewhere(values: dict[str, object]) -> Elsewhere | None:
    user, password = _text(values, "proxy_user"), _text(values, "proxy_password")
    if not user and not password:
        return None
    return Elsewhere(user or None, password.encode() if password else None)


def _text(values: dict[str, object], name: str) -> str:
    """A column as text, "" for NULL or none."""
    value = values.get(name)
    if value is None:
        return ""
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"the query gives a {name} that is not UTF-8") from None
    if not isinstance(value, str | int):
        raise ValueError(f"the query gives a {name} that is no text")
    return str(value)


def _number(values: dict[str, object], name: str) -> int | None:
    text = _text(values, name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        hint = "; a user's name goes into unix_user" if name in ("uid", "gid") else ""
        raise ValueError(f"the query gives a {name} that is no number{hint}")
    return int(text)


def _truth(value: object) -> bool:
    if value is None:
        return False
    word = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    word = {"\0": "0", "\1": "1"}.get(word, word).lower()
    if word not in _YES | _NO:
        raise ValueError("the query gives an enabled that is neither yes nor no")
    return word in _YES


def _unix_user(text: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(text)) if text.isascii() and text.isdigit() else pwd.getpwnam(text)
    except KeyError:
        raise ValueError(f"the query gives the unix_user {text!r}, whom this machine does not know") from None
