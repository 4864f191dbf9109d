"""People come in by an identity provider: from the button to the page, and everything that ends on the way."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient

from orchestrator import settings
from orchestrator.admin.app import application
from orchestrator.assembly import open_system
from orchestrator.domain import audit
from orchestrator.domain.access import Permission
from orchestrator.domain.errors import Fault
from orchestrator.domain.provider import Grant, Policy
from orchestrator.outgoing.provider import Client, OpenIdProvider
from orchestrator.service.enrolling import add_account, change_account
from tests.fakes.system import FakeSystem
from tests.servers.provider import CLIENT, SECRET, id_provider
from tests.web import SECRET as PASSWORD
from tests.web import Web, token_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.domain.access import Account
    from tests.servers.provider import IdProvider

HERE = "http://tendon.test"
POLICY = Policy(
    grants=(
        Grant(group="radiology", role="radiologist", sites=("north",)),
        Grant(group="pacs admins", role="admin"),
    )
)
ANN = {"sub": "4711", "preferred_username": "ann", "groups": ["radiology"]}


@dataclass
class House:
    """The pages, and the provider that signs people in there."""

    web: Web
    there: IdProvider

    def leave_for(self, browser: TestClient, path: str = "/oidc/login") -> str:
        """Where the browser is sent back to once the person has signed in at the provider."""
        answer = browser.get(path)
        assert answer.status_code == 303, answer.text
        return self.there.visit(answer.headers["location"])

    def sign_in(self, browser: TestClient, path: str = "/oidc/login", **claims: Any) -> Any:
        self.there.claims = {**ANN, **claims}
        return browser.get(self.leave_for(browser, path))

    def accounts(self) -> Mapping[str, Account]:
        with self.web.system.records.reading() as unit:
            return {account.name: account for account in unit.accounts.all()}

    def events(self) -> list[tuple[str, str, str, str]]:
        with self.web.system.records.reading() as unit:
            return [(e.event, e.actor, e.subject, e.reason) for e in unit.audit.newest(100)]


def house_of(tmp_path, there: IdProvider, policy: Policy = POLICY) -> House:
    system = FakeSystem(tmp_path)
    there.now = lambda: system.clock.now().timestamp()
    client = Client(issuer=there.issuer, id=CLIENT, secret=SECRET, callback=f"{HERE}/oidc/callback", acrs=policy.acrs)
    provider = OpenIdProvider(client)
    return House(Web(system, provider=provider, policy=policy), there)


@pytest.fixture
def there():
    with id_provider() as provider:
        yield provider


@pytest.fixture
def house(tmp_path, there):
    return house_of(tmp_path, there)


def with_query(url: str, **other: str | None) -> str:
    """The URL with other parameters; what is None is left out."""
    parts = urlsplit(url)
    given = {name: values[0] for name, values in parse_qs(parts.query).items()} | other
    kept = {name: value for name, value in given.items() if value is not None}
    return str(TestClient(lambda: None).build_request("GET", parts._replace(query="").geturl(), params=kept).url)


def refused(answer: Any, status: int, fault: Fault) -> str:
    """The page on which it can be tried again."""
    assert answer.status_code == status, answer.text
    assert fault.code in answer.text
    assert "<h1>Sign in</h1>" in answer.text
    assert "tendon_session" not in answer.headers.get("set-cookie", "")
    return answer.text


def test_from_the_button_to_the_page_that_was_wanted(house):
    browser = house.web.browser()
    page = browser.get("/login?next=/studies%3Fq%3Ddoe").text
    assert page.index('action="/login"') < page.index("/oidc/login"), "the first button is that of the form"
    link = unescape(re.search(r'href="(/oidc/login[^"]*)"', page)[1])
    off = browser.get(link)
    cookie = off.headers["set-cookie"]
    assert all(part in cookie for part in ("tendon_signing=", "HttpOnly", "SameSite=lax", "Path=/oidc/", "Max-Age=600"))
    house.there.claims = ANN
    back = house.there.visit(off.headers["location"])
    answer = browser.get(back)
    assert (answer.status_code, answer.headers["location"]) == (303, "/studies?q=doe")
    assert "tendon_signing" not in browser.cookies
    assert browser.get("/studies").status_code == 200
    account = house.accounts()["oidc:ann"]
    assert (account.role, account.sites, account.password) == ("radiologist", ("north",), "")
    assert (account.issuer, account.subject) == (house.there.issuer, "4711")
    assert house.events()[1:3] == [
        (audit.SESSION_OPENED, "oidc:ann", "", ""),
        (audit.ACCOUNT_ADDED, "identity provider", "oidc:ann", "radiologist"),
    ]


def test_the_session_is_a_new_one_whatever_cookie_came(house):
    browser = house.web.browser()
    browser.cookies.set("tendon_session", "chosen by somebody else", domain="tendon.test")
    cookie = house.sign_in(browser).headers["set-cookie"]
    assert "tendon_session=" in cookie
    assert "chosen by somebody else" not in cookie
    first = house.web.browser("viewer")
    before = first.cookies["tendon_session"]
    house.sign_in(first)
    assert first.cookies["tendon_session"] != before
    assert "oidc:ann" in first.get("/tokens").text


def test_role_and_sites_are_brought_up_to_date_at_each_sign_in(house):
    browser, other = house.web.browser(), house.web.browser()
    house.sign_in(browser)
    house.sign_in(other)
    assert browser.get("/studies").status_code == other.get("/studies").status_code == 200
    house.sign_in(other, groups=["radiology", "pacs admins"], preferred_username="ann.new")
    assert {name for name in house.accounts() if name.startswith("oidc:")} == {"oidc:ann"}
    account = house.accounts()["oidc:ann"]
    assert (account.role, account.sites) == ("admin", ())
    assert browser.get("/studies").headers["location"].startswith("/login"), "sessions with the old role are over"
    assert other.get("/nodes").status_code == 200
    assert (audit.ACCOUNT_CHANGED, "identity provider", "oidc:ann", "admin") in house.events()


def test_nobody_gets_another_persons_account_by_a_name(house):
    add_account(house.web.door, "root", "ann", "admin", password=PASSWORD)
    local = house.accounts()["ann"]
    for subject in ("4711", "4712", "4713"):
        house.sign_in(house.web.browser(), sub=subject)
    house.sign_in(house.web.browser(), sub="4712")
    accounts = house.accounts()
    assert accounts["ann"] == local
    assert sorted(a.subject for n, a in accounts.items() if n.startswith("oidc:ann")) == ["4711", "4712", "4713"]
    for name in (name for name in accounts if name.startswith("oidc:ann")):
        for password in ("", PASSWORD):
            answer = house.web.browser().post("/login", data={"username": name, "password": password})
            assert answer.status_code == 401


def test_a_foreign_browser_gets_nowhere_with_what_another_began(house):
    victim, thief = house.web.browser(), house.web.browser()
    back = house.leave_for(victim)
    page = refused(thief.get(back), 403, Fault.REQUEST_FORGED)
    assert "was not begun in this browser" in page
    refused(victim.get(back), 403, Fault.REQUEST_FORGED)
    house.leave_for(thief)
    refused(thief.get(house.leave_for(victim)), 403, Fault.REQUEST_FORGED)


def test_a_state_is_good_once_and_for_ten_minutes(house):
    browser = house.web.browser()
    back = house.leave_for(browser)
    cookie = browser.cookies["tendon_signing"]
    assert browser.get(back).status_code == 303
    browser.cookies.set("tendon_signing", cookie, domain="tendon.test", path="/oidc/")
    refused(browser.get(back), 403, Fault.REQUEST_FORGED)
    back = house.leave_for(browser)
    house.web.system.clock.pass_s(600)
    refused(browser.get(back), 403, Fault.REQUEST_FORGED)
    for other in ({"state": None}, {"state": ""}, {"state": "x" * 43}):
        refused(browser.get(with_query(house.leave_for(browser), **other)), 403, Fault.REQUEST_FORGED)
    assert browser.get(with_query(house.leave_for(browser), state="x" * 5000)).status_code == 422
    assert house.web.system.records._state.sign_ins.keys()
    house.web.system.clock.pass_s(601)
    house.leave_for(browser)
    assert len(house.web.system.records._state.sign_ins) == 1, "what came to nothing is forgotten"


NO_PROOF = [
    {"code": None, "error": "access_denied", "error_description": "<b>4711 is on leave</b>"},
    {"error": "server_error"},
    {"code": None},
    {"code": ""},
    {"code": "guessed"},
    {"iss": "https://id.evil.example"},
]


def test_an_answer_without_proof_ends_on_the_login_page(house):
    browser = house.web.browser()
    for other in NO_PROOF:
        back = with_query(house.leave_for(browser, "/oidc/login?next=/jobs"), **other)
        page = refused(browser.get(back), 401, Fault.PROVIDER_FAILED)
        assert "leave" not in page
        assert "next=%2Fjobs" in page, "the page that was wanted is not forgotten"
        assert house.events()[0] == (audit.SESSION_REFUSED, "nobody", "", Fault.PROVIDER_FAILED.code)
        assert not [name for name in house.accounts() if name.startswith("oidc:")]
        refused(browser.get(back), 403, Fault.REQUEST_FORGED)


def test_an_answer_that_names_its_issuer_is_taken(house):
    browser = house.web.browser()
    assert browser.get(with_query(house.leave_for(browser), iss=house.there.issuer)).status_code == 303


def test_who_is_in_no_known_group_or_shut_out_does_not_come_in(house):
    browser = house.web.browser()
    page = refused(house.sign_in(browser, groups=["cleaning"]), 403, Fault.NOT_ALLOWED)
    assert "None of the groups that the identity provider names may come in here" in page
    assert "oidc:ann" not in house.accounts()
    assert house.events()[0] == (audit.SESSION_REFUSED, "oidc:ann", "", Fault.NOT_ALLOWED.code)
    house.sign_in(browser)
    change_account(house.web.door, "admin", "oidc:ann", is_disabled=True)
    assert browser.get("/studies").headers["location"].startswith("/login")
    page = refused(house.sign_in(browser, groups=["pacs admins"]), 403, Fault.NOT_ALLOWED)
    assert "This account was shut out" in page
    assert house.accounts()["oidc:ann"].role == "radiologist"


def test_who_is_in_no_known_group_any_more_is_signed_out_everywhere(house):
    browser, other = house.web.browser(), house.web.browser()
    house.sign_in(browser)
    refused(house.sign_in(other, groups=[]), 403, Fault.NOT_ALLOWED)
    assert browser.get("/studies").headers["location"].startswith("/login")
    house.sign_in(browser)
    refused(house.sign_in(other, sub="4712", groups=[]), 403, Fault.NOT_ALLOWED)
    assert browser.get("/studies").status_code == 200, "another of that name is another"


def test_where_a_second_factor_is_asked_for_nobody_comes_in_without(tmp_path, there):
    house = house_of(tmp_path, there, replace(POLICY, acrs=("mfa",)))
    refused(house.sign_in(house.web.browser(), acr="pwd"), 403, Fault.NOT_ALLOWED)
    refused(house.sign_in(house.web.browser()), 403, Fault.NOT_ALLOWED)
    assert house.sign_in(house.web.browser(), acr="mfa").status_code == 303


def test_nobody_is_sent_to_another_site(house):
    browser = house.web.browser()
    for to in ("//evil.test", "https://evil.test/", "/\\evil.test", "javascript:alert(1)", "/\r\nX: y", "evil", ""):
        off = browser.get("/oidc/login", params={"next": to})
        back = browser.get(house.there.visit(off.headers["location"]))
        assert (back.status_code, back.headers["location"]) == (303, "/"), to


def test_a_provider_that_does_not_answer_is_told_on_the_login_page(house):
    house.there.bodies = {"/openid-configuration": (500, b"4711")}
    page = refused(house.web.browser().get("/oidc/login?next=/jobs"), 503, Fault.PROVIDER_FAILED)
    assert 'action="/login"' in page, "local accounts come in still"


def test_without_a_provider_there_is_no_button_and_no_way(tmp_path):
    browser = Web(FakeSystem(tmp_path)).browser()
    assert "oidc" not in browser.get("/login").text
    for path in ("/oidc/login", "/oidc/callback?state=x&code=y"):
        assert browser.get(path).status_code == 404


def test_where_no_local_accounts_are_taken_only_the_provider_lets_people_in(house):
    local = house.web.browser("admin")
    program = house.web.program("admin", Permission.STUDIES_READ)
    house.web.takes_passwords = False
    for joined in ("door", "admin", "app"):
        del house.web.__dict__[joined]
    browser = house.web.browser()
    page = browser.get("/login").text
    assert 'action="/login"' not in page
    assert "/oidc/login" in page
    refused(browser.post("/login", data={"username": "admin", "password": PASSWORD}), 403, Fault.NOT_ALLOWED)
    browser.cookies.set("tendon_session", local.cookies["tendon_session"], domain="tendon.test")
    assert browser.get("/studies").headers["location"].startswith("/login")
    assert house.web.browser().get("/api/v1/studies", headers=program.headers).status_code == 200
    assert house.sign_in(house.web.browser()).status_code == 303


def test_an_account_by_the_provider_never_has_a_password(house):
    browser = house.web.browser()
    house.sign_in(browser)
    form = {"password": "my own four words", "again": "my own four words"}
    assert browser.post("/password", data=form, headers=token_of(browser)).status_code == 409
    admin = house.web.program("admin")
    assert admin.post("/api/v1/users/oidc:ann/reset").status_code == 409
    assert house.accounts()["oidc:ann"].password == ""


def stale(house: House, browser: TestClient) -> str:
    """A session that is to be confirmed; returns its link to the provider."""
    house.sign_in(browser, groups=["pacs admins"])
    for _ in range(2):
        house.web.system.clock.pass_s(8 * 60)
        browser.get("/")
    to = browser.get("/users").headers["location"]
    assert to == "/confirm?next=/users"
    page = browser.get(to).text
    assert 'type="password"' not in page
    return unescape(re.search(r'href="(/oidc/login[^"]*)"', page)[1])


def test_who_is_to_confirm_signs_in_again_at_the_provider_and_the_session_goes_on(house):
    browser = house.web.browser()
    link = stale(house, browser)
    cookie = browser.cookies["tendon_session"]
    off = browser.get(link).headers["location"]
    assert "prompt=login" in off
    assert "max_age=0" in off
    answer = browser.get(house.there.visit(off))
    assert answer.headers["location"] == "/users"
    assert browser.cookies["tendon_session"] == cookie
    assert browser.get("/users").status_code == 200
    assert house.events()[0] == (audit.SESSION_CONFIRMED, "oidc:ann", "", "")


def test_an_old_sign_in_at_the_provider_confirms_nothing(house):
    browser = house.web.browser()
    link = stale(house, browser)
    for shown_at in (house.there.now() - 16 * 60, house.there.now() - 61):
        house.there.shown_at = shown_at
        answer = browser.get(house.leave_for(browser, link))
        assert answer.status_code == 401
        assert Fault.PROVIDER_FAILED.code in answer.text
        assert "did not ask again who it is" in answer.text
        assert "/oidc/login?again=true" in answer.text
    assert browser.get("/users").headers["location"] == "/confirm?next=/users"


def test_somebody_else_at_the_provider_confirms_nothing_and_comes_in_as_nobody(house):
    browser = house.web.browser()
    link = stale(house, browser)
    answer = house.sign_in(browser, link, sub="4712", groups=["pacs admins"])
    assert answer.status_code == 403
    assert browser.get("/users").headers["location"] == "/confirm?next=/users"
    assert [name for name in house.accounts() if name.startswith("oidc:")] == ["oidc:ann"]
    back = house.leave_for(browser, link)
    browser.cookies.delete("tendon_session")
    assert Fault.REQUEST_FORGED.code in browser.get(back).text


def test_a_password_confirms_no_session_by_the_provider(house):
    browser = house.web.browser()
    stale(house, browser)
    for password in ("", PASSWORD):
        answer = browser.post("/confirm", data={"password": password}, headers=token_of(browser))
        assert answer.status_code == 401


def test_who_may_less_by_now_gets_a_session_that_says_so_when_confirming(house):
    browser = house.web.browser()
    link = stale(house, browser)
    cookie = browser.cookies["tendon_session"]
    house.sign_in(browser, link, groups=["radiology"])
    assert browser.cookies["tendon_session"] != cookie
    assert browser.get("/users").status_code == 403


def test_the_installation_as_it_is_started_from_its_settings(tmp_path, there):
    given = {
        "TENDON_DATA_DIR": str(tmp_path),
        "TENDON_OIDC_ISSUER": there.issuer,
        "TENDON_OIDC_CLIENT_ID": CLIENT,
        "TENDON_OIDC_CLIENT_SECRET": SECRET,
        "TENDON_OIDC_ROLES": "radiology=operator@north+south",
        "TENDON_OIDC_GROUPS_CLAIM": "roles",
        "TENDON_PUBLIC_URL": "https://tendon.test/",
        "TENDON_LOCAL_ACCOUNTS": "false",
    }
    system = open_system(settings.load(given))
    try:
        app = application(system.desk, [])
        browser = TestClient(app, base_url="https://tendon.test", follow_redirects=False)
        there.claims = {"sub": "4711", "roles": "radiology"}
        off = browser.get("/oidc/login")
        assert "Secure" in off.headers["set-cookie"]
        back = there.visit(off.headers["location"])
        assert back.startswith("https://tendon.test/oidc/callback?")
        answer = browser.get(back)
        assert answer.status_code == 303, answer.text
        me = browser.get("/api/v1/me").json()
        assert (me["name"], me["role"], me["sites"]) == ("oidc:4711", "operator", ["north", "south"])
    finally:
        system.records.close()
