"""Who may own a session, and what a program in it gets: without processes."""

from __future__ import annotations

import os
import pwd

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from tpops.config.schema import Config
from tpops.errors import ConfigError, MaildropBroken
from tpops.events.counters import Counters
from tpops.generation import Generation
from tpops.model import Account
from tpops.policy.memory import Memory
from tpops.process import session_program
from tpops.process.owners import Bounds, Owner, become, owner_of
from tpops.process.records import LoginRecord

#: An id that no user has.
UNKNOWN = 987_654

_OWNER = {"server": {"user": "nobody"}, "sessions": {"run_as": "owner", "program": ("/bin/popit", "-u", "$(user)")}}


class OwnerTests(SynchronousTestCase):
    """From accounts to ids."""

    def test_ids(self) -> None:
        """Promise: those of the account; groups and shell of the machine's user, never root's group."""
        entry = pwd.getpwnam("nobody")
        owner = owner_of(Account("joe", "x", home="/home/joe", uid=entry.pw_uid), 1000, (8, 0))
        self.assertEqual((owner.uid, owner.gid, owner.home), (entry.pw_uid, entry.pw_gid, "/home/joe"))
        self.assertEqual(set(owner.groups), ({8} | set(os.getgrouplist("nobody", entry.pw_gid))) - {0})
        self.assertEqual(owner.shell, entry.pw_shell)
        owner = owner_of(Account("joe", "x", uid=UNKNOWN, gid=UNKNOWN), 1000)
        self.assertEqual(owner, Owner(UNKNOWN, UNKNOWN, (UNKNOWN,), "", "/bin/sh"))

    def test_refusals(self) -> None:
        """Promise: no ids, root, low ids, root's group, and users without a group are refused, with the reason."""
        for account, why in (
            (Account("joe", "x"), "has no user id"),
            (Account("joe", "x", uid=0, gid=0), "has the user id 0"),
            (Account("joe", "x", uid=999, gid=999), "sessions.minimum_uid is 1000"),
            (Account("joe", "x", uid=1000, gid=0), "has the group id 0"),
            (Account("joe", "x", uid=UNKNOWN), "has no group id"),
        ):
            problem = self.assertRaises(MaildropBroken, owner_of, account, 1000)
            self.assertIn(why, str(problem))
        for owner in (Owner(0, 5, (), ""), Owner(5, 0, (), "")):
            self.assertRaises(PermissionError, become, owner, Bounds(0, 64))


class ProgramArgumentsTests(SynchronousTestCase):
    """The command line and the environment of a program."""

    def test_command(self) -> None:
        """Promise: variables in arguments; the option behind "--", unless an argument names it."""
        account = Account("joe@example.org", "x", home="/home/joe", folder="lists")
        arguments = ("$(local_part)", "$(domain)", "$(user[0])$(user[-1])$(user[99])", "$(folder)", "$(home)")
        for program, option, expected in (
            (arguments, "", ["joe", "example.org", "jg", "lists", "/home/joe"]),
            (("$(maildir)",), "fast", ["/m", "--", "fast"]),
            (("-o$(useropt)",), "fast", ["-ofast"]),
            (("-o$(useropt)",), "", ["-o"]),
        ):
            sessions = {"run_as": "owner", "program": ("/bin/popit", *program)}
            config = Config.model_validate({"server": {"user": "nobody"}, "sessions": sessions})
            self.assertEqual(session_program.command(config, account, option, "/m"), ["/bin/popit", *expected])

    def test_environment(self) -> None:
        """Promise: nothing of it can end early, whatever the client calls himself."""
        login = LoginRecord("password", b"j\0oe\xff", b"", host="192.0.2.1", port=7)
        owner = Owner(1000, 1000, (), "/home/joe", "/bin/bash")
        found = session_program.variables(Account("joe", "x"), owner, login, "/m")
        self.assertEqual(found["LOGNAME"], "joe\ufffd")
        self.assertFalse(any("\0" in one for one in found.values()))


class OtherWaysTests(SynchronousTestCase):
    """What cannot start sessions does not pretend to."""

    def test_without_a_broker(self) -> None:
        """Promise: a process that has none refuses the configuration, rather than serve everybody itself."""
        config = Config.model_validate(_OWNER)
        problem = self.assertRaises(ConfigError, Generation, config, reactor, Memory(), Counters())
        self.assertEqual(str(problem), 'sessions.run_as = "owner" needs twistd, which starts the processes for it')
