"""From measurements to a table: medians, ratios and what was wanted."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOISY = 0.10
OURS = "tpops"
ORDER = ("limit", "tpops", "dovecot-tuned", "dovecot-default", "popa3d")
RIVALS = ("dovecot-tuned", "dovecot-default", "popa3d")


@dataclass(frozen=True)
class Row:
    """One line of the table; `wanted` is how many times better than dovecot-tuned tpops is meant to be."""

    case: str
    key: str
    title: str
    unit: str
    scale: float = 1.0
    more_is_better: bool = False
    wanted: float | None = None


ROWS = (
    Row("poll-1", "cpu_us_per_session", "poll, 1 connection: server CPU per session", "µs", wanted=4),
    Row("poll-1", "sessions_per_second", "poll, 1 connection: sessions", "1/s", more_is_better=True),
    Row("poll-1", "ms.p50", "poll, 1 connection: time, median", "ms"),
    Row("poll-1", "ms.p99", "poll, 1 connection: time, 99 %", "ms"),
    Row("poll-32", "cpu_us_per_session", "poll, 32 connections: server CPU per session", "µs", wanted=4),
    Row("poll-32", "sessions_per_second", "poll, 32 connections: sessions", "1/s", more_is_better=True),
    Row("poll-32", "ms.p50", "poll, 32 connections: time, median", "ms"),
    Row("poll-32", "ms.p99", "poll, 32 connections: time, 99 %", "ms"),
    Row("fetch", "cpu_us_per_session", "fetch 20 messages: server CPU per session", "ms", 1e-3, wanted=2),
    Row("fetch", "sessions_per_second", "fetch 20 messages: sessions", "1/s", more_is_better=True),
    Row("pipe", "cpu_us_per_session", "fetch 20, pipelined: server CPU per session", "ms", 1e-3, wanted=2),
    Row("pipe", "sessions_per_second", "fetch 20, pipelined: sessions", "1/s", more_is_better=True),
    Row("big", "wire_mb_per_second", "20 MB messages", "MB/s", more_is_better=True, wanted=3),
    Row("big", "cpu_ms_per_mb", "20 MB messages: server CPU per MB", "ms"),
    Row("list-first", "cpu_us_per_session", "{count} messages, first look: server CPU", "s", 1e-6, wanted=1),
    Row("list-first", "ms.p50", "{count} messages, first look: time", "s", 1e-3),
    Row("list-same", "cpu_us_per_session", "{count} messages, unchanged: server CPU", "ms", 1e-3, wanted=20),
    Row("list-same", "ms.p50", "{count} messages, unchanged: time", "ms"),
    Row("mbox-first", "cpu_us_per_session", "spool of {count} messages, first look: server CPU", "ms", 1e-3),
    Row("mbox-poll", "cpu_us_per_session", "spool of {count} messages, unchanged: server CPU", "ms", 1e-3),
    Row("mbox-poll", "ms.p50", "spool of {count} messages, unchanged: time, median", "ms"),
    Row("idle", "kib_per_session", "{held} idle sessions: memory of each", "KiB", wanted=20),
    Row("verify", "announced_wrong", "messages with other octets than LIST says", ""),
    Row("verify", "content_wrong", "messages with other content than written", ""),
)


@dataclass(frozen=True)
class Figure:
    """The median of one row for one server."""

    value: float
    spread: float
    measurements: int
    noisy: bool
    errors: int


def look_up(record: dict[str, Any], key: str) -> float | None:
    """The value below a dotted key, if there is one."""
    found: Any = record
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return None if found is None else float(found)


def figure(records: Iterable[dict[str, Any]], row: Row) -> Figure | None:
    """The median over the quiet measurements; over all of them, marked as noisy, if none was quiet."""
    mine = [record for record in records if record["case"] == row.case and look_up(record, row.key) is not None]
    if not mine:
        return None
    quiet = [record for record in mine if record.get("foreign", 0.0) < NOISY]
    values = [float(look_up(record, row.key) or 0.0) * row.scale for record in quiet or mine]
    middle = statistics.median(values)
    spread = (max(values) - min(values)) / middle if middle else 0.0
    return Figure(middle, spread, len(values), not quiet, sum(record.get("errors", 0) for record in mine))


def times_better(ours: Figure | None, theirs: Figure | None, row: Row) -> float | None:
    """How many times better `ours` is than `theirs`; below 1 it is worse."""
    if ours is None or theirs is None:
        return None
    better, worse = (ours.value, theirs.value) if row.more_is_better else (theirs.value, ours.value)
    return better / worse if worse else None


def verdict(ratio: float | None, row: Row) -> str:
    """Whether the wanted ratio was reached."""
    if row.wanted is None:
        return ""
    if ratio is None:
        return f"≥ {row.wanted:g}"
    return f"≥ {row.wanted:g} {'yes' if ratio >= row.wanted else 'NO'}"


def shown(value: float) -> str:
    """Three significant digits, no exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def cell(found: Figure | None) -> str:
    """A figure with its marks."""
    if found is None:
        return "-"
    return shown(found.value) + ("!" if found.errors else "") + ("~" if found.noisy or found.spread > 0.25 else "")


def table(document: dict[str, Any]) -> list[list[str]]:
    """Header and lines as text cells."""
    records = document["records"]
    servers = [name for name in ORDER if any(record["server"] == name for record in records)]
    of = {name: [record for record in records if record["server"] == name] for name in servers}
    rivals = [name for name in RIVALS if name in servers and OURS in servers]
    lines = [["figure", "unit", *servers, *(f"x {name}" for name in rivals), *(["wanted"] if rivals else [])]]
    for row in ROWS:
        found = {name: figure(of[name], row) for name in servers}
        if not any(found.values()):
            continue
        example = next(record for record in records if record["case"] == row.case and not record.get("failed"))
        title = row.title.format(count=f"{example.get('count', 0):,}", held=f"{example.get('held', 0):,}")
        line = [title, row.unit, *(cell(found[name]) for name in servers)]
        is_figure = row.case != "verify"
        ratios = [times_better(found[OURS], found[name], row) if is_figure else None for name in rivals]
        line += ["" if ratio is None else shown(ratio) for ratio in ratios]
        if rivals:
            line.append(verdict(ratios[0] if "dovecot-tuned" in rivals else None, row))
        lines.append(line)
    return lines


def notes(document: dict[str, Any]) -> list[str]:
    """The conditions, and everything that should keep a reader from trusting a figure."""
    machine, options = document["machine"], document["options"]
    said = [
        f"{document['made']}, {machine['cores']} cores ({machine['processor']}), Linux {machine['kernel']}, "
        f"Python {machine['python']}, Dovecot {machine['dovecot'] or 'absent'}; CPU time from {machine['accounting']}.",
        f"Server {'on core 0, client on core 1' if options['pinned'] else 'and client not pinned'}; "
        f"{options['seconds']:g} s per rate, {options['repeat']} time(s), median"
        f"{', quick: small sets of mail' if options['quick'] else ''}.",
        "x says how many times better tpops is; ~ noisy or spread over 25 %; ! some sessions failed.",
    ]
    foreign = [record["foreign"] for record in document["records"] if "foreign" in record]
    if foreign:
        loud = sum(share >= NOISY for share in foreign)
        said.append(
            f"Others used {statistics.median(foreign):.0%} of the machine at the median, {max(foreign):.0%} at most; "
            f"{loud} of {len(foreign)} measurements stayed noisy."
        )
    for record in document["records"]:
        where = f"{record['server']}, {record['case']}"
        if record.get("failed"):
            said.append(f"FAILED: {where}: {record['failed']}")
        elif record.get("errors"):
            said.append(f"{where}: {record['errors']} sessions failed; the first: {record['first_error']}")
        elif record.get("wrong"):
            said.append(f"{where}: {record['wrong']} of {record['messages']} messages differ from LIST")
        elif record.get("first_problem"):
            said.append(f"{where}: {record['first_problem']}")
        if record.get("client_share", 0.0) > 0.9 and record["server"] != "limit":
            said.append(f"{where}: the load generator was the bottleneck ({record['client_share']:.0%} of its core)")
    return list(dict.fromkeys(said))


def as_text(document: dict[str, Any]) -> str:
    """The table for a terminal."""
    lines = table(document)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    out = []
    for line in lines:
        cells = [line[0].ljust(widths[0]), line[1].ljust(widths[1])]
        cells += [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        out.append("  ".join(cells).rstrip())
    return "\n".join([*out, "", *notes(document)]) + "\n"


def as_markdown(document: dict[str, Any]) -> str:
    """The table for docs/performance.md."""
    lines = table(document)
    rule = ["---", "---", *("---:" for _ in lines[0][2:])]
    out = ["| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:])]
    return "\n".join([*out, "", *(f"- {note}" for note in notes(document))]) + "\n"


def load(path: Path) -> dict[str, Any]:
    """A document that an earlier run wrote."""
    document: dict[str, Any] = json.loads(path.read_text())
    return document
