"""
Awkward messages, by name.

Each has a header with C{Subject: NAME}, so that it is found again wherever a client puts it.
"""

from __future__ import annotations

import base64
import random

_HEADER = b"Return-Path: <ann@example.org>\nFrom: Ann <ann@example.org>\nTo: joe@example.org\n"


def _message(name: str, body: bytes, more: bytes = b"") -> bytes:
    return (
        _HEADER + b"Subject: " + name.encode() + b"\nMessage-ID: <" + name.encode() + b"@example.org>\n" + more + body
    )


def _attachment(octets: int) -> bytes:
    text = base64.encodebytes(random.Random(1).randbytes(octets))
    return (
        b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=xx\n\n"
        b"--xx\nContent-Type: text/plain; charset=us-ascii\n\nSee below.\n"
        b"--xx\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n" + text + b"--xx--\n"
    )


#: What every client carries.
PLAIN: dict[str, bytes] = {
    "lf": _message("lf", b"\nOne line.\nAnother.\n\n\n"),
    "crlf": _message("crlf", b"\nOne line.\nAnother.\n").replace(b"\n", b"\r\n"),
    "mixed": _message("mixed", b"\nThis ends in CRLF\r\nthis in LF\nand this in CRLF\r\n"),
    "dots": _message("dots", b"\n.one\n..two\n...\n.. \n.\tx\nno dot\n. .\n"),
    "lone-dot": _message("lone-dot", b"\nbefore\n.\nafter\n.\n.\n"),
    "dot-last": _message("dot-last", b"\nthe last line is a dot\n."),
    "8-bit": _message("8-bit", "\nGrüße, 世界\n".encode() + bytes(range(0x80, 0x100)) + b"\n"),
    "8-bit-header": _message("8-bit-header", b"\nx\n", "X-Name: Jürgen\n".encode()),
    "no-final-newline": _message("no-final-newline", b"\nThe end"),
    "empty-body": _message("empty-body", b"\n"),
    "from": _message("from", b"\nFrom the first line\n>From the second\nFrom ann Thu Jan  1 00:00:00 1970\n"),
    "folded": _message("folded", b"\nx\n", b"X-Folded: one\n two\n\tthree\n"),
    "5000-octets": _message("5000-octets", b"\n" + b"." * 5000 + b"\n" + b"z" * 998 + b"\n"),
    "attachment": _message("attachment", _attachment(3 * 1024 * 1024 * 3 // 4)),
}

#: A message that is all header: some clients add the blank line, or take it for broken.
HEADER_ONLY: dict[str, bytes] = {"header-only": _message("header-only", b"")}

#: Lines longer than most clients' buffers.
LONG: dict[str, bytes] = {
    "long-line": _message("long-line", b"\n" + b"x" * 100_000 + b"\nshort\n." + b"y" * 100_000),
    "long-8-bit": _message("long-8-bit", b"\n" + b"\xfc" * 100_000 + b"\n"),
}

#: Octets that RFC 5322 forbids and mail has all the same.
FORBIDDEN: dict[str, bytes] = {
    "nul": _message("nul", b"\nbefore\0after\n\0\n"),
    "bare-cr": _message("bare-cr", b"\nold\rMac\r.line\n\r\nend\r\r\nlast\r"),
    "control": _message("control", b"\n" + bytes(range(1, 10)) + bytes([11, 12]) + bytes(range(14, 32)) + b"\x7f\n"),
}

ALL: dict[str, bytes] = {**PLAIN, **HEADER_ONLY, **LONG, **FORBIDDEN}


def wire(octets: bytes) -> bytes:
    """A stored message as a client must get it: each line ends in CRLF, a bare CR is no line end."""
    octets = octets.replace(b"\r\n", b"\n")
    if octets and not octets.endswith(b"\n"):
        octets += b"\n"
    return octets.replace(b"\n", b"\r\n")


def text(octets: bytes) -> bytes:
    """The same with LF, as clients on UNIX store it."""
    return wire(octets).replace(b"\r\n", b"\n")


def subject(octets: bytes) -> str:
    """The name of a message."""
    return octets.partition(b"Subject: ")[2].splitlines()[0].decode()
