"""A runaway modality at the real listener: it is refused, every other node goes on, and staff are told."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.__main__ import main
from orchestrator.domain.delivery import Node
from orchestrator.domain.site import SiteContent
from orchestrator.service.operating import replace_site
from orchestrator.service.quotas import GB
from tests.benchmarks.site import open_site
from tests.dicom_peers import LOOPBACK, eventually
from tests.modalities import OUT_OF_RESOURCES, SUCCESS, Modality, are_refused, go_on, sending

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.assembly import Receiver

IMAGE_BYTES = 1 << 20
QUOTA_GB = 5 * IMAGE_BYTES / GB
NODES = (
    Node("runaway", "RUNAWAY", LOOPBACK, 104, quota_gb_per_day=QUOTA_GB),
    Node("ct1", "CT1", LOOPBACK, 104),
)


@contextmanager
def started(folder: Path) -> Iterator[tuple[Receiver, int]]:
    system = open_site(folder)
    replace_site(system.records, system.clock, SiteContent(nodes=NODES), "test")
    receiver = system.scp()
    port = receiver.start()
    try:
        yield receiver, port
    finally:
        receiver.stop()
        system.records.close()


def test_over_its_quota_a_node_is_refused_in_this_and_the_next_life_and_others_go_on(
    tmp_path, caplog, monkeypatch, capsys
):
    caplog.set_level(logging.INFO, "tendon.quotas")
    with started(tmp_path) as (receiver, port):
        runaway, ct1 = (Modality(port, IMAGE_BYTES, f"1.2.{n}", title) for n, title in ((1, "RUNAWAY"), (2, "CT1")))
        with sending(runaway, ct1):
            assert are_refused(runaway)
            assert go_on(ct1)
        assert set(runaway.statuses) == {SUCCESS, OUT_OF_RESOURCES}
        assert set(ct1.statuses) == {SUCCESS}
        assert 0 < len(runaway.stored) < 5
        for _ in range(3):
            assert receiver.checks["quotas"]().code == "TND-1015"
        assert receiver.wait_for_records(30)
        assert eventually(lambda: receiver.owed().objects == 0)
    assert caplog.text.count("node runaway is over its quota") == 1
    monkeypatch.setenv("TENDON_DATA_DIR", str(tmp_path))
    assert main(["alarms", "--json"]) == 0
    (alarm,) = json.loads(capsys.readouterr().out)["items"]
    assert (alarm["code"], alarm["subject"], alarm["times"]) == ("TND-1015", "runaway", 1)
    assert main(["audit", "--json"]) == 0
    events = [event for event in json.loads(capsys.readouterr().out)["items"] if event["event"] == "quota.exceeded"]
    assert [(event["node"], event["actor"]) for event in events] == [("runaway", "RUNAWAY")]
    with started(tmp_path) as (_, port):
        again = Modality(port, IMAGE_BYTES, "1.2.3", "RUNAWAY")
        with sending(again):
            assert are_refused(again)
        assert len(runaway.stored) + len(again.stored) < 5
