"""What is broken, by whom it is found: each fault is a function of the site and a source of chance."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
import urllib.error
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
from kombu import Connection
from kombu.exceptions import KombuError

from tests.faults.campaign.roles import kill
from tests.faults.checker.records import ask

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from tests.faults.campaign.site import Site

    Fault = Callable[[Site, random.Random], None]

QUEUES = ("tendon.cpu.stat", "tendon.cpu.routine", "tendon.cpu.batch")
SMALLEST_FILE_BYTES = 2048
"""An image is larger, so its object cannot be written."""


def _killing(role: str) -> Fault:
    return lambda site, _: site.roles.signal(role, signal.SIGKILL) and None


def kill_worker_of_serve(site: Site, _: random.Random) -> None:
    kill(site.roles.named["serve"].below("-m workers"))


def kill_stage(site: Site, rng: random.Random) -> None:
    """What computes a stage, at a random moment of its life: it is waited for, since it lives for half a second."""
    deadline = time.monotonic() + 5
    name = "worker" if site.mode == "distributed" else "serve"
    while time.monotonic() < deadline:
        found = site.roles.named[name].below("workers.perform")
        if found:
            time.sleep(rng.random() * 0.3)
            kill([rng.choice(found)])
            return
        time.sleep(0.02)


def kill_all(site: Site, _: random.Random) -> None:
    """Every role at one moment."""
    for name in site.roles.named:
        site.roles.signal(name, signal.SIGKILL)


def _pausing(role: str, word: str = "") -> Fault:
    """Stopped past its lease, then woken."""

    def pause(site: Site, rng: random.Random) -> None:
        paused = site.roles.named[role]
        pids = paused.below(word)[:1] if word else paused.pids
        if pids:
            _send(pids[0], signal.SIGSTOP)
            time.sleep(rng.uniform(2.5, 6))
            _send(pids[0], signal.SIGCONT)

    return pause


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _limit(pids: Sequence[int], limits: tuple[int, int]) -> None:
    """Children begin with the limits of their parents, so all are limited and all are let go."""
    for pid in pids:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def _filling(role: str) -> Fault:
    """A full disk as far as an ordinary account can have one: no file of the process grows beyond a size (EFBIG)."""

    def fill(site: Site, rng: random.Random) -> None:
        process = site.roles.named[role]
        if process.pids:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            _limit([*process.pids, *process.below()], (SMALLEST_FILE_BYTES, hard))
            time.sleep(rng.uniform(1, 3))
            _limit([*process.pids, *process.below()], (hard, hard))

    return fill


def _cutting(line: str) -> Fault:
    def cut(site: Site, rng: random.Random) -> None:
        site.lines[line].cut = rng.choice(("silent", "no answers", "reset"))
        time.sleep(rng.uniform(0.5, 6))
        site.lines[line].cut = "whole"

    return cut


def cut_power(site: Site, rng: random.Random) -> None:
    """What is not on the disk by now is lost; the machine starts again at once."""
    assert site.disk is not None
    site.disk.cut()
    with site.roles.without_power("serve"):
        site.disk.unmount()
        time.sleep(rng.random())
        site.disk.mount()


def kill_database(site: Site, rng: random.Random) -> None:
    assert site.database is not None
    site.database.kill()
    time.sleep(rng.random() * 2)
    site.database.start()


def end_sessions(site: Site, _: random.Random) -> None:
    """Every session of the database at one moment, whatever it is about to do."""
    assert site.database is not None
    with psycopg.connect(site.database.url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


def kill_broker(site: Site, rng: random.Random) -> None:
    assert site.broker is not None
    site.broker.kill()
    time.sleep(rng.random() * 2)
    site.broker.start()


def wipe_broker(site: Site, _: random.Random) -> None:
    """The broker comes back with no queue and no message."""
    assert site.broker is not None
    site.broker.kill()
    site.broker.wipe()
    site.broker.start()


def lose_messages(site: Site, _: random.Random) -> None:
    assert site.broker is not None
    look_at_messages(site)
    vhost = site.broker.url.rpartition("/")[2]
    for queue in QUEUES:
        with suppress(urllib.error.HTTPError):
            site.broker.ask(f"/api/queues/{vhost}/{queue}/contents", "DELETE")


def double_messages(site: Site, rng: random.Random) -> None:
    """Copies of messages for stages of any state, ended ones too, and for stages that never were."""
    assert site.broker is not None
    stages = [row["id"] for row in ask(site.database_url, "SELECT id FROM stages")]
    chosen = rng.choices([*stages, uuid.uuid4().hex], k=20)
    with suppress(OSError, KombuError), Connection(site.broker.url, connect_timeout=4) as connection:
        producer = connection.Producer()
        for stage in chosen:
            headers = {"task": "tendon.work", "id": stage, "lang": "py"}
            producer.publish(
                json.dumps([[stage], {}, {}]),
                exchange="tendon",
                routing_key=rng.choice(QUEUES),
                content_type="application/json",
                content_encoding="utf-8",
                headers=headers,
                retry=False,
            )


def look_at_messages(site: Site) -> None:
    """Keep a copy of what lies in the queues, for the checker."""
    if site.broker is None:
        return
    vhost = site.broker.url.rpartition("/")[2]
    look = {"count": 1000, "ackmode": "ack_requeue_true", "encoding": "auto"}
    for queue in (*QUEUES, "tendon.dead"):
        with suppress(urllib.error.HTTPError):
            site.messages.append(json.dumps(site.broker.ask(f"/api/queues/{vhost}/{queue}/get", "POST", look)).encode())


BOTH: dict[str, Fault] = {
    "kill stage process": kill_stage,
    "kill everything": kill_all,
    "kill PACS": _killing("pacs"),
    "pause PACS": _pausing("pacs"),
    "cut line to PACS": _cutting("pacs"),
    "cut line from modality": _cutting("modality"),
}
FAULTS: dict[str, dict[str, Fault]] = {
    "embedded": {
        **BOTH,
        "kill serve": _killing("serve"),
        "kill worker": kill_worker_of_serve,
        "pause serve": _pausing("serve"),
        "pause worker": _pausing("serve", "-m workers"),
        "full disk for serve": _filling("serve"),
    },
    "power": {"cut power": cut_power},
    "distributed": {
        **BOTH,
        **{f"kill {role}": _killing(role) for role in ("scp", "rounds", "admin", "worker")},
        **{f"pause {role}": _pausing(role) for role in ("scp", "rounds", "worker")},
        **{f"full disk for {role}": _filling(role) for role in ("scp", "worker")},
        **{f"cut line to {line}": _cutting(line) for line in ("database", "broker")},
        "kill database": kill_database,
        "end database sessions": end_sessions,
        "kill broker": kill_broker,
        "wipe broker": wipe_broker,
        "lose messages": lose_messages,
        "double messages": double_messages,
    },
}
