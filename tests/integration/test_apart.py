"""Sessions run as the owner of the mail: real accounts, real processes, real rights."""

from __future__ import annotations

import grp
import os
import poplib
import pwd
import signal
import ssl
import subprocess
from pathlib import Path
from typing import Any

from tests.integration import corpus
from tests.integration.apart_case import FRONT, ApartCase, broker_of, children, processes, sessions_of, status
from tests.integration.server import RunningServer, program, wait_until
from tests.integration.test_accounts_pam import need_pam
from tests.integration.test_unix_accounts import UnixAccount
from tests.mailbox.spools import spool_of
from tests.pki import write_pem
from tpops.sight.answers import KICKED

#: What differs between two events of the same kind.
_VARIES = ("session", "time", "seconds", "peer", "port", "peer_port", "local_port", "connected", "at")

_WRONG = b"-ERR [AUTH] authentication failed"
_LATER = b"-ERR [SYS/TEMP] authentication is temporarily unavailable, try again later"
_BROKEN = b"-ERR [SYS/PERM] maildrop cannot be opened, contact the administrator"


def deliver(account: UnixAccount, name: str, octets: bytes) -> Path:
    """Put a message into somebody's Maildir."""
    path = account.home / "Maildir" / "new" / name
    path.write_bytes(octets)
    entry = pwd.getpwnam(account.name)
    os.chown(path, entry.pw_uid, entry.pw_gid)
    return path


class ApartTests(ApartCase):
    """Logins and sessions."""

    def test_mail_of_two_users(self) -> None:
        """Promise: each session has the rights of its owner and no others, and serves as ever."""
        other = self.make_account()
        server = self.server().start()
        first, second = self.session(server), self.session(server, other)
        wanted = {pwd.getpwnam(one.name).pw_uid: one for one in (self.account, other)}
        for pid in sessions_of(server, 2):
            facts = status(pid)
            uid = int(facts["Uid"].split()[0])
            account = wanted.pop(uid)
            gid = pwd.getpwnam(account.name).pw_gid
            self.assertEqual(facts["Uid"].split(), [str(uid)] * 4)
            self.assertEqual(facts["Gid"].split(), [str(gid)] * 4)
            self.assertEqual(facts["Groups"].split(), [str(gid)])
            self.assertEqual(facts["NoNewPrivs"], "1")
            for kind in ("CapEff", "CapPrm", "CapInh"):
                self.assertEqual(int(facts[kind], 16), 0, kind)
            self.assertEqual(facts["Umask"], "0077")
        self.assertEqual(wanted, {})
        (worker,) = server.workers()
        self.assertEqual(status(worker)["Uid"].split(), [str(pwd.getpwnam(FRONT).pw_uid)] * 4)
        self.assertEqual(status(broker_of(server))["Uid"].split(), ["0"] * 4)
        for wire in (first, second):
            self.assertEqual(wire.multi_line(b"RETR 1")[1], corpus.wire(corpus.ALL["lf"]))
            self.assertEqual(wire.command(b"DELE 1"), b"+OK message 1 deleted")
            self.assertEqual(wire.command(b"QUIT"), b"+OK bye (0 messages left)")
            self.assertEqual(wire.rest(), b"")
        for account in (self.account, other):
            self.assertEqual(os.listdir(account.home / "Maildir" / "new"), [])
        sessions_of(server, 0)
        self.assertNotIn("Traceback", server.output())

    def test_refusals(self) -> None:
        """Promise: wrong password and unknown user look alike; root, low user ids and users without ids get nothing."""
        server = self.server(sessions={"minimum_uid": 1000})
        uid = pwd.getpwnam("daemon").pw_uid
        home = self.account.home
        ids = {"boss": "0:0", "low": f"{uid}:{uid}", "wheel": "4000:0", "none": ":"}
        lines = [f"{name}:{{PLAIN}}right:{both}::{home}:" for name, both in ids.items()]
        (server.directory / "users").write_text("\n".join(lines) + "\n")
        server.configuration["accounts"] += [{"driver": "passwd_file", "path": "users"}]
        server.start()
        for name, password in ((self.account.name, "wrong"), ("nobody-at-all", "x"), ("root", "root"), ("boss", "no")):
            self.assertTrue(self.answer(server, name, password).startswith(_WRONG), name)
        for name, why in {
            "boss": "has the user id 0; sessions.minimum_uid is 1000",
            "low": f"has the user id {uid}; sessions.minimum_uid is 1000",
            "wheel": "has the group id 0, which no session gets",
            "none": "has no user id, and sessions run as the owner of the mail",
        }.items():
            self.assertEqual(self.answer(server, name, "right"), _BROKEN, name)
            self.assertIn(why, server.event("login-refused", named=name)["detail"])
        sessions_of(server, 0)
        self.assertNotIn("Traceback", server.output())

    def test_the_logs_are_as_without(self) -> None:
        """Promise: access log and events have what they have where the server itself reads the mail."""
        told = []
        for run_as in ("server", "owner"):
            server = self.server(sessions={"run_as": run_as})
            if run_as == "server":
                server.configuration["server"]["user"] = ""
            deliver(self.account, "2.host", corpus.ALL["dots"])
            server.start()
            self.answer(server, self.account.name, "wrong")
            wire = self.session(server)
            for line in (b"RETR 1", b"TOP 2 0"):
                wire.multi_line(line)
            for line in (b"DELE 2", b"NOPE", b"QUIT"):
                wire.command(line)
            self.assertEqual(wire.rest(), b"")
            server.event("disconnect", user=self.account.name)
            wire = self.session(server)
            wire.command(b"DELE 1")
            wire.close()
            wait_until(lambda: len(server.events("disconnect")) == 3, "three disconnects")  # noqa: B023
            server.stop()
            told.append(
                (
                    [line.split()[5:] for line in server.access()],
                    [{k: v for k, v in one.items() if k not in _VARIES} for one in server.events()],
                )
            )
        self.assertEqual(told[0], told[1])

    def test_commands_behind_the_login(self) -> None:
        """RFC 2449 section 6.6: what the client has sent behind PASS is carried out, in order."""
        server = self.server().start()
        wire = server.connect()
        login = f"USER {self.account.name}\r\nPASS {self.account.password}\r\n".encode()
        wire.send(login + b"STAT\r\n" + b"NOOP\r\n" * 3000 + b"QUIT\r\n")
        lines = wire.rest().split(b"\r\n")
        self.assertEqual(lines[3], b"+OK 1 %d" % len(corpus.wire(corpus.ALL["lf"])))
        self.assertEqual(lines[4:-2], [b"+OK"] * 3000)
        self.assertEqual(lines[-2:], [b"+OK bye (1 message left)", b""])

    def test_sasl_utf8_and_capa(self) -> None:
        """RFC 2449: CAPA after the login is as ever; what was said before it counts."""
        server = self.server().start()
        wire = server.connect()
        wire.line()
        self.assertTrue(wire.command(b"UTF8").startswith(b"+OK"))
        before = wire.multi_line(b"CAPA")[1]
        client = poplib.POP3("127.0.0.1", server.port)
        self.addCleanup(client.close)
        wire.command(f"USER {self.account.name}".encode())
        wire.command(f"PASS {self.account.password}".encode())
        after = wire.multi_line(b"CAPA")[1]
        self.assertEqual(after.splitlines()[:-1], before.splitlines())
        self.assertTrue(after.splitlines()[-1].startswith(b"IMPLEMENTATION tpops"))

    def test_spool_of_the_machine(self) -> None:
        """Promise: a spool in a directory of group mail, with its dotlock, for a session with that group."""
        server = self.server(
            mail={"location": "mbox:spools/$(user)"}, mbox={"dotlock": "always"}, sessions={"groups": ["mail"]}
        )
        spools, mail, entry = server.directory / "spools", grp.getgrnam("mail"), pwd.getpwnam(self.account.name)
        spools.mkdir()
        os.chown(spools, 0, mail.gr_gid)
        spools.chmod(0o2775)
        spool = spools / self.account.name
        spool.write_bytes(spool_of([b"Subject: 1\n\nx\n", b"Subject: 2\n\ny\n"]))
        os.chown(spool, entry.pw_uid, mail.gr_gid)
        spool.chmod(0o660)
        server.start()
        wire = self.session(server)
        self.assertIn(str(mail.gr_gid), status(sessions_of(server)[0])["Groups"].split())
        self.assertEqual(wire.multi_line(b"RETR 2")[1], b"Subject: 2\r\n\r\ny\r\n")
        self.assertTrue(self.answer(server, self.account.name, self.account.password).startswith(b"-ERR [IN-USE]"))
        wire.command(b"DELE 1")
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (1 message left)")
        self.assertEqual(os.listdir(spools), [self.account.name])
        self.assertNotIn(b"Subject: 1", spool.read_bytes())
        self.assertEqual(spool.stat().st_uid, entry.pw_uid)
        self.assertEqual((self.account.home / ".tpops" / "mbox").stat().st_uid, entry.pw_uid)

    def test_application_digests(self) -> None:
        """Promise: APOP is verified by the judge, over the timestamp of the greeting."""
        server = self.server()
        entry = pwd.getpwnam(self.account.name)
        line = f"ann:{{PLAIN}}secret of ann:{entry.pw_uid}:{entry.pw_gid}::{self.account.home}:\n"
        (server.directory / "users").write_text(line)
        server.configuration["accounts"] = [{"driver": "passwd_file", "path": "users"}]
        server.start()
        for secret, good in (("secret of ann", True), ("wrong", False)):
            client = poplib.POP3("127.0.0.1", server.port)
            self.addCleanup(client.close)
            if good:
                self.assertTrue(client.apop("ann", secret).startswith(b"+OK ann has 1 message"))
            else:
                self.assertRaisesRegex(poplib.error_proto, "AUTH", client.apop, "ann", secret)
            client.close()

    def test_pam(self) -> None:
        """Promise: the judge asks PAM, whose modules run as root, and no other process of the server does."""
        need_pam(self)
        server = self.server()
        services = server.directory / "pam.d"
        services.mkdir()
        (services / "pop3test").write_text("auth required pam_unix.so\naccount required pam_unix.so\n")
        server.configuration["accounts"] = [{"driver": "pam", "directory": "pam.d", "service": "pop3test"}]
        server.start()
        wire = self.session(server)
        uid = pwd.getpwnam(self.account.name).pw_uid
        self.assertEqual(status(sessions_of(server)[0])["Uid"].split(), [str(uid)] * 4)
        self.assertEqual(wire.multi_line(b"RETR 1")[1], corpus.wire(corpus.ALL["lf"]))
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (1 message left)")
        self.assertTrue(self.answer(server, self.account.name, "wrong").startswith(_WRONG))
        server.stop()
        self.assertNotIn("Traceback", server.output())


class TLSTests(ApartCase):
    """The front ends TLS and carries octets both ways."""

    def start(self, **tables: Any) -> tuple[RunningServer, ssl.SSLContext]:
        """A server, and a client that trusts it."""
        server = self.server(
            listen=[{"address": "127.0.0.1", "port": 0, "tls": mode} for mode in ("optional", "implicit")],
            tls={"certificate": "mail.pem"},
            **tables,
        )
        trusted = server.directory / "trusted.pem"
        trusted.write_bytes(write_pem(server.directory / "mail.pem", "localhost", "127.0.0.1"))
        return server.start(), ssl.create_default_context(cafile=str(trusted))

    def test_large_message(self) -> None:
        """Promise: 20 MB octet by octet, by STLS and implicit TLS, without much memory in between."""
        octets = b"Subject: big\n\n" + b"".join(b".%d of the lines of a long message\n" % n for n in range(600_000))
        self.assertGreater(len(octets), 20_000_000)
        deliver(self.account, "2.host", octets)
        server, context = self.start()
        (worker,) = server.workers()
        for implicit in (False, True):
            if implicit:
                port = server.configuration["listen"][1]["port"]
                client: poplib.POP3 = poplib.POP3_SSL("127.0.0.1", port, context=context, timeout=60)
            else:
                client = poplib.POP3("127.0.0.1", server.port, timeout=60)
                client.stls(context)
            self.addCleanup(client.close)
            client.user(self.account.name)
            client.pass_(self.account.password)
            self.assertEqual(b"\n".join(client.retr(2)[1]) + b"\n", octets)
            client.dele(2)
            if implicit:
                self.assertIn(b"1 message left", client.quit())
            else:
                client.rset()
                self.assertIn(b"2 messages left", client.quit())
            sessions_of(server, 0)
        self.assertLess(int(status(worker)["VmHWM"].split()[0]), 200_000)
        self.assertEqual(os.listdir(self.account.home / "Maildir" / "new"), ["1.host"])
        self.assertTrue(server.event("disconnect", user=self.account.name)["tls"].startswith("TLSv1."))

    def test_client_that_goes(self) -> None:
        """Promise: the session ends with it, and removes nothing."""
        server, context = self.start()
        client = poplib.POP3("127.0.0.1", server.port, timeout=60)
        client.stls(context)
        client.user(self.account.name)
        client.pass_(self.account.password)
        client.dele(1)
        client.close()
        sessions_of(server, 0)
        self.assertEqual(server.event("disconnect", user=self.account.name)["reason"], "client closed")
        self.assertEqual(os.listdir(self.account.home / "Maildir" / "new"), ["1.host"])


class DeathTests(ApartCase):
    """Whoever is killed, no mail is lost, no lock stays, and clients come in again."""

    def new(self) -> list[str]:
        """What lies in the Maildir."""
        return os.listdir(self.account.home / "Maildir" / "new")

    def test_killed_session(self) -> None:
        """Promise: the client's connection ends, the log says so, the lock is free."""
        server = self.server().start()
        wire = self.session(server)
        wire.command(b"DELE 1")
        os.kill(sessions_of(server)[0], signal.SIGKILL)
        self.assertEqual(wire.rest(), b"")
        self.assertEqual(server.event("disconnect", user=self.account.name)["reason"], "error")
        wait_until(lambda: "its process has ended without a word" in server.output())
        self.assertEqual(self.new(), ["1.host"])
        self.assertEqual(self.session(server).command(b"QUIT"), b"+OK bye (1 message left)")

    def test_killed_broker(self) -> None:
        """Promise: sessions go on; logins are refused for the moment, until another front with a broker is there."""
        server = self.server().start()
        wire, waiting = self.session(server), server.connect()
        waiting.line()
        (worker,) = server.workers()
        os.kill(broker_of(server), signal.SIGKILL)
        wait_until(lambda: "broker-lost" in server.output() or "nobody can log in here" in server.output())
        waiting.command(f"USER {self.account.name}".encode())
        self.assertEqual(waiting.command(f"PASS {self.account.password}".encode()), _LATER)
        wait_until(lambda: len(server.workers()) == 2, "another worker")
        wait_until(lambda: [pid for pid in server.workers() if pid != worker and children(pid)], "with a broker")
        wire.command(b"DELE 1")
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (0 messages left)")
        waiting.command(b"QUIT")
        wait_until(lambda: list(server.workers()) != [worker] and len(server.workers()) == 1, "the first one is gone")
        self.assertEqual(self.session(server).command(b"QUIT"), b"+OK bye (0 messages left)")

    def test_killed_judge(self) -> None:
        """Promise: the same; a broker does not outlive its judge."""
        server = self.server().start()
        broker = broker_of(server)
        (judge,) = children(broker)
        os.kill(judge, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{broker}").exists(), "the broker is gone")
        wait_until(lambda: broker_of_any(server) not in (0, broker), "another one is there")
        self.assertEqual(self.session(server).command(b"QUIT"), b"+OK bye (1 message left)")

    def test_killed_front(self) -> None:
        """Promise: its sessions and its broker end with it, and nothing is removed."""
        server = self.server().start()
        wire = self.session(server)
        wire.command(b"DELE 1")
        (worker,), broker, (session,) = server.workers(), broker_of(server), sessions_of(server)
        os.kill(worker, signal.SIGKILL)
        self.assertEqual(wire.rest(), b"")
        for pid in (broker, session):
            wait_until(lambda: not Path(f"/proc/{pid}").exists(), f"{pid} has ended")  # noqa: B023
        wait_until(lambda: broker_of_any(server) not in (0, broker), "another one is there")
        self.assertEqual(self.new(), ["1.host"])
        self.assertEqual(self.session(server).command(b"QUIT"), b"+OK bye (1 message left)")

    def test_stop(self) -> None:
        """Promise: TERM ends sessions without removing anything, and every process is gone then."""
        server = self.server().start()
        wire = self.session(server)
        wire.command(b"DELE 1")
        pids = [*server.workers(), broker_of(server), *children(broker_of(server))]
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertEqual(wire.rest(), b"")
        self.assertEqual(self.new(), ["1.host"])
        self.assertEqual(server.event("disconnect", user=self.account.name)["reason"], "server shutdown")
        wait_until(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()], "all are gone")

    def test_ended_by_an_administrator(self) -> None:
        """Promise: tpops who shows the session, tpops kick ends it; nothing is removed, and the log says why."""
        server = self.server().start()
        wire = self.session(server)
        wire.command(b"DELE 1")

        def tpops(*words: str) -> str:
            command = [program("tpops"), "-c", str(server.configuration_file), *words]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        self.assertIn(self.account.name, tpops("who"))
        tpops("kick", "--user", self.account.name)
        self.assertEqual(wire.rest(), b"")
        self.assertEqual(self.new(), ["1.host"])
        self.assertEqual(server.event("disconnect", user=self.account.name)["reason"], KICKED)

    def test_reload(self) -> None:
        """Promise: sessions that are open go on; new ones follow the new configuration."""
        server = self.server().start()
        wire = self.session(server)
        broker = broker_of(server)
        server.configuration["sessions"]["minimum_uid"] = 100_000_000
        server.write_configuration()
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: "reloaded" in server.output())
        self.assertEqual(self.answer(server, self.account.name, self.account.password), _BROKEN)
        wire.command(b"DELE 1")
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (0 messages left)")
        wait_until(lambda: not Path(f"/proc/{broker}").exists(), "the former broker is gone")


def broker_of_any(server: RunningServer) -> int:
    """A broker that runs, 0 where there is none."""
    found = [pid for worker in server.workers() for pid in processes("broker", worker)]
    return found[-1] if found else 0
