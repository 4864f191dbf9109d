"""Pages and API over the fakes: an installation with an account of each role, and who uses it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fastapi.testclient import TestClient

from orchestrator.admin.app import application
from orchestrator.admin.context import Admin
from orchestrator.admin.monitors import monitor_routes
from orchestrator.assembly import RandomIdentifiers
from orchestrator.dicom.specimen import specimen
from orchestrator.domain.access import ROLES, Permission, Principal
from orchestrator.domain.errors import Fault, Transient
from orchestrator.domain.provider import Policy
from orchestrator.domain.trial import tally
from orchestrator.service.deciding import Office
from orchestrator.service.enrolling import add_account, make_token
from orchestrator.service.federating import Federation
from orchestrator.service.probing import Prober
from orchestrator.service.replaying import replay, seconds_of_jobs
from orchestrator.service.signing import Door
from orchestrator.service.staffing import Staff
from orchestrator.service.telling import change_told
from tests.fakes.passwords import PlainPasswords
from tests.fakes.surroundings import GivenCatalog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from fastapi import FastAPI

    from orchestrator.accounts import Provider
    from orchestrator.domain.site import SiteContent
    from tests.fakes.system import FakeSystem

SECRET = "four words of chance"


@dataclass
class Web:
    """The application over a fake system. `answers`: addresses (host, port) of nodes that answer C-ECHO.

    `provider` signs people in too, who may do what `policy` says.
    """

    system: FakeSystem
    needs_approval: bool = False
    answers: set[tuple[str, int]] = field(default_factory=set)
    provider: Provider | None = None
    policy: Policy = field(default_factory=lambda: Policy(grants=()))
    takes_passwords: bool = True

    def __post_init__(self) -> None:
        for role in ROLES:
            add_account(self.door, "root", role, role, password=SECRET)

    @cached_property
    def door(self) -> Door:
        return Door(self.system.records, self.system.clock, PlainPasswords(), self.takes_passwords)

    @cached_property
    def admin(self) -> Admin:
        system = self.system
        catalog = GivenCatalog(*system.manifests)
        return Admin(
            installation="hospital",
            environment="production",
            time_zone="UTC",
            records=system.records,
            objects=system.objects,
            clock=system.clock,
            identifiers=RandomIdentifiers(),
            catalog=catalog,
            rulebook=system.rulebook,
            door=self.door,
            office=Office(system.records, catalog, system.clock, system.rulebook, needs_approval=self.needs_approval),
            router=system.router,
            staff=Staff(system.records, system.clock),
            prober=Prober(
                system.records,
                system.objects,
                self._echo,
                {"dicom": system.sender, "folder": system.sender},
                lambda: specimen("hospital"),
            ),
            replayer=self._replay,
            federation=Federation(self.door, self.provider, self.policy) if self.provider else None,
        )

    def _echo(self, host: str, port: int, ae_title: str) -> None:
        if (host, port) not in self.answers:
            raise Transient(Fault.PEER_UNREACHABLE)

    def _replay(self, tried: SiteContent, span: timedelta) -> Mapping[str, Any]:
        records, since = self.system.records, self.system.clock.now() - span
        manifests = self.admin.catalog.manifests()
        changes = list(replay(records, self.system.rulebook, manifests, tried, since))
        summed = asdict(tally(changes, seconds_of_jobs(records)))
        return {"items": [change_told(change) for change in changes], "sum": summed}

    @cached_property
    def app(self) -> FastAPI:
        return application(self.admin, monitor_routes(metrics=lambda: b"", states=dict))

    def browser(self, name: str = "", password: str = SECRET, **given: Any) -> TestClient:
        """A browser, signed in where a name is given."""
        client = TestClient(self.app, base_url="http://tendon.test", follow_redirects=False, **given)
        if name:
            answer = client.post("/login", data={"username": name, "password": password})
            assert answer.status_code == 303, answer.text
        return client

    def program(self, name: str, *scopes: Permission) -> TestClient:
        """A program with a token of this account: with all it may where no scope is given."""
        with self.system.records.reading() as unit:
            account = unit.accounts.get(name)
        assert account is not None
        who = Principal(name=name, role=account.role, permissions=account.permissions, sites=account.sites)
        chosen = list(scopes) or sorted(account.permissions)
        _, text = make_token(self.door, RandomIdentifiers(), who, label="test", scopes=chosen, days=1)
        client = TestClient(self.app, base_url="http://tendon.test", raise_server_exceptions=False)
        client.headers["Authorization"] = f"Bearer {text}"
        return client


def token_of(browser: TestClient) -> dict[str, str]:
    """The headers that pages of this session send with their writes."""
    found = re.search(r"<body hx-headers='([^']+)'", browser.get("/tokens").text)
    assert found is not None
    headers: dict[str, str] = json.loads(found[1])
    return headers
