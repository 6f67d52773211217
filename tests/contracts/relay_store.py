"""What every store of POP before SMTP has to keep to (tpops.db.relay: IRelayStore)."""

from __future__ import annotations

from typing import Any

from zope.interface.verify import verifyObject

from tpops.db.relay import Contents, Facts, IRelayStore, Login, Rule, Sender

HERE, THERE = "192.0.2.1", "192.0.2.2"
JOE, ANN = "joe@example.org", "ann@example.org"

#: How long a login counts in these tests.
EXPIRE = 1000


class RelayStoreContract:
    """
    Mixin for a SynchronousTestCase.

    @ivar store: the store, empty, with L{EXPIRE} as configured
    """

    store: Any

    def make_store(self) -> Any:
        """The same store as another process has it."""
        raise NotImplementedError

    def now(self) -> int:
        """The store's time, which may go on."""
        raise NotImplementedError

    def put_login(self, address: str, user: str, at: int) -> None:
        """Write a login with any time, whatever the store would do."""
        raise NotImplementedError

    def facts(self, address: str = HERE, sender: str = JOE) -> Facts:
        """What is known of an IPv4 client."""
        return self.store.facts(address, address, sender)

    def log_in(self, user: str = "joe", address: str = HERE) -> None:
        """A login now."""
        self.store.record([Login(address, user, self.now())])

    def may(self, user: str, sender: str, status: int = 1) -> None:
        """A sender of a user."""
        self.store.put(Contents(senders=[Sender(user, sender, status)]))

    def rule(self, network: str, sender: str | None, status: int) -> None:
        """A rule."""
        self.store.put(Contents(rules=[Rule(network, sender, status)]))

    # Tests.

    def test_provides_its_interface(self) -> None:
        """Promise: IRelayStore."""
        self.assertTrue(verifyObject(IRelayStore, self.store))

    def test_empty_store_knows_nothing(self) -> None:
        """Promise: no facts."""
        self.assertEqual(self.facts(), Facts())
        self.assertEqual((self.store.logins(), self.store.senders(None), self.store.rules()), ([], [], []))
        self.assertEqual((self.store.expire_seconds(), self.store.purge(), self.store.check()), (EXPIRE, 0, []))

    def test_login_counts_at_its_address(self) -> None:
        """Promise: here, and nowhere else; others' senders are not his."""
        self.may("joe", JOE)
        self.may("ann", ANN)
        self.log_in()
        self.assertEqual(self.facts(), Facts(here=True, owner_here=True, owner_anywhere=True))
        self.assertEqual(self.facts(THERE), Facts(owner_anywhere=True))
        self.assertEqual(self.facts(HERE, ANN), Facts(here=True))
        self.assertEqual(self.facts(HERE, ""), Facts(here=True))

    def test_status_0_counts_for_anywhere_alone(self) -> None:
        """Promise: an entry with status 0 makes nobody an owner here."""
        self.may("joe", JOE, 0)
        self.log_in()
        self.assertEqual(self.facts(), Facts(here=True, owner_anywhere=True))
        self.may("joe", JOE, 1)
        self.assertTrue(self.facts().owner_here)

    def test_several_users_of_a_sender(self) -> None:
        """Promise: one of them is enough, whoever else has logged in there."""
        self.may("joe", JOE, 0)
        self.may("ann", JOE)
        self.log_in("joe")
        self.assertFalse(self.facts().owner_here)
        self.log_in("ann")
        self.assertTrue(self.facts().owner_here)

    def test_comparison_is_exact(self) -> None:
        """Promise: no patterns, no capitals, no trailing spaces, in senders and users."""
        self.may("joe", JOE)
        self.log_in()
        for other in ("Joe@example.org", "%", "%@example.org", "j_e@example.org", JOE + " ", "jo\u00e9@example.org"):
            self.assertFalse(self.facts(HERE, other).owner_here, other)
        self.may("Ann", ANN)
        self.log_in("ann")
        self.assertFalse(self.facts(HERE, ANN).owner_here)

    def test_any_text_may_be_asked(self) -> None:
        """Promise: quotes and the like are text."""
        for other in ("' OR 1=1 --", '"', "\\", "\0", "\U0001f4e7@example.org"):
            self.assertEqual(self.facts(HERE, other), Facts())

    def test_time(self) -> None:
        """Promise: a login counts for so many seconds, and one in the future does not."""
        self.may("joe", JOE)
        for at, counts in ((-EXPIRE - 5, False), (-EXPIRE + 100, True), (0, True), (100, False)):
            self.store.forget(HERE, None)
            self.put_login(HERE, "joe", self.now() + at)
            facts = self.facts()
            self.assertEqual({facts.here, facts.owner_here, facts.owner_anywhere}, {counts}, at)
            self.assertEqual(len(self.store.logins()), counts, at)

    def test_login_in_the_future_does_not_hide_another(self) -> None:
        """Promise: it is as if it were not there."""
        self.may("joe", JOE)
        self.log_in()
        self.put_login(HERE, "ann", self.now() + 500)
        self.assertTrue(self.facts().here)
        self.assertTrue(self.facts().owner_here)

    def test_later_login_lasts_longer(self) -> None:
        """Promise: the time of an earlier login of the same user from there is replaced."""
        self.put_login(HERE, "joe", self.now() - EXPIRE + 50)
        self.log_in()
        (login,) = self.store.logins()
        self.assertGreater(login.at, self.now() - 100)

    def test_purge(self) -> None:
        """Promise: what does not count goes, what counts stays."""
        for user, at in (("old", -EXPIRE - 5), ("future", 100), ("joe", -5)):
            self.put_login(HERE, user, self.now() + at)
        self.assertEqual(self.store.purge(), 2)
        self.assertEqual([login.user for login in self.store.logins()], ["joe"])

    def test_expire_at_run_time(self) -> None:
        """Promise: it counts at once, for logins that were before, in every process; None is as configured."""
        other = self.make_store()
        self.put_login(HERE, "joe", self.now() - 500)
        self.assertTrue(other.facts(HERE, HERE, JOE).here)
        self.store.set_expire(400)
        self.assertFalse(other.facts(HERE, HERE, JOE).here)
        self.assertEqual(other.expire_seconds(), 400)
        self.store.set_expire(600)
        self.assertTrue(other.facts(HERE, HERE, JOE).here)
        self.store.set_expire(None)
        self.assertEqual(other.expire_seconds(), EXPIRE)

    def test_another_process_is_seen_at_once(self) -> None:
        """Promise: what was read before is not believed when somebody has written."""
        other = self.make_store()
        self.assertEqual(self.facts(), Facts())
        other.record([Login(HERE, "joe", self.now())])
        self.assertTrue(self.facts().here)
        other.put(Contents(senders=[Sender("joe", JOE, 1)]))
        self.assertTrue(self.facts().owner_here)
        other.put(Contents(rules=[Rule(HERE, None, 1)]))
        self.assertEqual(self.facts().any_sender, 1)
        other.forget(HERE, "joe")
        self.assertFalse(self.facts().here)

    def test_smallest_network_counts(self) -> None:
        """Promise: of those for any sender, and of those for the sender each, also with status 0."""
        for network, sender, status in (
            ("192.0.0.0/16", None, 1),
            ("192.0.2.0/24", None, 0),
            ("0.0.0.0/0", JOE, 2),
            ("192.0.2.0/25", JOE, 1),
            (HERE, ANN, 1),
        ):
            self.rule(network, sender, status)
        self.assertEqual((self.facts().any_sender, self.facts().this_sender), (0, 1))
        self.assertEqual(self.facts("192.0.2.200").this_sender, 2)
        self.assertEqual(self.facts("192.0.3.1").any_sender, 1)
        self.assertEqual(self.facts(HERE, ANN).this_sender, 1)
        self.assertEqual(self.facts(THERE, ANN).this_sender, 0)
        self.rule(HERE, None, 1)
        self.assertEqual(self.facts().any_sender, 1)

    def test_rules_are_about_addresses_logins_about_places(self) -> None:
        """Promise: of an IPv6 client each has its own text."""
        self.rule("2001:db8::/32", None, 1)
        self.log_in("joe", "2001:db8:1:2::/64")
        found = self.store.facts("2001:db8:1:2::/64", "2001:db8:1:2::7", JOE)
        self.assertEqual((found.any_sender, found.here), (1, True))

    def test_entries_of_the_same_key_are_replaced(self) -> None:
        """Promise: one status for a user and a sender, one for a network and a sender or any."""
        for status in (0, 1):
            self.may("joe", JOE, status)
            self.rule(HERE, None, status)
            self.rule(HERE, JOE, status)
        self.assertEqual(self.store.senders(None), [Sender("joe", JOE, 1)])
        self.assertEqual(
            sorted(self.store.rules(), key=lambda rule: rule.sender or ""), [Rule(HERE, None, 1), Rule(HERE, JOE, 1)]
        )

    def test_removing(self) -> None:
        """Promise: exactly what is named, and how much that was."""
        for user, sender in (("joe", JOE), ("joe", ANN), ("ann", ANN)):
            self.may(user, sender)
        self.assertEqual(self.store.remove_sender("joe", ANN), 1)
        self.assertEqual(self.store.remove_sender("joe", "x@y"), 0)
        self.assertEqual(self.store.senders("joe"), [Sender("joe", JOE, 1)])
        self.assertEqual(self.store.remove_sender("joe", None), 1)
        self.assertEqual(self.store.senders(None), [Sender("ann", ANN, 1)])
        self.rule(HERE, None, 1)
        self.rule(HERE, JOE, 1)
        self.assertEqual((self.store.remove_rule(HERE, None), self.store.remove_rule(HERE, None)), (True, False))
        self.assertEqual(self.store.rules(), [Rule(HERE, JOE, 1)])

    def test_forget(self) -> None:
        """Promise: the logins of one user from there, or all from there."""
        for user, address in (("joe", HERE), ("ann", HERE), ("joe", THERE)):
            self.log_in(user, address)
        self.assertEqual(self.store.forget(HERE, "joe"), 1)
        self.assertEqual(self.store.forget(HERE, None), 1)
        self.assertEqual([(one.address, one.user) for one in self.store.logins()], [(THERE, "joe")])

    def test_closed_store_opens_again(self) -> None:
        """Promise: close is no end."""
        self.log_in()
        self.store.close()
        self.store.close()
        self.assertTrue(self.facts().here)
        self.log_in("ann", THERE)
        self.assertTrue(self.facts(THERE).here)
