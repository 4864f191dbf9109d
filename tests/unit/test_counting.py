"""Nodes are asked what they have of series that are arriving: when, how often, and what their answers do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.delivery import Node
from orchestrator.domain.errors import Fault, Refused, Transient
from orchestrator.domain.study import COUNTS_APART
from orchestrator.rounds import Couriers
from orchestrator.service.counting import Census, count_at, is_counting, nodes_due
from orchestrator.service.operating import open_alarms, study_story
from tests.fakes.counts import GivenCounter
from tests.fakes.system import CT1, QUIET_S, FakeSystem, rule, slices
from tests.strategies import STUDY_UID, manifest_of

ARCHIVE = Node("archive", "ARCHIVE", "archive.example", 104, may_send=False, query=True)
SERIES, SECOND = "1.2.3.1", "1.2.3.2"
APART_S = COUNTS_APART.total_seconds()


class Watched:
    """A system one of whose nodes answers queries, and the duty of asking it done by hand."""

    def __init__(self, folder, *nodes: Node, **given) -> None:
        self.system = FakeSystem(folder, nodes=(CT1, *(nodes or (ARCHIVE,))), **given)
        self.counter = GivenCounter()
        self.census = Census(self.system.records, self.system.clock, self.counter, QUIET_S)

    def shows(self, number: int, series_uid: str = SERIES, node: str = "archive") -> None:
        self.counter.shown.setdefault(node, {})[series_uid] = number

    def look(self, seconds: float = 0.0) -> None:
        """One step of asking and of routing, so much later."""
        self.system.clock.pass_s(seconds)
        for name in nodes_due(self.census):
            count_at(self.census, name)
        self.system.route()

    @property
    def queries(self) -> int:
        return len(self.counter.asked)

    def series(self, uid: str = SERIES):
        (found,) = (series for series in self.system.study().series if series.uid == uid)
        return found


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path)


# what answers do


def test_a_series_is_routed_as_soon_as_two_answers_say_that_all_of_it_is_here(watched):
    watched.system.receive(*slices())
    watched.shows(3)
    watched.look()
    assert watched.system.jobs() == []
    watched.look(APART_S)
    assert watched.system.job().state == "waiting"
    assert watched.queries == 2


def test_the_signal_and_its_time_are_kept_until_more_of_the_series_comes(watched):
    watched.system.receive(*slices())
    watched.shows(3)
    watched.look()
    watched.look(APART_S)
    ready_at = watched.system.clock.now()
    known = (watched.series().signal, watched.series().ready_at)
    assert known == ("archive counted twice the 3 instances that are here", ready_at)
    with watched.system.records.transaction() as unit:
        unit.studies.look_again(STUDY_UID, ready_at)
    watched.look(3600)
    assert (watched.series().signal, watched.series().ready_at) == known, "it was ready all the time"
    watched.system.receive(*slices(first=3, count=1))
    assert (watched.series().signal, watched.series().ready_at) == ("", None)
    watched.look(QUIET_S)
    assert watched.series().signal == f"nothing came for {QUIET_S:g} s and no slice is missing"


def test_while_the_node_has_more_the_series_waits_and_is_routed_once_it_is_here(watched):
    watched.system.receive(*slices())
    watched.shows(4)
    for _ in range(20):
        watched.look(APART_S)
    assert watched.system.jobs() == []
    watched.system.receive(*slices(first=3, count=1))
    watched.look()
    assert len(watched.system.job().primary.instances) == 4, "one more answer that it is all there is enough"


def test_more_than_is_ever_sent_is_not_waited_for_for_ever(watched):
    watched.system.receive(*slices())
    watched.shows(4)
    for _ in range(200):
        watched.look(APART_S)
    assert watched.system.job().state == "waiting"
    assert watched.series().signal == "archive has 4 instances and 3 are here, but nothing came for 300 s"
    assert watched.queries < 12, "asked the less often the longer nothing changes"


@pytest.mark.parametrize("shown", [{}, {SERIES: 2}])
def test_a_node_that_knows_nothing_or_less_delays_nothing(watched, shown):
    watched.counter.shown["archive"] = shown
    watched.system.receive(*slices())
    watched.look()
    watched.look(APART_S)
    watched.look(QUIET_S - APART_S)
    assert watched.system.job().state == "waiting"


def test_an_object_of_ours_and_other_versions_do_not_make_the_count_wrong(watched):
    """A PACS counts SOP Instance UIDs: the versions of one once, and what cannot be routed as well."""
    images = slices()
    unreadable = replace(slices(first=3, count=1)[0], unreadable="too deep")
    with watched.system.records.transaction() as unit:
        unit.studies.claim_uids(["2.25.1"])
    watched.system.receive(*images, unreadable, replace(slices(SECOND, count=1)[0], sop_instance_uid="2.25.1"))
    visit = watched.system.visit()
    for other_version in (images[0], unreadable):
        watched.system.send(visit, other_version, b"other pixels")
    watched.system.reception.close(visit, "released")
    with watched.system.records.reading() as unit:
        assert len(unit.studies.left_out(STUDY_UID)) == 4
    assert watched.series().held == 4
    watched.shows(4)
    watched.look()
    watched.look(APART_S)
    assert len(watched.system.job().primary.instances) == 3


def test_a_job_on_one_series_starts_while_another_is_still_waited_for(tmp_path):
    each = manifest_of("per_series", replace(manifest_of("x").inputs[0], count="each"))
    watched = Watched(tmp_path, manifests=(each,), rules=(rule(run=["per_series"]),))
    watched.system.receive(*slices(), *slices(SECOND))
    watched.shows(3)
    watched.shows(9, SECOND)
    watched.look()
    watched.look(APART_S)
    assert watched.system.job().primary.series_uid == SERIES


# when nodes are asked


def test_nobody_is_asked_unless_a_node_answers_queries(tmp_path):
    watched = Watched(tmp_path, replace(ARCHIVE, query=False))
    watched.system.receive(*slices())
    assert (is_counting(watched.census), nodes_due(watched.census)) == (False, [])
    count_at(watched.census, "archive")
    assert watched.counter.associations == []


def test_nobody_is_asked_while_nothing_is_arriving(watched):
    assert (is_counting(watched.census), nodes_due(watched.census)) == (True, [])
    watched.system.receive_and_route(*slices())
    assert nodes_due(watched.census) == []


def test_nobody_is_asked_about_a_series_while_an_association_is_open_on_it(watched):
    visit = watched.system.visit()
    watched.system.send(visit, slices()[0])
    watched.look(60)
    assert watched.queries == 0
    watched.system.reception.close(visit, "released")
    watched.look()
    assert watched.queries == 1


def test_an_answer_that_comes_while_the_next_association_is_open_makes_nothing_ready(watched):
    watched.system.receive(*slices())
    watched.shows(3)
    watched.look()
    opened = []

    def send_meanwhile() -> None:
        opened.append(watched.system.visit())
        watched.system.send(opened[0], slices(first=3, count=1)[0])
        watched.shows(4)

    watched.counter.on_question = send_meanwhile
    watched.look(APART_S)
    watched.counter.on_question = lambda: None
    watched.look(10 * QUIET_S)
    assert watched.system.jobs() == []
    watched.system.reception.close(opened[0], "released")
    watched.look()
    assert len(watched.system.job().primary.instances) == 4


def test_a_node_is_asked_over_one_association_a_look_for_a_bounded_number_of_series(watched):
    for number in range(70):
        watched.system.receive(*slices(f"1.9.{number}", count=1, study_uid=f"1.8.{number}"))
    watched.look()
    assert (len(watched.counter.associations), watched.queries) == (1, 50)
    watched.look(0.5)
    assert watched.queries == 50, "it is left in peace for a second"
    watched.look(0.5)
    assert (len(watched.counter.associations), watched.queries) == (2, 70)


def test_series_of_one_study_are_one_question(watched):
    watched.system.receive(*slices(), *slices(SECOND))
    watched.look()
    assert watched.counter.asked == [("archive", STUDY_UID)]


def test_a_node_that_does_not_answer_is_tried_less_and_less_often_and_delays_nothing(watched):
    watched.system.receive(*slices())
    watched.counter.fault = Transient(Fault.QUERY_UNANSWERED)
    tried = []
    for second in range(300):
        if nodes_due(watched.census):
            tried.append(second)
            with pytest.raises(Transient):
                count_at(watched.census, "archive")
        watched.system.clock.pass_s(1)
    assert 6 < len(tried) < 14
    assert tried[-1] - tried[-2] > 25
    watched.system.route()
    assert watched.system.job().state == "waiting"
    assert open_alarms(watched.system.records) == []


def test_one_answer_ends_the_back_off(watched):
    watched.system.receive(*slices())
    watched.counter.fault = Transient(Fault.QUERY_UNANSWERED)
    for _ in range(6):
        with pytest.raises(Transient):
            count_at(watched.census, "archive")
    watched.counter.fault = None
    count_at(watched.census, "archive")
    assert not watched.census.rests("archive", watched.system.clock.now() + COUNTS_APART)


def test_a_node_that_refuses_sounds_an_alarm_and_is_left_alone_for_a_while(watched):
    watched.system.receive(*slices())
    watched.counter.fault = Refused(Fault.QUERY_REFUSED, "the node does not know us")
    watched.look()
    (alarm,) = open_alarms(watched.system.records)
    assert (alarm.code, alarm.subject, alarm.detail) == ("TND-5006", "archive", "the node does not know us")
    assert nodes_due(watched.census) == []


def test_a_fault_of_our_own_is_not_laid_at_the_nodes_door(watched):
    watched.system.receive(*slices())
    watched.system.records.fail_next = Transient(Fault.DATABASE_UNREACHABLE)
    with pytest.raises(Transient):
        count_at(watched.census, "archive")
    assert nodes_due(watched.census) == ["archive"]


def test_a_slow_node_keeps_no_other_from_being_asked_and_no_study_from_being_routed(tmp_path):
    watched = Watched(tmp_path, ARCHIVE, replace(ARCHIVE, name="other"))
    watched.system.receive(*slices())
    visited = []

    def visit(name: str) -> None:
        visited.append(name)
        watched.system.clock.pass_s(QUIET_S)
        watched.system.route()
        count_at(watched.census, name)

    couriers = Couriers(lambda: nodes_due(watched.census), visit, "asking")
    couriers.send_out()
    couriers.wait()
    assert sorted(visited) == ["archive", "other"]
    assert watched.system.job().state == "waiting"
    assert watched.queries == 0, "what is settled meanwhile is asked for no more"


# what staff see


def test_the_story_tells_the_signal_of_each_series(watched):
    watched.system.receive(*slices(), *slices(SECOND))
    watched.shows(3)
    watched.look()
    watched.look(APART_S)
    watched.look(QUIET_S)
    told = {series.uid: series.signal for series in study_story(watched.system.records, STUDY_UID).study.series}
    assert told == {
        SERIES: "archive counted twice the 3 instances that are here",
        SECOND: f"nothing came for {QUIET_S:g} s and no slice is missing",
    }
