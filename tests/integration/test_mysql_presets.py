"""Logins from the tables that others have made, in a real MariaDB."""

from __future__ import annotations

import os
import poplib
import pwd
from pathlib import Path

from tests.integration.mysql_case import CLASSIC, DISABLED, UNAVAILABLE, DatabaseTests, deliver
from tests.integration.server import PATIENCE_SECONDS
from tpops.cred.hashes import hash_password, password_is

V2 = Path(__file__).resolve().parents[2] / "tpops" / "db" / "schema" / "mysql-v2-accounts.sql"


class PresetTests(DatabaseTests):
    """One test for each preset, with its tables as their owners make them."""

    def test_tpops_classic(self) -> None:
        """TPOPS' table: passwords as they are, so APOP and CRAM-MD5 work; the Maildir is in the table."""
        self.run_sql(CLASSIC)
        self.insert("user", login="joe", passwd="secret", mail="joe@x", maildir=deliver(self.directory / "joe", 2))
        self.insert("user", login="locked", passwd=None, mail="locked@x", maildir="/nowhere")
        self.insert("user", login="empty", passwd="", mail="empty@x", maildir="/nowhere")
        server = self.server(self.source(preset="tpops-classic"))
        self.assert_in(server, "joe", "secret", 2)
        self.assert_out(server, "joe", "wrong")
        self.assert_out(server, "nobody", "secret")
        for name in ("locked", "empty"):
            self.assert_out(server, name, "", b"-ERR")
            self.assert_out(server, name, "NULL")
        client = poplib.POP3("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
        self.addCleanup(client.close)
        self.assertIn("CRAM-MD5", client.capa()["SASL"])
        self.assertTrue(client.apop("joe", "secret").startswith(b"+OK"))

    def test_tpops_classic_without_a_maildir(self) -> None:
        """Where the table names none, the Maildir is that of the configuration."""
        self.run_sql(CLASSIC)
        self.insert("user", login="joe", passwd="secret")
        deliver(self.directory / "mail" / "joe", 3)
        mail = {"location": f"maildir:{self.directory}/mail/$(user)"}
        self.assert_in(self.server(self.source(preset="tpops-classic"), mail=mail), "joe", "secret", 3)

    def test_tpops_crypt_modes(self) -> None:
        """TPOPS 0.8's mysql-crypt-passwd: crypt, sha and yes, with what the server's functions make."""
        self.run_sql(CLASSIC.replace("passwd CHAR(16)", "passwd CHAR(128)"))
        maildir = deliver(self.directory / "joe")
        made = {
            "des": "=ENCRYPT('secret', 'ab')",
            "md5crypt": "=ENCRYPT('secret', '$1$abcdefgh$')",
            "sha512crypt": "=ENCRYPT('secret', '$6$abcdefgh$')",
            "sha": "=TO_BASE64(UNHEX(SHA1('secret')))",
            "labelled": "=CONCAT('{SHA}', TO_BASE64(UNHEX(SHA1('secret'))))",
            "hex": "=SHA1('secret')",
        }
        for name, expression in made.items():
            self.insert("user", login=name, passwd=expression, mail=name, maildir=maildir)
        accepted = {"crypt": {"des", "md5crypt", "sha512crypt"}, "sha": {"sha", "labelled", "hex"}}
        accepted["crypt-or-sha"] = accepted["crypt"] | accepted["sha"]
        for scheme, names in accepted.items():
            server = self.server(self.source(preset="tpops-classic", password_scheme=scheme))
            for name in names:
                self.assert_in(server, name, "secret")
                self.assert_out(server, name, "wrong")
            client = poplib.POP3("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
            self.assertNotIn("CRAM-MD5", client.capa()["SASL"])
            client.quit()
            server.stop()

    def test_tpops_v2(self) -> None:
        """Our own tables, from our own file."""
        self.mariadb.script(V2, self.schema)
        always = {"created_at": 0, "changed_at": 0}
        maildir = f"maildir:{deliver(self.directory / 'joe')}"
        hashed = hash_password(b"secret")
        self.insert("tpops_user", name="joe@example.org", password_hash=hashed, maildrop=maildir, **always)
        self.insert("tpops_user", name="jürgen", password_hash=hashed, maildrop=maildir, **always)
        self.insert("tpops_user", name="off", password_hash=hashed, enabled=0, maildrop=maildir, **always)
        self.insert("tpops_user", name="locked", password_hash=None, maildrop=maildir, **always)
        home = deliver(self.directory / "home" / "Maildir", 4).parent
        self.insert("tpops_user", name="homely", password_hash=hashed, home=home, unix_uid=1, unix_gid=1, **always)
        server = self.server(self.source(preset="tpops-v2"))
        self.assert_in(server, "joe@example.org", "secret")
        self.assert_in(server, "Joe@Example.org", "secret")
        self.assert_in(server, "jürgen", "secret")
        self.assert_in(server, "homely", "secret", 4)
        self.assert_out(server, "off", "secret", DISABLED)
        self.assert_out(server, "off", "wrong")
        self.assert_out(server, "locked", "secret")
        self.assert_out(server, "jurgen", "secret")
        self.assert_out(server, "joe@example.org ", "secret")

    def test_vmail_sql(self) -> None:
        """tpop3d's tables and schemes, with the server's own hashes; the unix user has to exist."""
        self.run_sql(
            "CREATE TABLE domain (domain_name VARCHAR(255) PRIMARY KEY, unix_user VARCHAR(255), "
            "password_hash VARCHAR(255), path VARCHAR(255), max_popbox INT)",
            "CREATE TABLE popbox (domain_name VARCHAR(255), local_part VARCHAR(255), password_hash VARCHAR(255), "
            "mbox_name VARCHAR(255), PRIMARY KEY (domain_name, local_part))",
        )
        me = pwd.getpwuid(os.geteuid()).pw_name
        self.insert("domain", domain_name="example.org", unix_user=me, path=self.directory)
        self.insert("domain", domain_name="example.net", unix_user="no-such-user-here", path=self.directory)
        made = {
            "plain": "{plaintext}secret",
            "crypt": "=CONCAT('{crypt}', ENCRYPT('secret', 'ab'))",
            "md5crypt": "=CONCAT('{crypt_md5}', ENCRYPT('secret', '$1$abcdefgh$'))",
            "mysql": "=CONCAT('{mysql}', OLD_PASSWORD('secret'))",
            "mysql41": "=CONCAT('{mysql}', PASSWORD('secret'))",
            "md5": "=MD5('secret')",
        }
        for name, stored in made.items():
            deliver(self.directory / name)
            columns = {"local_part": name, "password_hash": stored, "mbox_name": f"{name}/"}
            self.insert("popbox", domain_name="example.org", **columns)
        self.insert("popbox", domain_name="example.net", **columns)
        (self.directory / "spool").write_bytes(b"From x Thu Jan  1 00:00:00 1970\nSubject: x\n\nx\n\n" * 3)
        columns = {"local_part": "spool", "password_hash": "{plaintext}secret", "mbox_name": "spool"}
        self.insert("popbox", domain_name="example.org", **columns)
        server = self.server(self.source(preset="vmail-sql"))
        for name in made:
            self.assert_in(server, f"{name}@example.org", "secret")
            self.assert_in(server, f"{name}%example.org", "secret")
            self.assert_out(server, f"{name}@example.org", "wrong")
        self.assert_in(server, "spool@example.org", "secret", 3)
        self.assert_out(server, "plain", "secret")
        self.assert_out(server, "plain@example.com", "secret")
        self.assert_out(server, "md5@example.net", "secret", UNAVAILABLE)

    def test_postfixadmin(self) -> None:
        """PostfixAdmin's tables: relative Maildirs, mailboxes and domains that are switched off, its usual hashes."""
        self.run_sql(
            "CREATE TABLE domain (domain VARCHAR(255) PRIMARY KEY, description VARCHAR(255), active TINYINT(1) "
            "NOT NULL DEFAULT 1)",
            "CREATE TABLE mailbox (username VARCHAR(255) PRIMARY KEY, password VARCHAR(255) NOT NULL, "
            "name VARCHAR(255) NOT NULL, maildir VARCHAR(255) NOT NULL, quota BIGINT NOT NULL DEFAULT 0, "
            "local_part VARCHAR(255) NOT NULL, domain VARCHAR(255) NOT NULL, active TINYINT(1) NOT NULL DEFAULT 1)",
        )
        self.insert("domain", domain="example.org")
        self.insert("domain", domain="example.net", active=0)
        made = {
            "system": "=ENCRYPT('secret', '$1$abcdefgh$')",
            "md5": "=MD5('secret')",
            "dovecot": hash_password(b"secret", "SHA512-CRYPT"),
            "b64": "=CONCAT('{SHA512-CRYPT.B64}', REPLACE(TO_BASE64(ENCRYPT('secret', '$6$abcdefgh$')), '\n', ''))",
            "argon": hash_password(b"secret", "ARGON2ID"),
        }

        def mailbox(name: str, domain: str, stored: str, **more: object) -> None:
            columns = {"username": f"{name}@{domain}", "local_part": name, "domain": domain, "name": "A Name"}
            self.insert("mailbox", password=stored, maildir=f"{domain}/{name}/", **columns, **more)

        for name, stored in made.items():
            deliver(self.directory / "example.org" / name)
            mailbox(name, "example.org", stored)
        mailbox("off", "example.org", made["dovecot"], active=0)
        mailbox("joe", "example.net", made["dovecot"])
        mailbox("joe", "no-such-domain", made["dovecot"])
        server = self.server(self.source(preset="postfixadmin", maildrop_base=str(self.directory)))
        for name in made:
            self.assert_in(server, f"{name}@example.org", "secret")
            self.assert_out(server, f"{name}@example.org", "wrong")
        for name in ("off@example.org", "joe@example.net", "joe@no-such-domain"):
            self.assert_out(server, name, "secret", DISABLED)

    def test_vpopmail(self) -> None:
        """vpopmail's table with all domains: the Maildir is below pw_dir, and a bit of pw_gid takes POP away."""
        self.run_sql(
            "CREATE TABLE vpopmail (pw_name CHAR(32) NOT NULL, pw_domain CHAR(96) NOT NULL, pw_passwd CHAR(128), "
            "pw_uid INT, pw_gid INT, pw_gecos CHAR(48), pw_dir CHAR(160), pw_shell CHAR(20), "
            "pw_clear_passwd CHAR(16), PRIMARY KEY (pw_name, pw_domain)) CHARACTER SET latin1"
        )
        home = deliver(self.directory / "joe" / "Maildir").parent
        stored = "=ENCRYPT('secret', '$1$abcdefgh$')"
        for name, flags in (("joe", 0), ("web", 0x04), ("nopop", 0x02), ("nothing", 0x1E)):
            columns = {"pw_name": name, "pw_domain": "example.org", "pw_uid": 0, "pw_gid": flags, "pw_dir": home}
            self.insert("vpopmail", pw_passwd=stored, **columns)
        server = self.server(self.source(preset="vpopmail"), names={"default_domain": "example.org"})
        self.assert_in(server, "joe@example.org", "secret")
        self.assert_in(server, "joe", "secret")
        self.assert_in(server, "web%example.org", "secret")
        self.assert_out(server, "joe@example.org", "wrong")
        self.assert_out(server, "joe@example.net", "secret")
        for name in ("nopop", "nothing"):
            self.assert_out(server, f"{name}@example.org", "secret", DISABLED)
        # What cannot be written in the table's character set is nobody's name, not a broken database.
        for name in ("joé@example.org", "jo\u20ac@example.org", "\U0001f600@example.org", "joe@\u65e5\u672c"):
            self.assert_out(server, name, "secret")


class FunctionTests(DatabaseTests):
    """What the server's own functions make of passwords."""

    def test_hashes_of_the_server(self) -> None:
        """PASSWORD(), OLD_PASSWORD(), SHA1(), MD5() and ENCRYPT() are verified as the server made them."""
        made = {
            "{MYSQL}": ("PASSWORD(%s)", "OLD_PASSWORD(%s)"),
            "{SHA}": ("SHA1(%s)", "TO_BASE64(UNHEX(SHA1(%s)))"),
            "{CRYPT}": ("ENCRYPT(%s, 'ab')", "ENCRYPT(%s, '$1$abcdefgh$')", "ENCRYPT(%s, '$5$abcdefgh$')"),
            "": ("MD5(%s)", "TO_BASE64(UNHEX(MD5(%s)))", "ENCRYPT(%s, '$6$abcdefgh$')"),
        }
        with self.mariadb.connection() as connection:
            cursor = connection.cursor()
            for label, expressions in made.items():
                for expression in expressions:
                    for password in ("secret", "a b\tc ", "pässwörd", "x", "{}'\"\\%", "0123456789" * 5):
                        cursor.execute(f"SELECT {expression}", (password,))
                        ((stored,),) = cursor.fetchall()
                        text = stored.decode() if isinstance(stored, bytes) else stored
                        self.assertTrue(password_is(password.encode(), label + text), (expression, password))
                        self.assertFalse(password_is(b"!" + password.encode(), label + text), (expression, password))
