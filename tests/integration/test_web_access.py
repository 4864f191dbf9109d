"""Who gets in where: every route of pages and API against nobody, each role, forged and stale requests."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

from orchestrator.domain import audit
from orchestrator.domain.access import PERMISSIONS, ROLES, Permission
from orchestrator.domain.errors import Fault
from orchestrator.service.enrolling import add_account
from tests.fakes.system import FakeSystem, slices
from tests.strategies import STUDY_UID
from tests.web import SECRET, Web, token_of

OPEN_TO_ALL = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/oidc/login"),
    ("GET", "/oidc/callback"),
    ("GET", "/errors"),
    ("GET", "/static/{name}"),
    ("GET", "/api/v1/openapi.json"),
}
"""What nobody needs to sign in for: nothing of it tells of a patient or of the site."""
FOR_ANYBODY_SIGNED_IN = {
    ("GET", "/"),
    ("POST", "/logout"),
    ("GET", "/confirm"),
    ("POST", "/confirm"),
    ("GET", "/password"),
    ("POST", "/password"),
    ("GET", "/emergency"),
    ("POST", "/emergency"),
    ("GET", "/tokens"),
    ("POST", "/tokens"),
    ("POST", "/tokens/{token_id}/revoke"),
    ("GET", "/api/v1/me"),
    ("POST", "/api/v1/emergency"),
    ("GET", "/api/v1/tokens"),
    ("POST", "/api/v1/tokens"),
    ("DELETE", "/api/v1/tokens/{token_id}"),
}
WRITES = ("POST", "PUT", "PATCH", "DELETE")


@pytest.fixture
def web(tmp_path):
    """A study of CT1 is routed; there is a job of it."""
    system = FakeSystem(tmp_path)
    system.receive_and_route(*slices())
    return Web(system)


def routes(web: Web) -> dict[tuple[str, str], Any]:
    """Every route of the application by method and path, with the permission it names."""
    found = {}
    for context in iter_route_contexts(web.app.routes):
        for method in sorted((context.methods or set()) - {"HEAD", "OPTIONS"}):
            found[method, context.path] = permission_of(getattr(context, "dependant", None))
    return found


def permission_of(dependant: Any) -> Permission | None:
    for dependency in dependant.dependencies if dependant else ():
        if hasattr(dependency.call, "permission"):
            return dependency.call.permission
    return None


def filled(path: str) -> str:
    """The path with something in its places."""
    return re.sub(r"\{(\w+)(:path)?\}", lambda m: {"version": "1", "uid": STUDY_UID}.get(m[1], "x"), path)


def test_every_route_names_a_permission_or_is_known_to_need_none(web):
    table = routes(web)
    assert {key for key, permission in table.items() if permission is None} == OPEN_TO_ALL | FOR_ANYBODY_SIGNED_IN
    assert len(table) > 80


def test_nobody_gets_past_the_sign_in(web):
    stranger = web.browser()
    for method, path in sorted(routes(web).keys() - OPEN_TO_ALL):
        answer = stranger.request(method, filled(path), content=b"{}")
        if path.startswith("/api/"):
            assert (answer.status_code, answer.json()["code"]) == (401, Fault.NOT_SIGNED_IN.code), (method, path)
        else:
            assert answer.status_code == 303, (method, path)
            assert answer.headers["location"].startswith("/login"), (method, path)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_gets_past_its_permissions(web, role):
    browser = web.browser(role)
    headers = token_of(browser)
    denied = 0
    for (method, path), permission in sorted(routes(web).items()):
        if permission is None or permission in PERMISSIONS[role]:
            continue
        denied += 1
        answer = browser.request(method, filled(path), headers=headers, content=b"{}")
        assert answer.status_code == 403, (method, path)
        assert Fault.NOT_ALLOWED.code in answer.text, (method, path)
    assert (denied == 0) == (role == "admin")
    with web.system.records.reading() as unit:
        told = [event for event in unit.audit.newest(1000) if event.event == audit.ACCESS_DENIED]
    assert len(told) == denied
    assert {(event.actor, event.reason) for event in told} <= {(role, Fault.NOT_ALLOWED.code)}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reads_what_it_may(web, role):
    browser = web.browser(role)
    for (method, path), permission in sorted(routes(web).items()):
        if method == "GET" and permission in PERMISSIONS[role] and "{name}" not in path and "{job_id}" not in path:
            answer = browser.get(filled(path))
            assert answer.status_code == 200, (path, answer.text)


def test_no_write_of_a_session_goes_without_its_token_or_from_another_site(web):
    browser = web.browser("admin")
    headers = token_of(browser)
    forged = [
        {},
        {"X-CSRF-Token": "x"},
        {"X-CSRF-Token": ""},
        {**headers, "Origin": "http://evil.test"},
        {**headers, "Origin": "null"},
        {**headers, "Sec-Fetch-Site": "cross-site"},
        {**headers, "Sec-Fetch-Site": "same-site"},
    ]
    for method, path in sorted(key for key in routes(web).keys() - OPEN_TO_ALL if key[0] in WRITES):
        for given in forged:
            answer = browser.request(method, filled(path), headers=given, content=b"{}")
            assert answer.status_code == 403, (method, path, given)
            assert Fault.REQUEST_FORGED.code in answer.text, (method, path, given)
    assert browser.get("/").status_code == 200


def test_a_write_goes_through_with_the_token_in_a_header_or_in_the_form(web):
    browser = web.browser("admin")
    headers = token_of(browser)
    own = {"Origin": "http://tendon.test", "Sec-Fetch-Site": "same-origin"}
    assert browser.post("/api/v1/rules/check", json={"rules": []}, headers={**headers, **own}).status_code == 200
    assert browser.post("/confirm", data={"password": SECRET, "csrf_token": headers["X-CSRF-Token"]}).status_code == 303
    other = web.browser("admin")
    assert token_of(other) != headers
    assert other.post("/api/v1/rules/check", json={"rules": []}, headers=headers).status_code == 403


def test_a_sign_in_from_another_site_is_refused(web):
    form = {"username": "admin", "password": SECRET}
    for headers in ({"Origin": "http://evil.test"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = web.browser().post("/login", data=form, headers=headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


def test_the_cookie_is_for_the_browser_alone_and_new_at_each_sign_in(web):
    browser = web.browser()
    browser.cookies.set("tendon_session", "chosen by somebody else")
    answer = browser.post("/login", data={"username": "viewer", "password": SECRET})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie
    assert "chosen by somebody else" not in cookie
    assert web.browser("viewer").cookies["tendon_session"] not in cookie
    secure = web.browser()
    secure.base_url = "https://tendon.test"
    cookie = secure.post("/login", data={"username": "viewer", "password": SECRET}).headers["set-cookie"]
    assert "Secure" in cookie


def test_signing_out_ends_the_session_for_whoever_has_its_cookie(web):
    browser = web.browser("viewer")
    stolen = browser.cookies["tendon_session"]
    assert browser.post("/logout", headers=token_of(browser)).headers["location"] == "/login"
    thief = web.browser()
    thief.cookies.set("tendon_session", stolen)
    assert thief.get("/studies").headers["location"] == "/login?next=/studies"


@pytest.mark.parametrize(
    "next_page",
    [
        "//evil.test",
        "https://evil.test/",
        "/\\evil.test",
        "javascript:alert(1)",
        "\\\\evil.test",
        "/\r\nX: y",
        "evil",
        "",
    ],
)
def test_nobody_is_sent_to_another_site_after_signing_in(web, next_page):
    answer = web.browser().post("/login", data={"username": "viewer", "password": SECRET, "next": next_page})
    assert answer.headers["location"] == "/"
    assert web.browser("viewer").get("/login", params={"next": next_page}).headers["location"] == "/"


def test_who_asked_for_a_page_comes_to_it_after_signing_in(web):
    stranger = web.browser()
    to = stranger.get("/studies?q=doe").headers["location"]
    assert to == "/login?next=/studies%3Fq%3Ddoe"
    page = stranger.get(to).text
    assert 'name="next" value="/studies?q=doe"' in page
    signed = stranger.post("/login", data={"username": "viewer", "password": SECRET, "next": "/studies?q=doe"})
    assert signed.headers["location"] == "/studies?q=doe"


def test_failures_are_told_alike_and_throttled(web):
    stranger = web.browser()
    for _ in range(10):
        answer = stranger.post("/login", data={"username": "viewer", "password": "guess"})
        assert answer.status_code == 401
        assert "name or password is wrong" in answer.text.lower()
    assert stranger.post("/login", data={"username": "viewer", "password": SECRET}).status_code == 429
    assert stranger.post("/login", data={"username": "admin", "password": SECRET}).status_code == 303


def test_what_changes_the_site_needs_the_password_again_after_a_quarter_of_an_hour(web):
    browser = web.browser("admin")
    headers = token_of(browser)
    for _ in range(2):
        web.system.clock.pass_s(8 * 60)
        assert browser.get("/").status_code == 200
    answer = browser.post("/api/v1/rules", json={"rules": []}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, Fault.CONFIRMATION_NEEDED.code)
    assert browser.get("/users").headers["location"] == "/confirm?next=/users"
    wrong = browser.post("/confirm", data={"password": "guess"}, headers=headers)
    assert wrong.status_code == 401
    right = browser.post("/confirm", data={"password": SECRET, "next": "/users"}, headers=headers)
    assert right.headers["location"] == "/users"
    assert browser.post("/api/v1/rules", json={"rules": []}, headers=headers).status_code == 201


def test_a_page_that_renews_itself_keeps_no_session_alive(web):
    browser = web.browser("viewer")
    for _ in range(3):
        web.system.clock.pass_s(6 * 60)
        answer = browser.get("/studies", headers={"Tendon-Poll": "1"})
    assert answer.headers["location"].startswith("/login")


def test_a_first_password_leads_to_the_choice_of_another(web):
    first = add_account(web.door, "admin", "new", "viewer")
    browser = web.browser("new", first)
    assert browser.get("/studies").headers["location"] == "/password"
    assert browser.get("/").headers["location"] == "/password"
    headers = token_of(browser)
    assert browser.get("/api/v1/studies").json()["code"] == Fault.PASSWORD_PROVISIONAL.code
    differ = browser.post("/password", data={"password": "my own four words", "again": "x"}, headers=headers)
    assert differ.status_code == 422
    short = browser.post("/password", data={"password": "short", "again": "short"}, headers=headers)
    assert short.status_code == 422
    chosen = browser.post("/password", data=dict.fromkeys(("password", "again"), "my own four words"), headers=headers)
    assert chosen.headers["location"] == "/"
    assert browser.get("/studies").status_code == 200


def test_a_token_opens_its_scopes_and_needs_no_page(web):
    program = web.program("admin", Permission.STUDIES_READ, Permission.RULES_WRITE)
    assert program.get("/api/v1/studies").status_code == 200
    assert program.post("/api/v1/rules", json={"rules": []}).status_code == 201
    assert program.get("/api/v1/users").json()["code"] == Fault.NOT_ALLOWED.code
    wanted = {"label": "more", "scopes": ["studies:read"]}
    assert program.post("/api/v1/tokens", json=wanted).json()["code"] == Fault.NOT_ALLOWED.code
    for header in ("Bearer x", "Bearer ", "bearer", "Basic eDp5", "Bearer tendon_é"):
        answer = web.browser().get("/api/v1/studies", headers={b"Authorization": header.encode("latin-1")})
        assert answer.status_code == 401, header


def test_a_token_that_is_wrong_is_not_helped_by_a_cookie(web):
    browser = web.browser("admin")
    assert browser.get("/api/v1/me", headers={"Authorization": "Bearer x"}).status_code == 401


def test_who_is_limited_to_sites_sees_nothing_of_other_studies(web):
    add_account(web.door, "admin", "north", "operator", sites=["north"], password=SECRET)
    browser = web.browser("north")
    headers = token_of(browser)
    job_id = web.system.job().id
    assert browser.get("/api/v1/studies").json()["items"] == []
    assert browser.get("/api/v1/jobs").json()["items"] == []
    for path in (f"/api/v1/studies/{STUDY_UID}", f"/api/v1/jobs/{job_id}", f"/studies/{STUDY_UID}"):
        assert browser.get(path).status_code == 404, path
    for path in (f"/api/v1/studies/{STUDY_UID}/reroute", f"/api/v1/jobs/{job_id}/cancel"):
        assert browser.post(path, json={}, headers=headers).status_code == 404, path
    assert web.system.job().state == "waiting"
    with web.system.records.reading() as unit:
        assert any(e.event == audit.ACCESS_DENIED and e.subject == STUDY_UID for e in unit.audit.newest(99))
    answer = browser.post("/api/v1/emergency", json={"reason": "trauma"}, headers=headers)
    assert answer.status_code == 200
    assert len(browser.get("/api/v1/studies").json()["items"]) == 1
    assert browser.get("/api/v1/rules").status_code == 403
    assert [alarm["code"] for alarm in web.browser("admin").get("/api/v1/alarms").json()["items"]] == ["TND-6010"]


def test_each_look_at_a_study_is_audited_once_in_a_while(web):
    browser = web.browser("viewer")
    for _ in range(5):
        browser.get(f"/studies/{STUDY_UID}")
    browser.get(f"/api/v1/studies/{STUDY_UID}")
    with web.system.records.reading() as unit:
        looks = [e for e in unit.audit.newest(99) if e.event == audit.STUDY_READ]
    assert [(e.actor, e.subject, e.outcome, e.address) for e in looks] == [
        ("viewer", STUDY_UID, "success", "testclient")
    ]


def test_what_a_request_holds_beyond_what_is_asked_for_changes_nothing(web):
    admin = web.program("admin")
    for path, body in (
        ("/api/v1/users", {"name": "x", "role": "viewer", "password": "plain:x"}),
        ("/api/v1/users", {"name": "x", "role": "viewer", "is_disabled": False}),
        ("/api/v1/nodes", {"name": "x", "ae_title": "X", "host": "h", "__class__": "y"}),
        ("/api/v1/rules", {"rules": [], "activated_by": "somebody"}),
    ):
        assert admin.post(path, json=body).status_code == 422, path
    browser = web.browser("viewer")
    form = {"password": SECRET, "role": "admin", "sites": "", "next": "/", **token_form(browser)}
    assert browser.post("/confirm", data=form).status_code == 303
    assert browser.get("/api/v1/me").json()["role"] == "viewer"


def token_form(browser) -> dict[str, str]:
    return {"csrf_token": token_of(browser)["X-CSRF-Token"]}
