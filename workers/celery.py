"""`celery -A workers worker -Q tendon.gpu.stat,tendon.gpu.routine`: a complete worker.

Celery keeps the connection and hands over messages; each one only rings a bell. The engine, in a
thread of its own, claims from the records what the queues named allow, and looks each second anyway.
"""

from __future__ import annotations

import logging
import os
import re
import signal
from threading import Event, Thread, current_thread
from typing import TYPE_CHECKING, Any, Final

from celery import bootsteps, signals
from celery.exceptions import Reject
from celery.worker.consumer import Consumer

from orchestrator import settings
from orchestrator.broker import TASK, celery_app
from orchestrator.commands.role import monitored, opened
from orchestrator.domain.health import works
from orchestrator.domain.queue import Queue
from orchestrator.telemetry import log_to_stderr
from workers.bench import bench_for
from workers.consume import work_until

if TYPE_CHECKING:
    from kombu import Message

_STAGE_ID: Final = re.compile(r"[0-9a-f]{32}")
_log = logging.getLogger("tendon.worker")


class EventBell:
    """The port `Bell`, rung by messages."""

    def __init__(self) -> None:
        self._rung = Event()

    def ring(self) -> None:
        """Wake who waits."""
        self._rung.set()

    def wait(self, timeout_s: float) -> None:
        """Until it rings."""
        self._rung.wait(timeout_s)
        self._rung.clear()

    def close(self) -> None:
        """Let the waiting return."""
        self._rung.set()


bell = EventBell()
site = settings.load()
if not site.broker_url:
    raise settings.InvalidSettingError("TENDON_BROKER_URL must name the broker of this worker")
app = celery_app(site.broker_url)
app.conf.update(worker_pool="solo", worker_concurrency=1, worker_consumer="workers.celery:Waker")


@signals.setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
def log_as_tendon_does(**_: Any) -> None:
    """Celery configures no logging of its own: its lines would quote messages."""
    log_to_stderr()


@app.task(name=TASK, shared=False)  # type: ignore[untyped-decorator]
def work(stage_id: object) -> None:
    """Wake the engine. Anything but a stage id is refused and becomes a dead letter."""
    if not isinstance(stage_id, str) or not _STAGE_ID.fullmatch(stage_id):
        raise Reject(requeue=False)
    bell.ring()


class Waker(Consumer):  # type: ignore[misc]
    """Celery's consumer without its talk among workers; what cannot be read is a dead letter, not dropped."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        quiet = {"without_mingle": True, "without_gossip": True, "without_heartbeat": True}
        super().__init__(*arguments, **{**options, **quiet})

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """Refuse what is not JSON."""
        _log.error("a message could not be read: %s", type(exc).__name__)
        message.reject()

    def on_unknown_task(self, body: Any, message: Message, exc: Exception) -> None:  # noqa: ARG002
        """Refuse what is not ours."""
        _log.error("a message names no task of ours")
        message.reject()

    def on_unknown_message(self, body: Any, message: Message) -> None:  # noqa: ARG002
        """Refuse what is no task at all."""
        _log.error("a message is no task")
        message.reject()


class Engine(bootsteps.StartStopStep):  # type: ignore[misc]
    """Runs the stages of the worker's queues beside Celery's consumer, whether the broker answers or not."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._stopping = Event()
        self._thread: Thread | None = None
        self._queues = tuple(Queue.named(name) for name in worker.app.amqp.queues.consume_from)

    def start(self, worker: Any) -> None:  # noqa: ARG002
        """Begin to work."""
        self._thread = Thread(target=self._run, name="engine")
        self._thread.start()

    def _run(self) -> None:
        """Work until told to stop; should that end by itself, the whole worker ends, to be started again."""
        try:
            engine = current_thread()
            checks = {"engine": lambda: works(engine.is_alive())}
            with opened() as system, monitored(system, site.health_port, checks):
                _log.info("working on %s", ", ".join(map(str, self._queues)))
                work_until(bench_for(system, self._queues), self._stopping, bell)
        finally:
            if not self._stopping.is_set():
                os.kill(os.getpid(), signal.SIGTERM)

    def stop(self, worker: Any) -> None:  # noqa: ARG002
        """End; what is in hand is leased again elsewhere."""
        self._stopping.set()
        bell.close()
        if self._thread is not None:
            self._thread.join()

    terminate = stop


app.steps["worker"].add(Engine)
