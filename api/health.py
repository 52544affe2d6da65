"""Whether the server lives, is ready, and how it fares."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from autokv import __version__
from autokv.api.dependencies import DatabaseDep
from autokv.api.problems import RETRY_SECONDS, problem
from autokv.api.responses import files, problems
from autokv.errors import StorageError
from autokv.storage import Database
from autokv.wire import View

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds."""


class Metrics:
    """The metrics of one application; several may live in one process."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "autokv_http_requests", "Answered requests.", ("method", "route", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "autokv_http_request_duration_seconds",
            "From a request's first byte to the last of its response; event streams are left out.",
            ("method", "route"),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._streams = Gauge("autokv_event_streams", "Event streams that are open.", registry=self._registry)
        build = Gauge("autokv_build_info", "Versions; always 1.", ("version", "python"), registry=self._registry)
        build.labels(__version__, platform.python_version()).set(1)

    @contextmanager
    def of(self, database: Database, streams: Callable[[], int]) -> Iterator[None]:
        """Tell of ``database`` and of ``streams`` while the block runs."""
        stored = _Stored(database)
        self._streams.set_function(streams)
        self._registry.register(stored)
        try:
            yield
        finally:
            self._registry.unregister(stored)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)


class _Stored(Collector):
    """Read when it is scraped; a database that cannot be reached is told as such."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> list[Metric]:
        """Registering it asks the database nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        try:
            found = self._database.summaries.figures()
        except StorageError:
            yield GaugeMetricFamily("autokv_database_up", "Whether the database answers.", value=0)
            return
        yield GaugeMetricFamily("autokv_database_up", "Whether the database answers.", value=1)
        jobs = GaugeMetricFamily("autokv_jobs", "Jobs that are stored.", labels=["state"])
        for state, count in found.jobs.items():
            jobs.add_metric([state], count)
        yield jobs
        workers = GaugeMetricFamily("autokv_workers", "Workers, as far as they were heard of.", labels=["state"])
        for state, count in found.workers.items():
            workers.add_metric([state], count)
        yield workers
        yield GaugeMetricFamily(
            "autokv_queue_oldest_age_seconds", "How long the oldest queued job has waited.", value=found.oldest_seconds
        )
        yield CounterMetricFamily("autokv_trials", "Trials that are stored.", value=found.trials)


router = APIRouter(tags=["health"])


class Health(View):
    """All is well."""

    status: Literal["ok"] = "ok"


@router.get("/healthz", summary="Liveness", responses=problems())
async def healthz() -> Health:
    """The process answers; nothing else is asked."""
    return Health()


@router.get("/readyz", response_model=Health, summary="Readiness", responses=problems())
def readyz(request: Request, database: DatabaseDep) -> Health | Response:
    """The database answers, and has this version's schema."""
    try:
        database.check_ready()
    except StorageError as error:
        return problem(request, 503, "unavailable", str(error), headers={"Retry-After": str(RETRY_SECONDS)})
    return Health()


@router.get(
    "/metrics",
    response_class=Response,
    summary="Metrics for Prometheus",
    responses=problems() | {200: files("In Prometheus' text format.", "text/plain")},
)
def metrics(request: Request) -> Response:
    """Counts of requests, jobs and workers, and times, in base units."""
    found: Metrics = request.app.state.metrics
    return Response(found.text(), media_type=CONTENT_TYPE_LATEST)
