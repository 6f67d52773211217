"""Application passwords belong to the account, whatever name of it a client sends."""

from __future__ import annotations

import pathlib

from tests.cred.fakes import login, means
from tests.cred.test_app_passwords import GENERATED, AppPasswordCase, apop
from tpops.cred.names import LoginNames
from tpops.cred.ordered import OrderedChecker, account_name
from tpops.cred.shadow import ShadowAccounts
from tpops.cred.source import AskingSource, LookupSource, Record, Source
from tpops.credentials import NamePassword, Proven
from tpops.errors import AccountDisabled, BadCredentials, LookupUnavailable, UnknownUser
from tpops.model import Account, Peer

JOE = Account("joe", "own")


class Directory(LookupSource):
    """Knows joe under a second name, after some waiting."""

    stored = "{PLAIN}secret"
    enabled = True

    async def find(self, name: str, peer: Peer | None) -> Record:
        if name not in ("joe", "joe@example.org"):
            raise UnknownUser
        return Record(JOE, self.stored, self.enabled)

    def check(self) -> list[str]:
        return []


class Judge(AskingSource):
    """The same; it wants to see a password."""

    async def verify(self, credentials: NamePassword) -> Account:
        if credentials.username not in (b"joe", b"joe@example.org"):
            raise UnknownUser
        if credentials.password != b"secret":
            raise BadCredentials("wrong password")
        return JOE

    async def find(self, name: str) -> Account:
        if name not in ("joe", "joe@example.org"):
            raise UnknownUser
        return JOE

    def check(self) -> list[str]:
        return []


class NamesTests(AppPasswordCase):
    """joe is also joe@example.org."""

    def at_hand(self) -> ShadowAccounts:
        """A source that knows the names without waiting."""
        passwd = self.mktemp()
        pathlib.Path(passwd).write_text("joe:$1$salt$ez2vlPGdaLYkJam5pWs/Y1:1000:1000::/home/joe:\n")
        return ShadowAccounts("own", means(), passwd, "", ("example.org",))

    def behind(self, source: Source, instead: bool = False) -> OrderedChecker:
        self.checker(instead)
        return OrderedChecker([source], LoginNames(), self.subject._verifier, self.subject)

    def test_an_application_password_is_good_for_every_name(self) -> None:
        """In every kind of source."""
        self.add(apop=True)
        for source in (self.at_hand(), Directory("own", means()), Judge("own", means())):
            checker = self.behind(source)
            for name in ("joe", "joe@example.org"):
                self.lets_in(checker, login(name, GENERATED))
                self.lets_in(checker, apop(GENERATED, name))
                self.refuses(checker, login(name, "wrong"))
            self.refuses(checker, login("joe@example.net", GENERATED))
            self.refuses(checker, login("ann", GENERATED))

    def test_the_own_password_is_refused_under_every_name(self) -> None:
        """Nobody gets around it by another name, nor with SCRAM; without application passwords it is good."""
        for source in (self.at_hand(), Directory("own", means()), Judge("own", means())):
            checker = self.behind(source, instead=True)
            for name in ("joe", "joe@example.org"):
                self.lets_in(checker, login(name, "secret"))
                self.lets_in(checker, Proven(name.encode(), source="own"))
        self.add()
        for source in (self.at_hand(), Directory("own", means()), Judge("own", means())):
            checker = self.behind(source, instead=True)
            for name in ("joe", "joe@example.org"):
                self.refuses(checker, login(name, "secret"))
                self.refuses(checker, login(name, "wrong"))
                self.refuses(checker, Proven(name.encode(), source="own"))
                self.lets_in(checker, login(name, GENERATED))

    def test_a_wrong_password_tells_nothing_of_the_account(self) -> None:
        """Looking for the account's own name must not turn a refusal into another one."""
        self.add()
        source = Directory("own", means())
        checker = self.behind(source)
        source.enabled = False
        self.refuses(checker, login("joe@example.org", "wrong"))
        self.refuses(checker, login("joe@example.org", "secret"), AccountDisabled)

    def test_finds_the_accounts_name_where_that_needs_no_waiting(self) -> None:
        """The first source that knows it decides; those that make one wait may have any."""
        files, directory = self.at_hand(), Directory("own", means())
        self.assertEqual(account_name([files], "joe@example.org"), "joe")
        self.assertEqual(account_name([files, directory], "joe@example.org"), "joe")
        self.assertEqual(account_name([directory, files], "joe@example.org"), "joe@example.org")
        self.assertEqual(account_name([files, directory], "ann"), "ann")
        self.assertIsNone(account_name([files], "ann"))

        def cannot_say(name: str) -> Record:
            raise LookupUnavailable("gone")

        self.patch(files, "record", cannot_say)
        self.assertEqual(account_name([files], "joe@example.org"), "joe@example.org")
