"""Makes the maildrops that the benchmarks are run on.

Every octet follows from the recipe number, the name of the set and its size, so two machines measure the same
mail.  A set is written once below the scratch directory and used again as long as its manifest names this recipe.

Sets (a user is ``user0000``, ``user0001``, ...; his mail is in ``userNNNN/Maildir/cur``):

- ``small``: SIZE users with 20 messages each, 2 to 50 KB, about 260 KB together; one in twenty is stored with CRLF;
- ``big``: one user with SIZE messages of 20 MB of base64;
- ``list``: one user with SIZE messages of about 1 KB;
- ``spool``: one user with SIZE messages of about 1 KB, in the mbox file ``user0000`` (see `kind`);
- ``idle``: SIZE users with two small messages (hard links to 32 files).

Deviations from real mail: every message is already in ``cur``, file names carry no ``,S=`` or ``,W=``.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECIPE = 1
OWNER = 20000
SMALL_MESSAGES = 20
BIG_OCTETS = 20_000_000
EPOCH = 1_720_000_000

_PHRASES = (
    "please find the revised figures attached",
    "the train leaves at 07:52 from platform 4",
    "Grüße aus Köln und bis Donnerstag",
    "un café près de la gare, à côté du théâtre",
    "pozdrowienia z Łodzi",
    "来週の会議は水曜日です",
    "I would rather not decide this before Friday",
    "see https://example.org/minutes/2024/07?item=12&view=all",
    "thank you",
    "the pump in cellar two was replaced on Monday; invoice follows",
    "nobody has answered the second question yet",
    "50 % off until the end of the month",
)


@dataclass(frozen=True)
class Store:
    """A finished set of mail: where it is and what is in it."""

    path: Path
    users: int
    messages: int
    manifest: dict[str, Any]


def canonical(stored: bytes) -> bytes:
    """The message with CRLF line ends, as POP3 sends it before stuffing (RFC 1939 §11)."""
    return stored.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def true_octets(stored: bytes) -> int:
    """How many octets LIST has to announce for a stored message."""
    return len(stored) + stored.count(b"\n") - stored.count(b"\r\n")


def digest(message: bytes) -> str:
    """A short name for the content of a message in its CRLF form."""
    return hashlib.blake2b(message, digest_size=8).hexdigest()


@functools.cache
def line_pool() -> list[bytes]:
    """Lines of text to cut bodies from: dots in front, empty lines, quotes, 8-bit octets, now and then a long line."""
    source = random.Random(f"{RECIPE}/lines")
    lines = []
    for number in range(4000):
        text = ", ".join(source.choices(_PHRASES, k=source.randint(1, 2))).encode()
        if number % 41 == 0:
            text = b"." + text
        elif number % 97 == 0:
            text = source.choice((b".", b"..", b"...and so on"))
        elif number % 11 == 0:
            text = b""
        elif number % 7 == 0:
            text = b"> " + text
        elif number % 211 == 0:
            text = b" ".join([text] * 12)
        elif number % 61 == 0:
            text = text.decode().encode("latin-1", "replace")
        lines.append(text + b"\n")
    return lines


def _head(source: random.Random, number: int, content_type: str, encoding: str) -> bytes:
    when = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(EPOCH + 601 * number))
    mark = f"{source.getrandbits(48):012x}"
    return (
        f"Return-Path: <list-{number % 31}@example.org>\n"
        f"Received: from out{number % 5}.example.org (out{number % 5}.example.org [198.51.100.{number % 200 + 1}])\n"
        f"\tby mx.example.com (Postfix) with ESMTPS id {mark[:10]}; {when}\n"
        f"From: Writer {number % 31} <list-{number % 31}@example.org>\n"
        f"To: reader@example.com\n"
        f"Date: {when}\n"
        f"Message-ID: <{mark}.{number}@example.org>\n"
        f"Subject: Letter {number}\n"
        f"MIME-Version: 1.0\n"
        f"Content-Type: {content_type}\n"
        f"Content-Transfer-Encoding: {encoding}\n\n"
    ).encode()


def text_message(source: random.Random, number: int, octets: int) -> bytes:
    """A plain text message of at least `octets` stored octets."""
    pool = line_pool()
    parts = [_head(source, number, "text/plain; charset=utf-8", "8bit")]
    have, at = len(parts[0]), source.randrange(len(pool))
    while have < octets:
        parts.append(pool[at % len(pool)])
        have += len(parts[-1])
        at += 1
    return b"".join(parts)


def base64_message(source: random.Random, number: int, octets: int) -> bytes:
    """A message that is one base64 part of at most `octets` stored octets."""
    head = _head(source, number, "application/octet-stream", "base64")
    return head + base64.encodebytes(source.randbytes((octets - len(head)) // 77 * 57))


def small_mailbox(user: int) -> Iterator[bytes]:
    """The messages of one user of the small set; sizes are the same ladder for everyone, in another order."""
    source = random.Random(f"{RECIPE}/small/{user}")
    sizes = [round(2000 * 25 ** ((step / (SMALL_MESSAGES - 1)) ** 1.3)) for step in range(SMALL_MESSAGES)]
    source.shuffle(sizes)
    for index, octets in enumerate(sizes):
        number = user * SMALL_MESSAGES + index
        if octets > 8000 and source.random() < 0.4:
            message = base64_message(source, number, octets)
        else:
            message = text_message(source, number, octets)
        yield canonical(message) if index == 7 else message


def _name(number: int) -> str:
    return f"{EPOCH + 601 * number}.M{number * 7919 % 1_000_000}P{4000 + number % 20000}.bench:2,S"


class _Writer:
    """Puts messages into Maildirs below `root` and keeps the books for the manifest."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.books: dict[str, dict[str, Any]] = {}
        self.number = 0

    def add(self, user: int, message: bytes, linked_to: Path | None = None, with_digest: bool = False) -> Path:
        name = f"user{user:04d}"
        maildir = self.root / name / "Maildir"
        if name not in self.books:
            self.books[name] = {"messages": 0, "octets": 0, "digests": []}
            for part in ("cur", "new", "tmp"):
                (maildir / part).mkdir(parents=True)
        path = maildir / "cur" / _name(self.number)
        self.number += 1
        if linked_to is None:
            path.write_bytes(message)
        else:
            os.link(linked_to, path)
        book = self.books[name]
        book["messages"] += 1
        book["octets"] += true_octets(message)
        if with_digest:
            book["digests"].append(digest(canonical(message)))
        return path


def kind(name: str) -> str:
    """How the mail of a set is stored."""
    return "mbox" if name == "spool" else "maildir"


def _write_spool(root: Path, source: random.Random, size: int) -> dict[str, dict[str, Any]]:
    """One mbox file with the messages of the list; the books of its user."""
    root.mkdir(parents=True)
    octets = 0
    with open(root / "user0000", "wb") as spool:
        for number in range(size):
            when = time.asctime(time.gmtime(EPOCH + 601 * number)).encode()
            message = text_message(source, number, source.randint(700, 1200)).replace(b"\nFrom ", b"\n>From ")
            octets += true_octets(message)
            spool.write(b"From list-%d@example.org %s\n%s\n" % (number % 31, when, message))
    return {"user0000": {"messages": size, "octets": octets, "digests": []}}


def _write_set(writer: _Writer, name: str, size: int) -> None:
    source = random.Random(f"{RECIPE}/{name}")
    if name == "small":
        for user in range(size):
            for message in small_mailbox(user):
                writer.add(user, message, with_digest=True)
    elif name == "big":
        for number in range(size):
            writer.add(0, base64_message(source, number, BIG_OCTETS), with_digest=True)
    elif name == "list":
        for number in range(size):
            writer.add(0, text_message(source, number, source.randint(700, 1200)))
    elif name == "spool":
        writer.books = _write_spool(writer.root, source, size)
    elif name == "idle":
        messages = [text_message(source, number, 2000 + 97 * number) for number in range(32)]
        originals: dict[int, Path] = {}
        for number in range(2 * size):
            which = number % 32
            path = writer.add(number // 2, messages[which], originals.get(which))
            originals.setdefault(which, path)
    else:
        raise ValueError(f"no set of mail is called {name!r}")


def _read_all(root: Path) -> None:
    """Bring the set back into the page cache, so that no server pays for the disk."""
    for directory, _, files in os.walk(root):
        for file in files:
            with open(os.path.join(directory, file), "rb", buffering=0) as opened:
                while opened.read(1 << 20):
                    pass


def prepare(scratch: Path, name: str, size: int) -> Store:
    """The set `name` with `size` users or messages, made now unless it is there already."""
    root = scratch / "mail" / f"{name}-{size}"
    book = root / "manifest.json"
    manifest: dict[str, Any] | None = None
    if book.exists():
        manifest = json.loads(book.read_text())
        if manifest is not None and manifest["recipe"] == RECIPE:
            _read_all(root / "users")
        else:
            manifest = None
    if manifest is None:
        shutil.rmtree(root, ignore_errors=True)
        writer = _Writer(root / "users")
        _write_set(writer, name, size)
        if os.geteuid() == 0:
            for directory, _, files in os.walk(root / "users"):
                for entry in (directory, *(os.path.join(directory, file) for file in files)):
                    os.chown(entry, OWNER, OWNER)
        manifest = {"recipe": RECIPE, "set": name, "size": size, "users": writer.books}
        book.write_text(json.dumps(manifest))
    books = manifest["users"].values()
    return Store(root / "users", len(books), max(entry["messages"] for entry in books), manifest)
