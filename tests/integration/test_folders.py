"""Folders that login names say, with every way to log in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import poplib
import re
import subprocess

from tests.integration.folder_case import FAILED, NO_FOLDER, FolderCase, encoded
from tests.integration.server import PASSWORD, PATIENCE_SECONDS, USER, program
from tests.integration.test_client_certificates import CertificateCase
from tests.integration.test_oauth import OAuthCase
from tests.scram_client import ScramClient
from tests.tokens import claims


class LoginTests(FolderCase):
    """USER and PASS, APOP, and the SASL mechanisms with the account's password."""

    def test_user_and_pass(self) -> None:
        """popserv: the folder's mail, with the account's password; the account and the folder are in the logs."""
        for name, subject in (
            ("joe+Lists", b"lists"),
            ("JOE+Lists/tpops", b"tpops"),
            ("joe+Lists.tpops", b"tpops"),
            ("joe+INBOX", b"inbox"),
            ("joe+", b"inbox"),
            ("joe", b"inbox"),
        ):
            wire = self.wire()
            wire.command(b"USER " + name.encode())
            self.assertEqual(wire.command(f"PASS {PASSWORD}".encode()).partition(b" (")[0], b"+OK joe has 1 message")
            self.assertEqual(self.subject(wire), subject, name)
        event = self.server.event("login", named="JOE+Lists/tpops")
        self.assertEqual((event["user"], event["folder"], event["driver"]), ("joe", "Lists/tpops", "passwd_file"))
        self.assertIsNone(self.server.event("login", named="joe")["folder"])
        self.server.event("disconnect", named="joe")
        self.assertTrue(all(re.search(r" joe 1 \d+ 1 \d+$", line) for line in self.server.access()))

    def test_apop(self) -> None:
        """RFC 1939 section 7: the digest is over the account's secret."""
        wire = self.server.connect()
        (stamp,) = re.findall(rb"<[^>]+>", wire.line())
        digest = hashlib.md5(stamp + PASSWORD.encode()).hexdigest().encode()
        self.assertIn(b"+OK joe has 1", wire.command(b"APOP joe+Lists " + digest))
        self.assertEqual(self.subject(wire), b"lists")

    def test_cram_md5(self) -> None:
        """RFC 2195: likewise; the name in the response is as the client sends it."""
        wire = self.wire()
        challenge = base64.b64decode(wire.command(b"AUTH CRAM-MD5")[2:])
        digest = hmac.digest(PASSWORD.encode(), challenge, "md5").hex()
        self.assertIn(b"+OK joe has 1", wire.command(base64.b64encode(f"joe+Lists {digest}".encode())))
        self.assertEqual(self.subject(wire), b"lists")

    def test_scram(self) -> None:
        """RFC 5802: the keys are the account's; who has no account looks the same with a folder and without."""
        wire = self.wire()
        client = ScramClient(b"joe+Lists", PASSWORD.encode())
        server_first = base64.b64decode(wire.command(b"AUTH SCRAM-SHA-256 " + base64.b64encode(client.first()))[2:])
        final = base64.b64encode(client.final(server_first))
        self.assertEqual(wire.command(final), b"+ " + base64.b64encode(client.expected))
        self.assertIn(b"+OK joe has 1", wire.command(b""))
        self.assertEqual(self.subject(wire), b"lists")
        salts = set()
        for name in (b"nobody", b"nobody+Lists", b"nobody+x"):
            first = base64.b64encode(ScramClient(name, b"x").first())
            challenge = base64.b64decode(self.answer(b"AUTH SCRAM-SHA-256 " + first)[2:])
            salts.add(challenge.split(b",")[1])
        self.assertEqual(len(salts), 1)

    def test_plain_and_login(self) -> None:
        """RFC 4616: the folder in either name, where it is his own; two that differ are refused, and logged."""
        for response in (
            encoded("", "joe+Lists", PASSWORD),
            encoded("joe+Lists", "joe", PASSWORD),
            encoded("joe+Lists", "Joe+Lists", PASSWORD),
        ):
            wire = self.wire()
            self.assertIn(b"+OK joe has 1", wire.command(b"AUTH PLAIN " + response))
            self.assertEqual(self.subject(wire), b"lists")
        self.assertEqual(self.answer(b"AUTH PLAIN " + encoded("joe", "joe+Lists", PASSWORD)), FAILED)
        self.assertIn("names the folder 'Lists'", self.server.event("login-failed")["detail"])
        wire = self.wire()
        wire.command(b"AUTH LOGIN " + encoded("joe+Lists"))
        self.assertIn(b"+OK joe has 1", wire.command(encoded(PASSWORD)))
        self.assertEqual(self.subject(wire), b"lists")

    def test_missing_folder_is_told_to_who_has_the_password_only(self) -> None:
        """RFC 3206: [SYS/PERM], since the password was right; a wrong one says nothing about folders."""
        names = ("joe+Nowhere", "joe+lists", "joe+..", "joe+../ann", "joe+/etc", "joe+.ssh")
        for name in names:
            self.assertEqual(self.answer(f"USER {name}".encode(), f"PASS {PASSWORD}".encode()), NO_FOLDER, name)
            event = self.server.event("login-refused", named=name)
            self.assertIn("NoSuchFolder", event["detail"])
            self.assertEqual(self.answer(f"USER {name}".encode(), b"PASS wrong"), FAILED)
        self.assertEqual(self.answer(b"USER joe+Lists", b"PASS wrong"), FAILED)
        self.assertEqual(self.answer(b"USER nobody+Lists", b"PASS wrong"), FAILED)
        self.assertEqual(self.answer(b"USER +Lists", b"PASS wrong"), FAILED)
        failures = [one["detail"] for one in self.server.events("login-failed")]
        self.assertNotIn("folder", "".join(failures[:-1]))
        self.assertIn("names a folder and nobody", failures[-1])
        self.assertEqual(
            {one.name for one in self.server.maildir().iterdir() if one.name.startswith(".")},
            {".Lists", ".Lists.tpops"},
        )

    def test_deletes_in_the_folder_only(self) -> None:
        """RFC 1939 section 6: QUIT removes what was marked, and the Maildir and other folders stay."""
        for folder in (".Lists.tpops", ""):
            (self.server.maildir() / folder / "new" / "2.lists.host").write_bytes(b"another\n")
        client = self.server.poplib("joe+Lists")
        client.dele(1)
        client.quit()
        self.assertEqual(self.files(".Lists"), set())
        self.assertEqual(self.files(".Lists.tpops"), {"2.lists.host", "3.tpops.host"})
        self.assertEqual(self.files(), {"1.inbox.host", "2.lists.host"})

    def test_sessions_of_folders_at_the_same_time(self) -> None:
        """RFC 1939 section 4: each is a maildrop of its own; the same one twice is refused."""
        self.server.stop()
        self.server.configuration["maildir"] = {"lock_wait_seconds": 0}
        self.server.configuration["limits"] = {"login_delay_seconds": 0.2}
        self.server.start()
        sessions = [self.server.session(name) for name in ("joe", "joe+Lists", "joe+Lists/tpops")]
        refused = self.answer(b"USER joe+Lists.tpops", f"PASS {PASSWORD}".encode())
        self.assertTrue(refused.startswith((b"-ERR [IN-USE]", b"-ERR [LOGIN-DELAY]")), refused)
        for one in sessions:
            one.command(b"QUIT")

    def test_folders_are_made_where_the_operator_says_so(self) -> None:
        """Maildir++: C{maildir.create}; the name is as IMAP servers have it."""
        self.server.stop()
        self.server.configuration["maildir"] = {"create": True}
        self.server.start()
        for line in ("joe+Entwürfe/neu",):
            self.assertIn(b"+OK joe has 0", self.answer(f"USER {line}".encode(), f"PASS {PASSWORD}".encode()))
        self.assertTrue((self.server.maildir() / ".Entw&APw-rfe.neu" / "maildirfolder").is_file())

    def test_off_by_default(self) -> None:
        """Promise: without [folders] a plus sign belongs to the name."""
        self.server.stop()
        del self.server.configuration["folders"]
        self.server.start()
        self.assertEqual(self.answer(b"USER joe+Lists", f"PASS {PASSWORD}".encode()), FAILED)


class DomainTests(FolderCase):
    """Accounts with domains, and popserv's expression."""

    users = {"joe@example.org": PASSWORD, "joe+Lists@example.org": "another secret"}
    tables = {"folders": {"expression": "+([^%@/]*)"}, "names": {"default_domain": "example.org"}}

    def make_mail(self) -> None:
        """One account has a folder, the other one its name."""
        path = self.server.directory / "joe@example.org" / "Maildir" / ".Lists"
        for part in ("new", "cur", "tmp"):
            (path / part).mkdir(parents=True)
        (path / "new" / "1.a.host").write_bytes(b"Subject: lists\n\nx\n")

    def test_domains(self) -> None:
        """popserv: the folder stands before the domain, which may be left out; it always means a folder."""
        for name in (b"joe+Lists@example.org", b"joe+Lists%example.org", b"joe+Lists", b"joe@example.org+Lists"):
            wire = self.wire()
            wire.command(b"USER " + name)
            expected = FAILED if b"%" in name else b"+OK joe@example.org has 1 message (21 octets)"
            self.assertEqual(wire.command(f"PASS {PASSWORD}".encode()), expected, name)
            wire.command(b"QUIT")
        self.assertEqual(self.answer(b"USER joe+Lists@example.org", b"PASS another secret"), FAILED)


class SpoolTests(FolderCase):
    """Spools: with C{$(folder)}, and without."""

    def test_variable(self) -> None:
        """Promise: mail.location says where folders are; they are not made, and there are none without it."""
        home = self.server.directory / USER
        (home / "mail" / "Lists").mkdir(parents=True)
        spool = b"From a@b Thu Jan  1 00:00:00 2026\nSubject: spool\n\nx\n\n"
        (home / "mail" / "Lists" / "tpops").write_bytes(spool)
        (home / "inbox").write_bytes(spool.replace(b"spool", b"inbox"))
        self.server.stop()
        self.server.configuration["mail"] = {"location": "mbox:~/mail/$(folder) mbox:~/inbox"}
        self.server.start()
        for name, subject in (("joe+Lists/tpops", b"spool"), ("joe", b"inbox"), ("joe+inbox", b"inbox")):
            self.assertEqual(self.subject(self.server.session(name)), subject)
        for name in (b"joe+Nowhere", b"joe+../inbox"):
            self.assertEqual(self.answer(b"USER " + name, f"PASS {PASSWORD}".encode()), NO_FOLDER)
        self.assertFalse((home / "mail" / "Nowhere").exists())
        self.server.stop()
        self.server.configuration["mail"] = {"location": "mbox:~/inbox"}
        self.server.start()
        self.assertEqual(self.answer(b"USER joe+Lists", f"PASS {PASSWORD}".encode()), NO_FOLDER)
        self.assertIn("has no folders", self.server.event("login-refused", named="joe+Lists")["detail"])


class MasterTests(FolderCase):
    """Master users in folders of others."""

    tables = {"masters": {"names": ["admin"], "separator": "*"}}

    def test_folder_goes_with_the_owner(self) -> None:
        """RFC 4616: C{joe+Lists*admin} and an authorization identity; a folder of the master's own name is refused."""
        secret = self.users["admin"]
        lines = (
            (b"USER joe+Lists*admin", f"PASS {secret}".encode()),
            (b"AUTH PLAIN " + encoded("joe+Lists", "admin", secret),),
            (b"AUTH PLAIN " + encoded("", "joe+Lists*admin", secret),),
        )
        for several in lines:
            wire = self.wire()
            answer = [wire.command(line) for line in several][-1]
            self.assertIn(b"+OK joe has 1", answer)
            self.assertEqual(self.subject(wire), b"lists")
        event = self.server.event("login", master="admin")
        self.assertEqual((event["user"], event["folder"], event["named"]), ("joe", "Lists", "joe+Lists"))
        for name in (b"joe*admin+Lists", b"joe+Lists*admin+Lists"):
            self.assertEqual(self.answer(b"USER " + name, f"PASS {secret}".encode()), FAILED)
        self.assertIn("with his own name", self.server.events("login-failed")[-1]["detail"])
        self.assertEqual(self.answer(b"USER joe+Nowhere*admin", f"PASS {secret}".encode()), NO_FOLDER)
        self.assertEqual(self.answer(b"USER joe+Nowhere*ann", f"PASS {self.users['ann']}".encode()), FAILED)


class AppPasswordTests(FolderCase):
    """Application passwords, which belong to the account."""

    tables = {"app_passwords": {"path": "app.sqlite", "key_file": "app.key", "instead": True}}

    def make_mail(self) -> None:
        super().make_mail()
        self.server.write_configuration()
        self.tpops("init")
        self.tpops("key")
        self.secret = self.tpops("add", "phone", "--user", "joe", "--apop").split()[-1]

    def tpops(self, *arguments: str) -> str:
        """What "tpops apppasswd" prints."""
        command = [program("tpops"), "-c", str(self.server.configuration_file), "apppasswd", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True).stdout

    def test_every_folder(self) -> None:
        """Promise: they open folders, and what they replace opens none; with APOP, too."""
        self.assertEqual(self.subject(self.server.session("joe+Lists", self.secret)), b"lists")
        self.assertEqual(self.answer(b"USER joe+Lists", f"PASS {PASSWORD}".encode()), FAILED)
        wire = self.server.connect()
        (stamp,) = re.findall(rb"<[^>]+>", wire.line())
        digest = hashlib.md5(stamp + self.secret.encode()).hexdigest().encode()
        self.assertIn(b"+OK joe has 1", wire.command(b"APOP joe+Lists " + digest))


class TokenTests(OAuthCase):
    """Bearer tokens."""

    def setUp(self) -> None:
        super().setUp()
        lists = self.server.maildir() / ".Lists"
        for part in ("new", "cur", "tmp"):
            (lists / part).mkdir(parents=True)
        for name in ("2.a.host", "3.b.host"):
            (lists / "new" / name).write_bytes(b"Subject: lists\n\nx\n")
        self.server.configuration["folders"] = {"separator": "+"}
        self.use(**self.server.configuration["oauth"])

    def test_folder_in_the_name_that_the_client_gives(self) -> None:
        """RFC 7628: the token is the account's; one whose owner has a plus sign in his name is nobody's."""
        for mechanism in (b"XOAUTH2", b"OAUTHBEARER"):
            token = self.token()
            self.assertIn(b"+OK joe has 2", self.answer(token, "joe+Lists", mechanism))
            self.assertIn(b"+OK joe has 1", self.answer(token, "joe", mechanism))
            self.assertEqual(self.answer(token, "ann+Lists", mechanism), FAILED)
            strange = self.token(owner="joe+Lists")
            self.assertEqual(self.answer(strange, "joe+Lists", mechanism), FAILED)
            self.assertEqual(self.answer(strange, "joe", mechanism), FAILED)

    def token(self, owner: str = USER) -> str:
        """A good token."""
        return self.key.sign(claims(email=owner))


class ExternalTests(CertificateCase):
    """Client certificates."""

    def setUp(self) -> None:
        super().setUp()
        self.server.stop()
        lists = self.server.maildir() / ".Lists"
        for part in ("new", "cur", "tmp"):
            (lists / part).mkdir(parents=True)
        self.server.configuration["folders"] = {"separator": "+"}
        self.server.start()

    def test_folder_in_the_authorization_identity(self) -> None:
        """RFC 4422 appendix A: the certificate is the account's; one for joe+x is not joe's."""
        client = self.connect(self.ca.client("joe")[0])
        answer = client._shortcmd("AUTH EXTERNAL " + encoded("joe+Lists").decode())
        self.assertTrue(answer.startswith(b"+OK joe has 0 messages"), answer)
        client.quit()
        for response in ("=", encoded("joe").decode(), encoded("joe+Lists").decode()):
            client = self.connect(self.ca.client("joe+Lists")[0])
            with self.assertRaisesRegex(poplib.error_proto, "AUTH"):
                client._shortcmd(f"AUTH EXTERNAL {response}")
        self.assertIn("is nobody's name", self.server.events("login-failed")[-1]["detail"])
