"""What a server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from videolm.serve.store import Record, Status

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Counts of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "videolm_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self._latency = Histogram(
            "videolm_request_seconds", "Time to answer.", ("route",), buckets=SECONDS, registry=self.registry
        )
        self._jobs = Gauge("videolm_jobs", "Jobs that there are.", ("status",), registry=self.registry)
        self._ended = Counter("videolm_jobs_ended", "Jobs ended.", ("task", "outcome"), registry=self.registry)
        self._made = Histogram(
            "videolm_job_seconds",
            "Time from a job's begin to its end.",
            ("task",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._waited = Histogram(
            "videolm_queue_seconds", "Time that jobs waited.", buckets=SECONDS, registry=self.registry
        )
        self._tokens = Counter("videolm_tokens", "Ids drawn.", registry=self.registry)
        self._workers = Gauge("videolm_workers", "Workers alive.", registry=self.registry)
        self._deaths = Counter("videolm_worker_deaths", "Workers that ended unasked.", registry=self.registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def jobs(self, counts: dict[Status, int]) -> None:
        for status, count in counts.items():
            self._jobs.labels(status).set(count)

    def ended(self, record: Record) -> None:
        """Count a job that is over."""
        task = str(record.shown.get("task", ""))
        self._ended.labels(task, record.code or "completed").inc()
        if record.started is not None and record.completed is not None:
            self._made.labels(task).observe(record.completed - record.started)
            self._waited.observe(record.started - record.created)
        self._tokens.inc(int(record.shown.get("tokens", 0)))

    def workers(self, alive: int, deaths: int = 0) -> None:
        self._workers.set(alive)
        self._deaths.inc(deaths)

    def text(self) -> bytes:
        return generate_latest(self.registry)
