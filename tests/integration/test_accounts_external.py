"""driver = "external": a program in tpop3d's format (auth-other) judges the logins of a real server."""

from __future__ import annotations

import json
import os
import poplib
import pwd
import signal
from pathlib import Path
from typing import Any

from tests.integration.judges import LATER, WRONG, JudgesCase, alive, descendants, everybodys_python
from tests.integration.server import CHECKOUT, PATIENCE_SECONDS, RunningServer, wait_until

#: A program as an operator would write it; what it does depends on the name.
_PROGRAM = """#!{python} -IS
import hashlib, json, os, signal, sys, time
home = os.path.dirname(os.path.abspath(__file__))
def request():
    pairs, field, fields = {{}}, b"", []
    while True:
        octet = os.read(0, 1)
        if not octet:
            sys.exit(0)
        if octet != b"\\0":
            field += octet
            continue
        fields.append(field.decode())
        field = b""
        if len(fields) % 2 and not fields[-1]:
            return dict(zip(fields[0::2], fields[1::2]))
def reply(**pairs):
    os.write(1, b"".join(f"{{key}}\\0{{value}}\\0".encode() for key, value in pairs.items()) + b"\\0")
def note(what):
    with open(home + "/requests", "a") as file:
        file.write(json.dumps({{"pid": os.getpid(), "uid": os.getuid(), "groups": os.getgroups(), **what}}) + "\\n")
note({{"environment": dict(os.environ), "arguments": sys.argv[1:]}})
while True:
    asked = request()
    note(asked)
    name = asked["user"].split("@")[0]
    mailbox = home + "/mail/" + asked["user"]
    if name == "hangs":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    elif name == "dies":
        sys.exit(3)
    elif name == "torn":
        os.write(1, b"result\\0YE")
        sys.exit(0)
    elif name == "long":
        os.write(1, b"x" * 5000)
    elif name == "garbage":
        os.write(1, b"I like him\\0yes\\0\\0")
    elif name == "two":
        os.write(1, b"result\\0NO\\0\\0" + b"result\\0YES\\0\\0")
    elif name == "talks":
        reply(result="NO")
        os.write(1, b"result\\0YES\\0\\0")
    elif name == "perhaps":
        reply(result="PERHAPS")
    elif name == "says":
        os.write(2, ("he says " + asked["pass"] + " \\x1b[31m\\n" + 5000 * "x" + "\\n").encode())
        reply(result="NO", logmsg="no\\nforged line with " + asked["pass"])
    elif name == "named":
        reply(result="YES", uid="nobody", gid="nogroup", mboxtype="maildir", mailbox=mailbox)
    elif name == "nouser":
        reply(result="YES", uid="no-such-user", gid="nogroup")
    elif name == "spool":
        reply(result="YES", uid=65534, gid=65534, mboxtype="bsd", mailbox=home + "/spool")
    elif name == "strange":
        reply(result="YES", uid=65534, gid=65534, mboxtype="mmdf", mailbox=home + "/spool")
    elif name == "relative":
        reply(result="YES", uid=65534, gid=65534, mboxtype="maildir", mailbox="mail")
    elif name == "domain":
        reply(result="YES", uid=65534, gid=65534, domain="example.org")
    elif name == "evil":
        reply(result="YES", uid=65534, gid=65534, domain="../../etc")
    elif asked["method"] == "APOP":
        right = hashlib.md5((asked["timestamp"] + "secret").encode()).hexdigest() == asked["digest"]
        reply(result="YES" if right else "NO", uid=65534, gid=65534)
    else:
        reply(result="YES" if asked["pass"] == "secret" else "NO", uid=65534, gid=65534, logmsg="seen")
"""


class ExternalTests(JudgesCase):
    """One program, and what it can do wrong."""

    def setUp(self) -> None:
        super().setUp()
        self.program = self.executable("judge", _PROGRAM.format(python=everybodys_python()))
        (self.directory / "requests").touch()
        (self.directory / "requests").chmod(0o666)
        self.source: dict[str, Any] = {
            "driver": "external",
            "command": [str(self.program), "an argument"],
            "timeout_seconds": 3.0,
        }
        if os.geteuid() == 0:
            self.source["user"] = "nobody"

    def requests(self) -> list[dict[str, Any]]:
        """What the program was asked, with its process id."""
        return [json.loads(line) for line in (self.directory / "requests").read_text().splitlines()]

    def start(self, **more: Any) -> RunningServer:
        """A running server with mail for joe."""
        self.mail("joe")
        return self.server({**self.source, **more}).start()

    def test_logins(self) -> None:
        """Promise: the program's yes and no count, and the request is tpop3d's."""
        server = self.start()
        self.assertIn(b"has 1 message", self.answer(server, "joe"))
        self.assertTrue(self.answer(server, "joe", "wrong").startswith(WRONG))
        self.assertIn("the program says no", self.detail(server, "joe"))
        first, *asked = self.requests()
        self.assertEqual(first["arguments"], ["an argument"])
        self.assertEqual(first["environment"]["TPOP3D_CONTEXT"], "auth_other")
        self.assertLessEqual(first["environment"].keys(), {"PATH", "TPOP3D_CONTEXT", "LC_CTYPE"})
        facts = ("pid", "uid", "groups")
        self.assertEqual(
            [{key: value for key, value in one.items() if key not in facts} for one in asked],
            [
                {
                    "method": "PASS",
                    "user": "joe",
                    "pass": password,
                    "clienthost": "127.0.0.1",
                    "serverhost": "127.0.0.1",
                }
                for password in ("secret", "wrong")
            ],
        )
        self.assertEqual(len({one["pid"] for one in self.requests()}), 1)
        self.assertIn("external: seen", server.output())
        self.assertNotIn("secret", server.output())
        self.assertNotIn("Traceback", server.output())

    def test_program_of_the_documentation(self) -> None:
        """Promise: what docs/accounts/programs.md shows works as it stands."""
        text = (CHECKOUT / "docs" / "accounts" / "programs.md").read_text()
        lines = text.partition("    #!/usr/bin/python3 -IS\n")[2].partition("\nPrograms written")[0].splitlines()
        body = "\n".join(line[4:] for line in lines).replace('"vmail", "gid": "vmail"', '"nobody", "gid": "0"')
        self.executable("judge", f"#!{everybodys_python()} -IS\n{body}\n")
        server = self.start()
        for _ in range(2):
            self.assertIn(b"has 1 message", self.answer(server, "joe"))
            self.assertTrue(self.answer(server, "joe", "wrong").startswith(WRONG))

    def test_domain(self) -> None:
        """Promise: local_part and domain where the name has them, and a domain of the reply where it has none."""
        self.mail("joe@example.org")
        self.mail("domain@example.org", messages=2)
        server = self.start()
        self.assertIn(b"has 1 message", self.answer(server, "joe@example.org"))
        asked = self.requests()[-1]
        self.assertEqual((asked["local_part"], asked["domain"]), ("joe", "example.org"))
        self.assertIn(b"domain@example.org has 2 messages", self.answer(server, "domain"))
        self.assertTrue(self.answer(server, "evil").startswith(LATER))
        self.assertIn("dangerous", self.detail(server, "evil"))

    def test_apop(self) -> None:
        """Promise: with apop = true APOP is offered, and CRAM-MD5 is not; without it neither is."""
        server = self.start(apop=True)
        client = poplib.POP3("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
        self.addCleanup(client.close)
        self.assertNotIn("CRAM-MD5", client.capa()["SASL"])
        self.assertRaises(poplib.error_proto, client.apop, "joe", "wrong")
        self.assertIn(b"has 1 message", client.apop("joe", "secret"))
        client.quit()
        asked = self.requests()[-1]
        self.assertEqual(asked["method"], "APOP")
        self.assertRegex(asked["timestamp"], "^<.*@.*>$")
        server.stop()
        server.configuration["accounts"][0]["apop"] = False
        server.start()
        self.assertNotIn(b"<", server.connect().line())

    def test_runs_as_another_user(self) -> None:
        """Promise: user and group count, also when the program is started again after rights were given up."""
        self.need_root()
        self.mail("joe")
        server = self.server({**self.source, "user": "nobody", "group": "nogroup"}, server={"user": "daemon"})
        os.chown(self.directory, pwd.getpwnam("daemon").pw_uid, -1)
        server.start()
        self.assertIn(b"has 1 message", self.answer(server, "joe"))
        self.assertTrue(self.answer(server, "dies").startswith(LATER))
        wait_until(lambda: self.answer(server, "joe").startswith(b"+OK"), "the program answers again")
        nobody = pwd.getpwnam("nobody")
        self.assertEqual({one["uid"] for one in self.requests()}, {nobody.pw_uid})
        self.assertEqual({tuple(one["groups"]) for one in self.requests()}, {(nobody.pw_gid,)})
        self.assertEqual(len({one["pid"] for one in self.requests()}), 2)

    def test_user_must_be_given_as_root(self) -> None:
        """Promise: no program runs as root because somebody forgot to say who it should be."""
        self.need_root()
        del self.source["user"]
        self.assertIn("say whom the program runs as", self.server(self.source).refuses_to_start())

    def test_program_that_hangs(self) -> None:
        """Promise: TERM, then KILL; the client is told to come later, and the next login works."""
        server = self.start(timeout_seconds=0.75)
        self.assertTrue(self.answer(server, "hangs").startswith(LATER))
        self.assertIn("no answer in 0.75 seconds", self.detail(server, "hangs"))
        hanging = self.requests()[-1]["pid"]
        wait_until(lambda: self.answer(server, "joe").startswith(b"+OK"), "the program answers again")
        self.assertFalse(alive(hanging))

    def test_replies_that_cannot_be_used(self) -> None:
        """Promise: whatever is no reply is [SYS/TEMP] and never a yes or a no, and the program is started again."""
        server = self.start()
        for name, reason in (
            ("dies", "has ended with status 3"),
            ("torn", "has ended with status 0"),
            ("long", "more than 4096 octets"),
            ("garbage", "a key of the reply"),
            ("two", "goes on behind its end"),
            ("perhaps", "neither YES nor NO"),
            ("nouser", "no user 'no-such-user'"),
            ("strange", "type 'mmdf' are not known"),
            ("relative", "no absolute path"),
        ):
            wait_until(lambda: self.answer(server, "joe").startswith(b"+OK"), f"a login before {name}")
            self.assertTrue(self.answer(server, name).startswith(LATER), name)
            self.assertIn(reason, self.detail(server, name))
        self.assertNotIn("Traceback", server.output())

    def test_late_octets_are_nobodys_answer(self) -> None:
        """Promise: what a program writes without being asked ends it, and lets nobody in."""
        server = self.start()
        self.answer(server, "talks")
        wait_until(lambda: self.answer(server, "joe", "wrong").startswith(WRONG), "the program answers again")
        self.assertEqual(server.events("login"), [])

    def test_mailboxes(self) -> None:
        """Promise: uid and gid by name or number, the mailbox of the reply, a Maildir or a spool (bsd)."""
        self.mail("named", messages=3)
        server = self.start()
        self.assertIn(b"has 3 messages", self.answer(server, "named"))
        message = "From ann@example.org Tue Nov 24 08:00:00 2026\nSubject: hello\n\nhello\n\n"
        (self.directory / "spool").write_text(2 * message)
        self.assertIn(b"has 2 messages", self.answer(server, "spool"))

    def test_messages_of_the_program(self) -> None:
        """Promise: standard error and logmsg are in the log, escaped, cut, and without the password."""
        server = self.start()
        self.assertTrue(self.answer(server, "says", "very secret word").startswith(WRONG))
        wait_until(lambda: "xxx" in server.output(), "the second line")
        text = server.output()
        self.assertIn("external: the program says: he says (left out) \\x1b[31m\n", text)
        self.assertIn("external: no\\nforged line with (left out)\n", text)
        self.assertNotIn("very secret", text)
        self.assertNotIn("x" * 600, text)

    def test_names_and_passwords_that_do_not_fit(self) -> None:
        """Promise: what would not fit into a request is a wrong password."""
        server = self.server({**self.source}, protocol={"command_octets": 8192, "disconnect_octets": 8192}).start()
        self.assertTrue(self.answer(server, "joe", 4090 * "x").startswith(WRONG))
        self.assertIn("at most 4096", self.detail(server, "joe"))

    def test_many_at_once(self) -> None:
        """Promise: one request at a time, in order, and every login gets its own answer."""
        self.mail("joe")
        server = self.server(self.source, limits={"connections_per_user_and_address": 0}).start()
        wires = [server.connect() for _ in range(40)]
        for number, wire in enumerate(wires):
            wire.line()
            wire.send(b"USER joe\r\nPASS " + (b"secret" if number % 2 else b"wrong") + b"\r\n")
        for number, wire in enumerate(wires):
            wire.line()
            self.assertTrue(wire.line().startswith((b"+OK", b"-ERR [IN-USE]") if number % 2 else WRONG), number)

    def test_it_ends_with_the_server(self) -> None:
        """Promise: neither the program nor its keeper is left, however the server ends."""
        self.mail("joe")
        server = self.server(self.source)
        for number in (signal.SIGTERM, signal.SIGKILL):
            server.start()
            self.assertTrue(self.answer(server, "joe").startswith(b"+OK"))
            started = descendants(server.pid)
            self.assertEqual(len(started), 2, started)
            server.stop(number)
            wait_until(lambda pids=tuple(started): not any(map(alive, pids)), "all have ended")

    def test_keeper_that_dies(self) -> None:
        """Promise: it is started again while the server has its rights; without them, the log says what to do."""
        server = self.start()
        keeper = next(pid for pid, line in descendants(server.pid).items() if "keeper.py" in line)
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: self.answer(server, "joe").startswith(b"+OK"), "logins work again")
        if os.geteuid() != 0:
            return
        server.stop()
        os.chown(self.directory, pwd.getpwnam("daemon").pw_uid, -1)
        for path in self.directory.iterdir():
            os.chown(path, pwd.getpwnam("daemon").pw_uid, -1)
        server.configuration["server"] = {"user": "daemon"}
        server.start()
        keeper = next(pid for pid, line in descendants(server.pid).items() if "keeper.py" in line)
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: "restart tpops" in server.output(), "the log")
        self.assertTrue(self.answer(server, "joe").startswith(LATER))

    def test_check(self) -> None:
        """Promise: C{tpops check} says what a start would stumble over."""
        server = self.server(self.source)
        self.assertEqual(self.check(server)[0], 0)
        self.program.chmod(0o644)
        self.assertIn("is not executable; chmod +x", self.check(server)[1])
        Path(self.program).unlink()
        self.assertIn(f"there is no program {self.program}", self.check(server)[1])
        self.assertIn(f"there is no program {self.program}", server.refuses_to_start())
        self.source["user"] = "no-such-user"
        self.assertIn("there is no user 'no-such-user'", self.server(self.source).refuses_to_start())
