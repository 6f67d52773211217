"""A real broker with a real judge, and a front that is hostile: nothing but right logins opens anything."""

from __future__ import annotations

import array
import json
import os
import random
import socket
import struct
from base64 import b64decode
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.apart_case import children
from tests.integration.server import end, toml, wait_until
from tests.integration.test_twistd import reachable_directory
from tests.scram_client import ScramClient
from tests.support import need_root
from tpops.config.load import load
from tpops.errors import BadCredentials, ConfigError, LookupUnavailable, MaildropBroken
from tpops.process import broker
from tpops.process.broker import Broker, Guesses
from tpops.process.broker_link import start_broker
from tpops.process.owners import group_ids
from tpops.process.records import MOST_OCTETS, VERDICT, LoginRecord, error_of, pack, parse

#: nobody's, on every Linux.
UID = 65534

ANSWER_SECONDS = 60


class BrokerTests(SynchronousTestCase):
    """One broker, asked over its socket."""

    timeout = 240

    def setUp(self) -> None:
        need_root(self, "to become the owner of mail")
        self.directory = reachable_directory(self)
        self.controls: list[socket.socket] = []
        for name in ("joe", "boss"):
            for part in ("tmp", "new", "cur"):
                (self.directory / name / "Maildir" / part).mkdir(parents=True)
        os.chown(self.directory / "joe", UID, UID)
        os.chown(self.directory / "joe" / "Maildir", UID, UID)
        lines = [
            f"{name}:{{PLAIN}}right:{uid}:{uid}::{self.directory / name}:" for name, uid in (("joe", UID), ("boss", 0))
        ]
        (self.directory / "users").write_text("\n".join(lines) + "\n")
        path = self.directory / "tpops.toml"
        path.touch(0o600)
        path.write_text(self.configuration())
        self.process, self.front, self.proofs = start_broker(load(str(path)))
        self.addCleanup(end, self.process)
        self.addCleanup(self.front.close)
        self.front.settimeout(ANSWER_SECONDS)

    def configuration(self, **accounts: str) -> str:
        """For a judge with a file of accounts."""
        return toml(
            {
                "server": {"user": "nobody", "state_dir": str(self.directory)},
                "sessions": {"run_as": "owner"},
                "accounts": [{"driver": "passwd_file", "path": "users", **accounts}],
            }
        )

    def send(self, octets: bytes, descriptors: list[int]) -> None:
        """Send a packet to the broker."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self.front.sendmsg([octets], ancillary)

    def ask(self, octets: bytes | LoginRecord) -> socket.socket:
        """Send it a record as a front does; gives our end of the control."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.controls.append(ours)
        self.addCleanup(ours.close)
        ours.settimeout(ANSWER_SECONDS)
        with its:
            self.send(pack(octets.record()) if isinstance(octets, LoginRecord) else octets, [its.fileno()])
        return ours

    def said(self, control: socket.socket) -> dict[str, Any]:
        """What comes next; {} for the end."""
        octets = control.recv(MOST_OCTETS)
        return parse(octets) if octets else {}

    def refusal(self, record: LoginRecord) -> Exception:
        """Why a login is refused."""
        return error_of(self.said(self.ask(record)))

    def check_works(self) -> None:
        """A right login opens the maildrop."""
        control = self.ask(LoginRecord("password", b"joe", b"right"))
        self.assertEqual(self.said(control)["verified"]["user"], "joe")
        said = self.said(control)
        self.assertEqual(sum(said.pop("listings")), 1)
        self.assertEqual(said, {"opened": [0, 0, 0], "program": False})
        control.close()
        wait_until(lambda: len(children(self.process.pid)) == 1, "only the judge is left")

    def test_logins(self) -> None:
        """Promise: right is right; wrong, unknown and root are not; the front has no say in whose mail it is."""
        self.check_works()
        self.assertEqual(self.proofs, {"APOP", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"})
        for name, proof in ((b"joe", b"wrong"), (b"joe", b""), (b"", b""), (b"nobody", b"right"), (b"\xff", b"right")):
            self.assertIsInstance(self.refusal(LoginRecord("password", name, proof)), BadCredentials, name)
        self.assertIsInstance(self.refusal(LoginRecord("password", b"boss", b"right")), MaildropBroken)
        acting = LoginRecord("password", b"joe", b"right", target=b"boss")
        self.assertIsInstance(self.refusal(acting), BadCredentials)
        digest = LoginRecord("apop", b"joe", b"0" * 32, b"<1@x>")
        self.assertIsInstance(self.refusal(digest), BadCredentials)
        claimed = {**LoginRecord("password", b"joe", b"wrong").record(), "uid": UID, "verified": True}
        self.assertEqual(self.said(self.ask(json.dumps(claimed).encode())), {})
        for wrong in ({"kind": "proven"}, {"account": {"name": "joe", "uid": UID}}):
            record = {**LoginRecord("password", b"joe", b"").record(), **wrong}
            self.assertEqual(self.said(self.ask(pack(record))), {})

    def step(self, message: bytes, ticket: bytes = b"", mechanism: bytes = b"SCRAM-SHA-256") -> dict[str, Any]:
        """What the judge says of a message of an exchange."""
        control = self.ask(LoginRecord("sasl", mechanism, message, ticket))
        said = self.said(control)
        self.assertEqual(self.said(control), {}, "nobody listens to it any more")
        return said

    def test_exchanges(self) -> None:
        """Promise: a ticket is good once, for what it was given for; made up ones for nothing; no keys come out."""
        client = ScramClient(b"joe", b"right")
        said = self.step(client.first())["step"]
        self.assertEqual(set(said), {"challenge", "ticket"})
        ticket = b64decode(said["ticket"])
        self.assertIsInstance(self.refusal(LoginRecord("ticket", b"joe", b"", ticket)), BadCredentials)
        said = self.step(client.first())["step"]
        ticket, final = b64decode(said["ticket"]), client.final(b64decode(said["challenge"]))
        said = self.step(final, ticket)["step"]
        self.assertEqual(b64decode(said["challenge"]), client.expected)
        self.assertEqual(self.step(final, ticket)["step"], {"malformed": "the exchange has taken too long"})
        said = self.step(b"", b64decode(said["ticket"]))["step"]
        self.assertEqual(b64decode(said["proven"]), b"joe")
        login = LoginRecord("ticket", b"boss", b"", b64decode(said["ticket"]))
        control = self.ask(login)
        self.assertEqual(self.said(control)["verified"]["user"], "joe", "whatever the front says")
        control.close()
        self.assertIsInstance(self.refusal(login), BadCredentials)
        self.assertIsInstance(self.refusal(LoginRecord("ticket", b"joe", b"", b"x" * 18)), BadCredentials)
        self.assertIsInstance(self.refusal(LoginRecord("ticket", b"joe", b"")), BadCredentials)
        wrong = ScramClient(b"joe", b"wrong")
        said = self.step(wrong.first())["step"]
        said = self.step(wrong.final(b64decode(said["challenge"])), b64decode(said["ticket"]))["step"]
        self.assertEqual((b64decode(said["rejected"]), said["why"]), (b"joe", "wrong password"))
        self.assertIn("malformed", self.step(b"nonsense")["step"])
        self.assertEqual(self.step(b"x", mechanism=b"PLAIN"), {})
        for target in (b"[", b"[1]", b'{"x": 1}'):
            record = LoginRecord("sasl", b"SCRAM-SHA-256-PLUS", client.first(), target=target)
            self.assertEqual(self.said(self.ask(record)), {})
        wait_until(lambda: len(children(self.process.pid)) == 1, "only the judge is left")

    def test_hostile_records(self) -> None:
        """Promise: truncated, too long, with descriptors where none belong, or empty: dropped, and no more."""
        good = pack(LoginRecord("password", b"joe", b"right").record())
        before = len(os.listdir(f"/proc/{self.process.pid}/fd"))
        for octets in (good[:-1], good[:1], b"{}", b"null", b"\0" * 100, good + good, b"[" * 50000):
            self.assertEqual(self.said(self.ask(octets)), {}, octets[:20])
        self.assertEqual(self.said(self.ask(good.ljust(MOST_OCTETS + 1000))), {})
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stream = socket.socketpair()
        reader, writer = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptors in (
            [],
            [reader],
            [null],
            [stream[0].fileno()],
            [pair[0].fileno(), pair[1].fileno()],
            [pair[0].fileno()] * 20,
            [pair[0].fileno(), null, reader],
        ):
            self.send(good, descriptors)
        self.send(b"", [])
        self.send(b"", [pair[0].fileno()])
        self.check_works()
        for one in (*pair, *stream):
            one.close()
        for number in (reader, writer, null):
            os.close(number)
        self.assertEqual(len(os.listdir(f"/proc/{self.process.pid}/fd")), before)
        self.assertIsNone(self.process.poll())

    def test_ten_thousand_random_records(self) -> None:
        """Promise: it serves on, nothing was opened, wrong guesses are limited, and no descriptor is left."""
        chance = random.Random(5)
        good = pack(LoginRecord("password", b"joe", b"wrong").record())
        before = len(os.listdir(f"/proc/{self.process.pid}/fd"))
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for turn in range(10_000):
            octets = bytearray(good)
            for _ in range(chance.randint(1, 8)):
                octets[chance.randrange(len(octets))] = chance.randrange(256)
            if turn % 3 == 0:
                octets = bytearray(chance.randbytes(chance.randint(0, 400)))
            self.send(bytes(octets), [pair[0].fileno()] * chance.choice((0, 1, 1, 1, 2)))
        right = LoginRecord("password", b"joe", b"right")
        wait_until(lambda: "verified" in self.said(self.ask(right)), "there may be guesses again")
        pair[0].close()
        while True:
            answer = pair[1].recv(MOST_OCTETS)
            if not answer:
                break
            self.assertEqual(set(parse(answer)), {"refused", "why"})
        pair[1].close()
        for control in self.controls:
            control.close()
        wait_until(lambda: len(children(self.process.pid)) == 1, "only the judge is left")
        self.check_works()
        wait_until(lambda: len(os.listdir(f"/proc/{self.process.pid}/fd")) == before, "no descriptor is left")
        self.assertIsNone(self.process.poll())

    def test_session_process_takes_no_nonsense(self) -> None:
        """Promise: a session that is told anything but what it should be ends, and its lock is free."""
        null = os.open(os.devnull, os.O_RDWR)
        self.addCleanup(os.close, null)
        for octets in (b"{}", b"nonsense", b'{"go": {}}', b'{"go": 1}', b'{"stop": true}'):
            control = self.ask(LoginRecord("password", b"joe", b"right"))
            self.assertIn("verified", self.said(control))
            self.assertIn("opened", self.said(control))
            socket.send_fds(control, [octets], [null])
            while self.said(control):
                continue
        self.check_works()

    def test_end_of_the_front(self) -> None:
        """Promise: broker and judge end with their front; signals do not end them."""
        (judge,) = children(self.process.pid)
        for number in (1, 2, 15):
            os.kill(self.process.pid, number)
            os.kill(judge, number)
        self.check_works()
        self.front.close()
        self.assertEqual(self.process.wait(ANSWER_SECONDS), 0)
        wait_until(lambda: not Path(f"/proc/{judge}").exists(), "the judge has ended")

    def test_configuration_that_cannot_be_used(self) -> None:
        """Promise: what the judge, or the broker, cannot use is said where the server is started."""
        path = self.directory / "tpops.toml"
        text = self.configuration().replace("[sessions]", '[sessions]\ngroups = ["no-such-group"]')
        path.write_text(text)
        problem = self.assertRaises(ConfigError, start_broker, load(str(path)))
        self.assertEqual(str(problem), "sessions.groups: there is no group 'no-such-group' on this machine")
        self.assertRaises(ConfigError, group_ids, ("0",))
        self.assertEqual(group_ids(("4711",)), (4711,))


class BrokerPartsTests(SynchronousTestCase):
    """What a broker does without processes around it."""

    def test_guesses(self) -> None:
        """Promise: so many at once, so many a second after that."""
        now = [0.0]
        guesses = Guesses(lambda: now[0])
        for _ in range(int(broker.GUESSES_AT_ONCE)):
            self.assertFalse(guesses.exhausted())
            guesses.wrong()
        self.assertTrue(guesses.exhausted())
        now[0] += 2 / broker.GUESSES_PER_SECOND
        self.assertFalse(guesses.exhausted())
        guesses.wrong()
        guesses.wrong()
        self.assertTrue(guesses.exhausted())

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """A socket pair that is closed at the end."""
        both = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for one in both:
            self.addCleanup(one.close)
        return both

    def test_limits(self) -> None:
        """Promise: more logins or sessions than there may be, a start that fails, and a late verdict."""
        (front, ours), (judge, its) = self.pair(), self.pair()
        started: list[Any] = []

        def start(answer: bytes, control: Any) -> int:
            started.append(answer)
            if len(started) == 1:
                raise OSError(11, "no room")
            return 999_999

        one = Broker(front, judge, start, 1)
        controls = []
        record = LoginRecord("password", b"joe", b"right")
        for _ in range(3):
            control, other = self.pair()
            with other:
                socket.send_fds(ours, [pack(record.record())], [other.fileno()])
            controls.append(control)
            self.assertTrue(one._take(1))
            (number,) = struct.unpack("!Q", its.recv(MOST_OCTETS)[:8])
            account = {"name": "joe", "driver": "x"}
            login = attrs.evolve(record, proof=b"").record()
            answer = pack({"account": account, "useropt": "", "login": login})
            its.send(VERDICT.pack(number, True) + answer)
            self.assertTrue(one._hear(1))
        self.assertEqual(started[1], answer)
        why = [str(error_of(parse(controls[turn].recv(MOST_OCTETS)))) for turn in (0, 2)]
        self.assertEqual(why, ["no session can be started: no room", "1 sessions run already"])
        its.send(VERDICT.pack(77, False) + pack({"refused": "BadCredentials", "why": ""}))
        self.assertTrue(one._hear(1))
        for number in range(broker.MOST_WAITING):
            one._waiting[number] = self.pair()[0] if number == 0 else one._waiting[0][0], -1000.0
        control, other = self.pair()
        one._ask(0, other)
        problem = error_of(parse(control.recv(MOST_OCTETS)))
        self.assertIsInstance(problem, LookupUnavailable)
        self.assertEqual(str(problem), "too many logins wait to be verified")
        one._forget_old()
        self.assertEqual(one._waiting, {})
        its.close()
        reader, writer = os.pipe2(os.O_NONBLOCK)
        one.serve(reader)  # the judge is gone
        os.close(reader)
        os.close(writer)
