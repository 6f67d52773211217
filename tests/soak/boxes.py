"""
The mailboxes of the soak: which server has them, where their mail lies, and which accounts source knows their owners.

Limits: the owners of mail of a server whose sessions run as them have user ids of their own, which need no entry in
/etc/passwd.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from tests.integration.mariadb import MariaDB
from tpops.cred import sqlite

PASSWORD = "soak's secret"

#: The servers: with workers; with sessions that run as the owners of the mail; with TPOPS' tables; of one process.
WORKERS, OWNERS, CLASSIC, SINGLE = "workers", "owners", "classic", "single"

SITES = (WORKERS, OWNERS, CLASSIC, SINGLE)

#: Whose of ten mailboxes they are.
_SHARES = (WORKERS, OWNERS, CLASSIC, SINGLE, WORKERS, OWNERS, WORKERS, CLASSIC, SINGLE, OWNERS)

#: Kinds of mail, and accounts sources.
_KINDS: Mapping[str, Sequence[str]] = {
    WORKERS: ("maildir", "mbox", "mysql"),
    OWNERS: ("maildir", "mbox"),
    CLASSIC: ("classic",),
    SINGLE: ("maildir", "mbox", "mysql"),
}
_SOURCES: Mapping[str, Sequence[str]] = {
    WORKERS: ("passwd_file", "sqlite", "mysql"),
    OWNERS: ("passwd_file", "sqlite"),
    CLASSIC: ("classic",),
    SINGLE: ("passwd_file", "sqlite", "mysql"),
}

#: The user id of the first owner.
_FIRST_UID = 61_000


@attrs.frozen
class Box:
    """
    A mailbox.

    @ivar site: one of L{SITES}
    @ivar kind: "maildir", "mbox", "mysql" (schema v2) or "classic" (TPOPS' tables)
    @ivar source: where the account is: "passwd_file", "sqlite", "mysql" or "classic"
    @ivar path: of the Maildir or spool
    @ivar on_small_disk: whether it is on the disk that becomes full
    @ivar uid: the owner's user and group id, where sessions run as the owner
    """

    name: str
    site: str
    kind: str
    source: str
    path: Path
    on_small_disk: bool
    uid: int | None = None

    @property
    def location(self) -> str:
        """As the accounts say it."""
        return "mysql:" if self.kind in ("mysql", "classic") else f"{self.kind}:{self.path}"

    def make(self, group: int) -> None:
        """
        The directories and the spool.

        @param group: that may make files where the spools are
        """
        if self.kind == "maildir":
            for part in ("", "tmp", "new", "cur"):
                (self.path / part).mkdir(mode=0o700, parents=True)
                self.own(self.path / part)
        elif self.kind == "mbox":
            if not self.path.parent.exists():
                self.path.parent.mkdir(parents=True)
                if self.uid is not None:
                    os.chown(self.path.parent, 0, group)
                    self.path.parent.chmod(0o775)
            self.path.touch(0o600)
            self.own(self.path)
        if self.uid is not None:
            self.home.mkdir(mode=0o700, exist_ok=True, parents=True)
            self.own(self.home)

    @property
    def home(self) -> Path:
        """The owner's home directory."""
        return self.path.parent.parent / "homes" / self.name

    def own(self, path: Path) -> None:
        """Give something to the owner."""
        if self.uid is not None:
            os.chown(path, self.uid, self.uid)


def boxes(count: int, directory: Path, small: Path | None, left_out: Iterable[str]) -> list[Box]:
    """
    So many mailboxes.

    @param directory: in which each site has a directory
    @param small: where the disk is that becomes full
    @param left_out: sites that there are none for
    """
    shares = [site for site in _SHARES if site not in left_out]
    made = []
    number = dict.fromkeys(SITES, 0)
    for site, uid in zip(itertools.islice(itertools.cycle(shares), count), itertools.count(_FIRST_UID), strict=False):
        there, number[site] = number[site], number[site] + 1
        kind, again = _KINDS[site][there % len(_KINDS[site])], there // len(_KINDS[site])
        source = _SOURCES[site][again % len(_SOURCES[site])]
        on_small = kind == "maildir" and again % 2 == 1 and small is not None
        place = (
            (small if on_small and small is not None else directory)
            / site
            / ("spools" if kind == "mbox" else "maildirs")
        )
        name = f"{site}{there}"
        made.append(Box(name, site, kind, source, place / name, on_small, uid if site == OWNERS else None))
    return made


def in_file(path: Path, owners: Iterable[Box]) -> None:
    """Their accounts in a password file."""
    lines = []
    for box in owners:
        ids, home = (":", "/nowhere") if box.uid is None else (f"{box.uid}:{box.uid}", box.home)
        lines.append(f"{box.name}:{{PLAIN}}{PASSWORD}:{ids}::{home}::userdb_mail={box.location}\n")
    path.touch(0o600)
    path.write_text("".join(lines))


def in_sqlite(path: Path, owners: Iterable[Box]) -> None:
    """Their accounts in SQLite."""
    sqlite.create(str(path))
    with contextlib.closing(sqlite3.connect(path)) as accounts:
        for box in owners:
            home = "" if box.uid is None else str(box.home)
            accounts.execute(
                "INSERT INTO users (name, maildrop, password_hash, home, uid, gid, created_at, changed_at) "
                "VALUES (?, ?, ?, ?, ?, ?, 0, 0)",
                (box.name, box.location, f"{{PLAIN}}{PASSWORD}", home, box.uid, box.uid),
            )
        accounts.commit()


def in_database(mariadb: MariaDB, database: str, owners: Iterable[Box]) -> None:
    """Their accounts in MySQL: in TPOPS' tables or our own."""
    with mariadb.connection(database) as connection:
        cursor = connection.cursor()
        for box in owners:
            if box.source == "classic":
                cursor.execute(
                    "INSERT INTO user (login, passwd, mail, quota) VALUES (%s, %s, %s, 0)",
                    (box.name, PASSWORD, box.name),
                )
            else:
                cursor.execute(
                    "INSERT INTO tpops_user (name, maildrop, password_hash, created_at, changed_at) "
                    "VALUES (%s, %s, %s, 0, 0)",
                    (box.name, box.location, f"{{PLAIN}}{PASSWORD}"),
                )
