"""Logs without patient data, and metrics for Prometheus."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from datetime import UTC, datetime
from functools import partial
from threading import Lock, Thread
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from orchestrator.domain.errors import TendonError, where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from orchestrator.keeping import Owed
    from orchestrator.ports import Objects, Records

_PATIENCE_S: Final = 2.0
_REPEATED_S: Final = 60.0
_MOST_SENTENCES: Final = 1000
_BUSY: Final = frozenset(
    {"orchestrator.dicom.listener", "orchestrator.dicom.scp", "tendon.recorder", "tendon.recording", "uvicorn.error"}
)
"""Parts whose sentences come with every object, association or request."""

_log = logging.getLogger("tendon.telemetry")


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
    handler.addFilter(_Repeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tendon").setLevel(level)
    for chatty in ("pynetdicom", "pydicom", "highdicom"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


class _Repeats(logging.Filter):
    """Lets the same sentence of a busy part pass once a minute: what hundreds of objects meet is told once."""

    def __init__(self) -> None:
        super().__init__()
        self._told_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is told."""
        if record.name not in _BUSY:
            return True
        now_s, key = time.monotonic(), (record.name, record.getMessage())
        if now_s - self._told_s.get(key, -math.inf) < _REPEATED_S:
            return False
        if len(self._told_s) >= _MOST_SENTENCES:
            self._told_s.clear()
        self._told_s[key] = now_s
        return True


class _Bounded:
    """Collects in a thread of its own: what has no answer in time, since its disk or database hangs, is left out."""

    def __init__(self, collect: Callable[[], Iterable[GaugeMetricFamily]]) -> None:
        self._collect = collect
        self._lock = Lock()
        self._thread: Thread | None = None
        self._found: list[GaugeMetricFamily] = []

    def collect(self) -> list[GaugeMetricFamily]:
        """The families of one scrape; who hangs is not asked again meanwhile."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._found = []
                self._thread = Thread(target=self._ask, name="metrics", daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(_PATIENCE_S)
        return self._found

    def _ask(self) -> None:
        try:
            self._found = list(self._collect())
        except Exception as error:  # noqa: BLE001 - the other metrics are told all the same
            _log.warning("some metrics cannot be told: %s", error if isinstance(error, TendonError) else where(error))


def _of_records(records: Records) -> Iterator[GaugeMetricFamily]:
    """Read at each scrape; labels come from fixed sets only."""
    with records.reading() as unit:
        jobs, deliveries, instances = unit.jobs.counts(), unit.deliveries.counts(), unit.studies.counts()
    yield _family("tendon_jobs", "Jobs by state", "state", jobs)
    yield _family("tendon_deliveries", "Deliveries by state", "state", deliveries)
    yield _family("tendon_instances", "Instances stored", "kind", instances)


def _of_objects(objects: Objects) -> Iterator[GaugeMetricFamily]:
    yield _gauge("tendon_free_bytes", "Free space of the object store", objects.free_bytes())


class _OfJournal:
    """Waits for nothing."""

    def __init__(self, owed: Callable[[], Owed]) -> None:
        self._owed = owed

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families of one scrape."""
        owed = self._owed()
        yield _gauge("tendon_journal_owed_objects", "Objects received whose record is not kept yet", owed.objects)
        yield _gauge("tendon_journal_owed_bytes", "Bytes of these objects", owed.bytes)
        yield _gauge("tendon_journal_oldest_seconds", "How long the first of them has waited", owed.oldest_s)


def _family(name: str, text: str, label: str, counts: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def metrics_of(records: Records, objects: Objects, journal: Callable[[], Owed] | None = None) -> Callable[[], bytes]:
    """A function that gives the metrics in Prometheus' text format within a few seconds, whatever hangs."""
    registry = CollectorRegistry()
    if journal is not None:
        registry.register(_OfJournal(journal))
    registry.register(_Bounded(partial(_of_records, records)))
    registry.register(_Bounded(partial(_of_objects, objects)))
    return lambda: bytes(generate_latest(registry))
