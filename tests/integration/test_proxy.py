"""Maildrops on a real Dovecot, with real clients in front."""

from __future__ import annotations

import poplib
import subprocess

from tests.integration.proxy_case import TRICKY, ProxyCase, unstuffed, wire_form
from tests.integration.server import PATIENCE_SECONDS, program, wait_until
from tests.support import need

MAIL = (b"Subject: one\n\nfirst\n", TRICKY, b"Subject: three\n\n" + b"line\n" * 20)


class ProxyTests(ProxyCase):
    """What a client sees is what is there."""

    def test_session_is_that_of_the_other_server(self) -> None:
        """TPOPS 0.8: numbers, sizes, unique-ids, messages and their beginnings are those of the other server."""
        user = self.dovecot.user(*MAIL)
        server = self.behind(f"{user}:{{PLAIN}}secret::::::")
        direct = poplib.POP3("127.0.0.1", self.dovecot.port, timeout=PATIENCE_SECONDS)
        self.addCleanup(direct.close)
        direct.user(user)
        direct.pass_("secret")
        expected = [direct.stat(), direct.list()[1], direct.uidl()[1], *(direct.retr(n)[1] for n in (1, 2, 3))]
        expected += [direct.top(3, 2)[1], direct.top(2, 100)[1]]
        direct.quit()
        client = server.poplib(user, "secret")
        seen = [client.stat(), client.list()[1], client.uidl()[1], *(client.retr(n)[1] for n in (1, 2, 3))]
        seen += [client.top(3, 2)[1], client.top(2, 100)[1]]
        client.quit()
        self.assertEqual(seen, expected)

    def test_messages_arrive_octet_by_octet(self) -> None:
        """RFC 1939 §3: dots and 8-bit octets pass both ways of transparency."""
        user = self.dovecot.user(*MAIL)
        server = self.behind(f"{user}:{{PLAIN}}secret::::::")
        wire = self.in_session(server, user)
        for number, message in enumerate(MAIL, 1):
            self.assertEqual(unstuffed(wire.multi_line(b"RETR %d" % number)[1]), wire_form(message))
        wire.command(b"QUIT")
        # Dovecot does not count the line end that it adds to a message without one; from now on we do.
        wire = self.in_session(server, user)
        sizes = b"".join(b"%d %d\r\n" % (number, len(wire_form(message))) for number, message in enumerate(MAIL, 1))
        self.assertEqual(wire.multi_line(b"LIST")[1], sizes)
        self.assertEqual(wire.multi_line(b"RETR 2")[0], b"+OK %d octets" % len(wire_form(TRICKY)))

    def test_quit_removes_exactly_what_was_marked(self) -> None:
        """RFC 1939 §6: DELE removes at QUIT, on the other server, and what was reset stays."""
        user = self.dovecot.user(*MAIL)
        server = self.behind(f"{user}:{{PLAIN}}secret::::::")
        client = server.poplib(user, "secret")
        client.dele(1)
        client.rset()
        client.dele(2)
        self.assertEqual(len(self.dovecot.stored(user)), 3)
        self.assertEqual(client.quit(), b"+OK bye (2 messages left)")
        self.assertEqual(self.dovecot.stored(user), [MAIL[0], MAIL[2]])
        self.assertEqual(server.event("remove")["user"], user)

    def test_session_without_quit_removes_nothing(self) -> None:
        """RFC 1939 §6: neither a lost client nor a server that ends removes anything."""
        user = self.dovecot.user(*MAIL)
        server = self.behind(f"{user}:{{PLAIN}}secret::::::")
        for _ in range(2):
            wire = self.in_session(server, user)
            wire.command(b"DELE 1")
            wire.multi_line(b"RETR 2")
            wire.reset()
            server.event("logout", user=user)
        wire = self.in_session(server, user)
        wire.command(b"DELE 1")
        server.stop()
        self.assertEqual(self.dovecot.stored(user), list(MAIL))

    def test_session_without_marks_ends_politely(self) -> None:
        """Promise: a QUIT that removes nothing is a QUIT for the other server, too."""
        user = self.dovecot.user(*MAIL)
        server = self.behind(f"{user}:{{PLAIN}}secret::::::")
        server.poplib(user, "secret").quit()
        wait_until(lambda: "Logged out" in self.log_of(user), "Dovecot logs the end")

    def log_of(self, user: str) -> str:
        """Dovecot's lines about a user's sessions."""
        return "\n".join(line for line in self.dovecot.log().splitlines() if f"pop3({user})" in line)

    def test_accounts_of_the_other_server(self) -> None:
        """Promise: without any accounts of ours a password is right when the other server says so, in one login."""
        user = self.dovecot.user(*MAIL)
        server = self.asking()
        self.assertIn(b"[AUTH]", self.answer(server, user, "wrong"))
        self.assertIn(b"[AUTH]", self.answer(server, "nobody", "secret"))
        client = server.poplib(user, "secret")
        self.assertEqual(client.stat()[0], 3)
        client.quit()
        logins = [line for line in self.dovecot.log().splitlines() if f"Login: user=<{user}>" in line]
        self.assertEqual(len(logins), 1)

    def test_mail_here_accounts_there(self) -> None:
        """Promise: only the passwords may be there, as in the middle of a migration."""
        user = self.dovecot.user()
        server = self.asking(asking={"mailbox": "maildir:$(user)"})
        self.assertIn(b"+OK", self.answer(server, user))
        wait_until(lambda: "Disconnected" in self.log_of(user), "the other session ends")

    def test_in_use_is_passed_on(self) -> None:
        """RFC 2449 §8.1.2: a maildrop that is locked there is [IN-USE] and no wrong password."""
        user, other = self.dovecot.user(*MAIL), self.dovecot.user()
        server, asking = self.behind(f"{user}:{{PLAIN}}secret::::::"), self.asking()
        held = poplib.POP3("127.0.0.1", self.dovecot.port, timeout=PATIENCE_SECONDS)
        self.addCleanup(held.close)
        held.user(user)
        held.pass_("secret")
        waiting = [one.connect() for one in (server, asking)]
        for wire in waiting:
            wire.line()
            wire.send(b"USER %s\r\nPASS secret\r\n" % user.encode())
        self.assertIn(b"+OK", self.answer(asking, other))
        for wire in waiting:
            wire.line()
            self.assertEqual(wire.line(), b"-ERR [IN-USE] maildrop is in use by another session")
        held.quit()
        self.assertIn("Mailbox is locked by another POP3 session", server.event("login-refused", user=None)["detail"])

    def test_fixed_and_known_passwords(self) -> None:
        """Promise: an account's password there may be another, known to its source or the same for everybody."""
        one = self.dovecot.user(*MAIL, password="other")
        two = self.dovecot.user(password="fixed")
        server = self.behind(
            f"one:{{PLAIN}}here::::::proxy_user={one} proxy_password=other",
            f"{two}:{{PLAIN}}here::::::",
            proxy={"password": "fixed"},
        )
        for user, messages in (("one", b" 3 "), (two, b" 0 ")):
            self.assertIn(messages, self.answer(server, user, "here"))
            self.assertIn(b"[AUTH]", self.answer(server, user, "other"))

    def test_login_without_a_password_needs_a_known_one(self) -> None:
        """Promise: a client that does not send his password is told that this cannot work, and the log says why."""
        user = self.dovecot.user()
        server = self.behind(
            f"{user}:{{PLAIN}}secret::::::", f"known:{{PLAIN}}x::::::proxy_user={user} proxy_password=secret"
        )
        client = poplib.POP3("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
        self.addCleanup(client.close)
        with self.assertRaises(poplib.error_proto) as refused:
            client.apop(user, "secret")
        self.assertIn("[SYS/PERM]", str(refused.exception))
        self.assertIn("there is no password for", server.event("login-refused")["detail"])
        self.assertIn(b"+OK", client.apop("known", "x"))

    def test_commands_for_administrators(self) -> None:
        """Promise: where a password is known, "tpops mailbox" works with mail on another server as with any."""
        user = self.dovecot.user(*MAIL)
        server = self.front()
        (server.directory / "users").write_text(f"joe:{{PLAIN}}x::::::proxy_user={user} proxy_password=secret\n")
        (server.directory / "users").chmod(0o600)
        server.configuration["mail"] = {"location": "proxy:"}
        server.write_configuration()

        def run(*arguments: str) -> bytes:
            command = [program("tpops"), "-c", str(server.configuration_file), "mailbox", *arguments]
            done = subprocess.run(command, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
            self.assertEqual(done.returncode, 0, done)
            return done.stdout

        self.assertIn(b"three", run("list", "joe"))
        self.assertIn(b"Subject: dots", run("show", "joe", "2"))

    def test_fetchmail_through_us(self) -> None:
        """Promise: a real client fetches and deletes."""
        need(self, "fetchmail")
        user = self.dovecot.user(*MAIL)
        server = self.asking(proxy={"tls": "starttls", "tls_ca": str(self.dovecot.certificate)})
        rc = server.directory / "fetchmailrc"
        rc.write_text(
            f'poll 127.0.0.1 service {server.port} proto pop3 user "{user}" password "secret" sslproto "" '
            f'mda "cat >> {server.directory}/fetched"\n'
        )
        rc.chmod(0o600)
        done = subprocess.run(
            ["fetchmail", "-f", str(rc), "--pidfile", str(server.directory / "pid")],
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
            env={"HOME": str(server.directory), "PATH": "/usr/bin:/bin:/usr/sbin"},
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        fetched = (server.directory / "fetched").read_bytes()
        for subject in (b"Subject: one", b"Subject: dots", b"Subject: three"):
            self.assertIn(subject, fetched)
        self.assertEqual(self.dovecot.stored(user), [])


class TLSTests(ProxyCase):
    """STLS and TLS from the first octet, with certificates looked at."""

    def test_both_kinds_of_tls(self) -> None:
        """RFC 2595, RFC 8314: mail comes over TLS whose certificate was verified."""
        user = self.dovecot.user(*MAIL)
        for tls in ("starttls", "implicit"):
            server = self.asking(proxy={"tls": tls, "tls_ca": str(self.dovecot.certificate)})
            client = server.poplib(user, "secret")
            self.assertEqual(client.retr(1)[1], [b"Subject: one", b"", b"first"])
            client.quit()
            (line,) = [one for one in self.dovecot.log().splitlines() if f"Login: user=<{user}>" in one][-1:]
            self.assertIn(", TLS, ", line)

    def test_ways_to_log_in(self) -> None:
        """RFC 1939, RFC 4616: each configured way is taken by a real server."""
        user = self.dovecot.user(*MAIL)
        ca = str(self.dovecot.certificate)
        for way, tls in (
            ("user", {"tls": "starttls", "tls_ca": ca}),
            ("plain", {"tls": "off"}),
            ("apop", {"tls": "off"}),
        ):
            server = self.asking(proxy={"login": way, **tls})
            self.assertIn(b" 3 messages", self.answer(server, user))
        methods = [line for line in self.dovecot.log().splitlines() if f"Login: user=<{user}>" in line]
        self.assertEqual(["method=APOP" in line for line in methods], [False, False, True])

    def test_bad_certificates_are_told_and_get_no_password(self) -> None:
        """Promise: an authority that is not believed, or a name that is another's: no login, and the log says which."""
        user = self.dovecot.user()
        ca = str(self.dovecot.certificate)
        cases = (
            ({"tls": "starttls"}, "certificate verify failed"),
            ({"tls": "implicit"}, "certificate verify failed"),
            (
                {"tls": "starttls", "tls_ca": ca, "server": f"localhost:{self.dovecot.port}"},
                "certificate is for another name",
            ),
        )
        for proxy, why in cases:
            server = self.asking(proxy=proxy)
            self.assertIn(b"[SYS/TEMP]", self.answer(server, user))
            self.assertIn(why, server.event("login-failed")["detail"])
        self.assertNotIn(f"Login: user=<{user}>", self.dovecot.log())
        server = self.asking(proxy={"tls": "implicit", "tls_verify": False})
        self.assertIn(b"+OK", self.answer(server, user))
