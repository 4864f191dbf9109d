"""What programs do by the API: find studies, act on jobs, change rules as code, nodes and destinations, accounts."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.domain.access import Permission
from orchestrator.domain.errors import Fault
from orchestrator.domain.study import Patient
from orchestrator.ports import BuiltObject
from tests.fakes.system import CT, FakeSystem, rule, slices
from tests.strategies import STUDY_UID, manifest_of
from tests.web import SECRET, Web, token_of

PICTURE = BuiltObject("picture", "bone.png", b"\x89PNG")
PAGE = BuiltObject("page", "bone.html", b"<h1>bone</h1>")
STAT = rule(priority="stat")


@pytest.fixture
def system(tmp_path):
    return FakeSystem(tmp_path, manifests=(manifest_of("bone_ct"), manifest_of("density")))


@pytest.fixture
def web(system):
    return Web(system)


@pytest.fixture
def admin(web):
    return web.program("admin")


def outputs(system: FakeSystem, job_id: str):
    with system.records.reading() as unit:
        return unit.deliveries.outputs(job_id)


def receive(system: FakeSystem, *numbers: int) -> None:
    """Studies, one after the other."""
    for n in numbers:
        patient = Patient(id=f"P{n}", issuer="MAIN", name=f"Doe^Number{n}")
        headers = slices(f"1.2.{n}.1", study_uid=f"1.2.{n}", patient=patient, accession_number=f"A{n}")
        system.receive_and_route(*headers)


def pages(client, path: str, **given: Any) -> list[list[dict[str, Any]]]:
    found, following = [], path
    while following:
        answer = client.get(following, params=given if following == path else None)
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["items"])
        following = answer.json()["next"]
    return found


def test_studies_come_page_by_page_with_what_became_of_them(system, admin):
    receive(system, *range(5))
    found = pages(admin, "/api/v1/studies", limit=2)
    assert [[item["study_uid"] for item in page] for page in found] == [
        ["1.2.4", "1.2.3"],
        ["1.2.2", "1.2.1"],
        ["1.2.0"],
    ]
    newest = found[0][0]
    assert newest["patient"] == {"id": "P4", "issuer": "MAIN", "name": "Doe^Number4", "birth_date": "", "sex": ""}
    assert newest["modalities"] == ["CT"]
    assert newest["routed"]
    assert [(job["pipeline"], job["state"]) for job in newest["jobs"]] == [("bone_ct", "waiting")]
    found = pages(admin, "/api/v1/studies", q="doe", limit=3)
    assert [len(page) for page in found] == [3, 2]
    for q in ("P3", "A3", "1.2.3", "doe number3"):
        assert [i["study_uid"] for i in pages(admin, "/api/v1/studies", q=q)[0]] == ["1.2.3"], q
    since = system.clock.now().isoformat()
    assert pages(admin, "/api/v1/studies", since=since) == [[]]


@pytest.mark.parametrize("cursor", ["x", "AAAA", "....", "MjAyNi0wMS0wMVQwMDowMDowMA"])
def test_a_cursor_that_was_never_given_out_is_refused(admin, cursor):
    answer = admin.get("/api/v1/studies", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, Fault.REQUEST_INVALID.code)
    assert admin.get("/api/v1/studies", params={"since": "2026-01-01T00:00:00"}).status_code == 422


def test_a_study_is_told_from_its_objects_to_its_deliveries(system, admin):
    receive(system, 1)
    system.report()
    system.deliver()
    told = admin.get("/api/v1/studies/1.2.1").json()
    assert told["patient"]["name"] == "Doe^Number1"
    assert told["facts"]["series"][0]["facts"]["series.modality"] == "CT"
    assert [(d["rule"], d["pipeline"], d["yes"]) for d in told["decisions"]][:1] == [("CT", "", True)]
    (job,) = told["jobs"]
    assert job["deliveries"][0]["destination"] == "pacs"
    assert admin.get("/api/v1/studies/9.9").json()["code"] == Fault.NOT_FOUND.code


def test_what_a_job_built_is_given_with_its_type_and_runs_nowhere(system, admin):
    system.receive_and_route(*slices())
    job_id = system.report(
        PICTURE, PAGE, BuiltObject("seg", "bone.seg.dcm", b"DICM"), BuiltObject("fhir", "b.json", b"{}")
    )
    names = {output.kind: output.name for output in outputs(system, job_id)}
    picture = admin.get(f"/api/v1/jobs/{job_id}/outputs/{names['picture']}")
    assert (picture.headers["content-type"], picture.content) == ("image/png", b"\x89PNG")
    page = admin.get(f"/api/v1/jobs/{job_id}/outputs/{names['page']}")
    assert page.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    seg = admin.get(f"/api/v1/jobs/{job_id}/outputs/{names['seg']}")
    assert seg.headers["content-type"] == "application/dicom"
    assert seg.headers["content-disposition"] == "attachment"
    assert admin.get(f"/api/v1/jobs/{job_id}/outputs/..%2f..%2fetc%2fpasswd").status_code == 404
    assert admin.get(f"/api/v1/jobs/{job_id}/outputs/none").status_code == 404


def test_jobs_are_called_off_and_studies_decided_again(system, admin):
    system.receive_and_route(*slices())
    job_id = system.job().id
    cancelled = admin.post(f"/api/v1/jobs/{job_id}/cancel", json={"reason": "wrong protocol"}).json()
    assert (cancelled["state"], cancelled["reason"]) == ("cancelled", "cancelled by admin: wrong protocol")
    assert admin.post(f"/api/v1/jobs/{job_id}/retry").status_code == 409
    rerouted = admin.post(f"/api/v1/studies/{STUDY_UID}/reroute").json()
    assert [job["state"] for job in rerouted["new"]] == ["waiting"]
    assert [item["state"] for item in pages(admin, "/api/v1/jobs", limit=1)[0]] == ["waiting"]
    assert [item["id"] for item in pages(admin, "/api/v1/jobs", state="cancelled")[0]] == [job_id]
    assert admin.get("/api/v1/jobs", params={"state": "nonsense"}).status_code == 422


def test_quarantined_deliveries_are_listed_and_sent_again(system, admin):
    system.receive_and_route(*slices())
    job_id = system.report()
    system.sender.refuses = frozenset(output.name for output in outputs(system, job_id))
    system.deliver()
    (delivery,) = pages(admin, "/api/v1/deliveries", state="quarantined", destination="pacs")[0]
    assert (delivery["job_id"], delivery["code"]) == (job_id, Fault.PEER_REFUSED.code)
    (pacs,) = [d for d in admin.get("/api/v1/destinations").json()["items"] if d["name"] == "pacs"]
    assert pacs["quarantined"] == 1
    system.sender.refuses = frozenset()
    assert admin.post("/api/v1/destinations/pacs/resume").json() == {"resumed": 1}
    system.deliver()
    assert system.job().state == "done"


def test_a_request_with_a_key_is_done_once(web, system, admin):
    def ask(key: str, **body: Any):
        return admin.post("/api/v1/rules", json={"rules": [STAT], **body}, headers={"Idempotency-Key": key})

    first = ask("k1")
    again = ask("k1")
    assert (first.status_code, first.json()) == (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    other = ask("k1", reason="something else")
    assert (other.status_code, other.json()["code"]) == (422, Fault.KEY_REUSED.code)
    assert ask("k2").json()["version"] == first.json()["version"] + 1
    faulty = admin.post("/api/v1/rules", json={"rules": [{}]}, headers={"Idempotency-Key": "k3"})
    assert faulty.status_code == 422
    assert ask("k3").status_code == 201
    assert (
        web.program("operator").post("/api/v1/rules", json={"rules": []}, headers={"Idempotency-Key": "k1"}).status_code
        == 201
    )
    system.clock.pass_s(24 * 3600 + 1)
    assert (
        web.program("admin").post("/api/v1/rules", json={"rules": []}, headers={"Idempotency-Key": "k1"}).status_code
        == 201
    )
    assert web.program("admin").post("/api/v1/rules", headers={"Idempotency-Key": "k" * 256}).status_code == 422


def test_a_request_that_is_still_at_work_is_not_begun_again(web, system, admin):
    with system.records.transaction() as unit:
        unit.answers.begin("admin", "k", "anything", system.clock.now())
    headers = {"Idempotency-Key": "k"}
    assert admin.post("/api/v1/rules", json={"rules": []}, headers=headers).json()["code"] == Fault.KEY_REUSED.code
    admin.post("/api/v1/rules", json={"rules": []}, headers={"Idempotency-Key": "l"})
    with system.records.transaction() as unit:
        known = unit.answers.begin("admin", "l", "", system.clock.now())
        unit.answers.drop("admin", "l")
        unit.answers.begin("admin", "l", known.request, system.clock.now())
    answer = admin.post("/api/v1/rules", json={"rules": []}, headers={"Idempotency-Key": "l"})
    assert (answer.status_code, answer.json()["code"]) == (409, Fault.KEY_IN_USE.code)
    system.clock.pass_s(601)
    assert admin.post("/api/v1/rules", json={"rules": []}, headers={"Idempotency-Key": "l"}).status_code == 201


FAULTY = [
    ([rule(when={"field": "series.modalty", "eq": "CT"})], "rules[0].when.field"),
    ([rule(when={"all": [CT, {"field": "series.slice_step_mm", "le": "thin"}]})], "rules[0].when.all[1].le"),
    ([rule(when={"field": "study.description", "matches": "(a" * 200})], "rules[0].when.matches"),
    ([rule(when={"field": "study.description", "matches": "a{2000}"})], "rules[0].when.matches"),
    ([rule(send=["nowhere"])], "rules[0].send[0]"),
    ([rule(run=["nothing"])], "rules[0].run[0]"),
    ([rule(colour="red")], "rules[0].colour"),
    (["no rule"], "rules[0]"),
]


@pytest.mark.parametrize(("rules", "path"), FAULTY)
def test_faulty_rules_are_refused_by_the_exact_path_and_nothing_is_saved(system, admin, rules, path):
    answer = admin.post("/api/v1/rules", json={"rules": rules})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    problem = answer.json()
    assert problem["errors"][0]["path"].startswith(path)
    assert problem["errors"][0]["message"]
    assert problem["type"] == f"/errors#{problem['code']}"
    assert [v["version"] for v in admin.get("/api/v1/rules/versions").json()["items"]] == [1]
    checked = admin.post("/api/v1/rules/check", json={"rules": rules}).json()["items"]
    assert checked[0]["path"].startswith(path)


def test_rules_are_read_changed_compared_tried_and_taken_back(system, admin):
    system.receive_and_route(*slices())
    before = admin.get("/api/v1/rules").json()
    assert (before["version"], before["rules"]) == (1, [rule()])
    assert before["is_current"]
    tried = admin.post("/api/v1/rules/replay", json={"rules": [rule(run=["bone_ct", "density"])]}).json()
    assert tried["sum"]["begun"] == {"density": 1}
    saved = admin.post("/api/v1/rules", json={"rules": [STAT, rule("More", run=["density"])], "reason": "more"}).json()
    assert (saved["version"], saved["is_draft"], saved["author"], saved["reason"]) == (2, False, "admin", "more")
    compared = admin.get("/api/v1/rules/versions/2/diff", params={"against": 1}).json()
    assert (compared["added"], compared["changed"], compared["removed"]) == (["More"], ["CT"], [])
    assert "+  priority: stat" in compared["diff"].splitlines()
    back = admin.post("/api/v1/rules/1/rollback", json={"reason": "too much"}).json()
    assert (back["version"], back["reason"]) == (3, "back to version 1: too much")
    assert admin.get("/api/v1/rules").json()["rules"] == before["rules"]
    assert [v["version"] for page in pages(admin, "/api/v1/rules/versions", limit=2) for v in page] == [3, 2, 1]
    assert admin.get("/api/v1/rules/versions/99").json()["code"] == Fault.NOT_FOUND.code


def test_who_looked_at_another_version_is_told_instead_of_undoing_it(admin):
    assert admin.post("/api/v1/rules", json={"rules": [STAT], "based_on": 1}).status_code == 201
    late = admin.post("/api/v1/rules", json={"rules": [], "based_on": 1})
    assert (late.status_code, late.json()["code"]) == (409, Fault.CHANGED_MEANWHILE.code)
    assert admin.get("/api/v1/rules").json()["version"] == 2


def test_where_the_site_wants_it_a_second_person_approves(tmp_path):
    web = Web(FakeSystem(tmp_path), needs_approval=True)
    author, other = web.program("operator"), web.program("admin")
    draft = author.post("/api/v1/rules", json={"rules": [STAT]}).json()
    assert draft["is_draft"]
    assert author.get("/api/v1/rules").json()["version"] == 1
    own = author.post("/api/v1/rules/2/activate")
    assert (own.status_code, own.json()["code"]) == (403, Fault.APPROVAL_NEEDED.code)
    approved = other.post("/api/v1/rules/2/activate").json()
    assert (approved["is_current"], approved["activated_by"]) == (True, "admin")
    assert other.post("/api/v1/rules/2/activate").json()["code"] == Fault.RULES_ACTIVE.code
    assert author.get("/api/v1/rules").json()["rules"] == [STAT]


def test_nodes_are_added_changed_asked_and_taken_away(web, system, admin):
    node = {"name": "mr1", "ae_title": "MR1", "host": "mr1.example", "may_send": True, "site": "north"}
    added = admin.post("/api/v1/nodes", json=node)
    assert (added.status_code, added.json()["port"]) == (201, 104)
    assert admin.post("/api/v1/nodes", json=node).json()["code"] == Fault.WRONG_STATE.code
    web.answers.add(("mr1.example", 104))
    assert admin.post("/api/v1/nodes/mr1/echo").json() == {"is_well": True, "detail": "it answers", "code": ""}
    changed = admin.put("/api/v1/nodes/mr1", json={**node, "port": 4242}).json()
    assert changed["port"] == 4242
    assert admin.post("/api/v1/nodes/mr1/echo").json()["code"] == Fault.PEER_UNREACHABLE.code
    assert admin.put("/api/v1/nodes/mr1", json={**node, "name": "mr2"}).status_code == 422
    assert admin.put("/api/v1/nodes/none", json={**node, "name": "none"}).status_code == 404
    assert admin.delete("/api/v1/nodes/mr1").status_code == 204
    assert admin.delete("/api/v1/nodes/mr1").status_code == 404
    with system.records.reading() as unit:
        assert [version.reason for version in unit.site.page(9)][:1] == ["node mr1 taken away"]


@pytest.mark.parametrize(
    ("path", "body", "at"),
    [
        ("nodes", {"name": "x", "ae_title": 'A"\\B', "host": "h"}, "ae_title"),
        ("nodes", {"name": "../x", "ae_title": "A", "host": "h"}, "name"),
        ("nodes", {"name": "x", "ae_title": "A", "host": "169.254.169.254"}, "host"),
        ("nodes", {"name": "x", "ae_title": "A", "host": "h", "port": "104"}, "port"),
        ("nodes", {"name": "x", "ae_title": "A", "host": "h", "is_admin": True}, "is_admin"),
        ("destinations", {"name": "x", "kind": "dicom"}, "ae_title"),
        ("destinations", {"name": "x", "kind": "ftp"}, "kind"),
        ("destinations", {"name": "x", "kind": "fhir", "url": "http://169.254.169.254/latest"}, "url"),
        ("destinations", {"name": "x", "kind": "fhir", "url": "file:///etc/passwd"}, "url"),
        ("destinations", {"name": "x", "kind": "fhir", "url": "http://u:p@ehr.example/"}, "url"),
        ("destinations", {"name": "x", "kind": "fhir", "url": "http://0xA9FEA9FE/"}, "url"),
        ("destinations", {"name": "x", "kind": "dicom", "ae_title": "A", "host": "fe80::1", "port": 1}, "host"),
    ],
)
def test_a_faulty_node_or_destination_is_refused_by_its_path(admin, path, body, at):
    answer = admin.post(f"/api/v1/{path}", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == Fault.DESTINATION_INVALID.code
    assert answer.json()["detail"].startswith(f"{at}: ")
    assert admin.get("/api/v1/rules/versions").json()["items"][0]["version"] == 1


def test_destinations_are_tried_with_an_object_that_names_no_patient(system, admin):
    assert admin.post("/api/v1/destinations/pacs/test").json()["detail"] == "it took the test object and shows it"
    assert ("pacs", "tendon-test.dcm") in system.sender.shown
    again = system.sender.shown["pacs", "tendon-test.dcm"]
    admin.post("/api/v1/destinations/pacs/test")
    assert system.sender.shown["pacs", "tendon-test.dcm"] == again
    system.sender.is_blind = True
    assert admin.post("/api/v1/destinations/pacs/test").json()["code"] == Fault.NOT_PROVEN.code
    system.sender.down = frozenset({"pacs"})
    assert admin.post("/api/v1/destinations/pacs/test").json()["code"] == Fault.PEER_UNREACHABLE.code
    assert "not delivered to yet" in admin.post("/api/v1/destinations/ehr/test").json()["detail"]


def test_a_destination_that_a_rule_sends_to_stays(system, admin):
    refused = admin.delete("/api/v1/destinations/pacs")
    assert (refused.status_code, refused.json()["code"]) == (422, Fault.RULE_INVALID.code)
    assert admin.delete("/api/v1/destinations/share").status_code == 204


def test_who_is_told_of_what_is_changed_likewise(system, admin):
    notice = {"name": "ops", "kind": "webhook", "url": "https://ops.example/hook", "events": ["job.failed"]}
    assert admin.post("/api/v1/notices", json=notice).json()["events"] == ["job.failed"]
    changed = admin.put("/api/v1/notices/ops", json={**notice, "events": ["job.failed", "alarm.raised"]})
    assert changed.json()["events"] == ["job.failed", "alarm.raised"]
    for url in (
        "http://169.254.169.254/",
        "http://[::ffff:169.254.169.254]/",
        "gopher://x/",
        "https://u@x/",
        "http://2852039166/",
    ):
        refused = admin.put("/api/v1/notices/ops", json={**notice, "url": url})
        assert (refused.status_code, refused.json()["detail"][:5]) == (422, "url: "), url
    assert len(admin.get("/api/v1/notices").json()["items"]) == 1
    assert admin.delete("/api/v1/notices/ops").status_code == 204
    with system.records.reading() as unit:
        assert unit.site.current().rules == (rule(),)


def test_accounts_and_tokens_are_handed_out_once(web, admin):
    made = admin.post("/api/v1/users", json={"name": "ann", "role": "viewer", "sites": ["north"]}).json()
    browser = web.browser("ann", made["first_password"])
    assert browser.get("/api/v1/me").json() == {
        "name": "ann",
        "role": "viewer",
        "permissions": ["emergency", "status:read", "studies:read"],
        "sites": ["north"],
    }
    assert admin.patch("/api/v1/users/ann", json={"role": "operator", "sites": []}).json()["role"] == "operator"
    assert browser.get("/api/v1/me").status_code == 401
    assert made["first_password"] not in admin.get("/api/v1/users").text
    person = web.browser("operator")
    headers = token_of(person)
    wanted = {"label": "export", "scopes": ["studies:read", "jobs:act"], "days": 30}
    token = person.post("/api/v1/tokens", json=wanted, headers=headers).json()
    assert token["token"].startswith("tendon_")
    assert token["token"] not in person.get("/api/v1/tokens").text
    assert person.post("/api/v1/tokens", json={**wanted, "scopes": ["users:write"]}, headers=headers).status_code == 403
    assert person.delete(f"/api/v1/tokens/{token['id']}", headers=headers).status_code == 204
    assert person.get("/api/v1/tokens").json()["items"][0]["revoked_at"]


def test_the_trail_tells_who_did_what(web, admin):
    browser = web.browser("operator")
    browser.post("/api/v1/rules", json={"rules": [STAT]}, headers=token_of(browser))
    web.browser().post("/login", data={"username": "nobody", "password": SECRET})
    events = admin.get("/api/v1/audit", params={"limit": 50}).json()["items"]
    told = [(event["event"], event["actor"]) for event in events]
    assert ("session.opened", "operator") in told
    assert ("session.refused", "nobody") in told
    assert ("rules.activated", "operator") in told
    assert web.program("operator").get("/api/v1/audit").status_code == 403


def test_what_is_open_is_told_without_a_patient(system, web):
    receive(system, 1)
    viewer = web.program("auditor", Permission.STATUS_READ)
    stats = viewer.get("/api/v1/stats").json()
    assert stats["jobs"] == {"waiting": 1}
    assert stats["rule_set_version"] == 1
    for path in ("/api/v1/stats", "/api/v1/pipelines", "/api/v1/alarms"):
        assert "Doe" not in viewer.get(path).text
    assert viewer.get("/api/v1/studies").status_code == 403
