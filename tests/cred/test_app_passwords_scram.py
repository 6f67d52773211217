"""SCRAM with application passwords whose secret is kept encrypted."""

from __future__ import annotations

import os
import pathlib

from twisted.internet.defer import Deferred

from tests.cred.fakes import means
from tests.cred.test_app_passwords import GENERATED, AppPasswordCase
from tests.scram_client import ScramClient
from tpops.cred.app_password_store import AppPasswordStore
from tpops.cred.hashes import hash_password
from tpops.cred.keys import Keyring
from tpops.cred.names import LoginNames
from tpops.cred.passwd_file import PasswdFile
from tpops.errors import LookupUnavailable
from tpops.protocol.actions import LoginProven
from tpops.protocol.sasl import Ask, Challenge, Outcome
from tpops.protocol.scram import Keys, KeysOf, Scram

HASHED = hash_password(b"secret", "SSHA256")


class ScramTests(AppPasswordCase):
    """Whoever knows one of the passwords proves it."""

    def keyring(self, stored: str, instead: bool = False) -> Keyring:
        """Over one account whose own password is "secret"."""
        path = self.mktemp()
        pathlib.Path(path).write_text(f"joe:{stored}::::/home/joe:\n")
        self.checker(instead)
        return Keyring([PasswdFile("own", means(), path)], LoginNames(), self.threads, b"s" * 32, self.subject)

    def told(self, keyring: Keyring, name: bytes = b"joe", digest: str = "sha256") -> Keys:
        return self.successResultOf(Deferred.fromCoroutine(keyring.keys(KeysOf(name, digest))))

    def source(self, keyring: Keyring, password: str, name: bytes = b"joe", digest: str = "sha256") -> str | None:
        """The accounts source that a login names, None where it fails."""
        client = ScramClient(name, password.encode(), digest)
        exchange = Scram(digest, False, {}, lambda: b"nonce")
        outcome: Outcome = exchange.respond(client.first())
        assert isinstance(outcome, Ask)
        outcome = outcome.consulted(self.told(keyring, name, digest))
        assert isinstance(outcome, Challenge)
        outcome = exchange.respond(client.final(outcome.data))
        if not isinstance(outcome, Challenge):
            return None
        self.assertEqual(outcome.data, client.expected)
        outcome = exchange.respond(b"")
        assert isinstance(outcome, LoginProven)
        return outcome.source

    def test_every_secret_and_the_own_password_are_good(self) -> None:
        """Whatever the own one is stored as, the server proves in turn that it knows the password."""
        self.add(apop=True)
        self.add("tv", "chosen by joe", apop=True)
        self.add("scanner", "without a secret")
        for stored in ("{PLAIN}secret", hash_password(b"secret", "SCRAM-SHA-256"), HASHED, "!"):
            keyring = self.keyring(stored)
            for password in (GENERATED, GENERATED.replace("-", ""), "chosen by joe"):
                for digest in ("sha1", "sha256"):
                    self.assertEqual(self.source(keyring, password, digest=digest), "", (stored, password))
            own = self.source(keyring, "secret")
            self.assertEqual(own, None if stored in (HASHED, "!") else "own")
            for password in ("wrong", "without a secret"):
                self.assertIsNone(self.source(keyring, password))
            self.assertIsNone(self.source(keyring, GENERATED, b"ann"))

    def test_only_application_passwords_are_good_where_they_stand_instead(self) -> None:
        """The own password proves nothing any more; without application passwords it does."""
        self.assertEqual(self.source(self.keyring("{PLAIN}secret", instead=True), "secret"), "own")
        self.add(apop=True)
        for stored in ("{PLAIN}secret", hash_password(b"secret", "SCRAM-SHA-256"), HASHED):
            keyring = self.keyring(stored, instead=True)
            self.assertIsNone(self.source(keyring, "secret"))
            self.assertEqual(self.source(keyring, GENERATED), "")

    def test_what_a_client_sees_before_is_the_same(self) -> None:
        """Salt and rounds do not tell who has application passwords."""
        for stored in ("{PLAIN}secret", hash_password(b"secret", "SCRAM-SHA-256"), HASHED):
            keyring = self.keyring(stored)
            before = self.told(keyring)
            self.add(apop=True)
            after = self.told(keyring)
            self.assertEqual((before.salt, before.rounds), (after.salt, after.rounds))
            with AppPasswordStore(self.path).writing() as writer:
                writer.revoke_all("joe")

    def test_keys_are_derived_once(self) -> None:
        """Polls cost no derivation; a revoked password is not remembered."""
        self.add(apop=True)
        keyring = self.keyring("{PLAIN}secret")
        self.told(keyring)
        runs = self.threads.runs
        self.assertEqual(len(self.told(keyring).others), 2)
        self.assertEqual(self.threads.runs, runs)
        with AppPasswordStore(self.path).writing() as writer:
            writer.revoke_all("joe")
        self.assertIsNone(self.source(keyring, GENERATED))

    def test_the_last_use_is_noted(self) -> None:
        """Of the password that was proven, and of no other."""
        self.add(apop=True)
        self.add("tv", "chosen by joe", apop=True)
        keyring = self.keyring("{PLAIN}secret")
        for password in ("secret", "wrong"):
            self.source(keyring, password)
        self.assertEqual(self.last_used(), {"phone": None, "tv": None})
        self.source(keyring, "chosen by joe")
        self.assertEqual(self.last_used(), {"phone": None, "tv": 1000})

    def test_what_cannot_be_opened_is_no_wrong_password(self) -> None:
        """A key file or a database that is gone; those who have no application passwords do not notice the former."""
        self.add(apop=True)
        keyring = self.keyring("{PLAIN}secret")
        os.unlink(self.key_path)
        asked = Deferred.fromCoroutine(keyring.keys(KeysOf(b"joe", "sha256")))
        self.assertIn("'phone' of joe", str(self.failureResultOf(asked, LookupUnavailable).value))
        self.told(keyring, b"ann")
        os.rename(self.path, self.path + ".away")
        asked = Deferred.fromCoroutine(keyring.keys(KeysOf(b"ann", "sha256")))
        self.failureResultOf(asked, LookupUnavailable)
