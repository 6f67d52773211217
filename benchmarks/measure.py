"""Accounts for what a server and the rest of the machine use: processor time and memory.

A server runs in a control group of its own, so its processor time holds every process it ever started, also those
that have ended.  Version 1 (``cpuacct``) and version 2 (``cpu.stat``) are known.  Without either (no root, a locked
container) the processes of the server's session are summed from /proc instead: children that ended are then counted
as far as their parent waited for them.

Memory is the proportional set size (PSS): a page shared by n processes counts as 1/n for each.  Kernel memory, such
as socket buffers, is not in it.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Machine:
    """What all processors together have done since the start of the machine."""

    busy_seconds: float
    stolen_seconds: float
    clock_seconds: float

    @classmethod
    def now(cls) -> Machine:
        """Read /proc/stat."""
        with open("/proc/stat", encoding="ascii") as stat:
            user, nice, system, _idle, _wait, irq, softirq, stolen = (int(x) for x in stat.readline().split()[1:9])
        return cls((user + nice + system + irq + softirq) / _TICK, stolen / _TICK, time.monotonic())

    def foreign_since(self, before: Machine, own_seconds: float) -> float:
        """The share of the machine, 0 to 1, that went to others: their processes and the host's theft."""
        wall = max(self.clock_seconds - before.clock_seconds, 1e-6) * (os.cpu_count() or 1)
        others = self.busy_seconds - before.busy_seconds - own_seconds
        return max(0.0, others + self.stolen_seconds - before.stolen_seconds) / wall


def wait_until_quiet(limit_seconds: float, share: float = 0.08) -> None:
    """Return when others use less than `share` of the machine, or when the limit is reached."""
    give_up = time.monotonic() + limit_seconds
    while time.monotonic() < give_up:
        before = Machine.now()
        time.sleep(0.25)
        if Machine.now().foreign_since(before, 0.0) < share:
            return


class Tree:
    """One server with all its processes, from start to end."""

    def __init__(self, name: str, core: int | None) -> None:
        self.group = self._make_group(f"tpops-bench-{os.getpid()}-{name}")
        self.core = core
        self.process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def _make_group(name: str) -> Path | None:
        for parent, sign in ((CGROUPS / "cpuacct", "cpuacct.usage"), (CGROUPS, "cgroup.controllers")):
            if (parent / sign).exists():
                try:
                    (parent / name).mkdir(exist_ok=True)
                except OSError:
                    continue
                return parent / name
        return None

    @property
    def accounting(self) -> str:
        """In words, where the processor time comes from."""
        if self.group is None:
            return "/proc"
        return "cgroup v1" if (self.group / "cpuacct.usage").exists() else "cgroup v2"

    def start(self, argv: list[str], cwd: Path, output: Path, environment: dict[str, str]) -> None:
        """Start the server; it must stay in the foreground."""
        script = 'exec "$@"'
        if self.group is not None:
            script = f"echo $$ > {shlex.quote(str(self.group / 'cgroup.procs'))} && {script}"
        pin = [] if self.core is None else ["taskset", "-c", str(self.core)]
        with open(output, "wb") as sink:
            self.process = subprocess.Popen(
                ["sh", "-c", script, "sh", *pin, *argv],
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def pids(self) -> list[int]:
        """The processes that live now."""
        if self.group is not None:
            return [int(word) for word in (self.group / "cgroup.procs").read_text().split()]
        session = self.process.pid if self.process else -1
        found = []
        for entry in os.listdir("/proc"):
            fields = _stat_fields(int(entry)) if entry.isdigit() else []
            if fields and int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry))
        return found

    def cpu_seconds(self) -> float:
        """User and system time of the whole tree since its start."""
        if self.group is None:
            return sum(sum(int(x) for x in _stat_fields(pid)[11:15]) for pid in self.pids()) / _TICK
        usage = self.group / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        found = re.search(r"^usage_usec (\d+)", (self.group / "cpu.stat").read_text(), re.M)
        return int(found.group(1)) / 1e6 if found else 0.0

    def memory(self) -> tuple[int, int]:
        """PSS over the tree in KiB, and the number of processes."""
        total = processes = 0
        for pid in self.pids():
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            found = re.search(r"^Pss:\s+(\d+)", text, re.M)
            total += int(found.group(1)) if found else 0
            processes += 1
        return total, processes

    def end(self) -> None:
        """Ask the server to stop, then make sure that nothing of the tree is left."""
        if self.process is None:
            self._remove_group()
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(8)
            except subprocess.TimeoutExpired:
                pass
        for attempt in range(50):
            left = self.pids()
            if not left:
                break
            for pid in left:
                try:
                    os.kill(pid, signal.SIGTERM if attempt < 5 else signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.1)
        self.process.wait(5)
        self._remove_group()

    def _remove_group(self) -> None:
        if self.group is not None:
            try:
                self.group.rmdir()
            except OSError:
                pass


def _stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat behind the command name: state, parent, group, session, ..."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []


def build(source: Path, into: Path) -> Path:
    """Compile one C file when it is newer than its program."""
    program = into / source.stem
    if not program.exists() or any(
        program.stat().st_mtime < part.stat().st_mtime for part in (source, *source.parent.glob(f"{source.stem}*.h"))
    ):
        into.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O2", "-Wall", "-o", str(program), str(source)], check=True)
    return program
