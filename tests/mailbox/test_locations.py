"""Where a user's mail lies."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tpops.errors import MaildropBroken, NoSuchFolder
from tpops.interfaces import IAppendable, IMaildrop, IMaildropDriver
from tpops.mailbox.locations import FILES, KINDS, VARIABLES, Location, Maildrops, expand, problem_with
from tpops.mailbox.memory import MemoryDriver
from tpops.model import Account, Envelope

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
            ("mbox:/var/mail/$(user)", "/var/mail/joe@example.org"),
            ("mbox:/var/mail/$(user[0])/$(local_part[-1])/$(local_part[1])", "/var/mail/j/e/o"),
        ):
            self.assertIsNone(problem_with(template))
            self.assertEqual(expand(template, JOE, split), (Location(template.partition(":")[0], path),))

    def test_account_has_its_own(self) -> None:
        """Promise: what the accounts source says goes before the configuration."""
        account = Account("joe@example.org", "test", home="/home/joe", maildrop="maildir:~/mail/$(domain)")
        expected = (Location("maildir", "/home/joe/mail/example.org"),)
        self.assertEqual(expand("maildir:/m/$(user)", account, split), expected)

    def test_values_are_not_templates(self) -> None:
        """Promise: what looks like a variable in a name stays as it is."""
        account = Account("$(home)@$(user)", "test", home="/home/joe")
        expected = (Location("maildir", "/m/$(user)/$(home)"),)
        self.assertEqual(expand("maildir:/m/$(domain)/$(local_part)", account, split), expected)

    def test_missing_values(self) -> None:
        """Promise: no account ends up in somebody else's directory because a part of his path is empty."""
        for template, account in (
            ("maildir:~/Maildir", Account("joe", "test")),
            ("maildir:$(home)/Maildir", Account("joe", "test", home="")),
            ("maildir:/m/$(domain)/$(local_part)", Account("joe", "test", home="/home/joe")),
            ("maildir:/m/$(local_part)", Account("@example.org", "test")),
            ("maildir:/m/$(user[3])", Account("joe", "test")),
            ("maildir:/m/$(user[-4])", Account("joe", "test")),
        ):
            self.assertIsNone(problem_with(template))
            error = self.assertRaises(MaildropBroken, expand, template, account, split)
            self.assertIn(repr(account.name), str(error))

    def test_owners_in_a_database(self) -> None:
        """Promise: "mysql:" is the login name's mail, and an owner's name may have variables."""
        for template, owner in (
            ("mysql:", "joe@example.org"),
            ("mysql:$(local_part)", "joe"),
            ("mysql:all of us", "all of us"),
        ):
            self.assertIsNone(problem_with(template))
            self.assertEqual(expand(template, JOE, split), (Location("mysql", owner),))

    def test_bad_templates(self) -> None:
        """Promise: the operator is told what is wrong, and nothing is opened."""
        for template, words in (
            ("/var/mail", "must begin with 'maildir:'"),
            ("mbx:/var/mail", "must begin with 'maildir:' or 'mbox:'"),
            ("maildir:/m mbox:mail", "behind 'mbox:'"),
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


class Noting:
    """A store that notes what is opened."""

    def __init__(self, kind: str, opened: list[tuple[str, bytes]]) -> None:
        self.kind = kind
        self.opened = opened

    async def open_at(self, account: Account, place: bytes) -> IMaildrop:
        """See Store."""
        self.opened.append((self.kind, place))
        return await MemoryDriver().open_maildrop(account)


class MaildropsTests(SynchronousTestCase):
    """Which of several places is opened."""

    def setUp(self) -> None:
        self.root = os.path.abspath(self.mktemp())
        os.makedirs(f"{self.root}/my mail")
        self.opened: list[tuple[str, bytes]] = []

    def open(self, templates: str, account: Account = JOE) -> tuple[str, str]:
        """What is opened for an account."""

        maildrops = Maildrops(templates, split, {kind: Noting(kind, self.opened) for kind in KINDS})
        verifyObject(IMaildropDriver, maildrops)
        self.successResultOf(Deferred.fromCoroutine(maildrops.open_maildrop(account)))
        kind, path = self.opened[-1]
        return kind, os.fsdecode(path).removeprefix(self.root)

    def test_the_first_where_there_is_something(self) -> None:
        """As with tpop3d: a Maildir where there is one, else the spool; a path may have spaces in it."""
        templates = f"maildir:{self.root}/my mail/Maildir  mbox:{self.root}/my mail/$(local_part)"
        self.assertEqual(self.open(templates), ("maildir", "/my mail/Maildir"))
        with open(f"{self.root}/my mail/joe", "wb"):
            self.assertEqual(self.open(templates), ("mbox", "/my mail/joe"))
        os.mkdir(f"{self.root}/my mail/Maildir")
        self.assertEqual(self.open(templates), ("maildir", "/my mail/Maildir"))

    def test_an_account_with_its_own(self) -> None:
        """In the same syntax, of any kind."""
        account = Account("joe", "test", maildrop=f"mbox:{self.root}/jö")
        self.assertEqual(self.open("maildir:/m/$(domain)", account), ("mbox", "/jö"))

    def test_new_mail_goes_where_the_mail_is(self) -> None:
        """Promise: a store that takes no new mail is named to the operator."""

        class Taking(Noting):
            async def append_at(self, *given: object) -> bytes:
                return b" ".join(str(one).encode() for one in given[1:])

        taking, not_taking = Taking("maildir", self.opened), Noting("mbox", self.opened)
        maildrops = Maildrops("maildir:/m/$(user)", split, {"maildir": taking, "mbox": not_taking})
        verifyObject(IAppendable, maildrops)
        stored = maildrops.append(JOE, "message", "envelope")
        self.assertEqual(
            self.successResultOf(Deferred.fromCoroutine(stored)), b"b'/m/joe@example.org' message envelope"
        )
        refused = maildrops.append(Account("ann", "test", maildrop="mbox:/m/ann"), "message", "envelope")
        failure = self.failureResultOf(Deferred.fromCoroutine(refused), MaildropBroken)
        self.assertIn("'ann' has his mail in a 'mbox:' location, which takes no new mail", str(failure.value))


class FolderTests(SynchronousTestCase):
    """Where the folders of an account are."""

    def setUp(self) -> None:
        self.opened: list[tuple[str, bytes, str]] = []

    def maildrops(self, templates: str) -> Maildrops:
        """Maildirs, which look at folders themselves, and spools, which do not."""
        tests = self

        class Recorder:
            """A store that says what it was asked for."""

            def __init__(self, kind: str) -> None:
                self.kind = kind
                self.has_folders = kind == "maildir"

            async def open_at(self, account: Account, place: bytes) -> IMaildrop:
                """Nothing is there."""
                tests.opened.append((self.kind, place, account.folder))
                return await MemoryDriver().open_maildrop(account)

        return Maildrops(templates, split, {kind: Recorder(kind) for kind in FILES})

    def open(self, templates: str, folder: str, **facts: str) -> tuple[str, bytes, str]:
        """What is opened."""
        account = Account("joe@example.org", "test", home="/home/joe", folder=folder, **facts)
        self.successResultOf(Deferred.fromCoroutine(self.maildrops(templates).open_maildrop(account)))
        return self.opened[-1]

    def refuses(self, templates: str, folder: str, error: type[Exception] = NoSuchFolder) -> str:
        """Why nothing is opened."""
        account = Account("joe@example.org", "test", home="/home/joe", folder=folder)
        opening = Deferred.fromCoroutine(self.maildrops(templates).open_maildrop(account))
        return str(self.failureResultOf(opening, error).value)

    def test_maildirs_look_themselves(self) -> None:
        """Promise: without C{$(folder)} the driver of Maildirs is told the folder; INBOX is one, too."""
        for folder in ("Lists", "INBOX"):
            self.assertEqual(self.open("maildir:/m/$(user)", folder), ("maildir", b"/m/joe@example.org", folder))

    def test_other_kinds_have_none(self) -> None:
        """Promise: that is told, and nobody gets other mail than he asked for."""
        self.assertIn("'mbox:' location, which has no folders", self.refuses("mbox:/m/$(user)", "Lists"))
        self.assertEqual(self.open("mbox:/m/$(user)", "inbox"), ("mbox", b"/m/joe@example.org", "inbox"))

    def test_variable(self) -> None:
        """Promise: for every kind; the first place that is there; those without the variable are for the others."""
        directory = os.path.abspath(self.mktemp())
        os.makedirs(f"{directory}/two/Lists")
        templates = f"mbox:{directory}/one/$(folder) maildir:{directory}/two/$(folder) mbox:/var/mail/$(user)"
        two = os.fsencode(f"{directory}/two/Lists")
        self.assertEqual(self.open(templates, "Lists"), ("maildir", two, ""))
        os.makedirs(f"{two.decode()}/tpops")
        self.assertEqual(self.open(templates, "Lists/tpops"), ("maildir", two + b"/tpops", ""))
        self.assertEqual(self.open(templates, ""), ("mbox", b"/var/mail/joe@example.org", ""))
        self.assertEqual(self.open(templates, "Inbox")[1], b"/var/mail/joe@example.org")
        self.assertEqual(self.open("mbox:/x", "Lists", maildrop=f"maildir:{directory}/two/$(folder)")[1], two)
        self.assertIn("has no folder 'Nowhere'", self.refuses(templates, "Nowhere"))
        for folder in ("../two/Lists", "..", "/etc", "a//b", ".hidden", "a/.b"):
            self.refuses(templates, folder)

    def test_only_folders(self) -> None:
        """Promise: an account whose own location is for folders only cannot log in without one, and that is told."""
        self.assertIn("is for folders", self.refuses("mbox:/m/$(folder)", "", MaildropBroken))

    def test_no_new_mail_goes_there(self) -> None:
        """Promise: mail for a folder is refused rather than put elsewhere."""
        account = Account("joe@example.org", "test", home="/home/joe", folder="Lists")
        message: Any = None
        appending = self.maildrops("maildir:~/Maildir").append(account, message, Envelope("", "joe", 0.0))
        self.failureResultOf(Deferred.fromCoroutine(appending), NoSuchFolder)
