"""Real peers at the real listener: what a rejected one is told on the wire, and what the audit trail keeps of it."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from pynetdicom import AE

from orchestrator import settings
from orchestrator.assembly import open_system
from orchestrator.dicom import listener
from orchestrator.domain.delivery import Node
from orchestrator.domain.site import SiteContent
from orchestrator.service.operating import audited, replace_site
from orchestrator.service.routing import due_studies, route_study
from orchestrator.store import records as store_records
from tests.dicom_peers import CT, EXPLICIT, LOOPBACK, associate_rq, associated, eventually, program, read_pdu
from tests.house import write_limb_study

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.assembly import System

ELSEWHERE = "127.0.0.2"
"""Another address of this machine, for a peer of its own."""
NODES = (
    Node("ct-emergency", "CT", LOOPBACK, 104, site="main"),
    Node("ct-outpatient", "CT", ELSEWHERE, 104, site="annexe"),
    Node("mr", "MR", ELSEWHERE, 104),
    Node("reader", "READER", LOOPBACK, 104, may_send=False),
)
EMERGENCY_ONLY = {
    "name": "Emergency",
    "when": {"all": [{"field": "node.name", "eq": "ct-emergency"}]},
    "run": ["bone_ct"],
    "send": [],
}
REJECTED = 3


@dataclass
class Door:
    """The listener at work."""

    system: System
    port: int

    def echo(self, calling: str, called: str = "TENDON") -> str:
        """What DCMTK's echoscu says of it; nothing when it was answered."""
        echoscu = [program("echoscu"), "-aet", calling, "-aec", called, LOOPBACK, str(self.port)]
        return subprocess.run(echoscu, check=False, capture_output=True, text=True, timeout=30).stderr

    def trail(self, *, event: str = "association.rejected") -> list[tuple[str, ...]]:
        """Reason, titles, address and node of every event, oldest first."""
        found = [e for e in audited(self.system.records, 1000)[::-1] if e.event == event]
        return [(e.reason, e.actor, e.called_ae, e.address, e.node) for e in found]


@contextmanager
def opened(folder: Path, rules: tuple[dict, ...] = ()) -> Iterator[Door]:
    given = {
        "TENDON_DATA_DIR": str(folder / "data"),
        "TENDON_DICOM_PORT": "0",
        "TENDON_QUIET_SECONDS": "0.1",
        "TENDON_CALLED_AE_TITLES": "OLD ROUTER",
    }
    system = open_system(settings.load(given))
    replace_site(system.records, system.clock, SiteContent(nodes=NODES, rules=rules), "test")
    scp = system.scp()
    port = scp.start()
    try:
        yield Door(system, port)
    finally:
        scp.stop()
        system.records.close()


@pytest.fixture
def door(tmp_path):
    with opened(tmp_path) as door:
        yield door


CALLING, CALLED = "Calling AE Title Not Recognized", "Called AE Title Not Recognized"


@pytest.mark.parametrize(
    ("calling", "called", "told", "kept"),
    [
        ("STRANGER", "TENDON", CALLING, ("calling-ae-unknown", "STRANGER", "TENDON", LOOPBACK, "")),
        ("MR", "TENDON", CALLING, ("address-wrong", "MR", "TENDON", LOOPBACK, "")),
        ("READER", "TENDON", CALLING, ("may-not-send", "READER", "TENDON", LOOPBACK, "reader")),
        ("CT", "TEMDON", CALLED, ("called-ae-unknown", "CT", "TEMDON", LOOPBACK, "")),
    ],
)
def test_a_peer_of_another_maker_is_told_and_the_trail_keeps_why(door, calling, called, told, kept):
    said = door.echo(calling, called)
    assert "Rejected Permanent" in said
    assert told in said
    assert eventually(lambda: door.trail() == [kept])
    assert door.trail(event="association.opened") == []


def test_storescu_of_a_stranger_stores_nothing(door, tmp_path):
    images = write_limb_study(tmp_path / "sent", with_region=False)[:1]
    storescu = [program("storescu"), "-aet", "STRANGER", "-aec", "TENDON", LOOPBACK, str(door.port), str(images[0])]
    ran = subprocess.run(storescu, check=False, capture_output=True, text=True, timeout=30)
    assert CALLING in ran.stderr
    with door.system.records.reading() as unit:
        assert unit.studies.page(10) == []


def test_a_sender_is_let_in_under_each_of_our_titles_and_the_trail_keeps_which(door):
    assert [door.echo("CT", called) for called in ("TENDON", "OLD ROUTER")] == ["", ""]
    assert door.trail(event="association.opened") == [
        ("", "CT", called, LOOPBACK, "ct-emergency") for called in ("TENDON", "OLD ROUTER")
    ]
    assert door.trail() == []


def test_over_a_limit_a_sender_is_told_so_and_the_trail_keeps_which_limit(door, monkeypatch):
    monkeypatch.setattr(listener, "MAXIMUM_PER_PEER", 2)
    with ExitStack() as held:
        for called in ("TENDON", "OLD ROUTER"):
            held.enter_context(associated(door.port, called, "CT"))
        said = door.echo("CT")
        assert "Rejected Transient" in said
        assert "Local Limit Exceeded" in said
        monkeypatch.setattr(listener, "MAXIMUM_ASSOCIATIONS", 2)
        assert "Local Limit Exceeded" in door.echo("MR")
    assert eventually(lambda: len(door.trail()) == 2)
    assert [(reason, actor) for reason, actor, *_ in door.trail()] == [("limit-of-peer", "CT"), ("limit-of-all", "MR")]


def test_a_peer_that_hammers_is_counted_and_what_was_counted_is_written_at_the_end(tmp_path):
    with opened(tmp_path) as door:
        for _ in range(300):
            with socket.create_connection((LOOPBACK, door.port), timeout=10) as connection:
                connection.sendall(associate_rq("TENDON", "STRANGER"))
                assert read_pdu(connection)[0] == REJECTED
        assert door.echo("CT") == ""
    system = open_system(settings.load({"TENDON_DATA_DIR": str(tmp_path / "data")}))
    found = [event for event in audited(system.records, 1000) if event.event == "association.rejected"]
    system.records.close()
    assert sum(event.times for event in found) == 300
    assert len(found) <= 3


def test_while_the_database_cannot_be_written_rejections_wait_and_delay_nobody(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(store_records, "_BUSY_TIMEOUT_MS", 50)
    with opened(tmp_path) as door:
        with closing(sqlite3.connect(tmp_path / "data" / "tendon.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert CALLING in door.echo("STRANGER")
            assert "Rejected Transient" in door.echo("CT")
            for said in ("rejected associations could not be written", "no association could be opened"):
                assert eventually(lambda said=said: f"{said}: TND-9008" in caplog.text)
            other.execute("ROLLBACK")
        assert door.echo("CT") == ""
    system = open_system(settings.load({"TENDON_DATA_DIR": str(tmp_path / "data")}))
    found = {(event.event, event.actor, event.times) for event in audited(system.records, 1000)}
    system.records.close()
    assert found == {("association.rejected", "STRANGER", 1), ("association.opened", "CT", 1)}


# two machines with one AE title


def store_from(address: str, images: list[Path], port: int, called: str = "TENDON") -> None:
    """Send as AE title CT from this address."""
    entity = AE("CT")
    entity.add_requested_context(CT, EXPLICIT)
    association = entity.associate(LOOPBACK, port, ae_title=called, bind_address=(address, 0))
    assert association.is_established
    assert {association.send_c_store(path).Status for path in images} == {0}
    association.release()
    association.join()


def test_two_machines_with_one_title_are_told_apart_up_to_the_rule_that_decides(tmp_path):
    studies = {}
    with opened(tmp_path, (EMERGENCY_ONLY,)) as door:
        for address, called in ((LOOPBACK, "TENDON"), (ELSEWHERE, "OLD ROUTER")):
            images = write_limb_study(tmp_path / address, address, with_region=False)
            store_from(address, images, door.port, called)
        router = door.system.router()
        assert eventually(lambda: len(due_studies(router)) == 2)
        for study_uid in due_studies(router):
            route_study(router, study_uid)
        with door.system.records.reading() as unit:
            for study_uid, _ in unit.studies.page(10):
                study = unit.studies.get(study_uid)
                visit = unit.studies.association(study.series[0].instances[0].association_id)
                jobs = [job.pipeline for job in unit.jobs.of_study(study_uid)]
                said = " ".join(decision.reason for *_, decision in unit.jobs.decisions(study_uid))
                studies[visit.address] = (visit.calling_ae, visit.called_ae, visit.node, jobs)
                assert jobs or "node.name" in said
    assert studies == {
        LOOPBACK: ("CT", "TENDON", "ct-emergency", ["bone_ct"]),
        ELSEWHERE: ("CT", "OLD ROUTER", "ct-outpatient", []),
    }
