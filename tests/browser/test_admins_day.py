"""The IT admin's day in a real browser: a node, a rule by form, its trial, approval, a study, and back again."""

from __future__ import annotations

import re
import subprocess

from playwright.sync_api import expect

from tests.house import LOOPBACK, write_limb_study

EDITOR_S = 15_000


def test_a_rule_comes_to_be_is_approved_works_and_is_taken_back(tendon, open_window, tmp_path):
    ann, bob = open_window(), open_window(color_scheme="dark")
    images = write_limb_study(tmp_path / "study", study_description="KNEE LEFT")

    ann.sign_in("ann")
    ann.picture("overview")
    add_node(tendon, ann)

    write_rule(ann)
    draft = ann.page.url.rpartition("/")[2]
    expect(ann.page.get_by_text("Somebody else has to approve what you wrote.")).to_be_visible()

    bob.sign_in("bob")
    approve(bob, draft)

    to = [LOOPBACK, str(tendon.dicom_port)]
    sent = subprocess.run(
        ["storescu", "-aet", "PACS", "-aec", "TENDON", *to, *map(str, images)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert sent.returncode == 0, sent.stderr
    watch_study(ann)

    take_back(ann)
    assert [w.complaints for w in (ann, bob)] == [[], []]


def add_node(tendon, ann) -> None:
    ann.page.get_by_role("link", name="Nodes").click()
    ann.page.get_by_role("button", name="Add a node").click()
    for label, value in {
        "Name": "dcmtk",
        "AE title": "PACS",
        "Host": LOOPBACK,
        "Port": str(tendon.pacs_port),
    }.items():
        ann.page.get_by_label(label, exact=True).fill(value)
    ann.page.get_by_role("button", name="Save").click()
    row = ann.page.get_by_role("row", name="dcmtk")
    row.get_by_role("button", name="Echo").click()
    expect(row.get_by_text("it answers")).to_be_visible()
    ann.picture("nodes")
    ann.page.get_by_role("link", name="Destinations").click()
    row = ann.page.get_by_role("row", name="share")
    row.get_by_role("button", name="Test send").click()
    expect(row.get_by_text("it took the test object and shows it")).to_be_visible()
    assert ann.dialogs == ["Send share a test object? It names no patient and stays there."]
    ann.picture("destinations")


def write_rule(ann) -> None:
    page = ann.page
    page.get_by_role("link", name="Rules").click()
    page.get_by_role("button", name="Change the rules").click()
    page.get_by_role("button", name="Add a rule").click()
    name = page.get_by_label("Name", exact=True)
    expect(name).to_have_value("Rule 1")
    name.fill("Limb CT")
    name.press("Tab")
    text = page.get_by_label("Text")
    expect(text).to_have_value(re.compile("name: Limb CT"))
    page.get_by_role("button", name="Add a condition").click()
    expect(text).to_have_value(re.compile("field: series.modality"))
    page.get_by_label("bone_ct").check()
    expect(text).to_have_value(re.compile(r"run:\n\s*- bone_ct"))
    page.get_by_role("group", name="Send results to").get_by_label("share").check()
    expect(text).to_have_value(re.compile(r"send:\n\s*- share"))
    expect(page.get_by_text("Nothing is wrong.")).to_be_visible()
    written = text.input_value()
    text.fill(written.replace("eq: CT", "eqq: CT"))
    text.blur()
    expect(page.get_by_text("rules[0].when.all[0]")).to_be_visible()
    text.fill(written)
    text.blur()
    expect(page.get_by_text("Nothing is wrong.")).to_be_visible()
    page.get_by_label("Why").fill("limbs first")
    page.get_by_role("button", name="Try on the last days").click()
    expect(page.get_by_role("heading", name="What would change")).to_be_visible(timeout=EDITOR_S)
    ann.picture("editor")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/rules/versions/*")
    ann.picture("draft")


def approve(bob, draft: str) -> None:
    page = bob.page
    page.get_by_role("link", name="Rules").click()
    page.get_by_role("link", name=f"version {draft}").click()
    expect(page.get_by_text("added Limb CT")).to_be_visible()
    page.get_by_role("button", name="Try on the last days").click()
    expect(page.get_by_role("heading", name="What would change")).to_be_visible(timeout=EDITOR_S)
    bob.picture("approval")
    page.get_by_role("button", name="Approve and switch on").click()
    expect(page.get_by_role("heading", name=f"Rules version {draft}")).to_be_visible()
    bob.picture("rules")


def watch_study(ann) -> None:
    page = ann.page
    page.get_by_role("link", name="Studies").click()
    for _ in range(100):
        if page.get_by_role("row", name="KNEE LEFT").count():
            break
        page.wait_for_timeout(200)
        page.reload()
    page.get_by_role("searchbox").fill("canary")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("row", name="KNEE LEFT").get_by_role("link").click()
    expect(page.get_by_role("heading", name="bone_ct")).to_be_visible(timeout=EDITOR_S)
    expect(page.locator("article.job .state").first).to_have_text("done", timeout=60_000)
    expect(page.get_by_text("AI, not reviewed").first).to_be_visible()
    picture = page.get_by_role("img").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
    ann.picture("study")


def take_back(ann) -> None:
    page = ann.page
    page.get_by_role("link", name="Rules").click()
    page.get_by_role("link", name="version 1", exact=True).click()
    page.get_by_label("Why").fill("only a try")
    page.get_by_role("button", name="Go back to this version").click()
    expect(page.get_by_text("No rules are in force")).to_be_visible()
    expect(page.get_by_text("back to version 1: only a try")).to_be_visible()
    ann.picture("rolled-back")


HOSTILE = {
    "patient_id": "<img src=x onerror=alert(1)>",
    "patient_name": "<script>alert(2)</script>^{{7*7}}",
    "study_description": "'\"><svg onload=alert(3)>",
    "accession_number": "=1+1|'/C calc'",
    "series_description": "</textarea><script>alert(4)</script>",
    "body_part": "KNEE",
}


def test_what_senders_write_is_text_and_nothing_else(tendon, open_window, tmp_path):
    ann = open_window()
    ann.sign_in("ann")
    tendon.send(write_limb_study(tmp_path / "hostile", "hostile", with_region=False, **HOSTILE))
    page = ann.page
    for _ in range(100):
        ann.go("/studies")
        if page.get_by_text("<img src=x onerror=alert(1)>").count():
            break
        page.wait_for_timeout(200)
    expect(page.get_by_text("<script>alert(2)</script>, {{7*7}}")).to_be_visible()
    ann.picture("hostile")
    page.get_by_role("row", name="onerror").get_by_role("link").first.click()
    expect(page.get_by_text("<script>alert(2)</script>, {{7*7}}")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_contain_text("<svg onload=alert(3)>")
    forms = ("/rules/edit", "/nodes/new", "/destinations/new", "/users", "/tokens")
    for path in ("/", "/studies", "/jobs", "/rules", *forms):
        ann.go(path)
    assert (ann.dialogs, ann.complaints) == ([], [])


def test_pages_can_be_used_without_a_mouse_and_are_named_for_who_does_not_see(open_window):
    ann = open_window()
    ann.go("/login")
    page = ann.page
    page.keyboard.type("ann")
    page.keyboard.press("Tab")
    page.keyboard.type("four words of chance")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Sign out").wait_for()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    for path in (
        "/",
        "/studies",
        "/jobs",
        "/rules",
        "/rules/edit",
        "/nodes/new",
        "/destinations/new",
        "/users",
        "/tokens",
    ):
        ann.go(path)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('input:not([type=hidden]), select, textarea, button, a')].filter(
                e => !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim() || e.value)
            ).length"""
        )
        assert nameless == 0, path
        assert page.evaluate("document.querySelectorAll('h1').length") == 1, path
        assert page.title().endswith("Tendon")
    assert ann.complaints == []
