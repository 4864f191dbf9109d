"""How soon pages and API answer with a million studies in the database, on both databases."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, get_args
from urllib.parse import urlencode

from fastapi.testclient import TestClient

from orchestrator import settings
from orchestrator.admin.app import application
from orchestrator.admin.paging import mark_text
from orchestrator.assembly import migrate_site
from orchestrator.domain.delivery import DeliveryState, Destination
from orchestrator.domain.job import JobState
from orchestrator.domain.route import Decision
from orchestrator.domain.site import SiteContent
from orchestrator.domain.study import Patient
from orchestrator.domain.summary import Summary
from orchestrator.service.enrolling import add_account
from orchestrator.service.operating import replace_site
from tests.benchmarks.measure import Row, percentile
from tests.benchmarks.site import open_site
from tests.benchmarks.years import COMMON, DESTINATIONS, RARE, Years, fill_years
from tests.rows import ct, delivery_of, job_of, output_of, stage_of
from tests.servers.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from orchestrator.assembly import System

STUDIES: Final = 1_000_000
FEW: Final = 1000
BOUND_MS: Final = 100.0
INSTANCES: Final = 1000
VERSIONS: Final = 50
_ROUNDS: Final = 50
_SECRET: Final = "four words of chance"
_LARGE: Final = "1.2.3.4"
_JOBS_OF_LARGE: Final = 8
_SOME_STATES: Final = (("waiting", "failed", "done"), ("proven", "quarantined", "superseded"))
"""Of jobs and deliveries, for accounts limited to a site."""


def run() -> list[Row]:
    """Each page and list with many studies, held against the same with few."""
    with postgres() as server:
        databases = {"SQLite": lambda: "", "PostgreSQL": server.new_database}
        return [row for name, new in databases.items() for row in _rows(name, new)]


def _rows(database: str, new_database: Callable[[], str]) -> Iterator[Row]:
    with _hospital(new_database(), FEW) as visits:
        few = {name: _took_ms(visit) for name, visit in visits.items()}
    with _hospital(new_database(), STUDIES) as visits:
        many = {name: _took_ms(visit) for name, visit in visits.items()}
    worst_ms, worst = max((percentile(took, 95), name) for name, took in many.items())
    for name, took in many.items():
        told = f"{database}: {name}, p95 (p50 {median(took):.1f}, longest {max(took):.1f})"
        reference = percentile(few[name], 95)
        yield Row(told, percentile(took, 95), "ms", f"{FEW:,} studies", reference, f"p95 at most {BOUND_MS:g} ms")
    yield Row(f"{database}: worst p95, {worst}", worst_ms, "ms", "bound", BOUND_MS, "at most 1")


@dataclass(frozen=True, slots=True)
class Visit:
    """A page as somebody looks at it: `path` gives another address each time."""

    client: TestClient
    path: Callable[[], str]


def _took_ms(visit: Visit) -> list[float]:
    """What each of many looks took, after one that does not count."""
    took = []
    for _ in range(_ROUNDS + 1):
        path = visit.path()
        start = time.perf_counter()
        answer = visit.client.get(path)
        took.append((time.perf_counter() - start) * 1e3)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:200])
    return took[1:]


@contextmanager
def _hospital(url: str, studies: int) -> Iterator[dict[str, Visit]]:
    """What can be looked at in an installation with so many studies."""
    with TemporaryDirectory(prefix="tendon-pages-") as folder:
        given = {"TENDON_DATABASE_URL": url} if url else {}
        migrate_site(settings.load({}, {"TENDON_DATA_DIR": folder, **given}))
        system = open_site(Path(folder), **given)
        years = Years(studies)
        _decide(system)
        fill_years(system.settings.database_url, years)
        _receive_large(system)
        yield _visits(system, years)
        system.records.close()


def _decide(system: System) -> None:
    """Versions of the rules, and who may look."""
    destinations = tuple(Destination(name, "folder", path=f"out/{name}") for name in DESTINATIONS)
    for version in range(VERSIONS):
        rules = tuple(_rule(number, version) for number in range(30))
        replace_site(system.records, system.clock, SiteContent(destinations=destinations, rules=rules), "benchmark")
    for name, site in (("admin", ""), (COMMON, COMMON), (RARE, RARE)):
        role = "viewer" if site else "admin"
        add_account(system.door, "benchmark", name, role, sites=[site] if site else [], password=_SECRET)


def _rule(number: int, version: int) -> Mapping[str, Any]:
    conditions = [{"field": "series.modality", "eq": "CT"}, {"field": "series.images", "ge": 20 + version}]
    return {"name": f"Rule {number}", "when": {"all": conditions}, "run": ["bone_ct"], "send": ["pacs"]}


def _receive_large(system: System) -> None:
    """One study of many instances, with what was decided, done and sent."""
    now = system.clock.now()
    with system.records.transaction() as unit:
        for number in range(INSTANCES):
            series_uid = f"{_LARGE}.{number % 4}"
            uid = f"{series_uid}.{number}"
            image = ct(uid, series_uid=series_uid, study_uid=_LARGE, received_at=now, z_mm=float(number))
            unit.studies.add(image, now)
        facts = {
            "study": {},
            "series": [{"label": f"series {k}", "facts": {"series.modality": "CT"}} for k in range(4)],
        }
        unit.studies.describe(Summary(_LARGE, Patient("P1", "MAIN", "Large^Study"), "A1"), facts, [COMMON])
        made = [Decision("Rule", f"p{k}", f"{_LARGE}.{k % 4}", is_yes=True, reason="all hold") for k in range(100)]
        unit.jobs.add_decisions(_LARGE, 1, 1, now, made)
        for number in range(_JOBS_OF_LARGE):
            job = job_of(f"large{number}", study_uid=_LARGE, state="done", created_at=now)
            unit.jobs.add(job)
            unit.jobs.add_stage(stage_of(job, state="done"))
            for k in range(40):
                output = output_of(f"{job.id} o{k}", job.id)
                unit.deliveries.add_output(output)
                sent = delivery_of(f"{job.id} d{k}", output.id, job_id=job.id, state="proven", proof="query")
                unit.deliveries.add(sent)


def _visits(system: System, years: Years) -> dict[str, Visit]:
    app = application(system.desk, [])
    admin, common, rare = (_browser(app, name) for name in ("admin", COMMON, RARE))
    chance = Random(2)

    def any_() -> int:
        return chance.randrange(years.studies)

    everything = {**_lists(years, any_, get_args(JobState), get_args(DeliveryState)), **_of_admin(years, any_)}
    some = _lists(years, any_, *_SOME_STATES)
    found = {name: Visit(admin, path) for name, path in everything.items()}
    for what, client in (("common", common), ("rare", rare)):
        found |= {f"{name} of the {what} site": Visit(client, path) for name, path in some.items()}
    return found


def _lists(
    years: Years, any_: Callable[[], int], of_jobs: Sequence[str], of_deliveries: Sequence[str]
) -> dict[str, Callable[[], str]]:
    """What is to be seen with every account."""

    def deep() -> str:
        number = any_()
        return mark_text((years.at(number), years.uid(number)))

    def search(**asked: str) -> str:
        return f"/studies?{urlencode(asked)}"

    words = _Words(any_)
    searches: dict[str, Callable[[], str]] = {
        "/studies": lambda: "/studies",
        "/studies, deep": lambda: search(after=deep()),
        "/studies, common letters": lambda: search(q=words.common()),
        "/studies, one letter": lambda: search(q=words.letter()),
        "/studies, common letters, deep": lambda: search(q=words.common(), after=deep()),
        "/studies, rare letters": lambda: search(q=words.rare()),
        "/studies, whole name": lambda: search(q=words.name()),
        "/studies, patient id": lambda: search(q=f"P{any_() % 30_000:07d}"),
        "/studies, accession number": lambda: search(q=years.accession_number(any_())),
        "/studies, UID": lambda: search(q=years.uid(any_())),
        "/studies, nothing found": lambda: search(q=f"nobody {any_()}"),
        "/api/v1/studies, deep": lambda: f"/api/v1/studies?{urlencode({'cursor': deep()})}",
    }
    jobs: dict[str, Callable[[], str]] = {
        "/jobs": lambda: "/jobs",
        "/jobs, deep": lambda: f"/jobs?after={years.job_id(any_())}",
        **{f"/jobs {state}": lambda state=state: f"/jobs?state={state}" for state in of_jobs},
        "/jobs failed, deep": lambda: f"/jobs?state=failed&after={years.job_id(any_())}",
    }
    return searches | jobs | _deliveries(years, any_, of_deliveries)


def _deliveries(years: Years, any_: Callable[[], int], states: Sequence[str]) -> dict[str, Callable[[], str]]:
    api = "/api/v1/deliveries"
    in_states = {f"{api} {s}": lambda s=s: f"{api}?state={s}" for s in states}
    to = {f"{api} to {d}": lambda d=d: f"{api}?destination={d}" for d in DESTINATIONS}
    return {
        api: lambda: api,
        f"{api}, deep": lambda: f"{api}?cursor={years.delivery_id(any_())}",
        **in_states,
        **to,
        f"{api} quarantined to ehr": lambda: f"{api}?state=quarantined&destination=ehr",
        f"{api} superseded to share": lambda: f"{api}?state=superseded&destination=share",
    }


def _of_admin(years: Years, any_: Callable[[], int]) -> dict[str, Callable[[], str]]:
    return {
        "/": lambda: "/",
        "/studies/{uid}": lambda: f"/studies/{years.uid(any_())}",
        f"/studies/{{uid}}, {INSTANCES:,} instances": lambda: f"/studies/{_LARGE}",
        "/audit": lambda: "/audit",
        "/rules": lambda: "/rules",
        "/rules/versions/{version}": lambda: f"/rules/versions/{1 + any_() % VERSIONS}",
        "/api/v1/rules/versions": lambda: "/api/v1/rules/versions",
        "/destinations": lambda: "/destinations",
        "/destinations/{name}": lambda: f"/destinations/{DESTINATIONS[any_() % len(DESTINATIONS)]}",
        "/nodes": lambda: "/nodes",
        "/pipelines": lambda: "/pipelines",
        "/users": lambda: "/users",
        "/api/v1/stats": lambda: "/api/v1/stats",
        "/api/v1/alarms": lambda: "/api/v1/alarms",
    }


@dataclass(frozen=True, slots=True)
class _Words:
    """What people type who look for a name."""

    any_: Callable[[], int]

    def _one_of(self, *words: str) -> str:
        return words[self.any_() % len(words)]

    def common(self) -> str:
        """Three letters that many names begin with."""
        return self._one_of("sch", "Mue", "FIS", "web")

    def letter(self) -> str:
        """One letter."""
        return self._one_of("s", "M", "b", "x")

    def rare(self) -> str:
        """Three letters that few begin with."""
        return self._one_of("xyl", "yps", "zzz", "Wie")

    def name(self) -> str:
        """A name, family and given."""
        return f"{self._one_of('Schmidt', 'Xylander', 'Hobach', 'Weber')}, {self._one_of('Anna', 'Joko', 'Mari')}"


def _browser(app: Any, name: str) -> TestClient:
    client = TestClient(app, base_url="http://tendon.test", follow_redirects=False)
    answer = client.post("/login", data={"username": name, "password": _SECRET})
    assert answer.status_code == 303, answer.text
    return client
