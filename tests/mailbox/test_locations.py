"""Where a user's mail lies."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tpops.errors import MaildropBroken
from tpops.mailbox.locations import VARIABLES, expand, problem_with
from tpops.model import Account

JOE = Account("joe@example.org", "test", home="/home/joe")


def split(name: str) -> tuple[str, str]:
    """As cred.names does with "@"."""
    local_part, _, domain = name.partition("@")
    return local_part, domain


class LocationTests(SynchronousTestCase):
    """Templates as tpop3d has them."""

    def test_variables(self) -> None:
        """Promise: user, local_part, domain and home, any number of times."""
        for template, path in (
            ("maildir:/var/mail/$(domain)/$(local_part)/Maildir", "/var/mail/example.org/joe/Maildir"),
            ("maildir:/m/$(user)", "/m/joe@example.org"),
            ("maildir:$(home)/Maildir", "/home/joe/Maildir"),
            ("maildir:~/Maildir", "/home/joe/Maildir"),
            ("maildir:/m/$(local_part)/$(local_part)~", "/m/joe/joe~"),
            ("maildir:/srv/all", "/srv/all"),
        ):
            self.assertIsNone(problem_with(template))
            self.assertEqual(expand(template, JOE, split), path)

    def test_account_has_its_own(self) -> None:
        """Promise: what the accounts source says goes before the configuration."""
        account = Account("joe@example.org", "test", home="/home/joe", maildrop="maildir:~/mail/$(domain)")
        self.assertEqual(expand("maildir:/m/$(user)", account, split), "/home/joe/mail/example.org")

    def test_values_are_not_templates(self) -> None:
        """Promise: what looks like a variable in a name stays as it is."""
        account = Account("$(home)@$(user)", "test", home="/home/joe")
        self.assertEqual(expand("maildir:/m/$(domain)/$(local_part)", account, split), "/m/$(user)/$(home)")

    def test_missing_values(self) -> None:
        """Promise: no account ends up in somebody else's directory because a part of his path is empty."""
        for template, account in (
            ("maildir:~/Maildir", Account("joe", "test")),
            ("maildir:$(home)/Maildir", Account("joe", "test", home="")),
            ("maildir:/m/$(domain)/$(local_part)", Account("joe", "test", home="/home/joe")),
            ("maildir:/m/$(local_part)", Account("@example.org", "test")),
        ):
            self.assertIsNone(problem_with(template))
            error = self.assertRaises(MaildropBroken, expand, template, account, split)
            self.assertIn(repr(account.name), str(error))

    def test_bad_templates(self) -> None:
        """Promise: the operator is told what is wrong, and nothing is opened."""
        for template, words in (
            ("/var/mail", "must begin with 'maildir:'"),
            ("mbox:/var/mail", "must begin with 'maildir:'"),
            ("", "must begin with 'maildir:'"),
            ("maildir:Maildir", "absolute path"),
            ("maildir:", "absolute path"),
            ("maildir:$(user)/Maildir", "absolute path"),
            ("maildir:~joe/Maildir", "absolute path"),
            ("maildir:/m/$(usr)", "knows no variable $(usr)"),
            ("maildir:/m/$()", "knows no variable $()"),
        ):
            self.assertIn(words, problem_with(template) or "no problem")
            self.assertRaises(MaildropBroken, expand, template, JOE, split)
            own = Account("joe@example.org", "test", home="/home/joe", maildrop=template)
            if template:
                self.assertRaises(MaildropBroken, expand, "maildir:/m", own, split)
        self.assertTrue(all(f"$({name})" in (problem_with("maildir:/$(x)") or "") for name in VARIABLES))
