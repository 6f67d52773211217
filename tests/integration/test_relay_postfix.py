"""POP before SMTP with a real Postfix: who may relay, and who may not, at every RCPT TO."""

from __future__ import annotations

import contextlib
import os
import pwd
import smtplib
import sqlite3
import time
from pathlib import Path

from tests.integration.postfix import USER
from tests.integration.relay_case import ADDRESS, OWN, REFUSED, SPAWNED, RelayCase, make_server
from tests.integration.server import PATIENCE_SECONDS, RunningServer, toml, wait_until
from tpops.db import sqlite as database

JOE, ANN = "joe@example.org", "ann@example.org"
HERE, THERE = "127.0.0.5", "127.0.0.6"


class SenderTests(RelayCase):
    """Client and sender have to fit together, as in the table of PBS' documentation."""

    def setUp(self) -> None:
        super().setUp()
        self.may("joe", JOE)
        self.may("ann", ANN)

    def test_before_a_login_nobody_may(self) -> None:
        """Without a login Postfix is told DUNNO, and refuses to relay."""
        self.assert_refuses(JOE, HERE)

    def test_owner_may_from_where_he_has_logged_in(self) -> None:
        """The right sender from the right address, and neither with another."""
        self.assertTrue(self.log_in("joe", HERE).startswith(b"+OK"))
        self.assert_relays(JOE, HERE)
        self.assert_refuses("joe@example.net", HERE)
        self.assert_refuses(ANN, HERE)
        self.assert_refuses(JOE, THERE)
        self.assert_refuses("", HERE)

    def test_ok_is_the_promise(self) -> None:
        """The login is written down when +OK comes: mail sent right behind it goes through, every time."""
        for last in range(10, 30):
            source = f"127.0.0.{last}"
            self.log_in("joe", source)
            self.assert_relays(JOE, source)

    def test_failed_login_opens_nothing(self) -> None:
        """A wrong password is no login."""
        self.assertTrue(self.log_in("joe", HERE, "wrong").startswith(b"-ERR"))
        self.assert_refuses(JOE, HERE)

    def test_own_mail_still_comes_in(self) -> None:
        """DUNNO leaves mail for domains of this machine alone, whoever sends it."""
        self.assertEqual(self.relay("stranger@elsewhere.test", THERE, recipient="all@sender.test"), 250)

    def test_capitals(self) -> None:
        """The domain may be written in any way, the rest has to be as it is registered."""
        self.log_in("joe", HERE)
        self.assert_relays("joe@EXAMPLE.Org", HERE)
        self.assert_refuses("Joe@example.org", HERE)

    def test_no_patterns(self) -> None:
        """A sender with the wildcards of LIKE is nobody's."""
        self.log_in("joe", HERE)
        for sender in ("%@example.org", "j_e@example.org", "*@example.org"):
            self.assert_refuses(sender, HERE)

    def test_status_0_is_as_if_not_there(self) -> None:
        """What is registered with status 0 opens nothing; 1 again, and it does, at once."""
        self.log_in("joe", HERE)
        self.may("joe", JOE, status=0)
        self.assert_refuses(JOE, HERE)
        self.may("joe", JOE)
        self.assert_relays(JOE, HERE)

    def test_one_sender_of_two_users_and_two_of_one(self) -> None:
        """Many to many."""
        self.may("ann", "office@example.org")
        self.may("joe", "office@example.org", "joe@example.com")
        self.log_in("joe", HERE)
        for sender in (JOE, "joe@example.com", "office@example.org"):
            self.assert_relays(sender, HERE)
        self.assert_refuses("office@example.org", THERE)
        self.log_in("ann", THERE)
        self.assert_relays("office@example.org", THERE)

    def test_login_expires(self) -> None:
        """After so many seconds it is over; what has been changed counts for logins that were before."""
        self.log_in("joe", HERE)
        self.store().set_expire(2)
        wait_until(lambda: self.relay(JOE, HERE) == REFUSED, "the login has expired")
        self.store().set_expire(None)
        self.assert_relays(JOE, HERE)

    def test_by_hand(self) -> None:
        """An operator allows and denies."""
        self.pbs("allow", HERE, "joe")
        self.assert_relays(JOE, HERE)
        self.pbs("deny", HERE)
        self.assert_refuses(JOE, HERE)

    def test_login_in_the_future_is_not_trusted(self) -> None:
        """Such a record opens nothing, and is gone before its time comes."""
        with contextlib.closing(database.connect(str(self.database), "pbs")) as connection:
            connection.execute("INSERT INTO logins VALUES (?, 'joe', ?)", (HERE, int(time.time()) + 100))
        self.assert_refuses(JOE, HERE)
        # The server does it, too, now and then.
        self.store().purge()
        with contextlib.closing(database.connect(str(self.database), "pbs")) as connection:
            self.assertEqual(connection.execute("SELECT count(*) FROM logins").fetchone(), (0,))

    def test_mail_arrives(self) -> None:
        """Not only RCPT TO: the message is taken and leaves."""
        self.log_in("joe", "127.0.0.1")
        with smtplib.SMTP("127.0.0.1", self.postfix.ports[self.asked], timeout=PATIENCE_SECONDS) as client:
            self.assertEqual(client.sendmail(JOE, ["friend@elsewhere.test"], b"Subject: x\n\ntext\n"), {})
        wait_until(lambda: "to=<friend@elsewhere.test>, relay=none" in self.postfix.log(), "it has left")


class RuleTests(RelayCase):
    """Networks with rules of their own."""

    def setUp(self) -> None:
        super().setUp()
        self.may("joe", JOE)

    def test_any_sender_of_a_network(self) -> None:
        """A rule for any sender: after a login from the same address every sender may, the null sender too."""
        self.rule("127.0.0.0/29")
        self.assert_refuses("whoever@example.net", HERE)
        self.log_in("ann", HERE)
        self.assert_relays("whoever@example.net", HERE)
        self.assert_relays("", HERE)
        self.assert_refuses("whoever@example.net", THERE)

    def test_smaller_network_takes_the_rule_back(self) -> None:
        """Status 0 for one address in a network that has a rule."""
        self.rule("127.0.0.0/24")
        self.rule(HERE, status=0)
        for source in (HERE, THERE):
            self.log_in("joe", source)
        self.assert_refuses("whoever@example.net", HERE)
        self.assert_relays(JOE, HERE)
        self.assert_relays("whoever@example.net", THERE)

    def test_widened(self) -> None:
        """Status 2: a login from anywhere opens the listed addresses to the user's sender, whatever his status."""
        self.rule(THERE, JOE, status=2)
        self.may("joe", JOE, status=0)
        self.assert_refuses(JOE, THERE)
        self.log_in("ann", HERE)
        self.assert_refuses(JOE, THERE)
        self.log_in("joe", HERE)
        self.assert_relays(JOE, THERE)
        self.assert_refuses(JOE, HERE)
        self.assert_refuses(ANN, THERE)

    def test_sender_of_an_address(self) -> None:
        """Status 1 with a sender: whoever has logged in from there may use it."""
        self.rule(HERE, "scanner@example.org")
        self.log_in("ann", HERE)
        self.assert_relays("scanner@example.org", HERE)
        self.assert_refuses("scanner@example.net", HERE)


class AddressTests(RelayCase):
    """IPv6, and the other ways to write an address."""

    def setUp(self) -> None:
        super().setUp()
        self.may("joe", JOE)

    def test_login_by_ipv6(self) -> None:
        """A login over IPv6 opens the way for mail over IPv6, and not over IPv4."""
        self.log_in("joe", "::1")
        self.assert_relays(JOE, claim="IPV6:::1")
        self.assert_refuses(JOE)

    def test_one_site_of_ipv6(self) -> None:
        """With 64 bits another address of the same network may, one of the next network may not."""
        self.allow("2001:db8:1:2::7", "joe")
        self.assert_relays(JOE, claim="IPV6:2001:db8:1:2:ffff::99")
        self.assert_refuses(JOE, claim="IPV6:2001:db8:1:3::7")

    def test_rule_for_ipv6(self) -> None:
        """Rules are about the address itself."""
        self.rule("2001:db8::/32")
        self.allow("2001:db8:1:2::7", "ann")
        self.assert_relays("whoever@example.net", claim="IPV6:2001:db8:1:2::7")
        self.assert_refuses("whoever@example.net", claim="IPV6:2001:db9::7")

    def test_ipv4_in_ipv6(self) -> None:
        """::ffff:192.0.2.1 is 192.0.2.1."""
        self.allow("::ffff:192.0.2.1", "joe")
        self.assert_relays(JOE, claim="192.0.2.1")


class WholeAddressTests(RelayCase):
    """ipv6_prefix = 128, and match = "address"."""

    asked = ADDRESS
    settings = {"match": "address", "ipv6_prefix": 128}

    def test_by_address_alone(self) -> None:
        """As TPOPS and tpop3d did: after a login every sender from this address, and no other address at all."""
        self.assert_refuses(JOE, HERE)
        self.log_in("ann", HERE)
        for sender in (JOE, "whoever@example.net", ""):
            self.assert_relays(sender, HERE)
        self.assert_refuses(JOE, THERE)
        self.allow("2001:db8::7", "joe", 128)
        self.assert_relays(JOE, claim="IPV6:2001:db8::7")
        self.assert_refuses(JOE, claim="IPV6:2001:db8::8")


class TroubleTests(RelayCase):
    """What is out of order never opens anything, and stops neither POP3 nor incoming mail."""

    asked = OWN

    def make_server(self) -> RunningServer:
        return make_server(self, OWN, ok_wait_seconds=0.3).start()

    def setUp(self) -> None:
        super().setUp()
        self.may("joe", JOE)
        self.log_in("joe", HERE)
        self.assert_relays(JOE, HERE)

    def break_store(self) -> None:
        """Put rubbish in place of the database."""
        for path in self.server.directory.glob("pbs.sqlite-*"):
            path.unlink()
        rubbish = self.server.directory / "rubbish"
        rubbish.write_bytes(b"rubbish " * 4096)
        rubbish.rename(self.database)

    def test_broken_store(self) -> None:
        """Logins go on, relaying does not, incoming mail does; the log says why."""
        self.break_store()
        self.assert_refuses(JOE, HERE)
        self.assertTrue(self.log_in("joe", HERE).startswith(b"+OK"))
        self.assert_refuses(JOE, HERE)
        self.assertEqual(self.relay("stranger@elsewhere.test", THERE, recipient="all@sender.test"), 250)
        self.assertIn("relaying-failed: cannot use", self.server.output())
        self.assertIn("sink-failed: PopBeforeSMTP at login", self.server.output())

    def test_store_that_is_gone(self) -> None:
        """A store that was removed is made anew by the next login, and what is not registered there is not allowed."""
        for path in self.server.directory.glob("pbs.sqlite*"):
            path.unlink()
        self.assert_refuses(JOE, HERE)
        self.log_in("joe", HERE)
        self.assert_refuses(JOE, HERE)
        self.may("joe", JOE)
        self.assert_relays(JOE, HERE)

    def test_store_comes_back(self) -> None:
        """No restart is needed."""
        aside = self.server.directory / "aside"
        self.database.rename(aside)
        self.assert_refuses(JOE, HERE)
        aside.rename(self.database)
        self.assert_relays(JOE, HERE)

    def test_store_that_somebody_has_locked(self) -> None:
        """The +OK leaves when its time is up, and reading goes on."""
        with contextlib.closing(sqlite3.connect(self.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.assertTrue(self.log_in("ann", THERE).startswith(b"+OK"))
            self.assert_relays(JOE, HERE)
            self.assertIn("sink-failed: PopBeforeSMTP at login", self.server.output())

    def test_restart(self) -> None:
        """Killed and started again, it knows what it knew, and Postfix finds it."""
        self.server.stop(9)
        self.server.start()
        self.assert_relays(JOE, HERE)


class SpawnTests(RelayCase):
    """tpops-pbsselect, started by Postfix' spawn(8)."""

    asked = SPAWNED

    def make_server(self) -> RunningServer:
        """One without a policy service, and a configuration that Postfix' user may read."""
        directory = self.postfix.spawned_directory
        server = make_server(self, SPAWNED, path=str(directory / "pbs.sqlite"), policy=[])
        (directory / "tpops.toml").write_text(toml({"pop_before_smtp": server.configuration["pop_before_smtp"]}))
        self.addCleanup(self.remove, directory)
        server.start()
        wait_until((directory / "pbs.sqlite").exists, "the store is there")
        who = pwd.getpwnam(USER)
        for path in (directory, *directory.iterdir()):
            os.chown(path, who.pw_uid, who.pw_gid)
        return server

    def remove(self, directory: Path) -> None:
        """The next test has other files, and other processes that read them."""
        for path in directory.iterdir():
            path.unlink()
        self.postfix._command("reload")

    def test_same_answers(self) -> None:
        """What another process has written down counts."""
        self.may("joe", JOE)
        self.assert_refuses(JOE, HERE)
        self.log_in("joe", HERE)
        self.assert_relays(JOE, HERE)
        self.assert_refuses(JOE, THERE)

    def test_without_a_configuration_it_says_nothing_for_anybody(self) -> None:
        """DUNNO: no relaying, and no incoming mail is held up."""
        (self.postfix.spawned_directory / "tpops.toml").write_text("[pop_before_smtp]\nstore = 'none'\n")
        self.assert_refuses(JOE, HERE)
        self.assertEqual(self.relay("stranger@elsewhere.test", THERE, recipient="all@sender.test"), 250)
