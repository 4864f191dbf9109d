"""A study waits for its order, which an interface engine tells of by the API."""

from __future__ import annotations

import httpx

from orchestrator.domain.result import derive_uid
from tests.house import LOOPBACK, House, house, write_limb_study

RULES = [
    {
        "name": "falls",
        "when": {"all": [{"field": "series.modality", "eq": "CT"}, {"field": "order.reason", "matches": "fall"}]},
        "wait_s": 3600,
        "run": [],
        "send": [],
        "forward": ["share"],
    }
]


STUDY_UID = derive_uid("test", "one", "study")


def decisions(tendon: House) -> list[str]:
    with tendon.records.reading() as unit:
        return [decision.reason for _, _, _, decision in unit.jobs.decisions(STUDY_UID)]


def test_a_study_that_waits_for_its_order_goes_on_when_it_is_told(tmp_path):
    files = write_limb_study(tmp_path / "study", with_region=False, accession_number="A4711")
    with house(tmp_path, RULES) as tendon:
        tendon.start()
        tendon.tell("four words of chance", "user", "add", "engine", "--role", "operator", "--password-stdin")
        made = tendon.ask("user", "token", "engine", "--label", "engine", "--scope", "orders:write")
        tendon.send(files)
        tendon.until(lambda: bool(decisions(tendon)))
        assert decisions(tendon) == ["not decided yet: it waits for an order until 3600 s after the first object"]
        assert tendon.jobs() == []
        answer = httpx.put(
            f"http://{LOOPBACK}:{tendon.admin_port}/api/v1/orders/A4711",
            json={"patient_id": "P1", "reason": "a fall"},
            headers={"Authorization": f"Bearer {made['token']}"},
        )
        assert answer.status_code == 200, answer.text
        (job,) = tendon.settled(1)
        assert (job["pipeline"], job["state"]) == ("forward", "done")
        assert "A4711" not in tendon.log()
