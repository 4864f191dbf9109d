from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fhir.resources import R4B

from orchestrator.dicom import seg, sr
from orchestrator.domain import codes
from orchestrator.domain.result import Measurement, Results, Score, canonical_json
from orchestrator.fhir import report
from orchestrator.service.reporting import build_outputs
from tests.synthetic import bone_segment, limb, lump_segment, request_on, results_of, uid, write_series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_, BONE, LUMP = limb()
BOTH = results_of(bone_segment(BONE), lump_segment(LUMP))
SCORE = Score(
    codes.dcm("111047", "Probability of cancer"), 9.0, 0.25, (0.1, 0.4), "M", "2", "Somebody 2020", (), ("pain",)
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_series(tmp_path_factory.mktemp("source"))


def bundle(paths: list[str], results: Results = BOTH, **changed: Any) -> dict[str, Any]:
    (built,) = report.build(request_on(paths, results, **changed))
    assert (built.kind, built.name) == ("fhir", "virtual_biopsy.json")
    return json.loads(built.data)


def bundle_with_objects(paths: list[str]) -> dict[str, Any]:
    """The bundle of a result whose SEG and SR were built before it."""
    return json.loads(build_outputs(request_on(paths, BOTH), (seg.build, sr.build, report.build))[-1].data)


def every(made: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [e["resource"] for e in made["entry"] if e["resource"]["resourceType"] == kind]


def values(node: Any, key: str) -> Iterator[Any]:
    """All values of a key anywhere below."""
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        for inner in node.values():
            yield from values(inner, key)
    elif isinstance(node, list):
        for inner in node:
            yield from values(inner, key)


@pytest.mark.parametrize(
    "results",
    [BOTH, Results(), Results(segments=(lump_segment(LUMP),), scores=(SCORE,))],
    ids=["both", "none", "score"],
)
def test_every_resource_is_valid(paths: list[str], results: Results) -> None:
    made = bundle(paths, results)
    for entry in made["entry"]:
        R4B.get_fhir_model_class(entry["resource"]["resourceType"]).model_validate(entry["resource"])
    R4B.get_fhir_model_class("Bundle").model_validate(made)
    assert made["type"] == "transaction"


def test_every_reference_resolves_inside_the_bundle(paths: list[str]) -> None:
    made = bundle(paths, Results(BOTH.segments, BOTH.measurements, (SCORE,)))
    known = [e["fullUrl"] for e in made["entry"]]
    assert len(set(known)) == len(known)
    referred = set(values(made, "reference"))
    assert referred
    assert referred <= set(known)


def test_no_two_entries_are_the_same_thing(paths: list[str]) -> None:
    twice = results_of(lump_segment(LUMP), measurements=BOTH.measurements * 2)
    requests = [e["request"].get("ifNoneExist") or e["request"]["url"] for e in bundle(paths, twice)["entry"]]
    assert len(set(requests)) == len(requests)


def test_report_is_partial_and_says_what_it_is(paths: list[str]) -> None:
    (made,) = every(bundle(paths), "DiagnosticReport")
    assert made["status"] == "partial"
    assert made["code"]["coding"][0]["code"] == "18748-4"
    assert made["code"]["text"] == "AI analysis: Virtual biopsy"
    assert made["conclusion"].startswith("AI, not reviewed. For research use only")
    assert "Lump" in made["text"]["div"]
    assert {t["code"] for t in made["meta"]["tag"]} >= {"unreviewed", "research"}
    assert made["effectiveDateTime"] == "2024-03-11"
    assert made["issued"] == "2024-03-11T08:21:00Z"


def test_nothing_is_final_or_verified(paths: list[str]) -> None:
    assert {o["status"] for o in every(bundle(paths), "Observation")} == {"preliminary"}


def test_accession_is_never_an_identifier_of_ours(paths: list[str]) -> None:
    made = bundle(paths)
    for entry in made["entry"]:
        assert all(i["value"] != "A-77" for i in entry["resource"].get("identifier", ()))
    (report_made,) = every(made, "DiagnosticReport")
    (order,) = report_made["basedOn"]
    assert (order["type"], order["identifier"]["value"]) == ("ServiceRequest", "A-77")
    assert not every(made, "ServiceRequest")


def test_patient_is_referred_to_and_never_made(paths: list[str]) -> None:
    made = bundle(paths)
    assert not every(made, "Patient")
    subject = {canonical_json(s) for s in values(made, "subject")}
    assert len(subject) == 1
    named = json.loads(subject.pop())
    assert named["identifier"]["value"] == "T-0042"
    assert named["identifier"]["assigner"]["display"] == "MAIN"
    assert "Ash" not in json.dumps(made)


def test_a_blank_patient_id_names_nobody(tmp_path: Path) -> None:
    made = bundle(write_series(tmp_path, PatientID="", AccessionNumber="", StudyDate="nonsense"))
    (report_made,) = every(made, "DiagnosticReport")
    assert "identifier" not in report_made["subject"]
    assert "basedOn" not in report_made
    assert "effectiveDateTime" not in report_made


def test_numbers_are_grouped_under_the_volume_of_their_segment(paths: list[str]) -> None:
    made = bundle(paths)
    by_url = {e["fullUrl"]: e["resource"] for e in made["entry"]}
    tibia, lump = (o for o in every(made, "Observation") if o["code"]["coding"][0]["code"] == "118565006")
    assert tibia["valueQuantity"]["value"] == pytest.approx(2.742, abs=1e-3)
    assert tibia["valueQuantity"]["code"] == "ml"
    assert [c["code"] for c in tibia["bodySite"]["coding"]] == ["272673000", "7771000"]
    assert "hasMember" not in tibia
    members = [by_url[m["reference"]] for m in lump["hasMember"]]
    assert [m["valueQuantity"]["value"] for m in members[:5]] == [2345.678, 31.25, 38.9, -0.12, 0.81]
    assert members[2]["code"]["coding"][0] == {
        "code": "Q4LE", "display": "Mean intensity", "system": "urn:oid:1.2.840.10008.2.16.13"
    }  # fmt: skip
    assert members[2]["valueQuantity"]["code"] == "[hnsf'U]"
    assert "valueQuantity" not in members[5]
    assert members[5]["dataAbsentReason"]["coding"][0]["code"] == "error"
    (report_made,) = every(made, "DiagnosticReport")
    assert {by_url[r["reference"]]["code"]["text"] for r in report_made["result"]} == {
        "Volume of Tibia, left",
        "Volume of Lump",
    }


def test_numbers_of_no_segment_stand_beside_the_groups(paths: list[str]) -> None:
    lone = Measurement(codes.sct("410668003", "Length"), 12.0, codes.MILLIMETRE)
    made = bundle(paths, results_of(lump_segment(LUMP), measurements=(lone,)))
    (report_made,) = every(made, "DiagnosticReport")
    assert len(report_made["result"]) == 2


def test_imaging_study_lists_source_and_result_series_and_is_created_once(paths: list[str]) -> None:
    made = bundle_with_objects(paths)
    (study,) = every(made, "ImagingStudy")
    assert study["identifier"] == [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid('study')}"}]
    assert [s["modality"]["code"] for s in study["series"]] == ["CT", "SEG", "SR"]
    assert study["series"][0]["numberOfInstances"] == BONE.shape[0]
    how = next(e["request"] for e in made["entry"] if e["resource"] is study)
    assert how == {
        "method": "POST", "url": "ImagingStudy", "ifNoneExist": f"identifier=urn:dicom:uid|urn:oid:{uid('study')}"
    }  # fmt: skip


def test_another_version_or_generation_replaces_the_report(paths: list[str]) -> None:
    def targets(**changed: Any) -> dict[str, str]:
        return {e["resource"]["resourceType"]: e["request"]["url"] for e in bundle(paths, **changed)["entry"]}

    first = targets()
    for changed in ({"generation": 2}, {"version": "1.1.0"}, {"input_set": "ef" * 32}):
        assert targets(**changed) == first
    assert targets(source_series_uid=uid("other"))["DiagnosticReport"] != first["DiagnosticReport"]


def test_device_is_one_for_each_version_and_tells_its_standing(paths: list[str]) -> None:
    (old,), (new,) = (every(bundle(paths, version=v), "Device") for v in ("1.0.0", "1.1.0"))
    assert old["identifier"] != new["identifier"]
    assert new["version"] == [{"value": "1.1.0"}]
    told = {p["type"]["text"]: p["valueCode"][0]["text"] for p in old["property"]}
    assert told == {"standing": "research", "package": f"sha256:{'ab' * 32}", "weights": "none", "UDI": "none"}


def test_provenance_names_all_that_went_in_and_came_out(paths: list[str]) -> None:
    made = bundle_with_objects(paths)
    (provenance,) = every(made, "Provenance")
    text = json.dumps(provenance)
    assert all(uid("instance", str(k)) in text for k in range(BONE.shape[0]))
    assert "rule set version 3" in text
    assert {t.get("display") for t in provenance["target"]} >= {"DICOM SEG", "DICOM SR"}
    observations = {e["fullUrl"] for e in made["entry"] if e["resource"]["resourceType"] == "Observation"}
    assert observations <= set(values(provenance["target"], "reference"))


def test_a_test_is_marked_on_every_resource(paths: list[str]) -> None:
    for entry in bundle(paths, environment="test")["entry"]:
        meta = entry["resource"]["meta"]
        assert "TEST" in {t["code"] for t in meta["tag"]}
        assert meta["security"][0]["code"] == "HTEST"
    assert "HTEST" not in json.dumps(bundle(paths))


def test_a_score_becomes_a_risk_in_percent(paths: list[str]) -> None:
    (risk,) = every(bundle(paths, Results(scores=(SCORE,))), "RiskAssessment")
    assert risk["prediction"][0]["probabilityDecimal"] == 25.0
    assert "missing: pain" in risk["note"][0]["text"]
    assert "10 to 40 %" in risk["note"][0]["text"]


def test_equal_requests_give_equal_canonical_bytes(paths: list[str]) -> None:
    first, again = (report.build(request_on(paths, BOTH))[0].data for _ in range(2))
    assert first == again == canonical_json(json.loads(first))


def test_values_are_those_of_the_record(paths: list[str]) -> None:
    value = float(np.float32(1) / 3)
    exact = Measurement(codes.sct("410668003", "Length"), value, codes.MILLIMETRE, "Lump")
    made = bundle(paths, results_of(lump_segment(LUMP), measurements=(exact,)))
    assert value in list(values(made, "value"))
