"""
How often Python looks for garbage.

Purpose: loading modules and a configuration makes some hundred thousand objects that stay, and next to no garbage;
after every 700 of them Python would look for some, which takes a seventh of a command's time to start.
Limits: what is not part of a cycle goes at once, as always.
"""

from __future__ import annotations

import gc

#: New objects after which the collector looks at the newest: hardly anything of a session is garbage for it.
COLLECT_AFTER = 10_000


def collect_seldom() -> None:
    """Let the collector wait for L{COLLECT_AFTER} objects; for the start of a process, and for one that serves."""
    gc.set_threshold(COLLECT_AFTER, 20, 20)
