"""
How many questions of Postfix the policy service answers on one core.

    .venv/bin/python benchmarks/policy.py [--seconds 5] [--connections 8] [--senders 10000] [--logins-per-second 0]

Starts a tpops of its own with a store in a temporary directory, registers senders and logins, and asks as Postfix does:
one question at a time on each of several connections that stay open, half of them about clients that may relay.  The
server is bound to core 0, this program to the last one.  With --logins-per-second somebody else writes to the store
meanwhile, which makes the server read again what it had in memory.

Server CPU per question is the figure to trust first, as in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tpops.db.relay import Contents, Login, Sender
from tpops.db.relay_sqlite import SQLiteRelayStore

_REQUEST = (
    "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address={address}\n"
    "client_name=unknown\nclient_port=40000\nreverse_client_name=unknown\nserver_address=192.0.2.250\nserver_port=25\n"
    "helo_name=client.example\nsender={sender}\nrecipient=friend@elsewhere.example\nrecipient_count=0\nqueue_id=\n"
    "instance=1234.5678.90ab.0\nsize=0\netrn_domain=\nstress=\nsasl_method=\nsasl_username=\nsasl_sender=\n"
    "ccert_subject=\nccert_issuer=\nccert_fingerprint=\nccert_pubkey_fingerprint=\nencryption_protocol=\n"
    "encryption_cipher=\nencryption_keysize=0\npolicy_context=\n\n"
)


def _configuration(directory: Path) -> Path:
    path = directory / "tpops.toml"
    path.write_text(
        f'[server]\nstate_dir = "."\n[[listen]]\naddress = "unix:{directory}/pop3"\n'
        '[[accounts]]\ndriver = "passwd_file"\npath = "users"\n'
        f'[pop_before_smtp]\nstore = "sqlite"\npolicy = ["unix:{directory}/policy"]\n'
    )
    (directory / "users").write_text("joe:{PLAIN}x::::/nowhere:\n")
    return path


def _fill(store: SQLiteRelayStore, count: int) -> None:
    now = int(time.time())
    senders = [Sender(f"user{one}", f"user{one}@example.org", 1) for one in range(count)]
    store.put(Contents([Login(_address(one), f"user{one}", now) for one in range(count)], senders))


def _address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def _write(store: SQLiteRelayStore, rate: int, count: int, over: threading.Event) -> None:
    while not over.wait(1 / rate):
        one = random.randrange(count)  # no secret
        store.record([Login(_address(one), f"user{one}", int(time.time()))])


def _ask(path: str, connections: int, seconds: float, count: int) -> tuple[int, int]:
    """Ask for so long; how many questions were answered, and how many of them by OK."""
    chosen = random.Random(1)  # no secret
    requests = []
    for _ in range(20_000):
        one = chosen.randrange(count)
        sender = f"user{one if chosen.random() < 0.5 else one + 1}@example.org"
        requests.append(_REQUEST.format(address=_address(one), sender=sender).encode())
    selector = selectors.DefaultSelector()
    for _ in range(connections):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        selector.register(connection, selectors.EVENT_READ)
        connection.sendall(chosen.choice(requests))
    answered = granted = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _ in selector.select():
            answer = key.fileobj.recv(4096)
            answered += 1
            granted += answer == b"action=OK\n\n"
            key.fileobj.sendall(requests[answered % len(requests)])
    return answered, granted


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and say so."""
    options = argparse.ArgumentParser(description="Policy service: questions per second on one core.")
    options.add_argument("--seconds", type=float, default=5)
    options.add_argument("--connections", type=int, default=8)
    options.add_argument("--senders", type=int, default=10_000)
    options.add_argument("--logins-per-second", type=int, default=0)
    given = options.parse_args()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tpops-")))
        configuration = _configuration(directory)
        store = SQLiteRelayStore(str(directory / "pbs.sqlite"), 1800)
        _fill(store, given.senders)
        command = [
            str(Path(sys.executable).with_name("twistd")),
            "-n",
            "--pidfile=",
            "tpops",
            "--config",
            str(configuration),
        ]
        cores = sorted(os.sched_getaffinity(0))
        with open(directory / "output", "wb") as output:
            server = subprocess.Popen(["taskset", "-c", str(cores[0]), *command], stdout=output, stderr=output)
        stack.callback(server.wait)
        stack.callback(server.terminate)
        os.sched_setaffinity(0, {cores[-1]})
        while b"ready on" not in (directory / "output").read_bytes() or not (directory / "policy").exists():
            if server.poll() is not None:
                sys.exit((directory / "output").read_text())
            time.sleep(0.05)
        _ask(str(directory / "policy"), given.connections, 1, given.senders)
        over = threading.Event()
        if given.logins_per_second:
            writer = threading.Thread(target=_write, args=(store, given.logins_per_second, given.senders, over))
            writer.start()
            stack.callback(writer.join)
        stack.callback(over.set)
        before, began = _cpu_seconds(server.pid), time.monotonic()
        answered, granted = _ask(str(directory / "policy"), given.connections, given.seconds, given.senders)
        took, cpu = time.monotonic() - began, _cpu_seconds(server.pid) - before
        print(
            f"{answered / took:,.0f} questions a second ({granted / answered:.0%} OK), {given.connections} connections"
        )
        print(f"server CPU: {cpu / answered * 1e6:.1f} us a question, so {answered / cpu:,.0f} a second of one core")


if __name__ == "__main__":
    main()
