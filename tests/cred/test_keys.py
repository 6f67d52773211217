"""Keys for SCRAM: stored, derived and made up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.cred.fakes import Threads, means
from tpops.cred import keys
from tpops.cred.hashes import hash_password
from tpops.cred.keys import DERIVED_ROUNDS, Keyring
from tpops.cred.names import LoginNames
from tpops.cred.passwd_file import PasswdFile
from tpops.cred.source import AskingSource, LookupSource, Record
from tpops.credentials import NamePassword
from tpops.errors import LookupUnavailable, UnknownUser
from tpops.model import Account, Peer
from tpops.protocol.saslprep import prepared
from tpops.protocol.scram import Keys, KeysOf, derive

#: RFC 7677 section 3, in Dovecot's form: the password is "pencil".
STORED = (
    "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


class Database(LookupSource):
    """Answers later, or cannot say."""

    def __init__(self, name: str, stored: Mapping[str, str] | None) -> None:
        super().__init__(name, means())
        self._stored = stored

    async def find(self, name: str, peer: Peer | None) -> Record:
        """See LookupSource."""
        if self._stored is None:
            raise LookupUnavailable("database is down")
        if name not in self._stored:
            raise UnknownUser("not here")
        return Record(Account(name, self.name), self._stored[name])

    def check(self) -> list[str]:
        """See Source."""
        return []


class Judge(AskingSource):
    """Says yes to everybody."""

    async def verify(self, credentials: NamePassword) -> Account:
        """See AskingSource."""
        return Account(credentials.username.decode(), self.name)

    def check(self) -> list[str]:
        """See Source."""
        return []


class KeyringCase(SynchronousTestCase):
    """A keyring over files and databases."""

    def setUp(self) -> None:
        self.threads = Threads()

    def file(self, name: str, **stored: str) -> PasswdFile:
        """An accounts file."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.writelines(f"{user}:{password}::::/home/{user}:\n" for user, password in stored.items())
        return PasswdFile(name, means(), path)

    def keyring(self, *sources: Any, secret: bytes = b"s" * 32) -> Keyring:
        """A keyring that has looked at its accounts."""
        made = Keyring(sources, LoginNames("", True, "@"), self.threads, secret)
        made.learn()
        return made

    def keys(self, keyring: Keyring, name: str = "joe", digest: str = "sha256") -> Keys:
        """The keys of a name."""
        return self.successResultOf(Deferred.fromCoroutine(keyring.keys(KeysOf(name.encode(), digest))))


class StoredTests(KeyringCase):
    """What the accounts have."""

    def test_stored_keys(self) -> None:
        """RFC 7677 section 3: they are told as they are stored, whatever the login name looks like."""
        found = self.keys(self.keyring(self.file("users", joe=STORED)), "JOE")
        self.assertEqual(
            (found.rounds, found.source, found.salt.hex()), (4096, "users", "5b6d99689d12358eeca04b141236fa81")
        )
        made = derive("sha256", b"pencil", found.salt, 4096)
        self.assertEqual((found.stored_key, found.server_key), made)

    def test_our_own_stored_keys(self) -> None:
        """Promise: what "tpops user" stores can be used, prepared as clients prepare it."""
        for digest, scheme in (("sha1", "SCRAM-SHA-1"), ("sha256", "SCRAM-SHA-256")):
            stored = hash_password("\ufb01sch".encode(), scheme)
            found = self.keys(self.keyring(self.file("users", joe=stored)), digest=digest)
            self.assertEqual((found.stored_key, found.server_key), derive(digest, b"fisch", found.salt, found.rounds))

    def test_derived_keys(self) -> None:
        """Promise: a secret that is stored as it is has keys of both kinds; derived in a thread, and only once."""
        keyring = self.keyring(self.file("users", joe="{PLAIN}g\u00adeheim"))
        for digest in ("sha1", "sha256"):
            found = self.keys(keyring, digest=digest)
            made = derive(digest, prepared(b"geheim"), found.salt, DERIVED_ROUNDS)
            self.assertEqual((found.stored_key, found.server_key, found.source), (*made, "users"))
            self.assertEqual(len(found.salt), 16)
        self.assertEqual(self.threads.runs, 2)
        again = self.keys(keyring)
        self.assertEqual((again, self.threads.runs), (self.keys(keyring), 2))

    def test_a_changed_password_has_other_keys(self) -> None:
        """Promise: nothing that is remembered outlives the password."""
        made = [
            self.keys(self.keyring(self.file("users", joe="{PLAIN}" + password))).stored_key for password in ("a", "b")
        ]
        self.assertNotEqual(*made)

    def test_memory_is_bounded(self) -> None:
        """Promise: names that somebody makes up do not fill the memory."""
        self.patch(keys, "_MOST_DERIVED", 2)
        keyring = self.keyring(self.file("users", joe="{PLAIN}geheim"))
        for name in ("a", "b", "c", "joe", "joe"):
            self.keys(keyring, name)
        self.assertEqual((self.threads.runs, len(keyring._derived)), (4, 2))

    def test_order_of_sources(self) -> None:
        """Promise: the first that has the name with something usable counts; others, and PAM and the like, do not."""
        argon = hash_password(b"other")
        keyring = self.keyring(
            Judge("pam", means()),
            self.file("first", joe=argon, locked="!" + STORED),
            Database("second", {"joe": STORED, "locked": STORED, "eve": STORED}),
            self.file("third", joe="{PLAIN}x", eve="{PLAIN}x"),
        )
        for name in ("joe", "locked", "eve"):
            self.assertEqual(self.keys(keyring, name).source, "second", name)

    def test_source_that_cannot_say(self) -> None:
        """Promise: never a wrong password; and stored data that is broken is the operator's business."""
        for keyring in (
            self.keyring(Database("db", None)),
            self.keyring(self.file("users", joe="{SCRAM-SHA-256}rubbish")),
            self.keyring(self.file("users", joe="{NOSUCH}rubbish")),
        ):
            asked = Deferred.fromCoroutine(keyring.keys(KeysOf(b"joe", "sha256")))
            self.failureResultOf(asked, LookupUnavailable)

    def test_list_that_cannot_be_had(self) -> None:
        """Promise: a file that is missing at the start is nothing to fail about then."""
        source = PasswdFile("users", means(), self.mktemp())
        keyring = self.keyring(source)
        self.failureResultOf(Deferred.fromCoroutine(keyring.keys(KeysOf(b"joe", "sha256"))), LookupUnavailable)


class MadeUpTests(KeyringCase):
    """What is told about names that cannot log in: nothing that shows it."""

    def test_unknown_names(self) -> None:
        """RFC 5802 section 9: always the same salt for one name, another for another one; nobody has their password."""
        keyring = self.keyring(self.file("users", joe="{PLAIN}geheim"))
        found = self.keys(keyring, "eve")
        self.assertEqual((found.source, found.why_none, found.rounds), (None, "unknown user", DERIVED_ROUNDS))
        self.assertEqual(len(found.salt), len(self.keys(keyring).salt))
        self.assertEqual(self.keys(keyring, "EVE"), found)
        for other in (self.keys(keyring, "ann"), self.keys(keyring, "eve", "sha1"), self.keys(keyring)):
            self.assertNotEqual(other.salt, found.salt)
        after_restart = self.keys(self.keyring(self.file("users", joe="{PLAIN}geheim")), "eve")
        self.assertEqual(after_restart, found)
        elsewhere = self.keys(self.keyring(secret=b"t" * 32), "eve")
        self.assertNotEqual(elsewhere.salt, found.salt)

    def test_a_secret_keeps_its_salt_when_it_is_no_longer_there(self) -> None:
        """Promise: an account that is removed looks as before."""
        before = self.keys(self.keyring(self.file("users", joe="{PLAIN}geheim")))
        after = self.keys(self.keyring(self.file("users", eve="{PLAIN}geheim")))
        self.assertEqual((before.salt, before.rounds), (after.salt, after.rounds))
        self.assertIsNone(after.source)

    def test_as_long_as_for_the_others(self) -> None:
        """Promise: where keys are derived for accounts, they are derived for others as well, once."""
        keyring = self.keyring(self.file("users", joe="{PLAIN}geheim"))
        for _ in range(2):
            self.keys(keyring, "eve")
        self.assertEqual(self.threads.runs, 1)

    def test_like_most_of_the_others(self) -> None:
        """Promise: rounds and length of the salt are those that most accounts have."""
        stored = STORED.replace("4096,W22ZaJ0SNY7soEsUEjb6gQ==", "123456,W22ZaJ0SNY7soEsUEjb6gaqqqqqqqqqq")
        keyring = self.keyring(self.file("users", joe=stored, eve=stored, ann="{PLAIN}x", max="*", bad="{X}y"))
        found = self.keys(keyring, "nobody")
        self.assertEqual((found.rounds, len(found.salt)), (123456, 24))
        self.assertEqual((len(found.stored_key), len(found.server_key), self.threads.runs), (32, 32, 0))
        self.assertEqual(self.keys(keyring, "nobody", "sha1").rounds, DERIVED_ROUNDS)

    def test_names_that_are_none(self) -> None:
        """Promise: what cannot be a name is answered like one."""
        keyring = self.keyring(self.file("users", joe="{PLAIN}geheim"))
        asked = Deferred.fromCoroutine(keyring.keys(KeysOf(b"\xff", "sha256")))
        found = self.successResultOf(asked)
        self.assertEqual((found.source, found.why_none), (None, "login name is not UTF-8"))

    def test_passwords_of_another_kind(self) -> None:
        """Promise: the log says that this password cannot be used for SCRAM; the client is told nothing."""
        keyring = self.keyring(self.file("users", joe=hash_password(b"x", "SSHA256"), eve=STORED, ann=STORED, bob="!"))
        self.assertEqual(self.keys(keyring).why_none, "the stored password has no keys for SCRAM-SHA-256")
        self.assertEqual(self.keys(keyring, "bob").source, None)
        other = self.keys(keyring, "eve", "sha1")
        self.assertEqual(other.why_none, "the stored password has no keys for SCRAM-SHA-1")
