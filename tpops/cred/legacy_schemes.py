"""
Passwords as TPOPS' tables have them, in our own stored form "{SCHEME}data".

Purpose: what TPOPS compared by its setting mysql-crypt-passwd, for whoever takes its accounts over.

    no       the password as it is; serves APOP
    crypt    crypt(3)
    sha      SHA-1 in hexadecimal or base64, with or without "{SHA}" before it
    yes      crypt(3) or SHA-1, whichever it is

Limits: text only; whether the data can be used is found out when it is compared.  What is empty matches nothing, as
does a hash that begins with "!" or "*".
"""

from __future__ import annotations

import re

#: The values of TPOPS' mysql-crypt-passwd, and what passwords without a label are then.
TPOPS_MODES = {"no": "plain", "crypt": "crypt", "sha": "sha", "yes": "crypt-or-sha"}

#: SHA-1 in hexadecimal or base64; no hash of crypt(3) looks like that.
_SHA1 = re.compile(r"[0-9A-Fa-f]{40}|[A-Za-z0-9+/]{27}=", re.ASCII)

_LABELS = {"crypt": "CRYPT", "sha": "SHA"}


def from_tpops(mode: str, text: str) -> str:
    """
    The stored form of a password that TPOPS compared in this mode.

    @param mode: one of L{TPOPS_MODES}
    @param text: as it is in the table
    @raise ValueError: when there is no such mode
    """
    if mode not in TPOPS_MODES:
        raise ValueError(f"unknown mode {mode!r}; known are {', '.join(TPOPS_MODES)}")
    if mode == "no":
        return f"{{PLAIN}}{text}"
    label, closed, data = text.partition("}")
    named = label.removeprefix("{").upper() if closed and label.startswith("{") else ""
    if named == "SHA" or (named == "CRYPT" and mode != "sha"):
        return f"{{{named}}}{data}"
    if mode == "yes":
        mode = "sha" if _SHA1.fullmatch(text) else "crypt"
    return f"{{{_LABELS[mode]}}}{text}"
