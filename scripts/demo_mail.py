"""
Some mail to try a POP3 server with.

Purpose: C{python scripts/demo_mail.py MAILDIR [RECIPIENT]} drops a handful of messages into a Maildir, as a delivery
agent does: written in C{tmp}, synced, renamed into C{new}.  Each message has something that has broken mail
programs before: 8-bit text, lines that begin with dots, very long lines, an attachment, Japanese.
Limits: every call adds the messages again.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from email.utils import format_datetime, make_msgid
from pathlib import Path

#: Lines as they lie in a Maildir, 8-bit text as it is.
_POLICY = default.clone(cte_type="8bit", linesep="\n")

WELCOME = """\
Welcome!

This mailbox belongs to the demonstration of tpops. Read it with any mail
program, delete what you like: the deletions stay until you remove the
directory of the demonstration.

The next lines begin with dots. POP3 ends a message with a line that is a
single dot, so the server has to send one more:
.
..
...and your mail program has to take it away again.
.profile
"""

GERMAN = """\
Liebe Kolleginnen und Kollegen,

das Sommerfest fällt dieses Jahr auf den längsten Tag. Für Getränke, Würstchen
und Käsespießchen ist gesorgt; süße Überraschungen bringt ihr bitte selbst mit.

Schöne Grüße
Jürgen Größlich
"""

JAPANESE = """\
山田様

お世話になっております。ご注文の品を本日発送いたしました。
明後日までにお届けの予定です。

  緑茶「煎茶」百グラム、三袋
  送り状番号 1234-5678-9012

今後ともよろしくお願い申し上げます。
"""

FIGURES = "month,messages,octets\n" + "".join(
    f"2025-{month:02d},{month * 137},{month * 48611}\n" for month in range(1, 13)
)


def messages(recipient: str, now: datetime) -> Iterator[bytes]:
    """The messages, oldest first, with line ends as in a Maildir."""
    written = iter(now - timedelta(minutes=minutes) for minutes in (190, 95, 42, 17, 3))

    def message(sender: str, subject: str) -> EmailMessage:
        made = EmailMessage(policy=_POLICY)
        made["Date"] = format_datetime(next(written))
        made["From"] = sender
        made["To"] = recipient
        made["Subject"] = subject
        made["Message-ID"] = make_msgid(domain="demo.example")
        return made

    welcome = message("tpops <postmaster@demo.example>", "Welcome to tpops")
    welcome.set_content(WELCOME, charset="us-ascii", cte="7bit")
    yield welcome.as_bytes()

    german = message("Jürgen Größlich <juergen@demo.example>", "Sommerfest: Grüße und Getränke")
    german.set_content(GERMAN, charset="iso-8859-1", cte="8bit")
    yield german.as_bytes()

    report = message("Statistics <cron@demo.example>", "Figures of the year")
    report.set_content("The figures are attached, once as text and once for your spreadsheet.\n")
    report.add_attachment(FIGURES.encode(), maintype="text", subtype="csv", filename="figures.csv", cte="base64")
    report.add_attachment(
        bytes(range(256)) * 40, maintype="application", subtype="octet-stream", filename="all-octets.bin"
    )
    yield report.as_bytes()

    newsletter = message("Newsletter <news@demo.example>", "A line that never ends")
    newsletter["MIME-Version"] = "1.0"
    newsletter["Content-Type"] = 'text/html; charset="utf-8"'
    newsletter["Content-Transfer-Encoding"] = "8bit"
    body = "<p>" + "This newsletter was made by a program that knows no line ends, désolé. " * 60 + "</p>\n"
    yield newsletter.as_bytes() + body.encode()

    japanese = message("緑茶商店 <shop@demo.example>", "ご注文の発送のお知らせ")
    japanese.set_content(JAPANESE, charset="utf-8", cte="8bit")
    yield japanese.as_bytes()


def deliver(maildir: Path, message: bytes, number: int) -> Path:
    """Store one message for good; its place in C{new}."""
    for folder in ("tmp", "new", "cur"):
        (maildir / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{int(time.time())}.P{os.getpid()}Q{number}.{socket.gethostname().replace('/', '_').replace(':', '_')}"
    written, place = maildir / "tmp" / name, maildir / "new" / name
    with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(message)
        file.flush()
        os.fsync(file.fileno())
    written.rename(place)
    directory = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return place


def main(arguments: list[str]) -> int:
    """Deliver all messages to the Maildir that is named."""
    if not 1 <= len(arguments) <= 2:
        print("usage: demo_mail.py MAILDIR [RECIPIENT]", file=sys.stderr)
        return 2
    recipient = arguments[1] if len(arguments) == 2 else "demo@demo.example"
    for number, message in enumerate(messages(recipient, datetime.now(UTC)), 1):
        deliver(Path(arguments[0]), message, number)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
