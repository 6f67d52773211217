"""
The mark "was read" in a spool, as UW ipop3d, mutt and mail(1) know it: the field C{Status: RO}.

Purpose: what is to be changed in a message so that it has the mark.  A field that is there gets its letters, in its
place where they fit into it, as they do into those of c-client; another message gets the field at the end of its
header.  Other fields, X-Status too, stay as they are.
What does not change: unique-ids of the styles "hash" and "x-uid", which do not look at the field.  Those of the style
"tpop3d" would.
Limits: a message without an empty line behind its header, or with one of more than a MiB, is not marked.
"""

from __future__ import annotations

import re

import attrs

from tpops.mailbox.mbox_rewrite import Edit
from tpops.mailbox.mbox_scan import MOST_HEADER, Place, Read, header_of

_STATUS = re.compile(rb"^Status:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)

#: Letters of a message that nobody has read, or seen.
_UNREAD = b"NU"

#: Most octets that the field needs.
_ROOM = 64


@attrs.frozen(slots=True)
class Marking:
    """
    How one message gets the mark.

    @ivar stored: octets that it gets longer by
    @ivar wire: the same with CRLF line ends
    """

    edit: Edit
    stored: int
    wire: int


def read_mark(read: Read, place: Place) -> Marking | None:
    """What is to be done; None when the message has the mark, or cannot have it."""
    beginning = read(place.body, min(MOST_HEADER, place.end - place.body))
    header = header_of(beginning)
    line_end = re.match(rb"\r?\n", beginning[len(header) :])
    if not line_end or len(header) > MOST_HEADER - _ROOM:
        return None
    status = _STATUS.search(header)
    if status is None:
        octets = b"Status: RO" + line_end[0]
        at = place.body + len(header)
        return Marking(Edit(at, at, octets), len(octets), len(b"Status: RO\r\n"))
    letters = status[1].split()
    if b"R" in b"".join(letters):
        return None
    others = b"".join(letters).translate(None, _UNREAD + b"O")
    value = b" RO" + others
    longer = max(0, len(value) - len(status[1]))
    edit = Edit(place.body + status.start(1), place.body + status.end(1), value.ljust(len(status[1])))
    return Marking(edit, longer, longer)
