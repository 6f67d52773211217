"""L{tpops.events.counters}."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.events.samples import MOMENT, session
from tpops.events.counters import Counters, Histogram, Recent, add
from tpops.interfaces import IEventSink
from tpops.model import Event


class CountersTests(SynchronousTestCase):
    """What is counted as what."""

    def figures(self, *events: Event) -> dict[str, Any]:
        """The figures after these events."""
        counters = Counters()
        self.assertTrue(verifyObject(IEventSink, counters))
        for event in events:
            self.assertIn(event.kind, counters.wants)
            counters.notify(event)
        return counters.figures(MOMENT)

    def test_every_limit_is_named(self) -> None:
        """Promise: each limit says which one it was."""
        found = self.figures(
            Event("greeting-refused", MOMENT, session(), "connections: 5, at most 5"),
            Event("greeting-refused", MOMENT, session(), "connections_per_address: 5, at most 5"),
            Event("limit", MOMENT, session(), "idle_timeout_seconds: idle"),
            Event("limit", MOMENT, session(), "octets_per_second: slowed down by 3.2 seconds"),
            Event("limit", MOMENT, session(), "octets_per_second: slowed down by 4.5 seconds"),
            Event("login-refused", MOMENT, session(), "TooSoon: 2 seconds"),
            Event("login-refused", MOMENT, session(), "LimitReached: connections_per_user: 5 connections"),
        )
        limits = {
            "connections": 1,
            "connections_per_address": 1,
            "idle_timeout_seconds": 1,
            "octets_per_second": 2,
            "login_delay_seconds": 1,
            "connections_per_user": 1,
        }
        self.assertEqual((found["limits"], found["refusals"]), (limits, {"login_delay": 1, "limit": 1}))

    def test_failures(self) -> None:
        """Promise: an unknown user is not told apart from a wrong password; a database that is down is."""
        details = ("BadCredentials: x", "UnknownUser: x", "LookupUnavailable: x", "Strange")
        found = self.figures(*(Event("login-failed", MOMENT, session(), detail) for detail in details))
        self.assertEqual(found["failures"], {"wrong_password": 2, "unavailable": 1, "other": 1})
        self.assertEqual(found["recent"]["failures"], 4)

    def test_sessions(self) -> None:
        """Promise: what a session did counts at its end; who did not log in has read nothing."""
        done = {"retr_count": 2, "retr_octets": 30, "top_count": 1, "top_octets": 4, "dele_count": 1, "reason": "quit"}
        done["update_seconds"] = 0.02
        found = self.figures(
            Event("login", MOMENT, session(user="joe", mechanism="APOP", login_seconds=0.003)),
            Event("disconnect", MOMENT + 2, session(user="joe", tls="TLSv1.3 X", ended_at=MOMENT + 2, **done)),
            Event("disconnect", MOMENT, session(reason="client closed")),
        )
        self.assertEqual((found["ended"], found["encrypted"], found["logins"]), (2, 1, {"APOP": 1}))
        self.assertEqual(found["messages"], {"retr": 2, "top": 1, "dele": 1})
        self.assertEqual(found["octets"], {"retr": 30, "top": 4})
        self.assertEqual(found["ends"], {"quit": 1, "client closed": 1})
        self.assertEqual(found["login_seconds"]["buckets"][:4], [0, 0, 1, 0])
        self.assertEqual(found["session_seconds"]["total"], 2.0)
        self.assertEqual((sum(found["update_seconds"]["buckets"]), found["update_seconds"]["total"]), (1, 0.02))


class PartsTests(SynchronousTestCase):
    """Histograms, rates and sums."""

    def test_histogram(self) -> None:
        """Promise: a value at the end of a bucket belongs to it, as Prometheus has it; the last one has no end."""
        histogram = Histogram((1.0, 2.0))
        for seconds in (0.5, 1.0, 1.5, 2.0, 99.0):
            histogram.add(seconds)
        self.assertEqual((histogram.buckets, histogram.total), ([2, 2, 1], 104.0))

    def test_recent(self) -> None:
        """Promise: sixty seconds, whatever was before, also when the clock went back."""
        recent = Recent()
        for at in (0.0, 0.9, 30.0, 59.0, 60.0):
            recent.add(at)
        self.assertEqual([recent.count(at) for at in (60.0, 90.0, 119.5, 1000.0)], [3, 2, 1, 0])
        recent.add(10.0)
        self.assertEqual(recent.count(10.0), 1)

    def test_sum(self) -> None:
        """Promise: figures of the same form are added, key by key; others are refused."""
        self.assertEqual(
            add({"a": 1, "b": {"c": [1, 2]}}, {"b": {"c": [3, 4], "d": 5}}), {"a": 1, "b": {"c": [4, 6], "d": 5}}
        )
        for one, other in ((1, "x"), ([1], [1, 2]), ({}, [])):
            self.assertRaises(ValueError, add, one, other)
