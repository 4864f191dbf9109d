"""What other rules would do with the studies of the last days."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.domain.errors import Refused
from orchestrator.domain.order import NoOrder
from orchestrator.domain.route import FORWARD, decide, outcome
from orchestrator.domain.site import SiteContent
from orchestrator.domain.snapshot import record_of, subject_in
from orchestrator.domain.subject import subject_of
from orchestrator.domain.trial import mean_seconds, tally
from orchestrator.service.operating import current_site
from orchestrator.service.replaying import replay, seconds_of_jobs
from orchestrator.service.working import complete_stage
from tests import strategies
from tests.fakes.system import CT, FakeSystem, rule, slices
from tests.plain_interpreter import RANK_OF_TRUE, brute_force, depends_on_order
from tests.rule_texts import AROUND, BOOK, MANIFESTS, NO_ORDER, ORDERS, RULES

if TYPE_CHECKING:
    from orchestrator.domain.route import Rule
    from orchestrator.domain.study import Study
    from orchestrator.domain.trial import Change


def holding(rules: tuple[Rule, ...], facts: Any) -> list[str]:
    """The rules that a slow plain interpreter finds true, up to one that stops."""
    found = []
    for one in rules:
        if brute_force(one.when, facts) == RANK_OF_TRUE:
            found.append(one.name)
            if one.stop:
                break
    return found


def waiting(rules: tuple[Rule, ...], facts: Any, waited_s: float) -> list[str]:
    """The rules that it finds waiting for an order, up to one that holds and stops."""
    found = []
    for one in rules:
        if waited_s < one.wait_s and depends_on_order(one.when, facts):
            found.append(one.name)
        if one.stop and brute_force(one.when, facts) == RANK_OF_TRUE:
            break
    return found


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(strategies.studies(), RULES, AROUND, ORDERS, st.sampled_from([0.0, 60.0, 299.9, 300.0]))
def test_engine_explanation_replay_and_a_plain_interpreter_agree(
    study: Study, texts: list[dict[str, Any]], around: dict[str, Any], order: dict[str, Any], waited_s: float
) -> None:
    rules = BOOK.rules(texts)
    subject = subject_of(study, around | order)
    no_order = NoOrder("no order came", waited_s=waited_s) if order == NO_ORDER else None
    routing = decide(subject, rules, MANIFESTS, no_order=no_order)
    recalled = subject_in(json.loads(json.dumps(record_of(subject))))
    replayed = outcome(recalled, rules, MANIFESTS)

    assert list(replayed.rules) == holding(rules, subject.facts) == holding(rules, recalled.facts)
    assert replayed == outcome(subject, rules, MANIFESTS)
    waited_for = waiting(rules, subject.facts, waited_s) if no_order else []
    if waited_for:
        assert [d.rule for d in routing.decisions] == waited_for
        assert (routing.jobs, routing.forwards, routing.waits_s > waited_s) == ((), (), True)
        return
    assert routing.waits_s == 0
    explained = [d.rule for d in routing.decisions if d.is_yes and not d.pipeline and "stops here" not in d.reason]
    assert explained == list(replayed.rules)
    decided = [(j.pipeline, j.inputs[0].series_uid, j.priority, j.release, j.send) for j in routing.jobs]
    decided += [(FORWARD, f.series_uid, f.priority, "at_once", f.to) for f in routing.forwards]
    assert [(j.pipeline, j.series_uid, j.priority, j.release, j.send) for j in replayed.jobs] == decided
    of_rules = {(d.rule, d.pipeline) for d in routing.decisions if d.is_yes and d.pipeline}
    assert {name for _, name in of_rules} >= {job.pipeline for job in routing.jobs}


# studies of the last days


@pytest.fixture
def system(tmp_path):
    system = FakeSystem(tmp_path, rules=(rule(),))
    for number in range(3):
        study_uid = f"1.2.{number}"
        given = {"study_description": "Hip"} if number == 1 else {}
        system.receive_and_route(*slices(f"{study_uid}.1", study_uid=study_uid, **given))
        system.clock.pass_s(3600)
    return system


def changes(system: FakeSystem, *rules: dict[str, Any], hours: float = 24, **given: Any) -> list[Change]:
    tried = SiteContent(rules=rules, **given)
    manifests = {manifest.name: manifest for manifest in system.manifests}
    since = system.clock.now() - timedelta(hours=hours)
    return list(replay(system.records, system.rulebook, manifests, tried, since))


def test_every_study_of_the_window_is_told_also_where_nothing_changes(system):
    found = changes(system, rule())
    assert [change.study_uid for change in found] == ["1.2.0", "1.2.1", "1.2.2"]
    assert all(change.is_none for change in found)
    assert [change.study_uid for change in changes(system, rule(), hours=1.5)] == ["1.2.2"]


def test_what_begins_what_is_dropped_and_what_is_altered_is_told(system):
    hip = {"field": "study.description", "eq": "Hip"}
    found = changes(system, rule(when={"all": [CT, hip]}, priority="stat"))
    assert [(len(c.begun), len(c.dropped), len(c.altered)) for c in found] == [(0, 1, 0), (0, 0, 1), (0, 1, 0)]
    ((before, after),) = found[1].altered
    assert (before.priority, after.priority) == ("routine", "stat")
    summed = tally(found, {"bone_ct": (10.0, 60.0)})
    assert (summed.studies, summed.changed, summed.dropped, summed.begun) == (3, 3, {"bone_ct": 2}, {})
    assert (summed.cpu_s, summed.gpu_s, summed.unknown) == (-20.0, -120.0, ())
    assert tally(found, {}).unknown == ("bone_ct",)


def test_a_table_of_procedures_is_tried_with_the_rules(system):
    hip = rule(when={"field": "procedure.body_part", "eq": "HIP"})
    table = ({"description": "Hip", "body_part": "HIP"},)
    assert [len(change.after.jobs) for change in changes(system, hip, procedures=table)] == [0, 1, 0]
    assert [len(change.after.jobs) for change in changes(system, hip)] == [0, 0, 0]


def test_nothing_is_changed_by_trying(system):
    jobs, version = [system.jobs(f"1.2.{n}") for n in range(3)], current_site(system.records).version
    assert changes(system, rule(run=[]))
    assert [system.jobs(f"1.2.{n}") for n in range(3)] == jobs
    assert current_site(system.records).version == version
    with pytest.raises(Refused, match=r"rules\[0\]\.name"):
        changes(system, {**rule(), "name": ""})


def test_how_long_jobs_take_is_known_by_what_was_done_lately(system):
    assert seconds_of_jobs(system.records) == {}
    claimed = system.claim()
    system.clock.pass_s(7)
    assert complete_stage(system.workshop, claimed, system.manifests[0], {"mask": "ab"})
    assert seconds_of_jobs(system.records) == {"bone_ct": (7.0, 0.0)}
    done = [("a", "x", "gpu", 2.0), ("a", "x", "gpu", 4.0), ("a", "y", "cpu", 1.0), ("b", "x", "cpu", 5.0)]
    assert mean_seconds(done) == {"a": (1.0, 3.0), "b": (5.0, 0.0)}


def test_retired_studies_are_not_tried(system):
    with system.records.transaction() as unit:
        unit.keeping.retire("1.2.1", system.clock.now(), "old")
    assert [change.study_uid for change in changes(system, rule())] == ["1.2.0", "1.2.2"]
