"""The work that servers are given, and the measuring around it.

`SETS` says which kinds of work share a set of mail and so one start of a server.  Every measurement is a flat
dictionary: ``case`` names it, ``foreign`` is the share of the machine that others used meanwhile, ``tries`` how often
it was made because of that.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks import mail
from benchmarks.measure import Machine, Tree, wait_until_quiet
from benchmarks.peer import Peer, Site
from benchmarks.verify import verify

NOISY = 0.10

#: What can be measured only once on a server.
FIRST_LOOKS = ("list-first", "mbox-first")
Record = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How much is measured, and where."""

    scratch: Path
    programs: Path
    python: Path
    quick: bool
    seconds: float
    pinned: bool
    workers: int = 1

    @property
    def tries(self) -> int:
        """How often a noisy measurement is made before the quietest one stands."""
        return 2 if self.quick else 3

    def size_of(self, set_name: str) -> int:
        """Users or messages of a set of mail."""
        quick, full = {
            "small": (64, 320),
            "big": (4, 10),
            "list": (10_000, 100_000),
            "spool": (10_000, 100_000),
            "idle": (200, 1000),
        }[set_name]
        return quick if self.quick else full


class WorkFailed(Exception):
    """The server did not start, or the load generator got nowhere."""


class Running:
    """A peer serving a private copy of one set of mail, for the length of a `with` block."""

    def __init__(self, peer: Peer, store: mail.Store, settings: Settings) -> None:
        self.peer, self.store, self.settings = peer, store, settings
        self.tree = Tree(peer.name, 0 if settings.pinned else None)
        self.port = _free_port()
        self.directory = settings.scratch / "run" / peer.name

    def __enter__(self) -> Running:
        try:
            site = self._lay_out()
            argv = self.peer.start(site)
            environment = self.peer.environment()
            self.tree.start(argv, self.peer.working_directory(site), self.directory / "output", environment)
            self._wait_for_greeting(20.0)
        except BaseException:
            self.tree.end()
            raise
        return self

    def _lay_out(self) -> Site:
        """A fresh directory with a copy of the mail (hard links: no server writes into a message)."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        copy = self.directory / "mail"
        if self.peer.needs_mail:
            subprocess.run(["cp", "-al", str(self.store.path), str(copy)], check=True)
            _age(copy)
            if self.store.manifest["set"] == "list":
                time.sleep(2.5)  # for a server that looks at the change time instead
        return Site(
            directory=self.directory,
            mail=copy,
            users=self.store.users,
            messages=self.store.messages,
            octets=max(book["octets"] // book["messages"] for book in self.store.manifest["users"].values()),
            port=self.port,
            programs=self.settings.programs,
            python=self.settings.python,
            kind=mail.kind(self.store.manifest["set"]),
            owner=mail.OWNER,
            workers=self.settings.workers,
        )

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tree.end()
        shutil.rmtree(self.directory / "mail", ignore_errors=True)

    def _wait_for_greeting(self, limit_seconds: float) -> None:
        give_up = time.monotonic() + limit_seconds
        while time.monotonic() < give_up:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 2) as probe:
                    probe.settimeout(5)
                    if probe.recv(512).startswith(b"+OK"):
                        probe.sendall(b"QUIT\r\n")
                        probe.recv(512)
                        return
            except OSError:
                pass
            if self.tree.process is not None and self.tree.process.poll() is not None:
                break
            time.sleep(0.05)
        raise WorkFailed(f"{self.peer.name} does not greet: {self.last_words()}")

    def last_words(self) -> str:
        """The end of what the server wrote, for error texts."""
        for name in ("output", "twistd.log", "dovecot.log"):
            path = self.directory / name
            text = path.read_text(errors="replace").strip() if path.exists() else ""
            if text:
                return f"{path}: ...{text[-400:]}"
        return f"nothing was written below {self.directory}"

    def settle(self) -> None:
        """Wait until the server has done what it puts off until after the last reply."""
        give_up = time.monotonic() + 3
        last = self.tree.cpu_seconds()
        while time.monotonic() < give_up:
            time.sleep(0.1)
            used = self.tree.cpu_seconds()
            if used - last < 0.002:
                return
            last = used

    def load_command(self, mode: str, **options: float) -> list[str]:
        """The load generator's command line."""
        options = {"port": self.port, "users": self.store.users, **options}
        if self.settings.pinned:
            options["core"] = 1
        words = [f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in options.items()]
        return [str(self.settings.programs / "load"), mode, *words]

    def load_once(self, mode: str, **options: float) -> Record:
        """Run the load generator; its result with the server's and the others' processor time."""
        counted = self.peer.counters()
        before, cpu_before = Machine.now(), self.tree.cpu_seconds()
        done = subprocess.run(self.load_command(mode, **options), capture_output=True, text=True, timeout=300)
        self.settle()
        used, after = self.tree.cpu_seconds() - cpu_before, Machine.now()
        counted = {key: value - counted[key] for key, value in self.peer.counters().items()}
        if done.returncode != 0:
            raise WorkFailed(f"the load generator says: {done.stderr.strip()}")
        record: Record = json.loads(done.stdout)
        record["server_cpu_seconds"] = used
        beside = counted.get("database_cpu_seconds", 0.0)
        record["foreign"] = after.foreign_since(before, used + beside + record["client_cpu_seconds"])
        if not record["sessions"]:
            raise WorkFailed(f"no session came to its end: {record['first_error']}; {self.last_words()}")
        record["each"] = {key: value / record["sessions"] for key, value in counted.items()}
        record["cpu_us_per_session"] = used / record["sessions"] * 1e6
        record["cpu_ms_per_mb"] = used / (record["wire_octets"] / 1e6) * 1e3
        record["client_share"] = record["client_cpu_seconds"] / max(record["seconds"], 1e-9)
        return record

    def load(self, case: str, mode: str, **options: float) -> Record:
        """`load_once` until the machine was quiet meanwhile; the quietest result."""
        best: Record | None = None
        for attempt in range(1, self.settings.tries + 1):
            wait_until_quiet(1.0 if self.settings.quick else 4.0)
            record = self.load_once(mode, **options)
            record.update(case=case, tries=attempt)
            if best is None or record["foreign"] < best["foreign"]:
                best = record
            best["tries"] = attempt
            if best["foreign"] < NOISY:
                break
        assert best is not None
        return best


def _age(root: Path) -> None:
    """Date the directories back: none may be taken for one that is just being changed."""
    an_hour_ago = time.time() - 3600
    for directory, _, _ in os.walk(root):
        os.utime(directory, (an_hour_ago, an_hour_ago))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def do_verify(running: Running) -> list[Record]:
    """Every message of the small mailboxes, octet by octet."""
    if not running.peer.needs_mail:
        return []
    return [{"case": "verify", **verify(running.port, running.store.manifest)}]


def do_poll(running: Running) -> list[Record]:
    """What mail programs do most: look whether there is something new."""
    _open_all_once(running)
    seconds = running.settings.seconds
    return [
        running.load(f"poll-{connections}", "poll", connections=connections, seconds=seconds, lead=0.3)
        for connections in (1, 32)
    ]


def do_fetch(running: Running) -> list[Record]:
    """Whole mailboxes of 20 messages, one RETR at a time, then all RETRs at once."""
    _open_all_once(running)
    seconds = running.settings.seconds
    return [running.load(mode, mode, connections=16, seconds=seconds, lead=0.3) for mode in ("fetch", "pipe")]


def _open_all_once(running: Running) -> None:
    """What a server learns and keeps at the first look at a mailbox is not part of polling or fetching."""
    running.load_once("list", connections=8, sessions=running.store.users)


def do_big(running: Running) -> list[Record]:
    """20 MB messages on one connection; the sizes were worked out in a session before."""
    running.load_once("list", sessions=1, patience=60)
    return [running.load("big", "big", seconds=running.settings.seconds, lead=0.2)]


def do_list(running: Running) -> list[Record]:
    """A large maildrop: the first look ever, then three sessions in which nothing has changed."""
    wait_until_quiet(1.0 if running.settings.quick else 6.0)
    first = {"case": "list-first", "tries": 1, **running.load_once("list", sessions=1, patience=120)}
    same = running.load("list-same", "list", sessions=3, patience=120)
    for record in (first, same):
        if record["count"] != running.store.messages:
            raise WorkFailed(f"{record['count']} messages announced, there are {running.store.messages}")
    return [first, same]


def do_mbox_poll(running: Running) -> list[Record]:
    """A large spool: the first look ever, then polls of it unchanged."""
    wait_until_quiet(1.0 if running.settings.quick else 6.0)
    first = {"case": "mbox-first", "tries": 1, **running.load_once("poll", sessions=1, patience=120)}
    same = running.load("mbox-poll", "poll", seconds=running.settings.seconds, lead=0.3, patience=120)
    for record in (first, same):
        if record["count"] != running.store.messages:
            raise WorkFailed(f"{record['count']} messages announced, there are {running.store.messages}")
    return [first, same]


def do_idle(running: Running) -> list[Record]:
    """Logged-in sessions that do nothing: memory of the process tree for each."""
    sessions = running.store.users
    running.load_once("poll", sessions=min(20, sessions))  # what is loaded once is not the sessions'
    base, _ = running.tree.memory()
    cpu_before = running.tree.cpu_seconds()
    argv = running.load_command("idle", connections=sessions, ramp=16)
    client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert client.stdin is not None
        assert client.stdout is not None
        words = client.stdout.readline().split()
        if len(words) != 3 or words[0] != "HELD" or int(words[1]) == 0:
            raise WorkFailed(f"no session could be held; {running.last_words()}")
        running.settle()
        held, with_sessions = int(words[1]), running.tree.memory()
        cpu_seconds = running.tree.cpu_seconds() - cpu_before
        output, _ = client.communicate("go\n", timeout=120)
    finally:
        if client.poll() is None:
            client.kill()
            client.wait()
    record: Record = json.loads(output)
    record.update(
        case="idle",
        held=held,
        base_kib=base,
        held_kib=with_sessions[0],
        processes=with_sessions[1],
        kib_per_session=(with_sessions[0] - base) / held,
        cpu_us_per_session=cpu_seconds / held * 1e6,
        open_seconds=float(words[2]),
    )
    if held < sessions or record["alive"] < held:
        record["errors"] = max(record["errors"], 2 * sessions - held - record["alive"])
    return [record]


WORK: dict[str, tuple[str, Callable[[Running], list[Record]]]] = {
    "verify": ("small", do_verify),
    "poll": ("small", do_poll),
    "fetch": ("small", do_fetch),
    "big": ("big", do_big),
    "list": ("list", do_list),
    "mbox-poll": ("spool", do_mbox_poll),
    "idle": ("idle", do_idle),
}


def do_all(peer: Peer, work: list[str], settings: Settings, say: Callable[[str], None]) -> list[Record]:
    """All chosen work on one server; a failure is a record with ``failed`` and the rest goes on."""
    records: list[Record] = []
    for set_name in dict.fromkeys(WORK[name][0] for name in work):
        if mail.kind(set_name) not in peer.kinds:
            continue
        names = [name for name in WORK if name in work and WORK[name][0] == set_name]
        store = mail.prepare(settings.scratch, set_name, settings.size_of(set_name))
        fresh = _on_one_start(peer, store, names, settings, say)
        tries = 1
        # a first look cannot be repeated on the same server: begin again with a fresh copy
        while tries < settings.tries and _first_look_was_noisy(fresh):
            tries += 1
            fresh = _on_one_start(peer, store, names, settings, say)
        records += [{**record, "tries": tries} if record["case"] in FIRST_LOOKS else record for record in fresh]
    return records


def _first_look_was_noisy(records: list[Record]) -> bool:
    return any(record["case"] in FIRST_LOOKS and record["foreign"] >= NOISY for record in records)


def _on_one_start(
    peer: Peer, store: mail.Store, names: list[str], settings: Settings, say: Callable[[str], None]
) -> list[Record]:
    records: list[Record] = []
    try:
        with Running(peer, store, settings) as running:
            for name in names:
                began = time.monotonic()
                try:
                    fresh = WORK[name][1](running)
                except (WorkFailed, OSError, ValueError, subprocess.TimeoutExpired) as problem:
                    fresh = [{"case": name, "failed": str(problem)}]
                    say(f"  {peer.name} {name}: {problem}")
                records += [{"work": name, **record} for record in fresh]
                say(f"  {peer.name:16} {name:7} {time.monotonic() - began:5.1f} s")
    except (WorkFailed, OSError) as problem:
        say(f"  {problem}")
        records += [{"work": name, "case": name, "failed": str(problem)} for name in names]
    return records


def default_python() -> Path:
    """The interpreter beside twistd: this one's, or that of the repository's virtual environment."""
    here = Path(sys.executable)
    beside = Path(__file__).resolve().parent.parent / ".venv" / "bin" / "python"
    return here if (here.parent / "twistd").exists() or not os.access(beside, os.X_OK) else beside
