"""Announcements over a real broker: queues made ahead, one id a message, every loss of the broker only a delay."""

from __future__ import annotations

import json
from contextlib import closing, suppress

import pytest
from kombu import Connection

from orchestrator.broker import (
    DEAD_LETTERS,
    CeleryAnnouncer,
    DeadLetter,
    DeadLetters,
    broker_queue,
    declare_queues,
    missing_queues,
)
from orchestrator.domain.errors import Fault, Transient
from orchestrator.domain.queue import LANES, Queue, queues_of
from tests.dicom_peers import eventually
from tests.servers.folder import reserved_port
from tests.servers.rabbitmq import rabbitmq

STAGE = "0123456789abcdef0123456789abcdef"
STAT = Queue("gpu", "stat")
ALL = sorted([*map(str, queues_of(LANES)), DEAD_LETTERS])


@pytest.fixture
def url(rabbitmq_server):
    return rabbitmq_server.new_vhost()


@pytest.fixture
def declared(url):
    declare_queues(url)
    return url


def messages(url, queue=STAT) -> list:
    found = []
    with Connection(url) as connection, connection.channel() as channel:
        while (message := broker_queue(queue)(channel).get(no_ack=True)) is not None:
            found.append(message)
    return found


def test_every_queue_is_missing_until_it_is_declared_and_declaring_again_is_harmless(url):
    assert sorted(missing_queues(url)) == ALL
    declare_queues(url)
    declare_queues(url)
    assert missing_queues(url) == []


def test_a_queue_somebody_removed_is_named(declared):
    with Connection(declared) as connection, connection.channel() as channel:
        channel.queue_delete(str(STAT))
    assert missing_queues(declared) == ["tendon.gpu.stat"]


def test_the_queues_outlive_their_broker_and_hand_over_what_cannot_be_used(declared, rabbitmq_server):
    vhost = declared.rpartition("/")[2]
    queues = {q["name"]: q for q in rabbitmq_server.ask(f"/api/queues/{vhost}")}
    assert sorted(queues) == ALL
    for queue in queues_of(LANES):
        made = queues[str(queue)]
        assert (made["type"], made["durable"]) == ("quorum", True)
        assert made["arguments"]["x-dead-letter-exchange"] == DEAD_LETTERS
        assert made["arguments"]["x-overflow"] == "reject-publish"


def test_an_announcement_is_one_message_with_one_id(declared):
    with closing(CeleryAnnouncer(declared)) as announcer:
        announcer.announce(STAT, STAGE)
    (message,) = messages(declared)
    assert message.content_type == "application/json"
    arguments, keywords, _ = json.loads(message.body)
    assert (arguments, keywords) == ([STAGE], {})
    assert messages(declared, Queue("gpu", "routine")) == []


def test_a_broker_that_is_not_there_is_a_matter_of_waiting():
    nowhere = f"amqp://tendon:x@127.0.0.1:{reserved_port()}/tendon"
    for ask in (
        lambda: CeleryAnnouncer(nowhere).announce(STAT, STAGE),
        lambda: missing_queues(nowhere),
        lambda: DeadLetters(nowhere).take(print, 1),
    ):
        with pytest.raises(Transient) as refused:
            ask()
        assert refused.value.fault is Fault.BROKER_UNREACHABLE


def test_an_announcer_survives_its_broker_killed_and_its_broker_wiped():
    with rabbitmq() as broker, closing(CeleryAnnouncer(broker.url)) as announcer:
        announcer.announce(STAT, STAGE)
        for loses_data in (False, True):
            broker.kill()
            with pytest.raises(Transient):
                announcer.announce(STAT, STAGE)
            if loses_data:
                broker.wipe()
            broker.start()
            assert eventually(lambda: announced(announcer), timeout_s=20)
            assert len(messages(broker.url)) >= 1


def announced(announcer: CeleryAnnouncer) -> bool:
    with suppress(Transient):
        announcer.announce(STAT, STAGE)
        return True
    return False


def test_dead_letters_are_told_with_their_queue_and_reason_and_taken_away(declared):
    with Connection(declared) as connection, connection.channel() as channel:
        producer = connection.Producer(channel)
        for _ in range(3):
            producer.publish("nonsense", exchange="tendon", routing_key=str(STAT), retry=False)
        for _ in range(3):
            assert eventually(lambda: rejected(channel))
    told: list[DeadLetter] = []
    with closing(DeadLetters(declared)) as letters:
        assert eventually(lambda: letters.take(told.append, 2) and len(told) >= 2)
        assert eventually(lambda: letters.take(told.append, 9) and len(told) == 3)
        assert told == [DeadLetter("tendon.gpu.stat", "rejected")] * 3
        assert letters.take(told.append, 9) == 0


def rejected(channel) -> bool:
    message = broker_queue(STAT)(channel).get()
    if message is not None:
        message.reject()
    return message is not None


def test_a_dead_letter_that_could_not_be_noted_stays(declared):
    with Connection(declared) as connection:
        connection.Producer().publish("x", exchange=DEAD_LETTERS, routing_key="any", retry=False)

    def fail(letter: DeadLetter) -> None:
        raise KeyError(letter.queue)

    told: list[DeadLetter] = []
    with closing(DeadLetters(declared)) as letters:
        assert eventually(lambda: fails(lambda: letters.take(fail, 1)))
        assert eventually(lambda: letters.take(told.append, 1) == 1)
    assert told == [DeadLetter("?", "?")]


def fails(step) -> bool:
    try:
        step()
    except KeyError:
        return True
    return False
