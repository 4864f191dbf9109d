"""Rule texts for tests: hypothesis strategies over what rules may ask for, and what is known around a study."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from orchestrator.domain.pipeline import Input
from orchestrator.domain.queue import PRIORITY_ORDER
from orchestrator.domain.route import RELEASE_ORDER
from orchestrator.rulebook import YamlRulebook
from tests.fakes.system import CT
from tests.strategies import manifest_of

BOOK = YamlRulebook()
MANIFESTS = {
    "bone_ct": manifest_of("bone_ct", Input("ct", "volume")),
    "each": manifest_of("each", Input("ct", "volume", BOOK.condition(CT, "where"), count="each")),
    "tumour": manifest_of("tumour", Input("ct", "volume"), Input("tumour", "region", on="ct")),
    "density": manifest_of(
        "density", Input("ct", "volume"), Input("bone", "result", pipeline="bone_ct", required=False)
    ),
}


LEAVES = st.sampled_from(
    [
        CT,
        {"field": "series.modality", "in": ["MR", "RTSTRUCT"]},
        {"field": "series.body_part", "matches": "(?i)k"},
        {"field": "series.slice_step_mm", "le": 2},
        {"field": "series.is_volume", "eq": True},
        {"field": "series.kernel", "exists": False},
        {"field": "study.series_count", "ge": 2},
        {"field": "study.sample_percent", "lt": 50},
        {"field": "patient.age_years", "gt": 17},
        {"field": "node.name", "eq": "ct1"},
        {"field": "study.received_time", "between": ["20:00", "07:00"]},
        {"has_region": True},
        {"has_region": "(?i)t"},
        {"has_prior": {"modality": "CT"}},
        {"field": "order.reason", "matches": "(?i)fall"},
        {"field": "order.priority", "exists": False},
        {"field": "order.is_known", "eq": True},
        {"field": "procedure.body_part", "eq": "KNEE"},
    ]
)
TREES = st.recursive(
    LEAVES,
    lambda parts: (
        st.lists(parts, min_size=1, max_size=3).map(lambda given: {"all": given})
        | st.lists(parts, min_size=1, max_size=3).map(lambda given: {"any": given})
        | parts.map(lambda given: {"not": given})
    ),
    max_leaves=5,
)


def _waiting(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule may wait only where it asks for the order."""
    may_wait = rule["wait_s"] and "'order." in str(rule["when"])
    return rule if may_wait else {name: value for name, value in rule.items() if name != "wait_s"}


RULES = st.lists(
    st.fixed_dictionaries(
        {
            "when": TREES,
            "run": st.lists(st.sampled_from([*MANIFESTS, "unknown"]), max_size=3),
            "send": st.lists(st.sampled_from(["pacs", "ehr"]), max_size=2),
            "forward": st.lists(st.sampled_from(["pacs", "archive"]), max_size=2),
            "priority": st.sampled_from(PRIORITY_ORDER),
            "release": st.sampled_from(RELEASE_ORDER),
            "stop": st.booleans(),
            "wait_s": st.sampled_from([None, 60, 300]),
        }
    ),
    max_size=4,
).map(lambda given: [{**_waiting(one), "name": f"rule {number}"} for number, one in enumerate(given)])
AROUND = st.fixed_dictionaries(
    {
        "node.name": st.sampled_from([None, "ct1"]),
        "study.received_time": st.sampled_from([None, "06:59", "12:00"]),
        "patient.priors": st.sampled_from([None, ()]),
        "procedure.body_part": st.sampled_from([None, "KNEE"]),
    }
)
NO_ORDER = {"order.is_known": False}
ORDERS = st.just(NO_ORDER) | st.fixed_dictionaries(
    {
        "order.is_known": st.just(value=True),
        "order.reason": st.sampled_from(["", "a fall"]),
        "order.priority": st.sampled_from(["", "STAT"]),
    }
)
