"""What the pages show, beyond who may see them: rules in words, tables for other programs, errors, what is moving."""

from __future__ import annotations

import csv
import re
from io import StringIO

import pytest
from fastapi.testclient import TestClient

from orchestrator.admin.app import BODY_CAPS
from orchestrator.admin.limits import Limits
from orchestrator.domain.study import Patient
from tests.fakes.system import CT, FakeSystem, rule, slices
from tests.strategies import STUDY_UID, manifest_of
from tests.web import Web, token_of

DEEP = {
    "all": [
        CT,
        {"field": "series.body_part", "in": ["KNEE", "FOOT"]},
        {"not": {"field": "study.description", "matches": "(?i)phantom"}},
        {"any": [{"has_region": "tumou?r"}, {"has_prior": {"modality": "CT"}}]},
    ]
}


@pytest.fixture
def system(tmp_path):
    return FakeSystem(tmp_path, rules=(rule(when=DEEP),))


@pytest.fixture
def web(system):
    return Web(system)


def words(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("<main")[2]).split())


def test_rules_are_shown_in_words(web):
    shown = words(web.browser("operator").get("/rules").text)
    assert "all of series.modality is CT series.body_part is one of KNEE, FOOT" in shown
    assert "not ( study.description matches (?i)phantom )" in shown
    assert "any of a region is drawn whose name matches tumou?r there is an earlier study (modality CT)" in shown


FORMULAS = Patient(id="=cmd|'/C calc'!A0", name="@SUM(1+1)^x")


def test_no_cell_of_a_saved_table_is_a_formula(system, web):
    system.receive_and_route(*slices(patient=FORMULAS, accession_number="+1", study_description='-2\r\nx,"y"'))
    web.browser().post("/login", data={"username": "=1+1", "password": "x"})
    admin = web.browser("admin")
    for path in ("/studies.csv", "/audit.csv"):
        answer = admin.get(path)
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"].startswith("attachment")
        rows = list(csv.reader(StringIO(answer.text, newline="")))
        assert len(rows) > 1
        assert {len(row) for row in rows} == {len(rows[0])}
        assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert "'=cmd|'/C calc'!A0" in admin.get("/studies.csv").text


def test_a_study_is_shown_whatever_its_uid_is(system, web):
    uid = "1.2/../../etc/passwd?x=<b>#"
    system.receive_and_route(*slices(study_uid=uid))
    viewer = web.browser("viewer")
    page = viewer.get("/studies").text
    (link,) = re.findall(r'href="(/studies/[^"]+)"', page)
    shown = viewer.get(link)
    assert shown.status_code == 200
    assert "1.2/../../etc/passwd?x=&lt;b&gt;#" in shown.text
    assert "<b>#" not in shown.text


def test_a_page_renews_itself_only_while_something_moves(system, web):
    system.decide(rule())
    system.receive_and_route(*slices())
    viewer = web.browser("viewer")
    moving = viewer.get(f"/studies/{STUDY_UID}").text
    assert re.search(r'hx-trigger="every (\d+)s"', moving)[1] >= "2"
    part = viewer.get(f"/studies/{STUDY_UID}", headers={"HX-Request": "true", "Tendon-Poll": "1"}).text
    assert "<html" not in part
    system.report()
    system.deliver()
    assert "hx-trigger" not in viewer.get(f"/studies/{STUDY_UID}").text


def test_more_rows_come_when_they_are_asked_for(system, web):
    for k in range(60):
        system.receive(*slices(f"1.2.{k}.1", study_uid=f"1.2.{k}", count=1))
    viewer = web.browser("viewer")
    page = viewer.get("/studies").text
    assert page.count("/studies/1.2.") == 50
    further = re.search(r'hx-get="([^"]+)"', page)[1].replace("&amp;", "&")
    rows = viewer.get(further, headers={"HX-Request": "true"}).text
    assert "<html" not in rows
    assert rows.count("/studies/1.2.") == 10


def test_errors_say_what_to_do_as_a_page_and_as_a_part_of_one(web):
    viewer = web.browser("viewer")
    for path, status, told in (
        ("/nowhere", 404, "There is no such thing"),
        (f"/studies/{STUDY_UID}", 404, "There is no such thing"),
        ("/rules", 403, "This role may not do that"),
        ("/studies?after=x", 422, "The request is not as it must be"),
    ):
        whole = viewer.get(path)
        assert (whole.status_code, told in whole.text) == (status, True), path
        assert "What to do:" in whole.text
        part = viewer.get(path, headers={"HX-Request": "true"})
        assert part.status_code == status
        assert "<html" not in part.text
    assert "TND-2001" in web.browser().get("/errors").text


EDITOR = "/rules/editor"


@pytest.mark.parametrize(
    "text",
    [
        "rules: [",
        "- a",
        "rules: 7",
        "a: &a [*a]",
        "x: !!python/object:os.system {}",
        "nodes: []",
        "\x00",
        "rules: [1, {}]",
    ],
)
def test_text_that_is_no_rules_is_told_beside_it_and_never_lost(web, text):
    operator = web.browser("operator")
    headers = token_of(operator)
    page = operator.post(EDITOR, data={"text": text, "done": "text", "number": "0"}, headers=headers)
    assert page.status_code == 200
    assert "notice bad" in page.text or 'class="error"' in page.text
    saved = operator.post("/rules/save", data={"text": text}, headers={**headers, "HX-Request": "true"})
    assert saved.status_code == 422
    assert operator.get("/api/v1/rules").json()["version"] == 1


def test_ten_megabytes_of_rules_are_refused_before_anything_reads_them(web):
    program = web.program("operator")
    bounded = TestClient(Limits(web.app, BODY_CAPS), base_url="http://tendon.test")
    given = {"Authorization": program.headers["Authorization"], "Content-Type": "application/json"}
    answer = bounded.post("/api/v1/rules", content=b'{"rules": ["' + b"x" * (10 << 20) + b'"]}', headers=given)
    assert (answer.status_code, answer.json()["code"]) == (413, "TND-6012")
    browser = web.browser("operator")
    form = {"text": "rules: [" + "1," * 600_000 + "]", "done": "text"}
    assert "larger than" in browser.post(EDITOR, data=form, headers=token_of(browser)).text
    assert browser.get("/api/v1/rules").json()["version"] == 1


def test_the_editor_changes_rules_by_form(tmp_path):
    web = Web(FakeSystem(tmp_path, manifests=(manifest_of("bone_ct"), manifest_of("density"))))
    operator = web.browser("operator")
    headers = token_of(operator)
    page = operator.get("/rules/edit").text
    text = re.search(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL)[1]
    form = {
        "text": text,
        "number": "0",
        "done": "form",
        "name": "CT",
        "join": "any",
        "field": ["series.modality", "series.slice_step_mm"],
        "operator": ["eq", "le"],
        "value": ["CT", "2.5"],
        "is_not": ["", "not"],
        "run": ["density"],
        "send": ["pacs"],
        "priority": "stat",
        "release": "after_review",
    }
    answer = operator.post(EDITOR, data=form, headers=headers).text
    written = re.search(r"<textarea[^>]*>(.*?)</textarea>", answer, re.DOTALL)[1]
    saved = operator.post("/rules/save", data={"text": written, "base": "1", "reason": "r"}, headers=headers)
    assert saved.headers["location"] == "/rules/versions/2"
    assert operator.get("/api/v1/rules").json()["rules"] == [
        {
            "name": "CT",
            "when": {"any": [CT, {"not": {"field": "series.slice_step_mm", "le": 2.5}}]},
            "run": ["density"],
            "send": ["pacs"],
            "priority": "stat",
            "release": "after_review",
        }
    ]
    late = operator.post("/rules/save", data={"text": written, "base": "1"}, headers={**headers, "HX-Request": "true"})
    assert (late.status_code, "Somebody has changed this meanwhile" in late.text) == (409, True)
