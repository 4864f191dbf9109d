"""The message broker: queues by lane and priority, the port `Announcer`, and messages nobody could use.

A message carries one stage id and is a wake-up, not the work: it is acknowledged at once, whatever its
stage does, so no broker time-out can touch a long stage, and losing it costs a delay only.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from celery import Celery
from kombu import Connection, Exchange, Producer
from kombu import Queue as BrokerQueue
from kombu.exceptions import OperationalError

from orchestrator.domain.errors import Fault, Transient
from orchestrator.domain.queue import LANES, Queue, queues_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from amqp import Channel

TASK: Final = "tendon.work"
DEAD_LETTERS: Final = "tendon.dead"

_CONNECT_TIMEOUT_S: Final = 4
_HEARTBEAT_S: Final = 10
_DELIVERY_LIMIT: Final = 3
_LENGTH_LIMIT: Final = 100_000
_TRANSPORT: Final = {"confirm_publish": True, "connect_timeout": _CONNECT_TIMEOUT_S}

_WORK_EXCHANGE: Final = Exchange("tendon", type="topic", durable=True)
_DEAD_EXCHANGE: Final = Exchange(DEAD_LETTERS, type="fanout", durable=True)
_DEAD_QUEUE: Final = BrokerQueue(
    DEAD_LETTERS, _DEAD_EXCHANGE, durable=True, queue_arguments={"x-queue-type": "quorum", "x-max-length": 10_000}
)


def broker_queue(queue: Queue) -> BrokerQueue:
    """A queue as the broker keeps it: replicated, bounded, and with a way out for what cannot be used."""
    return BrokerQueue(
        str(queue),
        _WORK_EXCHANGE,
        routing_key=str(queue),
        durable=True,
        queue_arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": _DELIVERY_LIMIT,
            "x-max-length": _LENGTH_LIMIT,
            "x-overflow": "reject-publish",
            "x-dead-letter-exchange": DEAD_LETTERS,
            "x-dead-letter-strategy": "at-least-once",
        },
    )


def declare_queues(url: str) -> None:
    """Make every queue, at deploy time: one made in a burst may not survive the broker's next crash.

    Raises Transient BROKER_UNREACHABLE.
    """
    with _answering(), _connection(url) as connection, connection.channel() as channel:
        _DEAD_QUEUE(channel).declare()
        for queue in queues_of(LANES):
            broker_queue(queue)(channel).declare()


def missing_queues(url: str) -> list[str]:
    """Names of the queues that are not there. Raises Transient BROKER_UNREACHABLE."""
    missing = []
    with _answering(), _connection(url) as connection:
        for name in (*(str(queue) for queue in queues_of(LANES)), DEAD_LETTERS):
            with connection.channel() as channel:
                try:
                    channel.queue_declare(queue=name, passive=True)
                except connection.channel_errors:
                    missing.append(name)
    return missing


def celery_app(url: str) -> Celery:
    """The Celery application that workers run: JSON only, no results, no remote control."""
    app = Celery("tendon", broker=url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_heartbeat=_HEARTBEAT_S,
        broker_transport_options=dict(_TRANSPORT),
        task_acks_late=True,
        task_create_missing_queues=False,
        task_default_exchange=_WORK_EXCHANGE.name,
        task_default_exchange_type=_WORK_EXCHANGE.type,
        task_default_queue=str(queues_of(LANES)[0]),
        task_default_queue_type="quorum",
        task_ignore_result=True,
        task_queues=[broker_queue(queue) for queue in queues_of(LANES)],
        task_reject_on_worker_lost=True,
        task_serializer="json",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_detect_quorum_queues=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
    )
    return app


class _Line:
    """A channel kept from one use to the next; who finds it broken hangs up, and the next use connects again.

    It is idle for long and sends no heartbeats: TCP finds a lost line within a second of the next use.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._channel: Channel | None = None

    @contextmanager
    def channel(self) -> Iterator[Channel]:
        """The channel; what it held is the broker's again when the block fails. Raises Transient BROKER_UNREACHABLE."""
        try:
            with _answering():
                if self._channel is None:
                    declare_queues(self._url)
                    self._connection = _connection(self._url, heartbeat_s=0)
                    self._channel = self._connection.channel()
                yield self._channel
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            connection, self._connection, self._channel = self._connection, None, None
            connection.release()


class CeleryAnnouncer:
    """The port `Announcer`: Celery messages, published with the broker's confirmation. For one thread."""

    def __init__(self, url: str) -> None:
        self._app = celery_app(url)
        self._line = _Line(url)

    def announce(self, queue: Queue, stage_id: str) -> None:
        """Publish one message; the queues are made again where a wiped broker has none."""
        with self._line.channel() as channel:
            self._app.send_task(
                TASK,
                args=(stage_id,),
                queue=broker_queue(queue),
                producer=Producer(channel),
                retry=False,
                task_id=stage_id,
            )

    def close(self) -> None:
        """Hang up; the next announcement connects again."""
        self._line.close()


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message nobody could use: the queue it came from, and why the broker took it out."""

    queue: str
    reason: str


class DeadLetters:
    """The queue of what nobody could use. For one thread."""

    def __init__(self, url: str) -> None:
        self._line = _Line(url)

    def take(self, note: Callable[[DeadLetter], None], limit: int) -> int:
        """Hand letters to `note`; each is removed from the broker once `note` has returned. Gives how many.

        Raises Transient BROKER_UNREACHABLE.
        """
        taken = 0
        with self._line.channel() as channel:
            while taken < limit:
                message = _DEAD_QUEUE(channel).get(no_ack=False, accept=[])
                if message is None:
                    break
                note(_dead_letter(message.headers))
                message.ack()
                taken += 1
        return taken

    def close(self) -> None:
        """Hang up; the next taking connects again."""
        self._line.close()


def _dead_letter(headers: Any) -> DeadLetter:
    deaths = headers.get("x-death") if isinstance(headers, dict) else None
    death = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    known = {str(queue) for queue in queues_of(LANES)}
    queue = death.get("queue") if death.get("queue") in known else "?"
    reason = death.get("reason")
    return DeadLetter(str(queue), reason if reason in ("rejected", "expired", "maxlen", "delivery_limit") else "?")


def _connection(url: str, heartbeat_s: int = _HEARTBEAT_S) -> Connection:
    return Connection(
        url, connect_timeout=_CONNECT_TIMEOUT_S, heartbeat=heartbeat_s, transport_options=dict(_TRANSPORT)
    )


@contextmanager
def _answering() -> Iterator[None]:
    """Every way in which a broker does not answer is the same to us."""
    errors = (
        OperationalError,
        OSError,
        *Connection("amqp://").connection_errors,
        *Connection("amqp://").channel_errors,
    )
    try:
        yield
    except errors as error:
        raise Transient(Fault.BROKER_UNREACHABLE) from error
