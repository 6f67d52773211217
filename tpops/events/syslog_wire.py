"""
What a syslog message looks like: RFC 3164 as the local daemon reads it, RFC 5424 for other machines, and RFC 6587's
octet counting for TCP.

Limits: text is one line already, see L{tpops.events.text}; a message is cut at L{MOST_OCTETS} octets, at the end of a
character.
"""

from __future__ import annotations

import time

INFO, NOTICE, WARNING = 6, 5, 4

#: Every receiver takes messages of 480 octets and should take 2048 (RFC 5424 section 6.1).
MOST_OCTETS = 2048

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def local(facility: int, severity: int, at: float, tag: str, process: int, text: str) -> bytes:
    """A message for a daemon on this machine: it knows the machine's name itself (RFC 3164 section 4.1)."""
    moment = time.localtime(at)
    stamp = f"{_MONTHS[moment.tm_mon - 1]} {moment.tm_mday:2d} {time.strftime('%H:%M:%S', moment)}"
    return _cut(f"<{facility * 8 + severity}>{stamp} {tag}[{process}]: {text}")


def remote(facility: int, severity: int, at: float, host: str, tag: str, process: int, kind: str, text: str) -> bytes:
    """
    A message for another machine (RFC 5424 section 6).

    @param kind: the event, which is its MSGID
    """
    second, millisecond = divmod(int(at * 1000), 1000)
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{millisecond:03d}Z"
    return _cut(f"<{facility * 8 + severity}>1 {stamp} {host} {tag} {process} {kind} - {text}")


def counted(message: bytes) -> bytes:
    """A message in a stream (RFC 6587 section 3.4.1)."""
    return b"%d %s" % (len(message), message)


def host_name(name: str) -> str:
    """A host name as RFC 5424 has it: printable ASCII, at most 255 octets, "-" for none."""
    return "".join(one for one in name if "!" <= one <= "~")[:255] or "-"


def _cut(text: str) -> bytes:
    octets = text.encode("utf-8", "backslashreplace")
    if len(octets) <= MOST_OCTETS:
        return octets
    return octets[:MOST_OCTETS].decode("utf-8", "ignore").encode()
