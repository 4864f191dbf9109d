"""How long a rule set of 200 rules takes to decide a study, from rules and headers to every yes and no."""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Final

from orchestrator.domain.condition import All, Test
from orchestrator.domain.pipeline import Input
from orchestrator.domain.route import decide
from orchestrator.rulebook import YamlRulebook
from tests.benchmarks.measure import Row, seconds_of
from tests.strategies import ct_series, manifest_of, study_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.domain.study import Study

RULES: Final = 200
BOUND_MS: Final = 5.0
_ROUNDS: Final = 30
_PARTS: Final = ("KNEE", "FOOT", "HIP", "ABDOMEN", "CHEST", "HAND", "SPINE", "SHOULDER", "ELBOW", "ANKLE")


def run() -> list[Row]:
    """The study with one series, and the one with ten."""
    book = YamlRulebook()
    needs_geometry = book.rules(list(islice(_texts(), RULES)))
    by_header = book.rules([t for t in islice(_texts(), 2 * RULES) if "step" not in t["name"]][:RULES])
    manifests = {"bone_ct": manifest_of("bone_ct", Input("ct", "volume", where=_thin()))}
    rows = []
    for series, images in ((1, 120), (10, 100)):
        for name, rules in (("headers and geometry", needs_geometry), ("headers alone", by_header)):
            study = _study(series, images)
            took = seconds_of(lambda s=study, r=rules: decide(s, r, manifests, node={"ae_title": "CT1"}), _ROUNDS)
            rows.append(Row(f"{series} x {images} images, {RULES} rules on {name}", took.median * 1e3, "ms", BOUND_MS))
    return rows
