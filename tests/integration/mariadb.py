"""
A private MariaDB for tests: a data directory below /tmp, a UNIX socket, and a TCP port on this machine.

The tables of the system are made once in a test run and copied for each server, so that a server is there within a
second.  Nothing is durable and nothing is big.
"""

from __future__ import annotations

import atexit
import functools
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import MySQLdb

from tests.integration.server import PATIENCE_SECONDS, end, wait_until
from tests.pki import self_signed

#: What tests of this need on the machine.
PROGRAMS = ("mariadbd", "mariadb-install-db", "mariadb")

#: A user who may do everything, by socket and by TCP.
ADMIN, ADMIN_PASSWORD = "admin", "admin's word"

_SMALL = (
    "--innodb-buffer-pool-size=8M",
    "--innodb-log-file-size=4M",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-fast-shutdown=2",
    "--skip-log-bin",
    "--performance-schema=OFF",
    "--skip-name-resolve",
)


def _as_user() -> tuple[str, ...]:
    """mariadbd does not run as root without being told to."""
    return (f"--user={getpass.getuser()}",) if os.geteuid() == 0 else ()


@functools.cache
def _template() -> Path:
    """A data directory to copy, there until the test run ends."""
    directory = Path(tempfile.mkdtemp(prefix="tpops-db-", dir="/tmp"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    data = directory / "data"
    # A server that starts removes temporary tables of others where these lie together.
    places = (f"--datadir={data}", f"--tmpdir={directory}")
    given = ("--no-defaults", *places, "--auth-root-authentication-method=normal", "--skip-test-db")
    done = subprocess.run(
        ["mariadb-install-db", *given, *_as_user(), *_SMALL[:2]], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AssertionError(f"mariadb-install-db: {done.stdout} {done.stderr}")
    return data


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class MariaDB:
    """
    One server.

    @ivar port: its TCP port on 127.0.0.1, the same over all starts
    @ivar socket: the path of its UNIX socket
    @ivar certificate: PEM file with its certificate, which is its own authority; made for 127.0.0.1
    @param names: names in the certificate; without any the server has no TLS
    """

    def __init__(self, *names: str, options: Sequence[str] = ()) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="tpops-db-", dir="/tmp"))
        self.port = _free_port()
        self.socket = self._directory / "socket"
        self.certificate = self._directory / "certificate.pem"
        self._options = list(options)
        self._process: subprocess.Popen[bytes] | None = None
        if names:
            certificate, key = self_signed(*names)
            self.certificate.write_bytes(certificate)
            key_file = self._directory / "key.pem"
            key_file.write_bytes(key)
            self._options += [f"--ssl-cert={self.certificate}", f"--ssl-key={key_file}"]
        shutil.copytree(_template(), self._directory / "data")

    @property
    def tcp(self) -> str:
        """The server as the configuration names it, by TCP."""
        return f"127.0.0.1:{self.port}"

    @property
    def unix(self) -> str:
        """The same by its UNIX socket."""
        return f"unix:{self.socket}"

    # The process.

    def start(self) -> MariaDB:
        """Start it and wait until it answers."""
        while not self._started():
            # Somebody else took the port meanwhile.
            self.port = _free_port()
        with self.connection(user="root", password="") as connection:
            cursor = connection.cursor()
            cursor.execute(f"CREATE USER IF NOT EXISTS {ADMIN} IDENTIFIED BY %s", (ADMIN_PASSWORD,))
            cursor.execute(f"GRANT ALL ON *.* TO {ADMIN} WITH GRANT OPTION")
            # Who is not told apart by his host is otherwise taken for the anonymous user of this machine.
            cursor.execute("DELETE FROM mysql.global_priv WHERE User = ''")
            cursor.execute("FLUSH PRIVILEGES")
        return self

    def _started(self) -> bool:
        log = self._directory / "log"
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                [
                    "mariadbd",
                    "--no-defaults",
                    f"--datadir={self._directory / 'data'}",
                    f"--socket={self.socket}",
                    f"--pid-file={self._directory / 'pid'}",
                    f"--tmpdir={self._directory}",
                    f"--port={self.port}",
                    "--bind-address=127.0.0.1",
                    *_SMALL,
                    *_as_user(),
                    *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: self._answers() or self.ended(), "MariaDB answers")
        if self.ended():
            text = log.read_text(errors="replace")
            if "Address already in use" not in text:
                raise AssertionError(f"mariadbd has ended: {text}")
            return False
        return True

    def _answers(self) -> bool:
        try:
            with self.connection(user="root", password=""):
                return True
        except MySQLdb.Error:
            return False

    def ended(self) -> bool:
        """Whether there is no process."""
        return self._process is None or self._process.poll() is not None

    def hang(self) -> None:
        """Let it do nothing any more, with all its threads."""
        self._signal(signal.SIGSTOP)
        wait_until(self._stopped, "every thread has stopped")

    def go_on(self) -> None:
        """Let it go on after C{hang}."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _stopped(self) -> bool:
        assert self._process is not None
        threads = Path(f"/proc/{self._process.pid}/task").iterdir()
        return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        end(self._process)

    def stop(self) -> None:
        """End it in good order; the data stay."""
        if not self.ended():
            assert self._process is not None
            self.go_on()
            self._signal(signal.SIGTERM)
            self._process.wait(PATIENCE_SECONDS)

    def remove(self) -> None:
        """End it and remove everything."""
        if not self.ended():
            self.kill()
        shutil.rmtree(self._directory)

    # What is in it.

    @contextmanager
    def connection(self, database: str = "", user: str = ADMIN, password: str = ADMIN_PASSWORD) -> Iterator[Any]:
        """A connection by the UNIX socket."""
        opened = MySQLdb.connect(
            unix_socket=str(self.socket),
            user=user,
            password=password,
            database=database,
            charset="utf8mb4",
            autocommit=True,
            binary_prefix=True,
            connect_timeout=int(PATIENCE_SECONDS),
        )
        try:
            yield opened
        finally:
            opened.close()

    def run(self, *statements: str, database: str = "") -> list[tuple[Any, ...]]:
        """Run statements; gives the rows of the last one."""
        with self.connection(database) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def script(self, path: Path, database: str) -> None:
        """Give a file to the program C{mariadb}, as an operator does."""
        given = (f"--socket={self.socket}", f"--user={ADMIN}", f"--password={ADMIN_PASSWORD}", database)
        with open(path, "rb") as file:
            done = subprocess.run(
                ["mariadb", "--no-defaults", *given], stdin=file, capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise AssertionError(f"{path}: {done.stderr}")

    def connections(self, database: str) -> list[int]:
        """The server's numbers for the connections to a database."""
        return [row[0] for row in self.run(f"SELECT id FROM information_schema.processlist WHERE db = '{database}'")]


@functools.cache
def shared(*names: str) -> MariaDB:
    """One server for all tests that do not end it, with these names in its certificate; there until the run ends."""
    mariadb = MariaDB(*names).start()
    atexit.register(mariadb.remove)
    return mariadb
