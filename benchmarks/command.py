"""The command `benchmarks/run`: reads the options, goes through servers and work, writes JSON and the table."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import mail, report
from benchmarks.measure import Tree, build
from benchmarks.peer import Peer
from benchmarks.peers import PEERS
from benchmarks.work import WORK, Settings, default_python, do_all

HERE = Path(__file__).resolve().parent


def _words(known: dict[str, Any], what: str) -> Any:
    def parse(text: str) -> list[str]:
        chosen = [word for word in text.split(",") if word]
        for word in chosen:
            if word not in known:
                raise argparse.ArgumentTypeError(f"no {what} is called {word!r}; there are {', '.join(known)}")
        return chosen

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/run", description=__doc__.split(": ", 1)[1].capitalize())
    add = parser.add_argument
    add("--quick", action="store_true", help="small sets of mail and short measurements: under two minutes")
    add("--work", type=_words(WORK, "work"), default=list(WORK), metavar="A,B", help=f"of {','.join(WORK)}")
    add("--servers", type=_words(PEERS, "server"), default=list(PEERS), metavar="A,B", help=f"of {','.join(PEERS)}")
    add("--repeat", type=int, metavar="N", help="go through everything N times, the order rotated (3; quick: 1)")
    add("--seconds", type=float, metavar="S", help="length of a measurement of rates (3; quick: 1)")
    add("--scratch", type=Path, default=Path("/tmp/tpops-bench"), metavar="DIR", help="%(default)s: mail, servers")
    add("--json", type=Path, metavar="FILE", help="where the measurements go (SCRATCH/results/TIME.json)")
    add("--markdown", type=Path, metavar="FILE", help="write the table as Markdown too (- for the terminal)")
    add("--from", type=Path, dest="source", metavar="FILE", help="measure nothing, show the table of an earlier run")
    add("--python", type=Path, default=default_python(), metavar="FILE", help="interpreter beside twistd (%(default)s)")
    add("--workers", type=int, default=1, metavar="N", help="processes of tpops that serve; use it with --no-pin")
    add("--no-pin", action="store_true", help="leave server and client to the scheduler")
    return parser


def _output_of(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=20).stdout.strip()
    except OSError:
        return ""


def describe_machine(python: Path) -> dict[str, Any]:
    """What a reader of the figures has to know about the machine."""
    processor = ""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    tree = Tree("probe", None)
    accounting = tree.accounting
    tree.end()
    version = "import platform, twisted; print(platform.python_version() + ', Twisted ' + twisted.__version__)"
    return {
        "cores": os.cpu_count(),
        "processor": processor or "unknown processor",
        "kernel": platform.release(),
        "python": _output_of(str(python), "-c", version) or platform.python_version(),
        "dovecot": _output_of("dovecot", "--version").split(" ")[0],
        "accounting": accounting,
    }


def _usable(names: list[str], python: Path) -> list[Peer]:
    usable = []
    for name in names:
        missing = PEERS[name].missing(python)
        if missing:
            say(f"{name} is left out: {missing}")
        else:
            usable.append(PEERS[name])
    return usable


def say(text: str) -> None:
    """Progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def measure(options: argparse.Namespace, json_path: Path) -> dict[str, Any]:
    """Everything that was asked for; the document is written after each server, so a run can be cut short."""
    scratch: Path = options.scratch.resolve()
    programs = scratch / "bin"
    for source in ("load.c", "limit.c", "inetd.c"):
        build(HERE / source, programs)
    pinned = not options.no_pin and (os.cpu_count() or 1) > 1
    seconds = options.seconds or (1.0 if options.quick else 3.0)
    repeat = options.repeat or (1 if options.quick else 3)
    settings = Settings(scratch, programs, options.python.absolute(), options.quick, seconds, pinned, options.workers)
    peers = _usable(options.servers, options.python.absolute())
    if not peers:
        raise SystemExit("no server to measure")
    document: dict[str, Any] = {
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": describe_machine(options.python),
        "options": {
            "quick": options.quick,
            "repeat": repeat,
            "seconds": seconds,
            "pinned": pinned,
            "workers": options.workers,
        },
        "records": [],
    }
    for set_name in dict.fromkeys(WORK[name][0] for name in options.work):
        say(f"mail: {set_name}, {settings.size_of(set_name):,}")
        mail.prepare(scratch, set_name, settings.size_of(set_name))
    for turn in range(repeat):
        shift = turn % len(peers)
        for peer in peers[shift:] + peers[:shift]:
            say(f"{peer.name}, {turn + 1} of {repeat}")
            fresh = do_all(peer, options.work, settings, say)
            document["records"] += [{"server": peer.name, "repeat": turn, **record} for record in fresh]
            json_path.parent.mkdir(parents=True, exist_ok=True)
            json_path.write_text(json.dumps(document, indent=1))
    return document


def _leave(_signal: int, _frame: object) -> None:
    raise SystemExit(130)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 if something could not be measured or mail came out wrong from tpops."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _leave)
    if options.source:
        document = report.load(options.source)
    else:
        name = time.strftime("%Y%m%d-%H%M%S.json", time.gmtime())
        json_path = options.json or options.scratch / "results" / name
        document = measure(options, json_path)
        say(f"measurements are in {json_path}\n")
    print(report.as_text(document))
    if options.markdown:
        text = report.as_markdown(document)
        if str(options.markdown) == "-":
            print(text)
        else:
            options.markdown.write_text(text)
    bad = [record for record in document["records"] if record["server"] == "tpops" and record.get("content_wrong")]
    return 1 if bad or any(record.get("failed") for record in document["records"]) else 0
