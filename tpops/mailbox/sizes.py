"""
How many octets a stored message has on the wire, and how to learn that cheaply.

Purpose: RFC 1939 section 11 wants the size with CRLF line ends.  A Maildir++ name may carry it (C{,W=}); otherwise the
file is read, once, and the index remembers.  Two faster ways that TPOPS had are not RFC-exact.
"""

from __future__ import annotations

import os
import re

from tpops.protocol.transparency import Octets

EXACT = "exact"
NAME = "maildir++"
FILE = "file"

#: Open flags for messages: a name that turned into a link or a FIFO meanwhile cannot hurt.
OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

# Only in the base name: what follows the ':' are flags.
_WIRE = re.compile(rb"[^:]*?,W=([0-9]{1,15})(?=[,:]|\Z)")
_STORED = re.compile(rb"[^:]*?,S=([0-9]{1,15})(?=[,:]|\Z)")
_CHUNK = 1 << 18


def size(name: bytes, how: str, directory: int) -> int:
    """
    Octets to announce for a message.

    @param name: its file name
    @param how: L{EXACT}: C{,W=} or reading; L{NAME}: C{,S=} or reading; L{FILE}: C{,S=} or the file's size
    @param directory: descriptor of the directory it lies in
    @raise OSError: when the file cannot be read
    """
    told = (_WIRE if how == EXACT else _STORED).match(name)
    if told:
        return int(told[1])
    if how == FILE:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
    return read_size(name, directory)


def read_size(name: bytes, directory: int) -> int:
    """Wire octets of a message, by reading it."""
    descriptor = os.open(name, OPEN_FLAGS, dir_fd=directory)
    try:
        octets = Octets()
        while chunk := os.read(descriptor, _CHUNK):
            octets.feed(chunk)
        return octets.total()
    finally:
        os.close(descriptor)
