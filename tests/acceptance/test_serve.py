"""The embedded system as its operator meets it: commands, HTTP, a PACS of another maker, a log without patients."""

from __future__ import annotations

import httpx
import pytest
import yaml

from orchestrator.rulebook import default_rules
from tests.house import LOOPBACK, MODALITY, house, write_limb_study
from tests.orthanc import SENDER, orthanc


@pytest.fixture
def tendon(tmp_path, services):
    with house(tmp_path, services=services) as started:
        started.start()
        yield started


def test_results_are_delivered_to_a_pacs_of_another_maker(tendon, tmp_path):
    with orthanc(tmp_path / "orthanc") as pacs:
        site = yaml.safe_load((tmp_path / "site.yaml").read_text())
        site["destinations"][0] |= {"ae_title": pacs.ae_title, "port": pacs.port}
        (tmp_path / "orthanc.yaml").write_text(yaml.safe_dump(site))
        tendon.tendon("import", str(tmp_path / "orthanc.yaml"))
        write_limb_study(tmp_path / "study")
        to = f"TENDON@{LOOPBACK}:{tendon.dicom_port}"
        tendon.tendon("send", str(tmp_path / "study"), "--to", to, TENDON_AE_TITLE=MODALITY)
        jobs = tendon.settled(2)

        with tendon.records.reading() as unit:
            outputs = [o for job in jobs for o in unit.deliveries.outputs(job["id"]) if o.sop_class_uid]
        assert [job["state"] for job in jobs] == ["done", "done"]
        assert sorted(o.kind for o in outputs) == ["seg", "seg", "sr"]
        assert set(SENDER.prove(pacs, outputs)) == {o.id for o in outputs}


def test_monitors_see_health_readiness_and_metrics(tendon):
    with httpx.Client(base_url=f"http://{LOOPBACK}:{tendon.admin_port}") as monitor:
        assert monitor.get("/healthz").text == "ok"
        tendon.until(lambda: monitor.get("/readyz").status_code == 200)
        receiving = {"listening", "storage", "database", "recorder", "quotas", "clock", "exposure", "rounds", "worker"}
        parts = {"database", "exposure"} if tendon.is_distributed else receiving
        assert monitor.get("/readyz").json() == {
            "status": "pass",
            "checks": {part: {"status": "pass"} for part in parts},
        }
        metrics = monitor.get("/metrics").text
        assert "tendon_free_bytes" in metrics
        assert ("tendon_journal_owed_bytes 0.0" in metrics) is not tendon.is_distributed


def test_no_patient_data_is_in_logs_metrics_file_names_or_answers(tendon, tmp_path):
    canary = {"patient_id": "CANARYID77", "patient_name": "Canaryname^Zebra", "accession_number": "CANARYACC9"}
    tendon.send(write_limb_study(tmp_path / "study", study_description="canarytext", **canary))
    first, *_ = tendon.settled(2)

    seen = [
        tendon.log(),
        tendon.tendon("jobs"),
        tendon.tendon("study", first["study_uid"]),
        httpx.get(f"http://{LOOPBACK}:{tendon.admin_port}/metrics").text,
        *(str(path) for path in tmp_path.rglob("*")),
    ]

    assert [text for text in seen if "canary" in text.lower()] == []


def test_what_is_in_force_is_exported_as_it_is_imported(tendon, tmp_path):
    exported = tendon.tendon("export")
    (tmp_path / "again.yaml").write_text(exported)

    tendon.tendon("import", str(tmp_path / "again.yaml"))

    assert tendon.tendon("export") == exported
    site = yaml.safe_load(exported)
    assert site["rules"] == default_rules(["pacs", "share"])
    node = {"name": "modality", "ae_title": MODALITY, "host": LOOPBACK, "port": 104, "may_send": True}
    assert site["nodes"] == [node]


RULE = {"name": "x", "when": {"has_region": True}, "run": [], "send": []}


FAULTY = [
    ({"rules": [{**RULE, "when": {"field": "series.modalty", "eq": "CT"}}]}, "rules[0].when.field"),
    ({"rules": [{**RULE, "run": ["no_such"]}]}, "no_such"),
    ({"rules": [{**RULE, "send": ["nowhere"]}]}, "nowhere"),
    ({"destinations": [{"name": "p", "kind": "dicom", "host": "h", "port": 1}]}, "destinations[0].ae_title"),
    ({"surprise": 1}, "surprise"),
]


def test_a_faulty_site_file_changes_nothing_and_names_the_place(tendon, tmp_path):
    before = tendon.tendon("export")
    for change, told in FAULTY:
        site = {"nodes": [], "destinations": [], "rules": [], **change}
        (tmp_path / "faulty.yaml").write_text(yaml.safe_dump(site))
        assert told in tendon.tendon("import", str(tmp_path / "faulty.yaml"), expect=1)
    assert tendon.tendon("export") == before


def test_check_and_pipelines_say_what_is_there(tendon):
    checked = tendon.ask("check")
    assert checked["settings"]["TENDON_AE_TITLE"] == ["TENDON", "default"]
    assert all(finding.startswith("ok") for finding in checked["findings"].values())
    assert [item["name"] for item in tendon.ask("pipelines")["items"]] == ["bone_ct", "virtual_biopsy"]


def test_a_setting_that_cannot_be_is_named(tendon):
    told = tendon.tendon("check", expect=1, TENDON_DICOM_PORT="eleven")
    assert "TENDON_DICOM_PORT must be a port number" in told
    assert "Traceback" not in told
