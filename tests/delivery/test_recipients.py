"""From addresses to accounts."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tpops.cred.names import LoginNames
from tpops.cred.source import AskingSource
from tpops.delivery.recipients import Recipients
from tpops.errors import AccountDisabled, LookupUnavailable, UnknownUser
from tpops.interfaces import IAddresses
from tpops.model import Account


class Known:
    """A source that knows some names; one may be an error."""

    def __init__(self, name: str, *known: str, error: Exception | None = None) -> None:
        self.name = name
        self._known = known
        self._error = error
        self.asked: list[str] = []

    async def account(self, name: str) -> Account:
        """See IAccounts."""
        self.asked.append(name)
        if self._error is not None:
            raise self._error
        if name not in self._known:
            raise UnknownUser("no")
        return Account(name, self.name)

    def unsure_of(self, name: str) -> str:
        """See Source."""
        return "is broken there" if name.startswith("broken@") else ""


class Judging(AskingSource):
    """A source that knows nobody without a password."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def account(self, name: str) -> Account:
        """See IAccounts."""
        raise UnknownUser("not without a password")

    async def verify(self, credentials: Any) -> Account:
        """Nobody."""
        raise UnknownUser("no")

    def check(self) -> list[str]:
        """Nothing."""
        return []


@implementer(IAddresses)
class Addressed(Known):
    """A source with addresses of its own."""

    async def account_of_address(self, address: str) -> Account:
        """See IAddresses."""
        if address != "postmaster@example.org":
            raise UnknownUser("no")
        return Account("joe", self.name)


class RecipientTests(SynchronousTestCase):
    """Who gets mail."""

    def find(self, address: str | bytes, *sources: Any, separators: str = "", complete: tuple[str, ...] = ()) -> str:
        """The account's source and name."""
        names = LoginNames("example.org", True, "@%+")
        coroutine = Recipients(sources, names, separators, complete).account(address)
        account = self.successResultOf(Deferred.fromCoroutine(coroutine))
        return f"{account.driver}:{account.name}"

    def refused(self, address: str | bytes, *sources: Any, **others: Any) -> type[BaseException]:
        """The exception's class."""
        names = LoginNames("example.org", True, "@%+")
        given = (others.get("separators", ""), others.get("complete", ()))
        deferred = Deferred.fromCoroutine(Recipients(sources, names, *given).account(address))
        failure = self.failureResultOf(deferred)
        self.reason = str(failure.value)
        assert failure.type is not None
        return failure.type

    def test_canonical(self) -> None:
        """Promise: addresses are made canonical as login names are: lower case, with the default domain."""
        source = Known("one", "joe@example.org", "jörg@example.org")
        for address in ("joe@example.org", "JOE@Example.ORG", "joe", b"joe"):
            self.assertEqual(self.find(address, source), "one:joe@example.org")
        self.assertEqual(self.find("Jörg@example.org", source), "one:jörg@example.org")
        self.assertEqual(self.find("jörg@example.org".encode(), source), "one:jörg@example.org")

    def test_what_cannot_be_an_address(self) -> None:
        """Promise: octets that are no UTF-8, and what would lead out of a directory, are nobody's."""
        source = Known("one", "joe@example.org")
        for address in (b"j\xf6rg@example.org", "j\udcf6rg@example.org", "../joe@example.org", "", "a/b", "joe\n"):
            self.assertIs(self.refused(address, source), UnknownUser)
        self.assertEqual(source.asked, [])

    def test_order(self) -> None:
        """Promise: the first source that has it; one that cannot say stops the search, whatever comes behind."""
        one, two = Known("one", "joe@example.org"), Known("two", "joe@example.org", "ann@example.org")
        self.assertEqual(self.find("joe", one, two), "one:joe@example.org")
        self.assertEqual(self.find("ann", one, two), "two:ann@example.org")
        broken = Known("broken", error=LookupUnavailable("down"))
        self.assertIs(self.refused("ann", broken, two), LookupUnavailable)
        self.assertIs(self.refused("bob", one, broken), LookupUnavailable)

    def test_disabled_accounts_get_mail(self) -> None:
        """Promise: who may not log in now will want his mail later."""
        account = Account("joe@example.org", "one")
        self.assertEqual(self.find("joe", Known("one", error=AccountDisabled("x", account))), "one:joe@example.org")
        self.assertIs(self.refused("joe", Known("one", error=AccountDisabled("x"))), AccountDisabled)

    def test_sources_that_judge(self) -> None:
        """Promise: a source that may know somebody by his password only makes nobody's mail come back."""
        known, judging = Known("one", "joe@example.org"), Judging("pam")
        self.assertEqual(self.find("joe", judging, known), "one:joe@example.org")
        for sources in ((judging, known), (known, judging)):
            self.assertIs(self.refused("ann", *sources), LookupUnavailable)
            self.assertIn("pam", self.reason)
            self.assertIn("delivery.complete_sources", self.reason)
            self.assertIs(self.refused("ann", *sources, complete=("pam",)), UnknownUser)

    def test_lines_that_cannot_be_used(self) -> None:
        """Promise: nor does a mistake in the line of a file."""
        self.assertIs(self.refused("broken", Known("one"), Known("two"), complete=("one",)), LookupUnavailable)
        self.assertEqual(self.reason.count("is broken there"), 2)
        self.assertEqual(
            self.find("broken", Known("one"), Known("two", "broken@example.org")), "two:broken@example.org"
        )

    def test_extension(self) -> None:
        """Promise: joe+list is joe, where separators say so and nobody has the whole address."""
        source = Known("one", "joe@example.org", "ann+list@example.org", "ann@example.org")
        for address, separators, expected in (
            ("joe+list@example.org", "+", "one:joe@example.org"),
            ("joe+list", "+", "one:joe@example.org"),
            ("joe-a+b@example.org", "+-", "one:joe@example.org"),
            ("ann+list@example.org", "+", "one:ann+list@example.org"),
            ("joe+jörg@example.org", "+", "one:joe@example.org"),
        ):
            self.assertEqual(self.find(address, source, separators=separators), expected)
        for address, separators in (
            ("joe+list@example.org", ""),
            ("joe+list@example.org", "-"),
            ("+joe@example.org", "+"),
            ("bob+list@example.org", "+"),
        ):
            self.assertIs(self.refused(address, source, separators=separators), UnknownUser)

    def test_addresses_of_their_own(self) -> None:
        """Promise: where a source has addresses, they count, and its names do not."""
        source = Addressed("one", "joe@example.org")
        self.assertEqual(self.find("Postmaster", source), "one:joe")
        self.assertIs(self.refused("joe", source), UnknownUser)
        self.assertEqual(self.find("joe", source, Known("two", "joe@example.org")), "two:joe@example.org")
