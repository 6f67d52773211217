"""Mail in MySQL: what a session costs tpops and the database, beside Maildirs and Dovecot, in one run.

    python -m benchmarks.mysql                                  # about ten minutes
    python -m benchmarks.mysql --quick --schema v2              # a first idea
    python -m benchmarks.mysql --repeat 3 --markdown table.md   # for docs/performance.md

A MariaDB of its own (mysql_peers.py says how) has the same accounts and the same messages as the Maildirs.  Servers:

- ``v2``, ``classic``: tpops with accounts and mail in the database, in schema v2 and in TPOPS' tables;
- ``maildir``: tpops with accounts in the database (v2) and mail in Maildirs, so that the mail is the only difference;
- ``maildir-file``: tpops with accounts in a file, as ``benchmarks/run`` measures it;
- ``dovecot-tuned``: Dovecot on the Maildirs.  It has no mail in a database; it is left out where it is missing.

Work and load generator are those of ``benchmarks/run`` (see README.md): `verify` once, `poll`, `fetch` and `list`.
Statements are the server's own count (SHOW GLOBAL STATUS, Questions) over all sessions of a measurement, divided by
them; in first looks those of new connections are in it.  Servers and MariaDB share a core, the client has the other.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import mail
from benchmarks.command import HERE, describe_machine, say
from benchmarks.measure import build
from benchmarks.mysql_peers import COUNTED, PROGRAMS, SCHEMAS, Database, TpopsOnDatabase, TpopsOnFile
from benchmarks.peer import Peer
from benchmarks.peers import DovecotTuned
from benchmarks.report import Row, cell, figure, notes, shown, times_better
from benchmarks.work import Record, Settings, default_python, do_all

ORDER = ("maildir-file", "maildir", "v2", "classic", "dovecot-tuned")

#: With whom mail in the database is compared.
RIVALS = ("maildir", "dovecot-tuned")

_CASES = (
    ("poll-1", "poll, 1 connection", "µs", 1.0),
    ("poll-32", "poll, 32 connections", "µs", 1.0),
    ("fetch", "fetch 20 messages", "ms", 1e-3),
    ("pipe", "fetch 20, pipelined", "ms", 1e-3),
    ("list-first", "{count} messages, first look", "ms", 1e-3),
    ("list-same", "{count} messages, unchanged", "ms", 1e-3),
)


def _rows() -> list[Row]:
    rows = []
    for case, title, unit, scale in _CASES:
        rows += [
            Row(case, "both_us_per_session", f"{title}: CPU of server and database", unit, scale),
            Row(case, "cpu_us_per_session", f"{title}: of the server", unit, scale),
            Row(case, "database_us_per_session", f"{title}: of the database", unit, scale),
            Row(case, "each.Questions", f"{title}: statements", ""),
        ]
        if not case.startswith("list"):
            rows.append(Row(case, "sessions_per_second", f"{title}: sessions", "1/s", more_is_better=True))
        rows.append(Row(case, "ms.p50", f"{title}: time, median", "ms"))
    rows.append(Row("verify", "announced_wrong", "messages with other octets than LIST says", ""))
    rows.append(Row("verify", "content_wrong", "messages with other content than written", ""))
    return rows


ROWS = tuple(_rows())

#: Rows in which servers can be compared.
_COMPARED = ("both_us_per_session", "sessions_per_second", "ms.p50")


@dataclass(frozen=True)
class Sizes(Settings):
    """How much, here."""

    small_users: int = 64
    big_messages: int = 100_000
    most_tries: int = 2

    @property
    def tries(self) -> int:
        """See Settings."""
        return self.most_tries

    def size_of(self, set_name: str) -> int:
        """See Settings."""
        return {"small": self.small_users, "list": self.big_messages}[set_name]


def completed(record: Record) -> Record:
    """With what server and database cost together."""
    if "cpu_us_per_session" not in record:
        return record
    database = record["each"].get("database_cpu_seconds")
    both = record["cpu_us_per_session"] + (database or 0.0) * 1e6
    more = {} if database is None else {"database_us_per_session": database * 1e6}
    return {**record, **more, "both_us_per_session": both}


def table(records: list[Record]) -> list[list[str]]:
    """Header and lines as text cells."""
    servers = [name for name in ORDER if any(record["server"] == name for record in records)]
    of = {name: [record for record in records if record["server"] == name] for name in servers}
    pairs = [(ours, theirs) for ours in SCHEMAS if ours in servers for theirs in RIVALS if theirs in servers]
    lines = [["figure", "unit", *servers, *(f"{ours} x {theirs}" for ours, theirs in pairs)]]
    for row in ROWS:
        found = {name: figure(of[name], row) for name in servers}
        if not any(found.values()):
            continue
        count = next(record.get("count", 0) for record in records if record["case"] == row.case)
        compared = row.key in _COMPARED
        ratios = [times_better(found[ours], found[theirs], row) if compared else None for ours, theirs in pairs]
        lines.append(
            [
                row.title.format(count=f"{count:,}"),
                row.unit,
                *(cell(found[name]) for name in servers),
                *("" if ratio is None else shown(ratio) for ratio in ratios),
            ]
        )
    return lines


def statements(records: list[Record]) -> list[str]:
    """What the statements of a session are, by kind, for polls and fetches."""
    said = []
    for server in SCHEMAS:
        for case in ("poll-1", "fetch"):
            mine = [one["each"] for one in records if one["server"] == server and one["case"] == case and "each" in one]
            if mine:
                kinds = {name: statistics.median(each[name] for each in mine) for name in COUNTED[1:]}
                words = ", ".join(f"{name[4:]} {shown(value)}" for name, value in kinds.items() if value >= 0.005)
                said.append(f"Statements of a session, {server}, {case}: {words}.")
    return said


def as_markdown(document: dict[str, Any]) -> str:
    """The table for docs/performance.md and for the terminal."""
    lines = table(document["records"])
    rule = ["---", "---", *("---:" for _ in lines[0][2:])]
    out = ["| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:])]
    said = [*notes(document), f"MariaDB: {document['database']}.", *statements(document["records"])]
    return "\n".join([*out, "", *(f"- {note}" for note in said)]) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mysql", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="10,000 messages, short measurements, each made once")
    add("--schema", choices=(*SCHEMAS, "both"), default="both", help="%(default)s")
    add("--seconds", type=float, metavar="S", help="length of a measurement of rates (3; quick: 1)")
    add("--repeat", type=int, metavar="N", help="go through everything N times, the order rotated (2; quick: 1)")
    add("--tries", type=int, metavar="N", help="how often a noisy measurement is made (2; quick: 1)")
    add("--users", type=int, default=64, metavar="N", help="mailboxes of 20 messages (%(default)s)")
    add("--messages", type=int, metavar="N", help="messages of the big mailbox (100,000; quick: 10,000)")
    add("--scratch", type=Path, default=Path("/tmp/tpops-bench"), metavar="DIR", help="%(default)s: mail, servers")
    add("--json", type=Path, metavar="FILE", help="where the measurements go (SCRATCH/results/TIME-mysql.json)")
    add("--markdown", type=Path, metavar="FILE", help="write the table there, too")
    add("--python", type=Path, default=default_python(), metavar="FILE", help="interpreter beside twistd (%(default)s)")
    add("--no-pin", dest="pin", action="store_false", help="leave servers, database and client to the scheduler")
    return parser


def _settings(options: argparse.Namespace) -> Sizes:
    scratch = options.scratch.resolve()
    quick: bool = options.quick
    return Sizes(
        scratch=scratch,
        programs=scratch / "bin",
        python=options.python.absolute(),
        quick=quick,
        seconds=options.seconds or (1.0 if quick else 3.0),
        pinned=options.pin,
        small_users=options.users,
        big_messages=options.messages or (10_000 if quick else 100_000),
        most_tries=options.tries or (1 if quick else 2),
    )


def _peers(database: Database, schema: str, python: Path) -> list[Peer]:
    chosen = list(SCHEMAS) if schema == "both" else [schema]
    peers: list[Peer] = [
        TpopsOnFile(),
        TpopsOnDatabase("maildir", database, "v2", mail_in_it=False),
        *(TpopsOnDatabase(name, database, name, mail_in_it=True) for name in chosen),
    ]
    dovecot = DovecotTuned()
    missing = dovecot.missing(python)
    if missing:
        say(f"{dovecot.name} is left out: {missing}")
        return peers
    return [*peers, dovecot]


def measure(options: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Everything that was asked for, written down after each server; OSError where the database does not start."""
    settings = _settings(options)
    repeat = options.repeat or (1 if options.quick else 2)
    build(HERE / "load.c", settings.programs)
    for name in ("small", "list"):
        say(f"mail: {name}, {settings.size_of(name):,}")
        mail.prepare(settings.scratch, name, settings.size_of(name))
    document: dict[str, Any] = {
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": describe_machine(options.python),
        "options": {
            "quick": settings.quick and not options.messages,
            "repeat": repeat,
            "seconds": settings.seconds,
            "pinned": settings.pinned,
            "workers": 1,
        },
        "records": [],
    }
    with Database(settings.scratch, settings.pinned) as database:
        document["database"] = database.told()
        peers = _peers(database, options.schema, settings.python)
        for turn in range(repeat):
            shift = turn % len(peers)
            for peer in peers[shift:] + peers[:shift]:
                say(f"{peer.name}, {turn + 1} of {repeat}")
                work = ["poll", "fetch", "list"] if turn else ["verify", "poll", "fetch", "list"]
                fresh = do_all(peer, work, settings, say)
                document["records"] += [{"server": peer.name, "repeat": turn, **completed(record)} for record in fresh]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(document, indent=1))
    return document


def _leave(_signal: int, _frame: object) -> None:
    raise SystemExit(130)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 if something could not be measured or mail came out wrong from tpops, 2 without MariaDB."""
    options = _parser().parse_args(arguments)
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        say(f"not installed: {', '.join(absent)} (apt-get install mariadb-server)")
        return 2
    name = time.strftime("%Y%m%d-%H%M%S-mysql.json", time.gmtime())
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        document = measure(options, options.json or options.scratch / "results" / name)
    finally:
        signal.signal(signal.SIGTERM, before)
    text = as_markdown(document)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    return exit_status(document["records"])


def exit_status(records: list[Record]) -> int:
    """1 where a figure is missing, or where tpops sent what was not stored."""
    ours = [record for record in records if record["server"] != "dovecot-tuned"]
    wrong = any(record.get("content_wrong") or record.get("announced_wrong") for record in ours)
    return 1 if wrong or any(record.get("failed") for record in records) else 0


if __name__ == "__main__":
    sys.exit(main())
