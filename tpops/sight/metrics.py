"""
Figures for Prometheus: C{GET /metrics} on a listener of its own.

Purpose: puts the figures of all workers (L{tpops.events.counters}) into the text format when somebody asks.
Limits: needs prometheus_client.  No label has a user's name or a client's address.
Errors: 503 when the process that knows the others does not answer; workers that do not are counted in
C{tpops_workers_silent}.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from twisted.web.resource import Resource
from twisted.web.server import Request

from tpops.events.counters import LOGIN_SECONDS, SESSION_SECONDS, UPDATE_SECONDS
from tpops.sight.control import Answer
from tpops.sight.site import BoundedSite, Whole, answer_later

#: Counters with a label: where the figures are, the metric, the label, the description.
_BY_LABEL = (
    ("ends", "tpops_sessions_ended", "reason", "Sessions that have ended"),
    ("logins", "tpops_logins", "mechanism", "Successful logins"),
    ("failures", "tpops_login_failures", "reason", "Failed logins"),
    ("refusals", "tpops_login_refusals", "reason", "Logins refused although the password was right"),
    ("limits", "tpops_limit_reached", "limit", "How often each limit was reached"),
    ("messages", "tpops_messages", "command", "Messages sent or deleted"),
    ("octets", "tpops_octets_sent", "command", "Octets of messages sent"),
    ("listings", "tpops_listings", "source", "Listings of maildrops, by where they came from"),
    ("dropped", "tpops_lost", "what", "Log lines lost, and failures of receivers of events"),
)


class Figures(Collector):
    """See the module."""

    def __init__(self, answer: Answer) -> None:
        self._totals: dict[str, Any] = answer["totals"]
        self._processes: list[dict[str, Any]] = answer["processes"]
        self._silent = len(answer.get("silent", ()))

    def collect(self) -> Iterator[Metric]:
        """See L{Collector}."""
        totals = self._totals
        for name, metric, label, description in _BY_LABEL:
            yield _labelled(CounterMetricFamily(metric, description, labels=[label]), totals[name])
        yield _labelled(GaugeMetricFamily("tpops_sessions", "Open sessions", labels=["state"]), totals["sessions"])
        waiting = GaugeMetricFamily("tpops_queue_length", "What waits", labels=["queue"])
        yield _labelled(waiting, totals["queues"])
        yield from _sinks(totals["sinks"])
        yield CounterMetricFamily("tpops_sessions_tls", "Sessions with TLS that have ended", totals["encrypted"])
        yield _histogram("tpops_login_seconds", "Successful logins", LOGIN_SECONDS, totals["login_seconds"])
        yield _histogram("tpops_update_seconds", "QUITs in UPDATE", UPDATE_SECONDS, totals["update_seconds"])
        yield _histogram("tpops_session_seconds", "Sessions", SESSION_SECONDS, totals["session_seconds"])
        yield GaugeMetricFamily("tpops_workers", "Processes that serve", totals["processes"])
        yield GaugeMetricFamily("tpops_workers_silent", "Workers that do not answer", self._silent)
        restarts = totals.get("worker_restarts", 0)
        yield CounterMetricFamily("tpops_worker_restarts", "Workers that ended and were replaced", restarts)
        cpu = sum(one["cpu_seconds"] for one in self._processes)
        yield CounterMetricFamily("tpops_cpu_seconds", "CPU time of the processes that serve", cpu)


def _labelled(metric: CounterMetricFamily | GaugeMetricFamily, values: dict[str, float]) -> Metric:
    for label, value in values.items():
        metric.add_metric([label or "none"], value)
    return metric


def _sinks(figures: dict[str, dict[str, int]]) -> Iterator[Metric]:
    """Of the receivers of events."""
    notices = CounterMetricFamily("tpops_sink_notices", "Notices to sinks", labels=["sink", "outcome"])
    waiting = GaugeMetricFamily("tpops_sink_waiting", "Notices that wait, or are under way", labels=["sink"])
    for name, one in figures.items():
        for outcome in ("sent", "failed", "dropped"):
            notices.add_metric([name, outcome], one[outcome])
        waiting.add_metric([name], one["waiting"])
    yield notices
    yield waiting


def _histogram(name: str, what: str, ends: Sequence[float], figures: dict[str, Any]) -> HistogramMetricFamily:
    count, buckets = 0, []
    for end, inside in zip((*map(str, ends), "+Inf"), figures["buckets"], strict=True):
        count += inside
        buckets.append((end, count))
    return HistogramMetricFamily(name, f"{what}, how long they took", buckets, figures["total"])


def exposition(answer: Answer) -> bytes:
    """The figures as Prometheus reads them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(answer))
    return generate_latest(registry)


class Page(Resource):
    """C{/metrics}."""

    isLeaf = True

    def __init__(self, whole: Whole) -> None:
        super().__init__()
        self._whole = whole

    def render_GET(self, request: Request) -> int:
        """Ask for the figures, and answer."""
        request.setHeader(b"Content-Type", CONTENT_TYPE_LATEST.encode())
        request.setHeader(b"Cache-Control", b"no-store")
        return answer_later(request, self._answer(), "metrics")

    async def _answer(self) -> bytes:
        return exposition(await self._whole({"do": "stats"}))


def site(whole: Whole, reactor: Any) -> BoundedSite:
    """What serves on the listener."""
    root = Resource()
    root.putChild(b"metrics", Page(whole))
    return BoundedSite(root, reactor)
