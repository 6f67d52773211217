"""
What the doctor tells: findings, each with what it means for users.

A problem makes mail programs fail or lose something; a warning does so with some of them, or some day; a note is good
to know; what is right is told as "ok", so that one sees what was looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

OK, NOTE, WARNING, PROBLEM = "ok", "note", "warning", "problem"


@attrs.frozen
class Finding:
    """
    Something that was looked at.

    @ivar level: one of L{OK}, L{NOTE}, L{WARNING}, L{PROBLEM}
    @ivar subject: what was looked at, in a word or two
    @ivar text: what was seen
    @ivar meaning: what follows for users, and what to do; "" where that goes without saying
    """

    level: str
    subject: str
    text: str
    meaning: str = ""


Findings = Iterator[Finding]


def ok(subject: str, text: str) -> Finding:
    """It is as it should be."""
    return Finding(OK, subject, text)


def note(subject: str, text: str, meaning: str = "") -> Finding:
    """Good to know."""
    return Finding(NOTE, subject, text, meaning)


def warning(subject: str, text: str, meaning: str) -> Finding:
    """Some mail programs, or some day."""
    return Finding(WARNING, subject, text, meaning)


def problem(subject: str, text: str, meaning: str) -> Finding:
    """Mail programs fail."""
    return Finding(PROBLEM, subject, text, meaning)
