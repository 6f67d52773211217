"""What all sources have in common: the three bases, and the memory of what was found."""

from __future__ import annotations

import hmac

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.cred.fakes import Time, login, means
from tpops.coroutines import run
from tpops.cred.schemes import NOTHING
from tpops.cred.source import REMEMBERED_SECONDS, AskingSource, LookupSource, Record, Remembered
from tpops.credentials import CRAMMD5Credentials, NamePassword
from tpops.errors import AccountDisabled, BadCredentials, UnknownUser
from tpops.model import Account, Peer

PEER = Peer("192.0.2.7")


class Rows(LookupSource):
    """A source that counts how often it was asked."""

    asked = 0
    record = Record(Account("joe", "rows"), "{PLAIN}secret")

    async def find(self, name: str, peer: Peer | None) -> Record:
        self.asked += 1
        self.peer = peer
        if name != "joe":
            raise UnknownUser("not here")
        return self.record

    def check(self) -> list[str]:
        return []


class Judge(AskingSource):
    """Says yes to one password."""

    async def verify(self, credentials: NamePassword) -> Account:
        if credentials.password != b"secret":
            raise BadCredentials("no")
        return Account("joe", self.name)

    def check(self) -> list[str]:
        return []


class LookupTests(SynchronousTestCase):
    """LookupSource."""

    def setUp(self) -> None:
        self.seconds = Time()
        self.source = Rows("rows", means(seconds=self.seconds))

    def test_one_question_for_a_whole_login(self) -> None:
        """The account that was found with the password serves to open the maildrop."""
        credentials = attrs.evolve(login("joe"), peer=PEER)
        self.assertEqual(self.successResultOf(self.source.requestAvatarId(credentials)), b"rows:joe")
        self.assertEqual(self.source.peer, PEER)
        self.assertEqual(self.successResultOf(run(self.source.account("joe"))).name, "joe")
        self.assertEqual(self.source.asked, 1)

    def test_without_a_password_it_is_asked(self) -> None:
        """And once the memory is over."""
        self.assertEqual(self.successResultOf(run(self.source.account("joe"))).name, "joe")
        self.source.requestAvatarId(login("joe"))
        self.seconds.now += REMEMBERED_SECONDS
        self.successResultOf(run(self.source.account("joe")))
        self.assertEqual(self.source.asked, 3)

    def test_wrong_names_and_passwords(self) -> None:
        """Each with its own error, for the ordered checker."""
        self.failureResultOf(self.source.requestAvatarId(login("joe", "x")), BadCredentials)
        self.failureResultOf(self.source.requestAvatarId(login("jim")), UnknownUser)

    def test_disabled_accounts(self) -> None:
        """Told after a right password; found without one, they are refused too."""
        self.source.record = attrs.evolve(self.source.record, enabled=False)
        self.failureResultOf(self.source.requestAvatarId(login("joe")), AccountDisabled)
        self.failureResultOf(self.source.requestAvatarId(login("joe", "x")), BadCredentials)
        self.failureResultOf(run(self.source.account("joe")), AccountDisabled)

    def test_digests_and_slow_hashes(self) -> None:
        """What all stored passwords can do."""
        digest = CRAMMD5Credentials(b"joe", b"<1@x>", b"0" * 32)
        self.failureResultOf(self.source.requestAvatarId(digest), BadCredentials)
        slow = "{SHA256-CRYPT}$5$rounds=1000$salt$cCfG5AKsQDvXOxlHk.wtXDUuX74wqHT0JiFQYRHSI4B"
        self.source.record = attrs.evolve(self.source.record, password_hash=slow)
        self.failureResultOf(self.source.requestAvatarId(login("joe", "x")), BadCredentials)

    def test_right_passwords_are_told(self) -> None:
        """With the record that they are in; wrong ones, digests and disabled accounts are not."""
        told: list[tuple[Record, bytes]] = []
        self.source.right_password = lambda record, password: told.append((record, password))
        self.successResultOf(self.source.requestAvatarId(login("joe")))
        self.failureResultOf(self.source.requestAvatarId(login("joe", "x")), BadCredentials)
        made = CRAMMD5Credentials(b"joe", b"<1@x>", hmac.digest(b"secret", b"<1@x>", "md5").hex().encode())
        self.successResultOf(self.source.requestAvatarId(made))
        self.source.record = attrs.evolve(Rows.record, enabled=False)
        self.failureResultOf(self.source.requestAvatarId(login("joe")), AccountDisabled)
        self.assertEqual(told, [(Rows.record, b"secret")])

    def test_lists_nothing_and_offers_nothing_by_itself(self) -> None:
        """A source says so where it can do more."""
        self.assertEqual(list(self.source.records()), [])
        self.assertEqual(list(self.source.mechanisms()), [NOTHING])
        self.source.start()
        self.assertIsNone(self.source.stop())


class AskingTests(SynchronousTestCase):
    """AskingSource."""

    def setUp(self) -> None:
        self.source = Judge("judge", means())

    def test_the_account_is_remembered(self) -> None:
        """For a short time: the judge may not know names without passwords."""
        self.failureResultOf(run(self.source.account("joe")), UnknownUser)
        self.assertEqual(self.successResultOf(self.source.requestAvatarId(login("joe"))), b"judge:joe")
        self.assertEqual(self.successResultOf(run(self.source.account("joe"))), Account("joe", "judge"))

    def test_no_is_no(self) -> None:
        """And nothing is remembered."""
        self.failureResultOf(self.source.requestAvatarId(login("joe", "x")), BadCredentials)
        self.failureResultOf(run(self.source.account("joe")), UnknownUser)

    def test_digests_are_for_others(self) -> None:
        """The next source is asked."""
        digest = CRAMMD5Credentials(b"joe", b"<1@x>", b"0" * 32)
        self.assertRaises(UnknownUser, self.source.requestAvatarId, digest)


class RememberedTests(SynchronousTestCase):
    """The memory."""

    def test_is_bounded(self) -> None:
        """The oldest go."""
        memory: Remembered[int] = Remembered(Time())
        for number in range(10001):
            memory.keep(str(number), number)
        self.assertIsNone(memory.get("0"))
        self.assertEqual((memory.get("1"), memory.get("10000")), (1, 10000))
