"""A MariaDB of the benchmark's own, and the tpops whose accounts and mail are in it.

The database has Debian's defaults, durability included, apart from a buffer pool of a server's size, and no network:
its socket, its data and its passwords are below the scratch directory and go with the run.  Mail gets into it from the
Maildirs that the other servers are given, in bulk; nothing changes it afterwards, so each set is stored once a run.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.mail import EPOCH, digest, true_octets
from benchmarks.measure import Tree
from benchmarks.peer import Site
from benchmarks.peers import REPOSITORY, Tpops

PROGRAMS = ("mariadbd", "mariadb-install-db", "mariadb")

#: The tables that tpops makes, by schema.
SCHEMAS = {"v2": ("mysql-v2-accounts", "mysql-v2-mail"), "classic": ("mysql-classic",)}

#: What is not as the package has it.
OPTIONS = ("--innodb-buffer-pool-size=512M", "--skip-networking", "--skip-name-resolve")

#: What a reader has to know about the database.
TOLD = (
    "version",
    "innodb_flush_log_at_trx_commit",
    "innodb_doublewrite",
    "innodb_buffer_pool_size",
    "log_bin",
    "performance_schema",
    "query_cache_type",
)

#: Counters of the server that are statements of a client; a prepared statement would be another one.
COUNTED = ("Questions", "Com_select", "Com_insert", "Com_update", "Com_delete", "Com_begin", "Com_commit")

_ROWS = 1000


class Database:
    """The server, for the length of a `with` block; `tree` has its processor time."""

    def __init__(self, scratch: Path, pinned: bool) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix="mariadb-", dir=scratch))
        self.socket = self.directory / "socket"
        self.password = secrets.token_hex(12)
        self.tree = Tree("mariadb", 0 if pinned else None)
        self._connection: Any = None
        self._filled: set[str] = set()

    def __enter__(self) -> Database:
        try:
            self._install()
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self.tree.end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _places(self) -> list[str]:
        given = [f"--datadir={self.directory / 'data'}", f"--tmpdir={self.directory}"]
        return [*given, "--user=mysql"] if os.geteuid() == 0 else given

    def _install(self) -> None:
        self.directory.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(self.directory, "mysql")
        argv = ["mariadb-install-db", "--no-defaults", *self._places()]
        argv += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"mariadb-install-db: {done.stdout} {done.stderr}")

    def _start(self) -> None:
        argv = ["mariadbd", "--no-defaults", *self._places(), f"--socket={self.socket}", *OPTIONS]
        argv.append(f"--pid-file={self.directory / 'pid'}")
        self.tree.start(argv, self.directory, self.directory / "output", dict(os.environ))
        self._connection = self._connected()
        for statement in (
            f"SET PASSWORD FOR root@localhost = PASSWORD('{self.password}')",
            "DELETE FROM mysql.global_priv WHERE User = ''",
            f"CREATE USER tpops@localhost IDENTIFIED BY '{self.password}'",
            "FLUSH PRIVILEGES",
        ):
            self.run(statement)

    def _connected(self) -> Any:
        import MySQLdb  # it is there only where tpops was installed with [mysql]

        give_up = time.monotonic() + 60
        while True:
            try:
                return MySQLdb.connect(
                    unix_socket=str(self.socket), user="root", charset="utf8mb4", autocommit=True, binary_prefix=True
                )
            except MySQLdb.Error:
                ended = self.tree.process is not None and self.tree.process.poll() is not None
                if ended or time.monotonic() > give_up:
                    text = (self.directory / "output").read_text(errors="replace")
                    raise OSError(f"mariadbd does not answer: {text[-600:]}") from None
                time.sleep(0.05)

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def _many(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(statement, rows)

    def told(self) -> str:
        """Its settings in words."""
        names = ", ".join(f"'{name}'" for name in TOLD)
        rows = dict(self.run(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})"))
        return ", ".join(f"{name} = {rows[name]}" for name in TOLD if name in rows)

    def counters(self) -> dict[str, float]:
        """How much it has done so far, for others than us."""
        names = ", ".join(f"'{name}'" for name in COUNTED)
        found = dict(self.run(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({names})"))
        counted = {name: float(found[name]) for name in COUNTED}
        self._asked = getattr(self, "_asked", 0) + 1
        counted["Questions"] -= self._asked
        return {**counted, "database_cpu_seconds": self.tree.cpu_seconds()}

    # Mail.

    def fill(self, schema: str, site: Site) -> str:
        """Tables with the accounts and the mail of a site; the name of their database."""
        name = f"{schema}_{site.users}x{site.messages}"
        if name in self._filled:
            return name
        self.run(f"DROP DATABASE IF EXISTS {name}")
        self.run(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        self.run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO tpops@localhost")
        for part in SCHEMAS[schema]:
            self._script(REPOSITORY / "tpops" / "db" / "schema" / f"{part}.sql", name)
        self.run(f"USE {name}")
        self.run("SET foreign_key_checks = 0")
        self.run("START TRANSACTION")
        (self._fill_v2 if schema == "v2" else self._fill_classic)(site)
        self.run("COMMIT")
        for (table,) in self.run("SHOW TABLES"):
            self.run(f"ANALYZE TABLE {table}")
        self._settle()
        self._filled.add(name)
        return name

    def _script(self, path: Path, database: str) -> None:
        argv = ["mariadb", "--no-defaults", f"--socket={self.socket}", "--user=root", database]
        environment = dict(os.environ, MYSQL_PWD=self.password)
        with open(path, "rb") as file:
            done = subprocess.run(argv, stdin=file, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"{path}: {done.stderr}")

    def _fill_v2(self, site: Site) -> None:
        users = range(1, site.users + 1)
        accounts = [(user, f"user{user - 1:04d}", f"{{PLAIN}}pw{user - 1:04d}") for user in users]
        sql = "INSERT INTO tpops_user (id, name, password_hash, created_at, changed_at) VALUES (%s, %s, %s, 0, 0)"
        self._many(sql, accounts)
        self._many("INSERT INTO tpops_lease (mailbox) VALUES (%s)", [(user,) for user in users])
        content = 0
        for user in users:
            messages = octets = 0
            for batch in _batches(site, user - 1):
                ids = range(content + 1, content + 1 + len(batch))
                content += len(batch)
                places = list(zip(ids, batch, strict=True))
                sql = "INSERT INTO tpops_content (id, octets) VALUES (%s, %s)"
                self._many(sql, [(number, len(text)) for number, text in places])
                sql = "INSERT INTO tpops_chunk (content, part, data) VALUES (%s, 0, %s)"
                self._many(sql, [(number, text) for number, text in places])
                rows = []
                for number, text in places:
                    messages, octets = messages + 1, octets + len(text)
                    unique_id = f"{messages:x}.{digest(text)}".encode()
                    rows.append((user, messages, true_octets(text), unique_id, number, EPOCH + messages))
                sql = (
                    "INSERT INTO tpops_message (mailbox, sequence, wire_octets, unique_id, content, received_at) "
                    "VALUES (%s, %s, %s, %s, %s, %s)"
                )
                self._many(sql, rows)
            sql = (
                "INSERT INTO tpops_mailbox (id, name, next_sequence, messages, octets, created_at) "
                "VALUES (%s, %s, %s, %s, %s, 0)"
            )
            self._many(sql, [(user, f"user{user - 1:04d}", messages + 1, messages, octets)])

    def _fill_classic(self, site: Site) -> None:
        users = range(1, site.users + 1)
        accounts = [(user, f"user{user - 1:04d}", f"pw{user - 1:04d}", f"user{user - 1:04d}") for user in users]
        self._many("INSERT INTO user (uid, login, passwd, mail, quota) VALUES (%s, %s, %s, %s, 0)", accounts)
        sql = "INSERT INTO msg (uid, timestamp, header, body, size) VALUES (%s, FROM_UNIXTIME(%s), %s, %s, %s)"
        for user in users:
            number = EPOCH
            for batch in _batches(site, user - 1):
                rows: list[tuple[Any, ...]] = []
                for text in batch:
                    number += 1
                    rows.append((user, number, *_split(text), true_octets(text)))
                self._many(sql, rows)

    def _settle(self) -> None:
        """Let it write to the disk what it would otherwise write while something is measured."""
        self.run("SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0.001")
        self.run("SET GLOBAL innodb_max_dirty_pages_pct = 0")
        give_up = time.monotonic() + 60
        last = -1.0
        while time.monotonic() < give_up:
            used = self.tree.cpu_seconds()
            if used - last < 0.005:
                break
            last = used
            time.sleep(0.2)
        self.run("SET GLOBAL innodb_max_dirty_pages_pct_lwm = DEFAULT")
        self.run("SET GLOBAL innodb_max_dirty_pages_pct = DEFAULT")


def _batches(site: Site, user: int) -> Iterator[list[bytes]]:
    """The messages of a user in the order of their names, some at a time."""
    current = site.mail / f"user{user:04d}" / "Maildir" / "cur"
    names = sorted(os.listdir(current))
    for first in range(0, len(names), _ROWS):
        yield [(current / name).read_bytes() for name in names[first : first + _ROWS]]


def _split(text: bytes) -> tuple[bytes, bytes]:
    """Header and body as TPOPS keeps them: line ends are LF, the blank line is in neither."""
    header, _, body = text.replace(b"\r\n", b"\n").partition(b"\n\n")
    return header + b"\n", body


class TpopsOnDatabase(Tpops):
    """Accounts in the database; the mail is there, too, or in Maildirs."""

    kinds = frozenset(("maildir",))

    def __init__(self, name: str, database: Database, schema: str, mail_in_it: bool) -> None:
        self.name = name
        self._database = database
        self._schema = schema
        self._mail_in_it = mail_in_it
        if mail_in_it:
            self.configuration = f'{Tpops.configuration}\n[mysql]\nschema = "{schema}"\n'

    def accounts(self, site: Site) -> str:
        """See Tpops."""
        password = site.directory / "database-password"
        password.write_text(self._database.password)
        password.chmod(0o600)
        return "\n".join(
            (
                'driver = "mysql"',
                f'servers = ["unix:{self._database.socket}"]',
                'user = "tpops"',
                f'password_file = "{password}"',
                f'database = "{self._database.fill(self._schema, site)}"',
                f'preset = "tpops-{self._schema}"',
            )
        )

    def location(self, site: Site) -> str:
        """See Tpops."""
        return "mysql:" if self._mail_in_it else super().location(site)

    def counters(self) -> dict[str, float]:
        """See Peer: statements, and the database's processor time."""
        return self._database.counters()


class TpopsOnFile(Tpops):
    """The tpops of `benchmarks/run`, under a name that says what is different here."""

    name = "maildir-file"
