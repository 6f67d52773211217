"""What processes say to each other: taken exactly as it should be, or not at all."""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops import errors
from tpops.model import Account, Peer, Session
from tpops.process import records
from tpops.process.records import BadRecord, Ended, Go, LoginRecord, Now

_SECRETS = st.binary(max_size=records.MOST_SECRET_OCTETS)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=256)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
)
_GOOD = LoginRecord("password", b"joe", b"secret")


class LoginRecordTests(SynchronousTestCase):
    """The record of a login."""

    @given(st.sampled_from(records.KINDS), _SECRETS, _SECRETS, _SECRETS, _SECRETS, _TEXTS, st.integers(0, 65535))
    def test_there_and_back(
        self, kind: Any, name: bytes, proof: bytes, challenge: bytes, target: bytes, host: str, port: int
    ) -> None:
        """Promise: what a front packs is what the judge reads."""
        record = LoginRecord(kind, name, proof, challenge, target, host, port, session="abc")
        packet = records.pack(record.record())
        self.assertLessEqual(len(packet), records.MOST_OCTETS)
        self.assertEqual(LoginRecord.of(records.parse(packet)), record)

    @given(st.binary(max_size=300) | _JSON.map(lambda value: json.dumps(value).encode()))
    def test_anything_else(self, octets: bytes) -> None:
        """Promise: any other octets are BadRecord and nothing else."""
        self.assertRaises(BadRecord, lambda: LoginRecord.of(records.parse(octets)))

    @given(st.sampled_from(sorted(_GOOD.record())), _JSON)
    def test_one_wrong_field(self, field: str, value: Any) -> None:
        """Promise: one field of another kind, and it is BadRecord, or a record with that field."""
        try:
            found = LoginRecord.of({**_GOOD.record(), field: value})
        except BadRecord:
            return
        self.assertEqual(found.record(), {**_GOOD.record(), field: value})

    def test_missing_and_additional_fields(self) -> None:
        """Promise: nothing may be missing, nothing be added, nothing be too long."""
        good = _GOOD.record()
        for field in good:
            self.assertRaises(BadRecord, LoginRecord.of, {key: one for key, one in good.items() if key != field})
        for more in (
            {"uid": 0},
            {"account": {}},
            {"name": records.based(bytes(records.MOST_SECRET_OCTETS + 1))},
            {"name": "x" * 6000},
            {"name": "***"},
            {"host": "x" * 257},
            {"host": "\ud800"},
            {"port": -1},
            {"port": True},
            {"port": 65536},
            {"kind": "proven"},
            {"kind": ["password"]},
        ):
            self.assertRaises(BadRecord, LoginRecord.of, {**good, **more})
        self.assertRaises(BadRecord, records.parse, b"{" * 60000)
        self.assertRaises(BadRecord, records.parse, b'{"a": "' + b"x" * records.MOST_OCTETS + b'"}')
        self.assertRaises(BadRecord, records.parse, b"[" * 60000)

    def test_the_proof_is_not_shown(self) -> None:
        """Promise: no password in what is written for people."""
        self.assertNotIn("secret", repr(_GOOD))


class OtherRecordTests(SynchronousTestCase):
    """What sessions and fronts say to each other."""

    def test_end_of_a_session(self) -> None:
        """Promise: figures and reason come through; others do not."""
        session = Session(Peer("x"), 0.0, retr_count=3, messages_left=2, reason="quit")
        ended = Ended.as_session(session)
        said = records.parse(records.pack(attrs.asdict(ended)))
        self.assertEqual(Ended.of(said), ended)
        self.assertIsNone(Ended.of(said).update_seconds)
        for seconds, kept in ((0.0, 1e-6), (0.25, 0.25)):
            session.update_seconds = seconds
            self.assertEqual(Ended.as_session(session).update_seconds, kept)
        session.reason = "something else"
        self.assertEqual(Ended.as_session(session).reason, "error")
        for more in ({"reason": "x"}, {"reason": []}, {"retr_count": -1}, {"retr_count": "1"}, {"user": "root"}):
            self.assertRaises(BadRecord, Ended.of, {**said, **more})
        self.assertRaises(BadRecord, Ended.of, None)

    def test_beginning_of_a_session(self) -> None:
        """Promise: the same."""
        go = Go(b"+OK\r\n", b"STAT\r\n" * 2000, True, ("PLAIN", "LOGIN"), False, "en")
        said = records.parse(records.pack(go.record()))["go"]
        self.assertEqual(Go.of(said), go)
        for more in (
            {"rest": records.based(bytes(records.MOST_REST_OCTETS + 1))},
            {"utf8": 1},
            {"mechanisms": "PLAIN"},
            {"mechanisms": [1]},
            {"mechanisms": ["x"] * 65},
            {"uid": 0},
        ):
            self.assertRaises(BadRecord, Go.of, {**said, **more})
        self.assertRaises(BadRecord, Go.of, [])

    def test_middle_of_a_session(self) -> None:
        """Promise: what it does and its figures come through; what would harm a terminal, or is too much, does not."""
        now = Now("RETR 2, client does not read", False, 1500, 1, 2, 3, 4)
        said = records.parse(records.pack(attrs.asdict(now)))
        self.assertEqual(Now.of(said), now)
        for more in ({"doing": "\x1b[2J"}, {"doing": "x" * 65}, {"updating": 1}, {"idle": -1}, {"user": "root"}):
            self.assertRaises(BadRecord, Now.of, {**said, **more})
        self.assertRaises(BadRecord, Now.of, None)

    def test_refusals(self) -> None:
        """Promise: the kind of a refusal comes through with its text; what is no refusal of a login is none."""
        for problem in (errors.BadCredentials("x"), errors.MaildropBusy("y"), errors.NoSuchFolder("z")):
            found = records.error_of(records.refusal(problem))
            self.assertIs(type(found), type(problem))
            self.assertEqual(str(found), str(problem))
        self.assertIsInstance(records.error_of(records.refusal(errors.UnknownUser("x"))), errors.BadCredentials)
        self.assertIsInstance(records.error_of(records.refusal(errors.BadCommand("x"))), errors.LookupUnavailable)
        for said in ({}, {"refused": "ConfigError", "why": ""}, {"refused": [], "why": ""}, {"refused": "TooSoon"}):
            self.assertRaises(BadRecord, records.error_of, said)

    def test_accounts(self) -> None:
        """Promise: all that is known of an account comes through."""
        account = Account("joe", "shadow", "/home/joe", None, 1000, 1000, folder="x")
        packet = records.pack(records.account_record(account))
        self.assertEqual(records.account_of(records.parse(packet)), account)
