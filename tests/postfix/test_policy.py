"""The octets of Postfix' policy protocol."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.postfix import policy
from tpops.postfix.policy import HOPELESS_OCTETS, MOST_OCTETS, NOBODY, Hopeless, Requests, parse, question, reply

#: As Postfix 3.7 sends it, from SMTPD_POLICY_README.
FULL = b"""\
request=smtpd_access_policy
protocol_state=RCPT
protocol_name=ESMTP
helo_name=some.domain.tld
queue_id=8045F2AB23
sender=foo@bar.tld
recipient=bar@foo.tld
recipient_count=0
client_address=1.2.3.4
client_name=another.domain.tld
reverse_client_name=another.domain.tld
instance=123.456.7
sasl_method=plain
sasl_username=you
sasl_sender=
size=12345
ccert_subject=solaris9.porcupine.org
ccert_issuer=Wietse+20Venema
ccert_fingerprint=C2:9D:F4:87:71:73:73:D9:18:E7:C2:F3:C1:DA:6E:04
encryption_protocol=TLSv1/SSLv3
encryption_cipher=DHE-RSA-AES256-SHA
encryption_keysize=256
etrn_domain=
stress=
ccert_pubkey_fingerprint=68:B3:29:DA:98:93:E3:40:99:C7:D8:AD:5C:B9:C9:40
client_port=1234
policy_context=submission
server_address=10.3.2.1
server_port=54321
compatibility_level=2
mail_version=3.8.0

"""


def request(**changes: bytes | None) -> policy.Request:
    """A request about a client and a sender, with these attributes."""
    found = {b"request": b"smtpd_access_policy", b"client_address": b"1.2.3.4", b"sender": b"a@b"}
    for name, value in changes.items():
        if value is None:
            del found[name.encode()]
        else:
            found[name.encode()] = value
    return found


class RequestsTests(SynchronousTestCase):
    """Octets become requests."""

    def test_request_of_postfix(self) -> None:
        """SMTPD_POLICY_README: what matters is read, whatever else is there."""
        (found,) = Requests().feed(FULL)
        self.assertEqual(question(found), ("1.2.3.4", "foo@bar.tld"))

    @given(st.integers(1, 3), st.lists(st.integers(0, 3 * len(FULL)), max_size=12))
    def test_any_pieces(self, count: int, cuts: list[int]) -> None:
        """However the octets are cut, the same requests come out."""
        octets = FULL * count
        places = sorted({min(cut, len(octets)) for cut in cuts})
        requests = Requests()
        found = []
        for start, end in zip([0, *places], [*places, len(octets)], strict=True):
            found += requests.feed(octets[start:end])
        self.assertEqual([question(one) for one in found], [("1.2.3.4", "foo@bar.tld")] * count)

    def test_not_understood_is_nothing_and_the_next_one_counts(self) -> None:
        """Malformed requests have a place in the order of replies, and harm no other request."""
        for bad in (b"rubbish\n\n", b"=x\n\n", b"\n\n", b"sender=a\nsender=b\n\n", b"\xff\xfe\n\n"):
            first, second = Requests().feed(bad + FULL)
            self.assertIsNone(first, bad)
            self.assertIsNotNone(second, bad)

    def test_too_long_is_nothing_and_the_next_one_counts(self) -> None:
        """Of a request that is too long no more than the limit is kept, wherever it is cut."""
        for sizes in ((MOST_OCTETS + 100,), (MOST_OCTETS, 100), (MOST_OCTETS // 2,) * 5):
            for ends in ([b"\n\n"], [b"\n", b"\n"]):
                requests = Requests()
                found = requests.feed(b"sender=")
                for size in sizes:
                    found += requests.feed(b"x" * size)
                    self.assertLessEqual(len(requests._rest), MOST_OCTETS)
                for end in ends:
                    found += requests.feed(end)
                found += requests.feed(FULL)
                self.assertEqual([one is None for one in found], [True, False], (sizes, ends))

    def test_complete_and_too_long(self) -> None:
        """It may also come in one piece."""
        self.assertEqual(Requests().feed(b"sender=" + b"x" * MOST_OCTETS + b"\n\n"), [None])

    def test_no_end_at_all(self) -> None:
        """Somebody who never ends is no Postfix."""
        requests = Requests()
        with self.assertRaises(Hopeless):
            for _ in range(HOPELESS_OCTETS // MOST_OCTETS + 2):
                requests.feed(b"x" * MOST_OCTETS)


class QuestionTests(SynchronousTestCase):
    """What is asked."""

    def test_asks_about_client_and_sender(self) -> None:
        """With and without protocol_state, which not everybody sends; a null sender is one."""
        self.assertEqual(question(request()), ("1.2.3.4", "a@b"))
        self.assertEqual(question(request(protocol_state=b"RCPT", sender=b"")), ("1.2.3.4", ""))

    def test_asks_nothing(self) -> None:
        """Another service, another moment, or without what it takes."""
        for changes in (
            {"request": b"other"},
            {"request": None},
            {"client_address": None},
            {"sender": None},
            *({"protocol_state": state} for state in (b"CONNECT", b"EHLO", b"MAIL", b"DATA", b"END-OF-MESSAGE", b"")),
        ):
            self.assertIsNone(question(request(**changes)), changes)
        self.assertIsNone(question(None))

    def test_octets_that_are_no_text_are_nobody(self) -> None:
        """They are not the null sender, and no sender that can be registered."""
        self.assertEqual(question(request(sender=b"\xff@b")), ("1.2.3.4", NOBODY))
        self.assertEqual(question(request(client_address=b"\xff")), (NOBODY, "a@b"))

    def test_value_may_have_an_equals_sign(self) -> None:
        """The first one parts name and value."""
        self.assertEqual((parse(b"sender=a=b@c") or {})[b"sender"], b"a=b@c")

    def test_reply(self) -> None:
        """One line and an empty one."""
        self.assertEqual(reply("DUNNO"), b"action=DUNNO\n\n")
