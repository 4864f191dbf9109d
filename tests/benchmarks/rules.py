"""How long 200 rules take: to decide a study, from headers to every yes and no, and to be tried on 10,000 of them."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from orchestrator import shipped
from orchestrator.domain.route import decide
from orchestrator.domain.site import SiteContent, version_of
from orchestrator.domain.snapshot import record_of
from orchestrator.domain.subject import subject_of
from orchestrator.domain.summary import Summary
from orchestrator.rulebook import YamlRulebook
from orchestrator.service.replaying import replay
from orchestrator.store.catalog import FolderCatalog
from orchestrator.store.records import DatabaseRecords, open_engine
from orchestrator.store.schema import migrate
from tests.benchmarks.measure import Row, durations_s
from tests.strategies import ct_header, ct_series, instance_of, study_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.domain.pipeline import Manifest
    from orchestrator.domain.route import Rule
    from orchestrator.domain.study import Study

RULES: Final = 200
BOUND_MS: Final = 5.0
REPLAYED: Final = 10_000
BOUND_S: Final = 60.0
_ROUNDS: Final = 50
_PARTS: Final = ("KNEE", "FOOT", "HIP", "HAND", "ELBOW", "ANKLE", "WRIST", "PELVIS", "SPINE", "CHEST")
_MODALITIES: Final = ("CT", "MR", "PT", "CT")
_STUDIES: Final = ((1, 120), (10, 100))


def run() -> list[Row]:
    """A study of one series and one of ten, with rules that ask for the geometry and rules that do not."""
    book = YamlRulebook()
    manifests = FolderCatalog([shipped.folder("models")], book).manifests()
    rows = []
    for asks, of_geometry in (("headers", False), ("headers and geometry", True)):
        rules = book.rules([_rule(number, of_geometry=of_geometry) for number in range(RULES)])
        for series, images in _STUDIES:
            do = partial(_decide, _study(series, images), rules, manifests)
            took_ms = statistics.median(durations_s(do, _ROUNDS)) * 1e3
            what = f"{RULES} rules on {asks}, {series} x {images} images"
            rows.append(Row(what, took_ms, "ms", "bound", BOUND_MS, "at most 1"))
    return [*rows, _replayed(book, manifests)]


def _replayed(book: YamlRulebook, manifests: Mapping[str, Manifest]) -> Row:
    """200 rules are in force, 200 others are tried; every tenth study is another one, of three series."""
    now = datetime.now(UTC)
    with TemporaryDirectory(prefix="tendon-rules-") as folder:
        engine = open_engine(f"sqlite:///{folder}/tendon.db")
        migrate(engine, shipped.folder("migrations"))
        records, before = DatabaseRecords(engine), tuple(_rule(n, of_geometry=True) for n in range(RULES))
        after = SiteContent(rules=tuple({**rule, "priority": "stat"} for rule in before))
        with records.transaction() as unit:
            unit.site.add(version_of(SiteContent(rules=before), 1, "benchmark", now, "", activated_by="benchmark"))
            snapshots = [record_of(subject_of(_study(3, 20 + kind), {})) for kind in range(10)]
            for number in range(REPLAYED):
                uid = f"1.2.{number}"
                unit.studies.add(instance_of(ct_header(f"{uid}.1", study_uid=uid), received_at=now), now)
                unit.studies.describe(Summary(uid), snapshots[number % len(snapshots)])
        began = time.perf_counter()
        studies = sum(1 for _ in replay(records, book, manifests, after, now - timedelta(days=7)))
        took_s = time.perf_counter() - began
        records.close()
    assert studies == REPLAYED
    return Row(f"{RULES} rules tried on {REPLAYED:,} studies of 3 series", took_s, "s", "bound", BOUND_S, "at most 1")


def _decide(study: Study, rules: Sequence[Rule], manifests: Mapping[str, Manifest]) -> None:
    decide(subject_of(study, {"node.ae_title": "CT1"}), rules, manifests)


def _rule(number: int, *, of_geometry: bool) -> dict[str, Any]:
    """Rules as a site writes them: most say no to every series."""
    part = _PARTS[number % len(_PARTS)]
    words = {"field": "series.description", "matches": f"(?i){part.lower()}|bone"}
    size = {"field": "series.slice_step_mm", "le": 0.7 + number % 3} if of_geometry else {"has_region": False}
    return {
        "name": f"{part} {number}",
        "when": {
            "all": [
                {"field": "series.modality", "eq": _MODALITIES[number % len(_MODALITIES)]},
                {"any": [{"field": "series.body_part", "in": [part, f"{part} LEFT", f"{part} RIGHT"]}, words]},
                size,
                {"not": {"field": "patient.age_years", "lt": 18}},
                {"field": "series.station", "in": [f"CT{number % 8}", f"CT{number % 9}"]},
            ]
        },
        "run": ["bone_ct"],
        "send": ["pacs"],
    }


def _study(series: int, images: int) -> Study:
    return study_of(
        *(
            ct_series(
                f"1.2.3.{number}",
                count=images,
                step_mm=1.0,
                series_number=number,
                body_part=_PARTS[number],
                series_description=f"{_PARTS[number].title()} {number}.0",
                patient_age="054Y",
                station=f"CT{number}",
                image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
            )
            for number in range(series)
        )
    )
