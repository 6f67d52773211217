"""
A message on its way into maildrops.

Purpose: what comes from a program or a socket is kept until every recipient has it: up to L{MEMORY_OCTETS} in memory,
more in a file that has no name, so memory stays bounded whatever the message's size and nothing is left behind.
On the way: a "From " line before the header (mbox, as Postfix' flag F and other programs put it there) is taken off,
and its address is kept.  Where that is asked for, fields Return-Path are taken out of the header; each recipient may
get fields of his own in front (L{Message.under}).
Limits: not for several threads at once while it is being written; reading is.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import attrs
from zope.interface import implementer

from tpops.interfaces import IIncomingMessage

#: A longer message is in a file.
MEMORY_OCTETS = 1 << 20

_CHUNK = 1 << 18

#: Octets of a "From " line that are looked at.
_MOST_FROM = 4096

_RETURN_PATH = b"return-path:"


@implementer(IIncomingMessage)
@attrs.frozen
class Under:
    """
    A message with header fields in front.

    @ivar octets: of both
    @ivar fields: whole lines
    """

    octets: int
    fields: bytes
    _message: Message

    def chunks(self) -> Iterator[bytes]:
        """See L{IIncomingMessage.chunks}."""
        yield self.fields
        yield from self._message.chunks()


@implementer(IIncomingMessage)
class Message:
    """
    See the module.

    @ivar octets: how many there are
    @ivar sender: the address of the "From " line, "" where there was none
    @ivar line_end: what its first line ends with
    @param drop_return_path: take fields Return-Path out of the header
    @param directory: for the file; None for the system's
    @param separator: whether a "From " line before the header is none of the message's
    """

    def __init__(self, drop_return_path: bool = False, directory: str | None = None, separator: bool = True) -> None:
        self.octets = 0
        self.sender = ""
        self.line_end = b"\n"
        self._directory = directory
        self._memory: list[bytes] = []
        self._file: BinaryIO | None = None
        self._first: bytes | None = b""
        self._separator = separator
        self._header = _WithoutReturnPath() if drop_return_path else None

    @classmethod
    def read(cls, source: BinaryIO, drop_return_path: bool = False, directory: str | None = None) -> Message:
        """
        All of a file, from where it is.

        @raise OSError: when it cannot be read, or kept
        """
        message = cls(drop_return_path, directory)
        try:
            while chunk := source.read(_CHUNK):
                message.feed(chunk)
            message.finish()
        except BaseException:
            message.close()
            raise
        return message

    def feed(self, octets: bytes) -> None:
        """The next octets.  Blocks.  @raise OSError: when they cannot be kept"""
        if self._first is not None:
            octets = self._first + octets
            self._first = octets
            if b"\n" not in octets and len(octets) < _MOST_FROM:
                return
            self._first = None
            octets = self._without_separator(octets)
        self._keep(octets if self._header is None else self._header.feed(octets))

    def finish(self) -> None:
        """There are no more.  @raise OSError: when they cannot be kept"""
        first, self._first = self._first, None
        if first:
            first = self._without_separator(first)
            self._keep(first if self._header is None else self._header.feed(first))
        if self._header is not None:
            self._keep(self._header.finish())
        if self._file is not None:
            self._file.flush()

    def chunks(self) -> Iterator[bytes]:
        """See L{IIncomingMessage.chunks}."""
        if self._file is None:
            yield from self._memory
            return
        descriptor, at = self._file.fileno(), 0
        while at < self.octets:
            chunk = os.pread(descriptor, min(_CHUNK, self.octets - at), at)
            if not chunk:
                raise OSError(0, "the message was cut off while it was kept")
            yield chunk
            at += len(chunk)

    def under(self, fields: Iterable[tuple[bytes, bytes]]) -> IIncomingMessage:
        """The message with these fields, names and values, before its header."""
        text = b"".join(b"%s: %s%s" % (name, value, self.line_end) for name, value in fields)
        return Under(len(text) + self.octets, text, self) if text else self

    def close(self) -> None:
        """Forget it.  Idempotent."""
        self._memory = []
        self.octets = 0
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _without_separator(self, octets: bytes) -> bytes:
        line, end, rest = octets.partition(b"\n")
        if end and line.endswith(b"\r"):
            self.line_end = b"\r\n"
        if not (end and self._separator and line.startswith(b"From ")):
            return octets
        self.sender = line.split()[1].decode("utf-8", "surrogateescape") if len(line.split()) > 1 else ""
        if self.sender == "MAILER-DAEMON":
            self.sender = ""
        return rest

    def _keep(self, octets: bytes) -> None:
        if not octets:
            return
        if self._file is None and self.octets + len(octets) > MEMORY_OCTETS:
            # Without a buffer: what cannot be written is known at once.
            self._file = tempfile.TemporaryFile(buffering=0, prefix="tpops-", dir=self._directory)  # noqa: SIM115
            for one in self._memory:
                self._write(one)
            self._memory = []
        if self._file is None:
            self._memory.append(octets)
        else:
            self._write(octets)
        self.octets += len(octets)

    def _write(self, octets: bytes) -> None:
        assert self._file is not None
        rest = memoryview(octets)
        while rest:
            rest = rest[self._file.write(rest) :]


class _WithoutReturnPath:
    """Takes fields Return-Path, with the lines that continue them, out of a header that comes in pieces."""

    def __init__(self) -> None:
        self._pending = b""
        self._in_header = True
        self._at_line_start = True
        self._dropping = False

    def feed(self, octets: bytes) -> bytes:
        """The next octets; what is left of them."""
        if not self._in_header:
            return octets
        octets = self._pending + octets
        self._pending = b""
        kept: list[bytes] = []
        at = 0
        while at < len(octets) and self._in_header:
            if self._at_line_start and not self._start(octets, at):
                self._pending = octets[at:]
                return b"".join(kept)
            end = octets.find(b"\n", at) + 1
            self._at_line_start = end > 0
            end = end or len(octets)
            if not self._dropping:
                kept.append(octets[at:end])
            at = end
        return b"".join((*kept, octets[at:]))

    def finish(self) -> bytes:
        """What was kept back."""
        pending, self._pending = self._pending, b""
        return pending

    def _start(self, octets: bytes, at: int) -> bool:
        """See what line begins here; False when too little of it is there."""
        beginning = octets[at : at + len(_RETURN_PATH)]
        if b"\n" not in beginning and len(beginning) < len(_RETURN_PATH):
            return False
        if beginning.startswith((b"\n", b"\r\n")):
            self._in_header = self._dropping = False
        elif not (beginning.startswith((b" ", b"\t")) and self._dropping):
            self._dropping = beginning.lower() == _RETURN_PATH
        return True
