"""
A tpops server for a test: its directory, its configuration, its accounts and mail, and the process.

Each server has a directory of its own and a port that the kernel chose, so tests never meet.
"""

from __future__ import annotations

import contextlib
import json
import os
import poplib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.wire import Wire

#: Seconds until something that was asked for must have happened, also on a slow and busy machine.
PATIENCE_SECONDS = 60.0

CHECKOUT = Path(__file__).resolve().parents[2]

USER, PASSWORD = "joe", "secret of joe"

#: With this in the environment every test runs with so many workers.
_WORKERS = {"workers": int(os.environ["TPOPS_TEST_WORKERS"])} if "TPOPS_TEST_WORKERS" in os.environ else {}

_LOCAL = ({"address": "127.0.0.1", "port": 0},)

_READY = re.compile(r"ready on (.+)$", re.MULTILINE)

#: One table of the configuration: keys and values.
Table = Mapping[str, Any]


def program(name: str) -> str:
    """The path of a program that was installed with this Python."""
    return str(Path(sys.executable).parent / name)


def wait_until(condition: Callable[[], Any], what: str = "", seconds: float = PATIENCE_SECONDS) -> Any:
    """What the condition gives once that is true; an error when it never is."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:g} seconds: {what or condition}")
        time.sleep(0.01)


def toml(tables: Mapping[str, Table | Sequence[Table]]) -> str:
    """A configuration file; a sequence is a table that is there several times."""
    lines = []
    for name, value in tables.items():
        several = not isinstance(value, Mapping)
        for table in value if several else (value,):
            lines.append(f"[[{name}]]" if several else f"[{name}]")
            lines += [f"{key} = {json.dumps(one)}" for key, one in table.items()]
    return "\n".join(lines) + "\n"


def temporary(testcase: SynchronousTestCase) -> Path:
    """A new directory of the test, by its full path."""
    directory = Path(testcase.mktemp()).absolute()
    directory.mkdir(parents=True)
    return directory


class RunningServer:
    """
    See the module.

    @ivar directory: holds everything
    @ivar configuration: the tables of the file; change it and C{start} again
    @ivar process: of the present or last run
    @ivar port: of the first listener, once it runs
    """

    def __init__(
        self,
        testcase: SynchronousTestCase,
        directory: Path | None = None,
        users: Mapping[str, str] = {USER: PASSWORD},
        listen: Sequence[Table] = _LOCAL,
        **tables: Table,
    ) -> None:
        self.testcase = testcase
        self.directory = directory or temporary(testcase)
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.access_log = self.directory / "access.log"
        self.json_log = self.directory / "events.json"
        self._output = self.directory / "output"
        self.configuration: dict[str, Any] = {
            "listen": [dict(one) for one in listen],
            "accounts": [{"driver": "passwd_file", "path": "users"}],
            "log": {"access_log": "access.log", "json_log": "events.json"},
            **tables,
            "server": {"state_dir": str(self.directory), "drain_seconds": 0, **_WORKERS, **tables.get("server", {})},
        }
        lines = [f"{name}:{{PLAIN}}{password}::::{self.directory / name}:" for name, password in users.items()]
        (self.directory / "users").write_text("".join(line + "\n" for line in lines))
        for name in users:
            for part in ("tmp", "new", "cur"):
                self.maildir(name, part).mkdir(parents=True)

    # Files.

    @property
    def configuration_file(self) -> Path:
        """The configuration's path."""
        return self.directory / "tpops.toml"

    def maildir(self, user: str = USER, part: str = "") -> Path:
        """A user's Maildir, or a directory in it."""
        return self.directory / user / "Maildir" / part

    def deliver(self, name: str, octets: bytes, part: str = "new", user: str = USER) -> Path:
        """Put a message into a Maildir."""
        path = self.maildir(user, part) / name
        path.write_bytes(octets)
        return path

    def stored(self, user: str = USER) -> dict[str, bytes]:
        """What lies in a Maildir: octets by file name."""
        return {path.name: path.read_bytes() for part in ("new", "cur") for path in self.maildir(user, part).iterdir()}

    def names(self, user: str = USER) -> set[str]:
        """The file names in a Maildir."""
        return {name for part in ("new", "cur") for name in os.listdir(self.maildir(user, part))}

    def output(self) -> str:
        """What this run of the server has written to standard output and error."""
        return self._output.read_text()

    def access(self) -> list[str]:
        """The lines of the access log."""
        return self.access_log.read_text().splitlines() if self.access_log.exists() else []

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """The events in the JSON log, all or those of a kind."""
        if not self.json_log.exists():
            return []
        complete = self.json_log.read_text().rpartition("\n")[0].splitlines()
        events = [json.loads(line) for line in complete]
        return [event for event in events if not kind or event["event"] == kind]

    def event(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Wait for an event with these fields."""

        def found() -> dict[str, Any] | None:
            return next((one for one in self.events(kind) if fields.items() <= one.items()), None)

        event: dict[str, Any] = wait_until(found, f"event {kind} {fields}")
        return event

    # The process.

    def write_configuration(self) -> None:
        """Write the file as it is now."""
        self.configuration_file.touch(0o600)
        self.configuration_file.write_text(toml(self.configuration))

    def launch(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """
        Start C{twistd} and do not wait; without arguments it is C{twistd -n tpops}.

        Option C{before}: a command in front of it, which becomes it.
        """
        self.write_configuration()
        command = arguments or ("-n", "--pidfile=", "tpops", "--config", str(self.configuration_file))
        with open(self._output, "wb") as output:
            self.process = subprocess.Popen(
                # SIGINT may be ignored where tests run in the background.
                [*options.pop("before", ()), "env", "--default-signal=INT", program("twistd"), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=options.pop("cwd", self.directory),
                **options,
            )
        self.testcase.addCleanup(end, self.process)
        return self.process

    def start(self, *arguments: str, **options: Any) -> RunningServer:
        """Start and wait until every listener is ready."""
        self.launch(*arguments, **options)
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Wait until every listener is ready."""
        assert self.process is not None
        listening = self.configuration["listen"]
        while True:
            ended = self.process.poll() is not None
            ready = self.ready()
            if len(ready) == len(listening) + self._services():
                break
            if ended:
                raise AssertionError(f"the server has ended: {self.output()}")
            time.sleep(0.01)
        for listen, address in zip(listening, ready[: len(listening)], strict=True):
            port = re.fullmatch(r"(?!unix:).*:(\d+)", address)
            if port:
                listen["port"] = int(port[1])
        self.port = self.configuration["listen"][0].get("port", 0)

    def _services(self) -> int:
        """How many sockets there are for other programs than POP3 clients."""
        asked = self.configuration.get("pop_before_smtp", {})
        lmtp: int = len(self.configuration.get("lmtp", {}).get("listen", ()))
        pages = sum(bool(self.configuration.get(one, {}).get("listen")) for one in ("metrics", "status"))
        return lmtp + pages + sum(len(asked.get(one, ())) for one in ("policy", "socketmap", "tcp_table"))

    def ready(self) -> list[str]:
        """The addresses that the server says it listens on."""
        return _READY.findall(self.output())

    def refuses_to_start(self, *arguments: str, **options: Any) -> str:
        """What a server says that must end by itself with an exit status other than 0."""
        process = self.launch(*arguments, **options)
        status = process.wait(PATIENCE_SECONDS)
        text = self.output()
        if not status:
            raise AssertionError(f"exit status {status}: {text}")
        return text

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self.process is not None
        return self.process.pid

    def workers(self) -> dict[int, int]:
        """The processes of its workers, the present ones and former ones, with their numbers."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                status = (path / "stat").read_text().rpartition(")")[2].split()
                words = (path / "cmdline").read_bytes().split(b"\0")
                if int(status[1]) == self.pid and b"tpops.process.worker" in words:
                    found[int(path.name)] = int(words[words.index(b"tpops.process.worker") + 1])
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal and wait; gives the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)

    def restart(self, number: int = signal.SIGTERM) -> None:
        """Stop and start, on the same ports."""
        self.stop(number)
        self.start()

    def descriptors(self) -> int:
        """How many files the server has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory_mib(self) -> float:
        """The server's resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024

    # Clients.

    def connect(self, receive_octets: int = 0) -> Wire:
        """A raw connection that has not read its greeting."""
        return Wire.connect(self.testcase, ("127.0.0.1", self.port), receive_octets)

    def session(self, user: str = USER, password: str = PASSWORD, receive_octets: int = 0) -> Wire:
        """A raw connection that has logged in."""
        wire = self.connect(receive_octets)
        wire.log_in(user, password)
        return wire

    def poplib(self, user: str = USER, password: str = PASSWORD) -> poplib.POP3:
        """A connection of Python's client that has logged in."""
        client = poplib.POP3("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        self.testcase.addCleanup(client.close)
        client.user(user)
        client.pass_(password)
        return client


def end(process: subprocess.Popen[Any]) -> None:
    """End a process that is left over."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    process.wait(PATIENCE_SECONDS)
    if process.stdout is not None:
        process.stdout.close()
