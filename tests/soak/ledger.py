"""
What was promised about every message, and whether it was kept.

Every entry is appended to a file before anything is made of it: a letter is "offered" before it is handed over, and
"accepted" when the server has said so.  The rules that can be told at once (a session that does not list what must be
there, octets that are not those of the message, a unique-id that changes) are told at once; L{Ledger.settle} tells the
others when everything is over.

A copy of a letter is known by its mailbox and its unique-id.  Sessions in one mailbox exclude each other, so what one
of them has seen or asked for is the past of all that log in later.
"""

from __future__ import annotations

import collections
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

#: What became of handing a letter over.
ACCEPTED, REFUSED, UNKNOWN = "accepted", "refused", "unknown"

#: Most violations of one rule that are printed.
_SHOWN = 10


@attrs.define
class Letter:
    """
    A message for one mailbox.

    @ivar outcomes: one for each time it was handed over, ACCEPTED, REFUSED or UNKNOWN
    @ivar accepted_at: when it was first accepted, by the clock that never goes back
    @ivar reason: of the last outcome that is not ACCEPTED
    @ivar unique_ids: under which it was seen
    @ivar gone: copies whose deletion was acknowledged
    @ivar perhaps: why copies may be gone: a reason for each session that did not hear the end
    """

    token: str
    mailbox: str
    sha256: str
    octets: int
    outcomes: list[str] = attrs.Factory(list)
    accepted_at: float = 0.0
    reason: str = ""
    unique_ids: set[bytes] = attrs.Factory(set)
    seen: int = 0
    gone: int = 0
    perhaps: list[str] = attrs.Factory(list)

    @property
    def most(self) -> int:
        """How many copies there may be, none of them deleted."""
        return sum(outcome != REFUSED for outcome in self.outcomes)

    @property
    def least(self) -> int:
        """How many there must have been."""
        return self.outcomes.count(ACCEPTED)

    @property
    def certain(self) -> bool:
        """Whether it must be there: accepted, and nobody has asked for its deletion."""
        return ACCEPTED in self.outcomes and not self.gone and not self.perhaps


@attrs.define
class Mailbox:
    """
    What is known of a mailbox.

    @ivar tokens: whose unique-id it is
    @ivar absent: unique-ids that a session did not list, or whose deletion was acknowledged; they never come back
    """

    letters: dict[str, Letter] = attrs.Factory(dict)
    tokens: dict[bytes, str] = attrs.Factory(dict)
    present: set[bytes] = attrs.Factory(set)
    absent: dict[bytes, str] = attrs.Factory(dict)


class Ledger:
    """
    See the module; any thread may use it.

    @ivar path: of the file
    @ivar violations: rules that were broken, with what exactly
    @ivar counts: what else happened, by kind
    """

    def __init__(self, path: Path, mailboxes: Sequence[str]) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.path = path
        self._lock = threading.RLock()
        self._began = time.monotonic()
        self.mailboxes = {name: Mailbox() for name in mailboxes}
        self.letters: dict[str, Letter] = {}
        self.violations: list[tuple[str, str]] = []
        self.counts: collections.Counter[tuple[str, str]] = collections.Counter()

    def close(self) -> None:
        """No more entries."""
        os.close(self._file)

    def write(self, what: str, **fields: object) -> None:
        """One entry."""
        entry = {"at": round(time.monotonic() - self._began, 3), "what": what, **fields}
        os.write(self._file, (json.dumps(entry, default=repr) + "\n").encode())

    def count(self, kind: str, what: str) -> None:
        """Something has happened once more."""
        with self._lock:
            self.counts[kind, what] += 1

    def violated(self, rule: str, text: str) -> None:
        """A promise was broken."""
        with self._lock:
            self.write("violated", rule=rule, text=text)
            self.violations.append((rule, text))

    # Deliveries.

    def offered(self, letter: Letter, way: str) -> None:
        """It is about to be handed over."""
        with self._lock:
            fields = {"mailbox": letter.mailbox, "sha256": letter.sha256, "octets": letter.octets, "way": way}
            self.write("offered", token=letter.token, **fields)
            self.letters[letter.token] = self.mailboxes[letter.mailbox].letters[letter.token] = letter
            # What is on its way may arrive.
            letter.outcomes.append(UNKNOWN)
            letter.reason = "on its way"

    def answered(self, letter: Letter, outcome: str, reason: str = "") -> None:
        """What came of it."""
        with self._lock:
            self.write(outcome, token=letter.token, reason=reason)
            letter.outcomes[-1] = outcome
            letter.reason = reason or letter.reason
            if outcome == ACCEPTED and not letter.accepted_at:
                letter.accepted_at = time.monotonic()

    def room(self, mailbox: str, most: int) -> bool:
        """Whether there are not too many messages yet."""
        with self._lock:
            letters = self.mailboxes[mailbox].letters.values()
            return sum(1 for one in letters if one.most > one.gone and not one.perhaps) < most

    # Sessions.

    def listed(self, session: str, mailbox: str, unique_ids: Sequence[bytes], logged_in_at: float) -> None:
        """A session shows these; what must be there is among them, and nothing that is gone."""
        with self._lock:
            self.write("listed", session=session, mailbox=mailbox, unique_ids=[one.decode() for one in unique_ids])
            box, there = self.mailboxes[mailbox], set(unique_ids)
            if len(there) != len(unique_ids):
                self.violated("unique-ids are unique", f"{session} {mailbox}: {sorted(unique_ids)}")
            for back in there & box.absent.keys():
                self.violated("what is gone stays gone", f"{session} {mailbox}: {back!r}, {box.absent[back]}")
            certain = [one for one in box.letters.values() if one.certain and one.accepted_at < logged_in_at]
            for letter in certain:
                if letter.unique_ids and letter.outcomes == [ACCEPTED] and not letter.unique_ids & there:
                    self.violated("accepted mail is there", f"{session} {mailbox}: {letter.token} is not listed")
            if len(there) < len(certain):
                text = f"{session} {mailbox}: {len(there)} listed, {len(certain)} must be there"
                self.violated("accepted mail is there", text)
            for missing in box.present - there:
                box.absent[missing] = f"not listed by {session}"
            box.present = there

    def retrieved(self, session: str, mailbox: str, unique_id: bytes, token: str, sha256: str) -> None:
        """
        A client has got a whole message.

        @param unique_id: empty where the client does not know it
        """
        with self._lock:
            self.write("seen", session=session, mailbox=mailbox, unique_id=unique_id.decode(), token=token)
            letter = self.mailboxes[mailbox].letters.get(token)
            if letter is None:
                self.violated("everybody gets his own mail", f"{session} {mailbox}: {token or 'no token'}")
                return
            letter.seen += 1
            if sha256 != letter.sha256:
                self.violated("octets are those delivered", f"{session} {mailbox}: {token}")
            if unique_id:
                self._identify(session, letter, unique_id)

    def _identify(self, session: str, letter: Letter, unique_id: bytes) -> None:
        before = self.mailboxes[letter.mailbox].tokens.setdefault(unique_id, letter.token)
        if before != letter.token:
            self.violated("unique-ids stay", f"{session}: {unique_id!r} was {before}, is {letter.token}")
        letter.unique_ids.add(unique_id)
        if len(letter.unique_ids) > letter.most:
            text = f"{session}: {letter.token} handed over {letter.outcomes}, seen as {sorted(letter.unique_ids)}"
            self.violated("no mail is doubled, unique-ids stay", text)

    def asked(self, session: str, mailbox: str, unique_ids: Sequence[bytes]) -> None:
        """QUIT is about to be sent; these may be gone from now on."""
        with self._lock:
            self.write("asked", session=session, mailbox=mailbox, unique_ids=[one.decode() for one in unique_ids])
            for letter in self._of(mailbox, unique_ids):
                letter.perhaps.append("QUIT was not answered")

    def done(self, session: str, mailbox: str, unique_ids: Sequence[bytes], reason: str = "") -> None:
        """
        QUIT was answered, or not.

        @param reason: why nobody knows whether they are gone; empty when they are
        """
        with self._lock:
            self.write("unsure" if reason else "deleted", session=session, mailbox=mailbox, reason=reason)
            for unique_id, letter in zip(unique_ids, self._of(mailbox, unique_ids), strict=True):
                letter.perhaps.remove("QUIT was not answered")
                if reason:
                    letter.perhaps.append(reason)
                    continue
                letter.gone += 1
                self.mailboxes[mailbox].absent[unique_id] = f"deleted by {session}"
                self.mailboxes[mailbox].present.discard(unique_id)

    def _of(self, mailbox: str, unique_ids: Sequence[bytes]) -> list[Letter]:
        box = self.mailboxes[mailbox]
        return [box.letters[box.tokens[one]] for one in unique_ids]

    # The end.

    def settle(self, stored: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        """
        Compare with what is in the stores.

        @param stored: by mailbox, the token and hash of every message there
        """
        for mailbox, messages in stored.items():
            letters = self.mailboxes[mailbox].letters
            found = collections.Counter(token for token, _ in messages)
            for token, sha256 in messages:
                if token not in letters:
                    self.violated("everybody gets his own mail", f"stored in {mailbox}: {token or 'no token'}")
                elif sha256 != letters[token].sha256:
                    self.violated("octets are those delivered", f"stored in {mailbox}: {token}")
            for letter in letters.values():
                self._settle(letter, found[letter.token])

    def _settle(self, letter: Letter, copies: int) -> None:
        most = letter.most - letter.gone
        least = max(0, letter.least - letter.gone - len(letter.perhaps))
        fate = f"handed over {letter.outcomes}, {letter.gone} deleted, perhaps {letter.perhaps}"
        if copies > most:
            rule = "what was deleted is gone" if letter.gone else "no mail is doubled"
            rule = rule if letter.most else "refused mail is not stored"
            self.violated(rule, f"{letter.mailbox}: {letter.token} is there {copies} times: {fate}")
        elif copies < least:
            self.violated("accepted mail is there", f"{letter.mailbox}: {letter.token} is lost: {fate}")
        self.write("settled", token=letter.token, copies=copies)
        self.count("fate", _fate(letter, copies))
        if copies > 1:
            self.count("doubled by handing over again", letter.reason)

    def shown(self) -> list[str]:
        """The broken rules, one line each."""
        with self._lock:
            rules = collections.Counter(rule for rule, _ in self.violations)
            lines = []
            for rule, times in rules.items():
                lines.append(f"{rule}: broken {times} times")
                lines += [f"    {text}" for broken, text in self.violations if broken == rule][:_SHOWN]
            return lines


def _fate(letter: Letter, copies: int) -> str:
    """The one thing to say about a letter."""
    if not letter.most:
        return "refused"
    if copies:
        return "kept" if ACCEPTED in letter.outcomes else f"kept, not acknowledged: {letter.reason}"
    if letter.gone:
        return "deleted"
    if letter.perhaps:
        return f"gone, not acknowledged: {letter.perhaps[-1]}"
    return "lost" if ACCEPTED in letter.outcomes else f"not stored, not acknowledged: {letter.reason}"
