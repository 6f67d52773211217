"""
What one process hands to another over exec: a JSON object in memory, and open descriptors.

Purpose: nothing of it is on the command line, in the environment or in the file system, where others could read or
change it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any


def put(what: Mapping[str, Any]) -> int:
    """A descriptor that the other process finds this under; whoever made it closes it."""
    descriptor = os.memfd_create("tpops", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(json.dumps(what).encode())
    return descriptor


def take(descriptor: int) -> dict[str, Any]:
    """What was put; closes the descriptor."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        taken: dict[str, Any] = json.loads(file.read())
    return taken
