"""Logins against a directory: a real slapd behind a real server."""

from __future__ import annotations

import base64
import os
import pwd

from tests.integration import corpus
from tests.integration.ldap_case import DISABLED, UNAVAILABLE, WRONG, LDAPCase
from tests.integration.server import PASSWORD, USER, RunningServer, temporary
from tests.integration.slapd import READER_PASSWORD, Slapd, person, reader
from tests.integration.test_twistd import reachable_directory
from tests.support import need_root


class LoginTests(LDAPCase):
    """Who gets in."""

    def test_yes_and_no(self) -> None:
        """Promise: the directory judges; a wrong password and an unknown name look the same."""
        server = self.server(reader(self.directory()))
        self.assertIn(b"has 1 message", self.answer(server))
        self.assertEqual(self.answer(server, password="wrong"), wrong := self.answer(server, "nobody"))
        self.assertTrue(wrong.startswith(WRONG))
        self.assertEqual(
            [one["detail"] for one in server.events("login-failed")],
            ["BadCredentials: wrong password", "BadCredentials: unknown user"],
        )
        wire = server.connect()
        wire.line()
        empty = base64.b64encode(f"\0{USER}\0".encode())
        self.assertTrue(wire.command(b"AUTH PLAIN " + empty).startswith(b"-ERR"))
        self.assertNoSecrets(server)

    def test_names_and_passwords_that_are_not_ascii(self) -> None:
        """Promise: UTF-8 names, and passwords of whatever octets."""
        server = self.server(reader(self.directory()))
        self.assertIn(b"+OK", self.answer(server, "jörg", "schlüssel"))
        self.assertIn(b"+OK", self.answer(server, "raw", b"\xff\xfe octets"))
        self.assertTrue(self.answer(server, "jörg", "schlussel").startswith(WRONG))
        self.assertNoSecrets(server)

    def test_names_that_look_like_filters(self) -> None:
        """RFC 4515 section 3: a name is a value in the filter, whatever is in it; nobody gets in as somebody else."""
        server = self.server(reader(self.directory()))
        for name in ("*", "*)(uid=*", f"{USER})(|(uid=*", f"{USER}*", "j*", "(", ")", "\\", "\\6aoe", "star", "sta*"):
            for password in (PASSWORD, "secret of star"):
                self.assertTrue(self.answer(server, name, password).startswith(WRONG), name)
        self.assertIn(b"+OK", self.answer(server, "star*", "secret of star"))
        for name in ("\uff4aoe", "jo\u00aae"):
            self.assertTrue(self.answer(server, name).startswith(WRONG), name)
        self.assertEqual({event["named"] for event in server.events("login")}, {"star*"})
        self.assertNotIn("ldap-failed", server.output())

    def test_disabled(self) -> None:
        """Promise: who does not fit enabled_filter is told so, and only after the right password."""
        server = self.server(reader(self.directory(), enabled_filter="(!(employeeType=gone))"))
        self.assertIn(b"+OK", self.answer(server))
        self.assertTrue(self.answer(server, "former", "secret of former").startswith(DISABLED))
        self.assertIn("does not fit enabled_filter", self.detail(server, "login-refused"))
        self.assertTrue(self.answer(server, "former", "wrong").startswith(WRONG))
        self.assertNoSecrets(server)

    def test_password_policy(self) -> None:
        """Promise: what the directory's policy forbids is refused, with the reason; a lock looks like a wrong one."""
        people = (
            person("locked", "l", pwdAccountLockedTime="000001010000Z"),
            person("old", "o", pwdChangedTime="20010101000000Z"),
            person("new", "n", pwdReset="TRUE"),
        )
        server = self.server(reader(Slapd(self, *people).start()))
        for name, password, reason in (("old", "o", "has expired"), ("new", "n", "must be changed first")):
            self.assertTrue(self.answer(server, name, password).startswith(DISABLED), name)
            self.assertIn(reason, self.detail(server, "login-refused"))
            self.assertTrue(self.answer(server, name, "wrong").startswith(WRONG), name)
        for password in ("l", "wrong"):
            self.assertTrue(self.answer(server, "locked", password).startswith(WRONG))
            self.assertIn("locked by the directory's password policy", self.detail(server))

    def test_several_entries(self) -> None:
        """Promise: a name that fits several entries is nobody's, and the operator is told."""
        server = self.server(reader(self.directory(), filter="(|(uid=$(user))(title=$(user)))"))
        for password in ("one", "two"):
            self.assertTrue(self.answer(server, "twin", password).startswith(WRONG))
        self.assertIn("(|(uid=twin)(title=twin)) fits several entries", server.output())
        self.assertIn(b"+OK", self.answer(server))

    def test_parts_of_the_name(self) -> None:
        """Promise: %u and %d are what stands before and behind the domain's sign; who has no domain fits nothing."""
        server = self.server(reader(self.directory(), filter="(&(uid=%u)(mail=$(local_part)@%d))"))
        self.assertIn(b"+OK", self.answer(server, f"{USER}@example.org"))
        self.assertTrue(self.answer(server, f"{USER}@example.com").startswith(WRONG))
        self.assertTrue(self.answer(server).startswith(WRONG))

    def test_mail_where_the_entry_says(self) -> None:
        """Promise: a path that ends in "/" is a Maildir, any other an mbox; a type may stand beside or before it."""
        where = temporary(self)
        for part in ("tmp", "new", "cur"):
            (where / "joe" / part).mkdir(parents=True)
        (where / "joe" / "new" / "1.host").write_bytes(corpus.ALL["lf"])
        (where / "spool").write_bytes(b"From x Mon Jan  1 00:00:00 2024\n" + corpus.ALL["lf"])
        people = (
            person("slash", "p", description=f"{where}/joe/"),
            person("typed", "p", description=f"{where}/joe", employeeType="Maildir"),
            person("prefixed", "p", description=f"maildir:{where}/joe"),
            person("spool", "p", description=f"{where}/spool"),
            person("bsd", "p", description=f"{where}/spool", employeeType="bsd"),
            person("other", "p"),
        )
        keys = {"mailbox_attribute": "Description", "mailbox_type_attribute": "employeeType"}
        slapd = Slapd(self, *people).start()
        server = self.server(reader(slapd, mailbox=f"maildir:{where}/empty/$(user)", **keys))
        for name in ("slash", "typed", "prefixed", "spool", "bsd"):
            self.assertIn(b"has 1 message", self.answer(server, name, "p"), name)
        self.assertIn(b"has 0 messages", self.answer(server, "other", "p"))


class TLSTests(LDAPCase):
    """Passwords do not leave the machine unprotected."""

    def test_starttls(self) -> None:
        """RFC 4513 section 3: TLS is on before a password is sent, and is the default."""
        slapd = self.directory()
        keys = reader(slapd, tls_ca=str(slapd.ca))
        del keys["tls"]
        server = self.server(keys)
        self.assertIn(b"+OK", self.answer(server))
        self.assertTrue(self.answer(server, password="wrong").startswith(WRONG))

    def test_ldaps_and_ldapi(self) -> None:
        """Promise: TLS from the first octet, and a socket of this machine."""
        slapd = self.directory()
        secure = reader(slapd, urls=[slapd.ldaps], tls_ca=str(slapd.ca))
        local = reader(slapd, urls=[slapd.ldapi])
        for keys in (secure, local):
            del keys["tls"]
            server = self.server(keys)
            self.assertIn(b"+OK", self.answer(server))
            self.assertTrue(self.answer(server, password="wrong").startswith(WRONG))
            server.stop()

    def test_certificate_of_somebody_else(self) -> None:
        """Promise: a server that cannot prove who it is gets no password; the client is told to come again."""
        slapd, stranger = self.directory(), self.directory(names=("ldap.example.org",))
        for keys, reason in (
            (reader(slapd, tls="starttls", tls_ca=str(stranger.ca)), "certificate verify failed"),
            (reader(slapd, tls="starttls"), "certificate verify failed"),
            (reader(stranger, tls="starttls", tls_ca=str(stranger.ca)), "certificate is for another name"),
            (reader(slapd, urls=[slapd.ldaps], tls_ca=str(stranger.ca)), "certificate verify failed"),
            (reader(stranger, urls=[stranger.ldaps], tls_ca=str(stranger.ca)), "certificate is for another name"),
        ):
            if keys["tls"] == "off":
                del keys["tls"]
            server = self.server(keys)
            self.assertTrue(self.answer(server).startswith(UNAVAILABLE))
            self.assertIn(reason, self.detail(server))
            self.assertRegex(server.output(), f"ldap-failed|accounts source ldap: {keys['urls'][0]}: .*{reason}")
            server.stop()

    def test_verification_can_be_switched_off(self) -> None:
        """Promise: only where it is said."""
        stranger = self.directory(names=("ldap.example.org",))
        keys = reader(stranger, urls=[stranger.ldap, stranger.ldaps], tls="starttls", tls_verify=False)
        self.assertIn(b"+OK", self.answer(self.server(keys)))


class RightsTests(LDAPCase):
    """A server that gives up root's rights."""

    def test_files_that_only_root_can_read(self) -> None:
        """Promise: they are read before; after that a name, TLS, a refusal and an outage need nothing of root's."""
        need_root(self, "what is tested")
        nobody = pwd.getpwnam("nobody")
        slapd = self.directory(names=("localhost",))
        secret = slapd.directory / "password"
        secret.touch(0o600)
        secret.write_text(READER_PASSWORD + "\n")
        server = RunningServer(
            self, reachable_directory(self), server={"user": "nobody"}, protocol={"auth_delay_seconds": 0.05}
        )
        server.configuration["mail"] = {"location": f"maildir:{server.directory}/$(user)/Maildir"}
        keys = reader(
            slapd,
            urls=[slapd.ldap.replace("127.0.0.1", "localhost"), slapd.ldaps.replace("127.0.0.1", "localhost")],
            tls="starttls",
            tls_ca=str(slapd.ca),
            bind_password_file=str(secret),
        )
        del keys["bind_password"]
        server.configuration["accounts"] = [keys]
        for directory, _, files in os.walk(server.directory):
            for path in (directory, *(os.path.join(directory, name) for name in files)):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        server.start()
        self.assertIn(b"+OK", self.answer(server))
        self.assertTrue(self.answer(server, password="wrong").startswith(WRONG))
        slapd.stop()
        self.assertTrue(self.answer(server).startswith(UNAVAILABLE))
        slapd.start()
        self.assertIn(b"+OK", self.answer(server))
        self.assertNoSecrets(server)
