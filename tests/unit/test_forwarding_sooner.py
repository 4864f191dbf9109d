"""A series goes on before its study is whole, as soon as nothing to come can change what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.domain.route import FORWARD, decide
from orchestrator.domain.sooner import certain
from orchestrator.domain.subject import subject_of
from orchestrator.service.repairing import reroute_study
from tests.fakes.system import CT, QUIET_S, FakeSystem, rule, slices
from tests.rule_texts import BOOK
from tests.strategies import STUDY_UID, ct_header, ct_series, region_series, study_of

if TYPE_CHECKING:
    from orchestrator.domain.study import Series, Study

SECOND = "1.2.3.2"
MR = {"field": "series.modality", "eq": "MR"}
KNEE = {"field": "study.description", "matches": "(?i)knee"}


def forwarding(when: dict[str, Any], **given: Any) -> dict[str, Any]:
    return rule(**{"run": [], "send": [], "forward": ["pacs"], "when": when, **given})


def partly(tmp_path: Any, *rules: dict[str, Any], **images: Any) -> tuple[FakeSystem, str]:
    """A study whose first series is ready while a visit still brings its second."""
    system = FakeSystem(tmp_path, rules=rules)
    system.receive(*slices(**images))
    visit = system.visit()
    system.send(visit, slices(SECOND)[0])
    system.clock.pass_s(QUIET_S)
    system.route()
    return system, visit


def sent_on(system: FakeSystem) -> list[tuple[str, int, tuple[str, ...]]]:
    jobs = [job for job in system.jobs() if job.pipeline == FORWARD]
    return [(job.primary.series_uid, len(job.primary.instances), job.send) for job in jobs]


def finish(system: FakeSystem, visit: str) -> None:
    for header in slices(SECOND)[1:]:
        system.send(visit, header)
    system.reception.close(visit, "released")
    system.clock.pass_s(QUIET_S)
    system.route()


FIRST_ALONE = [("1.2.3.1", 3, ("pacs",))]
ORDERED = {"field": "order.priority", "eq": "STAT"}


@pytest.mark.parametrize(
    "rules",
    [
        [forwarding(CT)],
        [forwarding({"all": [CT, {"field": "series.instances", "ge": 2}]})],
        [forwarding({"field": "node.name", "eq": "ct1"})],
        [forwarding({"all": [CT, KNEE]})],
        [forwarding({"any": [CT, MR]})],
        [forwarding({"all": [CT, {"not": MR}]})],
        [forwarding(MR, name="MR"), forwarding(CT)],
        [forwarding({"all": [MR, {"field": "node.name", "eq": "mr1"}]}, name="MR", stop=True), forwarding(CT)],
        [forwarding(CT, stop=True), forwarding({"field": "study.series_count", "ge": 2}, name="many")],
        [forwarding({"all": [CT, {"field": "series.kernel", "eq": "B70f"}]}, name="bone"), forwarding(CT)],
        [rule("not sent on", when={"field": "study.series_count", "ge": 2}), forwarding(CT)],
        [forwarding({"field": "study.series_count", "ge": 2}, name="tried", release="shadow"), forwarding(CT)],
        [forwarding(CT), rule("later", when=MR, stop=True)],
    ],
)
def test_a_series_goes_on_while_others_come(tmp_path, rules):
    system, visit = partly(tmp_path, *rules, study_description="Knee")
    assert sent_on(system) == FIRST_ALONE
    finish(system, visit)
    assert [uid for uid, _, _ in sent_on(system)].count("1.2.3.1") == 1


@pytest.mark.parametrize(
    "rules",
    [
        [forwarding({"field": "study.series_count", "ge": 1})],
        [forwarding({"field": "study.modalities", "eq": "CT"})],
        [forwarding({"all": [CT, KNEE]}, name="knee"), forwarding(CT)],
        [forwarding({"has_region": True}, name="drawn"), forwarding(CT)],
        [forwarding({"all": [CT, {"has_prior": False}]})],
        [forwarding({"not": MR})],
        [forwarding({"all": [{"all": [CT]}, {"all": [CT]}]})],
        [rule("MR", when=MR, run=[], stop=True), forwarding(CT)],
        [rule("no MR", when={"not": MR}, run=[], stop=True), forwarding(CT)],
        [forwarding({"all": [CT, ORDERED]}, name="ordered"), forwarding(CT)],
    ],
)
def test_a_series_waits_while_what_comes_may_change_an_answer(tmp_path, rules):
    system, _visit = partly(tmp_path, *rules)
    assert sent_on(system) == []


def test_each_object_goes_once_also_those_that_come_later(tmp_path):
    system, visit = partly(tmp_path, forwarding(CT))
    system.receive_and_route(*slices(first=3, count=1))
    assert sent_on(system) == [*FIRST_ALONE, ("1.2.3.1", 1, ("pacs",))]
    finish(system, visit)
    assert sent_on(system) == [*FIRST_ALONE, ("1.2.3.1", 1, ("pacs",)), (SECOND, 3, ("pacs",))]
    reroute_study(system.router, STUDY_UID)
    assert len(sent_on(system)) == 3
    while system.deliver():
        system.clock.pass_s(61)
    sent = [name for _, names in system.sender.calls for name in names]
    assert len(sent) == len(set(sent)) == 7


def test_what_cannot_be_read_stays_here(tmp_path):
    system = FakeSystem(tmp_path, rules=(forwarding(CT),))
    system.receive_and_route(*slices(), ct_header("1.2.3.1.9", unreadable="too deep"))
    assert sent_on(system) == FIRST_ALONE


def test_what_was_not_certain_goes_when_the_study_is_whole(tmp_path):
    system, visit = partly(tmp_path, forwarding({"field": "study.series_count", "ge": 2}))
    finish(system, visit)
    assert [uid for uid, _, _ in sent_on(system)] == ["1.2.3.1", SECOND]


def test_a_study_that_waits_for_its_order_sends_nothing_on(tmp_path):
    waits = forwarding({"all": [CT, ORDERED]}, name="ordered", wait_s=300)
    system, _visit = partly(tmp_path, forwarding(CT), waits, accession_number="A1")
    assert sent_on(system) == []


TESTS = st.sampled_from(
    [
        {"field": "series.body_part", "eq": "KNEE"},
        {"field": "series.body_part", "eq": "HIP"},
        {"has_region": True},
        {"field": "node.name", "eq": "ct1"},
        {"field": "study.series_count", "ge": 3},
        {"field": "study.description", "eq": "Knee"},
        {"field": "order.is_known", "eq": True},
    ]
)
PARTS = TESTS | TESTS.map(lambda test: {"not": test}) | st.just({"not": {"has_region": True}})
ALLS = st.lists(PARTS, min_size=1, max_size=2).map(lambda parts: {"all": parts})
CONDITIONS = st.one_of(
    ALLS,
    PARTS,
    st.lists(ALLS | PARTS, min_size=2, max_size=2).map(lambda parts: {"any": parts}),
    st.lists(ALLS | PARTS, min_size=2, max_size=2).map(lambda parts: {"all": parts}),
    ALLS.map(lambda whole: {"not": whole}),
)
RULES = st.lists(st.tuples(CONDITIONS, st.sampled_from([["pacs"], []]), st.booleans()), max_size=2)
LAST = st.tuples(CONDITIONS | st.just({"field": "node.name", "eq": "ct1"}), st.just(["share"]), st.just(value=False))
ORDER = st.sampled_from([(True, True), (False, True), (False, False)])


@st.composite
def studies(draw: st.DrawFn) -> Study:
    """Of two to four series, regions drawn on the first among them; each image says the same of the study, or nothing.

    A series that is there may say nothing of the study, but the first one speaks for all.
    """
    description = draw(st.sampled_from(["", "Knee"]))
    parts = draw(st.lists(st.sampled_from(["KNEE", "HIP", "", "drawn"]), min_size=1, max_size=3))
    made = [ct_series("1.2.3.1", count=1, body_part=draw(st.sampled_from(["KNEE", "HIP"])))]
    for number, part in enumerate(parts, 2):
        uid = f"1.2.3.{number}"
        drawn = region_series(uid, "1.2.3.1", series_number=number)
        made.append(drawn if part == "drawn" else ct_series(uid, count=1, body_part=part, series_number=number))
    said = [description, *(draw(st.sampled_from(["", description])) for _ in parts)]
    return study_of(*(_saying(one, text) for one, text in zip(made, said, strict=True)))


def _saying(series: Series, description: str) -> Series:
    instances = (replace(i, header=replace(i.header, study_description=description)) for i in series.instances)
    return replace(series, instances=tuple(instances))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=600)
@given(studies(), RULES, LAST, ORDER, st.data())
def test_what_goes_on_sooner_goes_on_alike_when_the_study_is_whole(
    study: Study, asked: list[Any], last: Any, order: tuple[bool, bool], data: st.DataObject
) -> None:
    rules = BOOK.rules(
        [
            forwarding(when, name=str(number), forward=to, stop=stop)
            for number, (when, to, stop) in enumerate([*asked, last])
        ]
    )
    ready = data.draw(st.sets(st.sampled_from(study.series), min_size=1))
    around = {"node.name": "ct1", "order.is_known": order[0]}
    part = subject_of(replace(study, series=tuple(s for s in study.series if s in ready)), around)
    sooner = certain(decide(part, rules, {}).forwards, rules, part)
    later = around | {"order.is_known": order[1]}
    whole = {one.series_uid: one for one in decide(subject_of(study, later), rules, {}).forwards}
    assert sooner == [whole.get(one.series_uid) for one in sooner]


def test_a_region_that_comes_later_is_no_reason_to_wait_where_no_rule_asks_for_one(tmp_path):
    system = FakeSystem(tmp_path, rules=(forwarding(CT),))
    system.receive_and_route(*slices())
    system.receive_and_route(series=region_series("1.2.3.9", "1.2.3.1"))
    assert sent_on(system) == FIRST_ALONE
