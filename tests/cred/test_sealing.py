"""Secrets that are stored encrypted."""

from __future__ import annotations

import base64
import os
import pathlib
import stat

from twisted.trial.unittest import SynchronousTestCase

from tpops.cred.sealing import KeyFile
from tpops.errors import LookupUnavailable


class SealingTests(SynchronousTestCase):
    """What goes in comes out, for whoever has the key, in its place."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())
        self.keys = KeyFile(self.path)
        self.keys.make()

    def refusal(self, sealed: bytes, about: bytes = b"joe", keys: KeyFile | None = None) -> str:
        return str(self.assertRaises(LookupUnavailable, (keys or KeyFile(self.path)).unseal, sealed, about))

    def octets(self) -> bytes:
        return pathlib.Path(self.path).read_bytes()

    def test_what_is_sealed_is_opened(self) -> None:
        """By another process too; twice the same is never the same, and nothing of it is seen."""
        sealed = [self.keys.seal(b"the secret", b"joe") for _ in range(2)]
        self.assertNotEqual(*sealed)
        for one in sealed:
            self.assertEqual(KeyFile(self.path).unseal(one, b"joe"), b"the secret")
            self.assertNotIn(b"secret", one)

    def test_is_bound_to_what_it_is_about(self) -> None:
        """A row that is moved to another account or name does not open."""
        sealed = self.keys.seal(b"the secret", b"joe")
        self.assertIn("belongs to another account or name", self.refusal(sealed, b"ann"))

    def test_every_octet_counts(self) -> None:
        """Whatever is changed or cut off: it cannot be opened, and that is no wrong password."""
        sealed = self.keys.seal(b"x", b"joe")
        for index in range(len(sealed)):
            changed = bytearray(sealed)
            changed[index] ^= 1
            self.refusal(bytes(changed))
            self.assertIn("broken", self.refusal(sealed[:index]))

    def test_another_key_does_not_open(self) -> None:
        """It is told that the key is missing, with the path."""
        sealed = self.keys.seal(b"x", b"joe")
        os.unlink(self.path)
        KeyFile(self.path).make()
        self.assertIn(f"{self.path} has not the key", self.refusal(sealed))

    def test_a_new_key_encrypts_and_the_old_one_still_decrypts(self) -> None:
        """Until it is dropped; a process that has the file read already sees both changes."""
        server, old = KeyFile(self.path), self.keys.seal(b"x", b"joe")
        self.assertTrue(server.is_current(old))
        self.keys.rotate()
        new = self.keys.seal(b"x", b"joe")
        self.assertEqual([server.unseal(one, b"joe") for one in (old, new)], [b"x", b"x"])
        self.assertEqual([server.is_current(one) for one in (old, new)], [False, True])
        self.assertEqual(self.keys.drop_old(), 1)
        self.assertEqual(server.unseal(new, b"joe"), b"x")
        self.assertIn("has not the key", self.refusal(old, keys=server))

    def test_a_change_keeps_owner_and_mode_and_leaves_nothing_behind(self) -> None:
        """The group that may read it may still."""
        os.chmod(self.path, 0o640)
        self.keys.rotate()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o640)
        self.assertEqual([name for name in os.listdir(os.path.dirname(self.path)) if "." in name], [])

    def test_is_made_private_and_never_over_another(self) -> None:
        """Mode 0600; 32 octets; not for anybody else."""
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        before = self.octets()
        self.assertEqual(len(base64.b64decode(before.splitlines()[-1])), 32)
        self.assertRaises(FileExistsError, self.keys.make)
        self.assertEqual(self.octets(), before)

    def test_a_file_that_is_open_to_others_is_refused(self) -> None:
        """Also when it becomes so; it is told how to close it, and then it is read again."""
        sealed = self.keys.seal(b"x", b"joe")
        for mode in (0o604, 0o602, 0o601, 0o660, 0o620):
            os.chmod(self.path, mode)
            for keys in (self.keys, KeyFile(self.path)):
                self.assertIn(f"chmod 600 {self.path}", self.refusal(sealed, keys=keys))
        os.chmod(self.path, 0o640)
        self.assertEqual(self.keys.unseal(sealed, b"joe"), b"x")

    def test_a_file_that_is_no_key_file_is_told_by_line(self) -> None:
        """Without what is in it."""
        key = base64.b64encode(b"k" * 32)
        for octets, why in (
            (b"", "has no key"),
            (b"# only a comment\n", "has no key"),
            (key + b"\nc2hvcnQ=\n", ":2: not a key"),
            (b"hunter2!\n", ":1: not a key"),
            (b"\xff" * 44, ":1: not a key"),
        ):
            pathlib.Path(self.path).write_bytes(octets)
            why_not = self.assertRaises(LookupUnavailable, KeyFile(self.path).check)
            self.assertIn(why, str(why_not))
            self.assertNotIn("hunter2", str(why_not))
        pathlib.Path(self.path).write_bytes(b"\n# mine\n  " + key + b"  \r\n")
        KeyFile(self.path).check()

    def test_a_missing_file_is_told(self) -> None:
        """With path and reason; it works again once it is back."""
        sealed = self.keys.seal(b"x", b"joe")
        os.rename(self.path, self.path + ".away")
        self.assertIn(f"cannot read the key file {self.path}: No such file", self.refusal(sealed, keys=self.keys))
        os.rename(self.path + ".away", self.path)
        self.assertEqual(self.keys.unseal(sealed, b"joe"), b"x")

    def test_a_change_that_fails_leaves_the_old_keys(self) -> None:
        """The new file replaces the old one as a whole or not at all."""
        before = self.octets()

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        for step in ("replace", "fsync"):
            self.patch(os, step, full)
            self.assertRaises(OSError, self.keys.rotate)
            self.assertEqual(self.octets(), before)
            self.assertEqual([name for name in os.listdir(os.path.dirname(self.path)) if "." in name], [])
        os.unlink(self.path)
        self.assertRaises(OSError, self.keys.make)
        self.assertFalse(os.path.exists(self.path))

    def test_keys_are_not_shown(self) -> None:
        """Not by repr."""
        sealed = self.keys.seal(b"x", b"joe")
        self.keys.unseal(sealed, b"joe")
        key = base64.b64decode(self.octets().splitlines()[-1])
        self.assertNotIn(repr(key)[2:12], repr(vars(self.keys)))
