"""Logs without patient data, and metrics for Prometheus."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.ports import Objects, Records


class _JsonLines(logging.Formatter):
    """One JSON object a line, so that no peer's text can forge a second line."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = {"at": at, "level": record.levelname.lower(), "part": record.name, "event": record.getMessage()}
        return json.dumps(entry)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send what Tendon's own parts say to standard error; libraries stay silent below warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tendon").setLevel(level)
    for chatty in ("pynetdicom", "pydicom", "highdicom"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


class _Gauges:
    """Reads the records at each scrape; labels come from fixed sets only."""

    def __init__(self, records: Records, objects: Objects) -> None:
        self._records = records
        self._objects = objects

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families of one scrape."""
        with self._records.reading() as unit:
            jobs, deliveries, instances = unit.jobs.counts(), unit.deliveries.counts(), unit.studies.counts()
        yield _family("tendon_jobs", "Jobs by state", "state", jobs)
        yield _family("tendon_deliveries", "Deliveries by state", "state", deliveries)
        yield _family("tendon_instances", "Instances stored", "kind", instances)
        free = GaugeMetricFamily("tendon_free_bytes", "Free space of the object store")
        free.add_metric([], self._objects.free_bytes())
        yield free


def _family(name: str, text: str, label: str, counts: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def metrics_of(records: Records, objects: Objects) -> Callable[[], bytes]:
    """A function that gives the metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Gauges(records, objects))
    return lambda: bytes(generate_latest(registry))
