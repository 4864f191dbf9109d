"""What only a cluster has: workers for some queues, a broker that may be wrong, absent or talked to by strangers."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from kombu import Connection

from orchestrator.broker import TASK, broker_queue, celery_app
from orchestrator.domain.queue import Queue
from tests.house import CELERY, Services, house, write_limb_study
from tests.servers.postgres import postgres
from tests.servers.rabbitmq import rabbitmq

PIPELINES = str(Path(__file__).resolve().parents[1] / "pipelines")
STAT = Queue("cpu", "stat")


def slowly(priority: str = "routine") -> list[dict]:
    return [
        {
            "name": "slowly",
            "when": {"all": [{"field": "series.modality", "eq": "CT"}]},
            "run": ["slow_bone"],
            "priority": priority,
            "send": ["pacs", "share"],
        }
    ]


@pytest.fixture
def servers(postgres_server, rabbitmq_server):
    return Services(postgres_server.new_database(), rabbitmq_server.new_vhost())


def findings(tendon, **changed: str) -> dict[str, str]:
    return json.loads(tendon.tendon("check", "--json", expect=None, **changed))["findings"]


def test_a_worker_serves_the_queues_it_names_and_no_other(tmp_path, servers):
    with house(tmp_path, slowly("routine"), servers, TENDON_PIPELINES_DIR=PIPELINES) as tendon:
        tendon.commands = {**tendon.commands, "worker": [CELERY, "-q", "-A", "workers", "worker", "-Q", str(STAT)]}
        tendon.start()
        tendon.send(write_limb_study(tmp_path / "study", with_region=False))
        tendon.until(lambda: bool(tendon.jobs()))
        with tendon.records.reading() as unit:
            (stage,) = unit.jobs.stages(tendon.jobs()[0]["id"])
        time.sleep(3)
        assert [(s["state"], s["attempt"]) for s in tendon.jobs()[0]["stages"]] == [("ready", 0)]

        tendon.kill("worker")
        tendon.commands["worker"][-1] = "tendon.cpu.routine"
        tendon.start("worker")

        (job,) = tendon.settled(1)
        assert (job["state"], stage.lane, stage.priority) == ("done", "cpu", "routine")


def test_a_stage_longer_than_any_time_out_of_the_broker_is_done_once(tmp_path, postgres_server):
    with rabbitmq(consumer_timeout_ms=1000) as broker:
        services = Services(postgres_server.new_database(), broker.url)
        with house(tmp_path, slowly(), services, TENDON_PIPELINES_DIR=PIPELINES) as tendon:
            tendon.start()
            for name in ("one", "two"):
                tendon.send(write_limb_study(tmp_path / name, name, with_region=False))

            jobs = tendon.settled(2)

            assert [job["state"] for job in jobs] == ["done", "done"]
            assert {s["attempt"] for job in jobs for s in job["stages"]} == {1}
            assert len(list(tendon.pacs_folder.glob("*.dcm"))) == 2


def test_messages_that_nobody_can_use_become_an_alarm_and_run_nothing(tmp_path, servers):
    with house(tmp_path, slowly(), servers, TENDON_PIPELINES_DIR=PIPELINES) as tendon:
        tendon.start()
        with Connection(servers.broker_url) as connection:
            producer = connection.Producer()
            address = {"exchange": "tendon", "routing_key": str(STAT), "retry": False}
            producer.publish(b"\x80\x04cos\nsystem\n.", content_type="application/x-python-serialize", **address)
            producer.publish({"any": "thing"}, **address)
            producer.publish("neither", **address)
            forged = celery_app(servers.broker_url)
            forged.send_task(TASK, args=("../../etc",), queue=broker_queue(STAT), producer=producer, retry=False)

        def alarms() -> list[str]:
            return [text for name, text in findings(tendon).items() if name == f"alarm TND-9006 on {STAT}"]

        tendon.until(lambda: alarms() == ["rejected (4 times)"])
        assert tendon.jobs() == []
        with Connection(servers.broker_url) as connection, connection.channel() as channel:
            assert broker_queue(STAT)(channel).get() is None


def test_check_names_what_is_wrong_with_the_servers(tmp_path, postgres_server, rabbitmq_server):
    services = Services(postgres_server.new_database(), rabbitmq_server.new_vhost())
    with house(tmp_path, slowly(), services, TENDON_PIPELINES_DIR=PIPELINES) as tendon:
        sound = findings(tendon)
        assert {sound[name] for name in ("database schema", "broker queues", "clock", "rules")} == {"ok"}

        with Connection(services.broker_url) as connection, connection.channel() as channel:
            channel.queue_delete(str(STAT))
        assert findings(tendon)["broker queues"].startswith(f"missing: {STAT}:")
        tendon.tendon("migrate")
        assert findings(tendon)["broker queues"] == "ok"

        old = findings(tendon, TENDON_DATABASE_URL=postgres_server.new_database())
        assert "TND-9002" in old["database"]
        strange = findings(tendon, TENDON_BROKER_URL="amqp://guest:guest@broker.example:1/x")
        assert "default account" in strange["broker account"]
        assert "not encrypted" in strange["broker connection"]
        assert "TND-9007" in strange["broker"]


def test_broker_and_database_may_be_killed_while_work_goes_on(tmp_path):
    with postgres() as database, rabbitmq() as broker:
        services = Services(database.new_database(), broker.url)
        with house(tmp_path, slowly(), services, TENDON_PIPELINES_DIR=PIPELINES) as tendon:
            vhost_queues = [str(Queue("cpu", p)) for p in ("stat", "routine", "batch")]
            broker.wait_until_on_disk(broker.url, *vhost_queues)
            tendon.start()
            tendon.send(write_limb_study(tmp_path / "one", "one", with_region=False))
            tendon.until(lambda: any(s["state"] == "leased" for job in tendon.jobs() for s in job["stages"]))
            broker.kill()
            database.kill()
            database.start()
            tendon.send(write_limb_study(tmp_path / "two", "two", with_region=False))
            jobs = tendon.settled(2)
            broker.start()
            tendon.send(write_limb_study(tmp_path / "three", "three", with_region=False))
            jobs = tendon.settled(3)

            assert {job["state"] for job in jobs} == {"done"}
            assert {s["attempt"] for job in jobs for s in job["stages"]} == {1}
            assert len(list(tendon.pacs_folder.glob("*.dcm"))) == 3
            assert all(process.poll() is None for process in tendon.roles.values())


def test_a_leader_that_was_paused_past_its_lease_wakes_up_late_and_nothing_is_done_twice(tmp_path, servers):
    with house(tmp_path, slowly(), servers, TENDON_PIPELINES_DIR=PIPELINES) as tendon:
        tendon.commands = {**tendon.commands, "second rounds": tendon.commands["rounds"]}
        tendon.start()
        leader, follower = tendon.roles["rounds"], tendon.roles["second rounds"]
        for paused, working in ((leader, follower), (follower, leader)):
            paused.send_signal(signal.SIGSTOP)
            name = f"while {paused.pid} sleeps"
            tendon.send(write_limb_study(tmp_path / name, name, with_region=False))
            tendon.until(lambda: all(job["state"] == "done" for job in tendon.jobs()) and bool(tendon.jobs()))
            paused.send_signal(signal.SIGCONT)
            assert working.poll() is None
        jobs = tendon.settled(2)
        assert {s["attempt"] for job in jobs for s in job["stages"]} == {1}
        assert len(list(tendon.pacs_folder.glob("*.dcm"))) == 2
