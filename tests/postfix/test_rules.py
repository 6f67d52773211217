"""The rules of POP before SMTP, against the table that operators read."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tpops.db.relay import Facts
from tpops.postfix.rules import Verdict, decide

PAGE = Path(__file__).parents[2] / "docs" / "mail" / "pop-before-smtp.md"

#: What each column of the table may say.
COLUMNS = (
    ("sender", "address"),
    ("given", "null"),
    ("0", "1", "2"),
    ("0", "1"),
    ("no", "yes"),
    ("no", "yes"),
    ("no", "yes"),
)


def written_rows() -> list[tuple[list[str], Verdict]]:
    """The rows of the table: what has to be so, and what is decided."""
    text = PAGE.read_text("utf-8").partition("| match | sender |")[2]
    rows = []
    for line in text.splitlines()[2:]:
        if not line.startswith("|"):
            break
        *conditions, said = [cell.strip() for cell in line.strip("|").split("|")]
        yes_or_no, _, name = said.partition(": ")
        verdict = Verdict[name]
        assert (yes_or_no == "yes") == (verdict is not Verdict.NOTHING), line
        rows.append((conditions, verdict))
    return rows


def decided(case: tuple[str, ...]) -> Verdict:
    """What the code says."""
    match, sender, this_sender, any_sender, here, owner_here, owner_anywhere = case
    facts = Facts(int(any_sender), int(this_sender), here == "yes", owner_here == "yes", owner_anywhere == "yes")
    return decide(facts, "joe@example.org" if sender == "given" else "", match == "address")


class RuleTests(SynchronousTestCase):
    """Every combination of facts."""

    def test_every_case_is_as_written(self) -> None:
        """The first row that fits decides, in all 192 cases."""
        rows = written_rows()
        self.assertEqual(len(rows), 7)
        used = set()
        for case in itertools.product(*COLUMNS):
            number, wanted = next(
                (number, verdict)
                for number, (conditions, verdict) in enumerate(rows)
                if all(asked in ("-", is_so) for asked, is_so in zip(conditions, case, strict=True))
            )
            used.add(number)
            self.assertIs(decided(case), wanted, case)
        self.assertEqual(used, set(range(len(rows))))

    def test_nothing_without_a_login(self) -> None:
        """No rule of any kind opens anything as long as nobody has logged in."""
        for case in itertools.product(*COLUMNS[:4]):
            self.assertIs(decided((*case, "no", "no", "no")), Verdict.NOTHING, case)

    def test_null_sender_is_never_an_owners(self) -> None:
        """It passes by a rule for any sender, or by address alone, and by nothing else."""
        for case in itertools.product(*COLUMNS):
            if case[1] == "null":
                self.assertIn(decided(case), (Verdict.NOTHING, Verdict.ADDRESS, Verdict.ANY_SENDER_RULE))

    def test_reasons_are_different_words(self) -> None:
        """An operator can tell which row it was."""
        self.assertEqual(len({verdict.value for verdict in Verdict}), len(Verdict))
        self.assertTrue(all(re.fullmatch(r"[a-z ,]+", verdict.value) for verdict in Verdict))
