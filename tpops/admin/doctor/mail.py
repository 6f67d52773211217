"""
What a session shows: listings that agree with each other and with what is sent, dots, line ends, unique-ids.

Nothing is deleted or marked.  A message is read line by line; memory is bounded by the longest line.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

import attrs

from tpops.admin.doctor.findings import Findings, note, ok, problem, warning
from tpops.admin.doctor.wire import Broken, Wire, shown

_TWO_NUMBERS = re.compile(rb"(\d+) (\d+)\s*")
_NUMBER_AND_ID = re.compile(rb"(\d+) +(\S+)\s*")
_UNIQUE_ID = re.compile(rb"[\x21-\x7e]{1,70}")

#: Line lengths: of Internet mail (RFC 5322 section 2.1.1), and of Python's poplib.
_MAIL_LINE, _POPLIB_LINE = 998, 2048


@attrs.frozen
class Listing:
    """
    What a maildrop says of itself.

    @ivar count: messages by STAT
    @ivar octets: octets by STAT
    @ivar sizes: by number, from LIST
    @ivar unique_ids: by number, from UIDL
    """

    count: int
    octets: int
    sizes: dict[int, int]
    unique_ids: dict[int, bytes]


@attrs.define
class Text:
    """
    What was seen of one message.

    @ivar octets: wire octets without the dots of transparency
    @ivar header: digest of everything up to the blank line, that line included
    @ivar header_octets: how many octets that is
    @ivar unstuffed: lines with a single dot before something else
    @ivar bare: lines that end with LF alone
    @ivar longest: octets of the longest line
    """

    octets: int = 0
    header: bytes = b""
    header_octets: int = 0
    unstuffed: int = 0
    bare: int = 0
    longest: int = 0


def listing(wire: Wire) -> Listing:
    """STAT, LIST and UIDL; @raise Broken: when one of them makes no sense"""
    stat = re.match(rb"\+OK (\d+) (\d+)", wire.command(b"STAT"))
    if stat is None:
        raise Broken("STAT is not answered with '+OK count octets' (RFC 1939 §5)")
    sizes = _pairs(wire, b"LIST", _TWO_NUMBERS)
    ids = _pairs(wire, b"UIDL", _NUMBER_AND_ID)
    return Listing(int(stat[1]), int(stat[2]), {number: int(size) for number, size in sizes.items()}, ids)


def _pairs(wire: Wire, command: bytes, form: re.Pattern[bytes]) -> dict[int, bytes]:
    first, lines = wire.lines(command)
    if not first.startswith(b"+OK"):
        if command == b"UIDL":
            return {}
        raise Broken(f"{command.decode()} is answered with {shown(first)!r}")
    found = {}
    for line in lines:
        pair = form.fullmatch(line)
        if pair is None:
            raise Broken(f"{command.decode()} has the line {shown(line)!r}")
        found[int(pair[1])] = pair[2]
    return found


def listings_agree(found: Listing) -> Findings:
    """STAT, LIST and UIDL say the same."""
    if (found.count, found.octets) == (len(found.sizes), sum(found.sizes.values())):
        yield ok("STAT and LIST", f"{found.count} messages, {found.octets} octets")
    else:
        yield problem(
            "STAT and LIST",
            f"STAT says {found.count} messages of {found.octets} octets, LIST {len(found.sizes)} of "
            f"{sum(found.sizes.values())}",
            "Programs that go by STAT miss messages or wait for more.",
        )
    if not found.unique_ids and found.sizes:
        yield problem("UIDL", "not there", "Programs that leave mail on the server fetch everything again each time.")
        return
    if set(found.unique_ids) != set(found.sizes):
        yield problem("UIDL", "lists other messages than LIST", "Programs take one message for another.")
    bad = [one for one in found.unique_ids.values() if not _UNIQUE_ID.fullmatch(one)]
    doubled = [one for one, times in Counter(found.unique_ids.values()).items() if times > 1]
    if bad:
        yield problem("UIDL", f"{shown(bad[0])!r} is none", "1 to 70 octets in 0x21-0x7E are allowed (RFC 1939 §7).")
    if doubled:
        yield problem("UIDL", f"{shown(doubled[0])} is there twice", "Programs fetch only one of the messages.")
    if not (bad or doubled):
        yield ok("UIDL", f"{len(found.unique_ids)} unique-ids, all different")


def single_forms(wire: Wire, found: Listing) -> Findings:
    """LIST n and UIDL n, for a message that is there and for others (RFC 1939 section 5)."""
    if found.sizes:
        number = max(found.sizes)
        for command, value in ((b"LIST", b"%d" % found.sizes[number]), (b"UIDL", found.unique_ids.get(number, b""))):
            answer = wire.command(b"%s %d" % (command, number))
            if answer.split()[:3] != [b"+OK", b"%d" % number, value] and value:
                yield problem(
                    f"{command.decode()} n",
                    f"{shown(answer)!r}",
                    f"Must be '+OK {number} {shown(value)}'; programs that ask for one message fail.",
                )
    beyond = max(found.sizes, default=0) + 1
    # Not DELE: there are servers where DELE 0 marks the last message.
    for wrong in (b"LIST %d" % beyond, b"UIDL %d" % beyond, b"RETR %d" % beyond, b"RETR 0", b"LIST x"):
        answer = wire.command(wrong)
        if not answer.startswith(b"-ERR"):
            yield problem("errors", f"{wrong.decode()} is answered with {shown(answer)!r}", "Must be -ERR.")
            return
    yield ok("errors", "numbers without a message are refused")


def messages(wire: Wire, found: Listing, numbers: Sequence[int]) -> Findings:
    """RETR against LIST, dots and line ends; TOP against RETR."""
    sizes, unstuffed, bare, long, tops = [], [], [], [], []
    for number in numbers:
        text = _read(wire, b"RETR %d" % number)
        if text.octets != found.sizes[number]:
            sizes.append(f"{number} ({found.sizes[number]} announced, {text.octets} sent)")
        if text.unstuffed:
            unstuffed.append(str(number))
        if text.bare:
            bare.append(str(number))
        if text.longest > _POPLIB_LINE:
            long.append(str(number))
        top = _read(wire, b"TOP %d 0" % number)
        if (top.header, top.octets) != (text.header, text.header_octets):
            tops.append(str(number))
    if not numbers:
        yield note("messages", "the maildrop is empty", "Deliver something and ask again.")
        return
    yield from _told(
        "RETR",
        sizes,
        "octets differ from LIST",
        "Programs show wrong sizes, and some refuse the message (RFC 1939 §11).",
    )
    yield from _told(
        "dots",
        unstuffed,
        "a line begins with a single dot",
        "A sender can end the message early and put replies of his own behind it (RFC 1939 §3).",
    )
    yield from _told("line ends", bare, "a line ends with LF alone", "Some programs wait for ever (RFC 1939 §3).")
    yield from _told("TOP", tops, "TOP n 0 is not the header of RETR n", "Header views of programs are wrong.")
    if long:
        yield warning(
            "long lines",
            f"messages {', '.join(long[:5])} have lines over {_POPLIB_LINE} octets",
            f"Python's poplib refuses them; mail should have at most {_MAIL_LINE} (RFC 5322 §2.1.1).",
        )


def _told(subject: str, wrong: list[str], what: str, meaning: str) -> Findings:
    if wrong:
        yield problem(subject, f"{what}: message {'; '.join(wrong[:5])}", meaning)
    else:
        yield ok(subject, "right in all messages that were read")


def _read(wire: Wire, command: bytes) -> Text:
    """A message, as far as it must be remembered."""
    first = wire.command(command)
    if not first.startswith(b"+OK"):
        raise Broken(f"{command.decode()} is answered with {shown(first)!r}")
    text, header, in_header = Text(), hashlib.sha256(), True
    for line in wire.raw_lines():
        if line.startswith(b"."):
            text.unstuffed += not line.startswith(b"..")
            line = line[1:]
        text.bare += not line.endswith(b"\r\n")
        text.octets += len(line)
        text.longest = max(text.longest, len(line) - 2)
        if in_header:
            header.update(line)
            text.header_octets += len(line)
            in_header = bool(line.strip(b"\r\n"))
    text.header = header.digest()
    return text


def pipelined(wire: Wire) -> Findings:
    """Several commands in one write after login."""
    wire.send(b"NOOP\r\nSTAT\r\nNOOP\r\nRETR 0\r\nNOOP\r\n")
    answers = [wire.line() for _ in range(5)]
    if [one[:1] for one in answers] == [b"+", b"+", b"+", b"-", b"+"]:
        yield ok("PIPELINING", "five commands after login get five replies in order")
    else:
        yield problem("PIPELINING", f"{[shown(one) for one in answers]}", "Programs that pipeline get confused.")
