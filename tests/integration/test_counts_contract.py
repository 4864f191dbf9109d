"""What the port `Counts` promises, and what of it shows in `Studies`, on the fake, SQLite and PostgreSQL."""

from __future__ import annotations

import pytest

from orchestrator.domain.study import Count
from orchestrator.ports import Association
from tests.rows import OTHER_SERIES, SERIES, after, ct
from tests.strategies import START, STUDY_UID


def received(records, *instances) -> None:
    with records.transaction() as unit:
        for instance in instances:
            unit.studies.add(instance, START)


def to_ask(records, seconds: float = 0.0, *, node: str = "pacs", limit: int = 9) -> dict[str, list[str]]:
    with records.reading() as unit:
        return unit.counts.to_ask(node, after(seconds), limit)


def note(records, count: Count, again_s: float, series_uid: str = SERIES) -> None:
    with records.transaction() as unit:
        unit.counts.note(STUDY_UID, series_uid, count, after(again_s))


def series(records, uid: str = SERIES):
    with records.reading() as unit:
        (found,) = (one for one in unit.studies.get(STUDY_UID).series if one.uid == uid)
    return found


ONCE = Count("pacs", 3, after(10))
TWICE = Count("pacs", 4, after(13), 3, after(10))


def test_what_a_node_answered_is_kept_by_node_in_place_of_what_was_known(records):
    received(records, ct(), ct("1.6", series_uid=OTHER_SERIES))
    assert series(records).counts == ()
    for count in (Count("z", 1, after(9)), ONCE, TWICE):
        note(records, count, 20)
    assert series(records).counts == (TWICE, Count("z", 1, after(9)))
    assert series(records, OTHER_SERIES).counts == ()


def test_an_arriving_series_is_to_be_asked_for_until_it_was_and_again_when_its_time_comes(records):
    assert to_ask(records) == {}
    received(records, ct(), ct("1.6", series_uid=OTHER_SERIES))
    assert to_ask(records) == {STUDY_UID: [SERIES, OTHER_SERIES]}
    note(records, ONCE, 20)
    assert to_ask(records, 19) == {STUDY_UID: [OTHER_SERIES]}
    assert to_ask(records, 20) == {STUDY_UID: [SERIES, OTHER_SERIES]}
    assert to_ask(records, 19, node="other") == {STUDY_UID: [SERIES, OTHER_SERIES]}


def test_at_most_so_many_series_are_to_be_asked_for_the_next_to_be_looked_at_first(records):
    received(records, ct(), ct("1.6", series_uid=OTHER_SERIES), ct("1.7", series_uid="1.7.7", study_uid="1.7"))
    with records.transaction() as unit:
        unit.studies.postpone(SERIES, after(9))
    assert to_ask(records, limit=1) == {STUDY_UID: [OTHER_SERIES]}
    assert to_ask(records, limit=2) == {STUDY_UID: [OTHER_SERIES], "1.7": ["1.7.7"]}


def test_what_came_since_the_answer_is_asked_for_sooner_but_not_within_two_seconds(records):
    received(records, ct())
    note(records, ONCE, 900)
    received(records, ct("1.5", received_at=after(11)))
    assert to_ask(records, 11.9) == {}
    assert to_ask(records, 12) == {STUDY_UID: [SERIES]}


def test_nothing_is_to_be_asked_of_a_series_with_an_association_open_on_it(records):
    with records.transaction() as unit:
        unit.studies.open_association(Association("a2", "CT1", "10.0.0.1", START))
    received(records, ct(association_id="a2"), ct("1.6", series_uid=OTHER_SERIES))
    assert to_ask(records) == {STUDY_UID: [OTHER_SERIES]}
    with records.transaction() as unit:
        unit.studies.close_association("a2", START, "released")
    assert to_ask(records) == {STUDY_UID: [SERIES, OTHER_SERIES]}


def test_a_settled_series_is_forgotten_and_not_to_be_asked_for(records):
    received(records, ct(), ct("1.6", series_uid=OTHER_SERIES))
    for uid in (SERIES, OTHER_SERIES):
        note(records, ONCE, 20, uid)
    with records.transaction() as unit:
        unit.studies.settle(STUDY_UID, [SERIES], close=False)
    assert to_ask(records, 99) == {STUDY_UID: [OTHER_SERIES]}
    assert (series(records).counts, series(records, OTHER_SERIES).counts) == ((), (ONCE,))


# the signal


def find_ready(records, signal: str, seconds: float, *uids: str) -> None:
    with records.transaction() as unit:
        unit.studies.find_ready(STUDY_UID, dict.fromkeys(uids or (SERIES,), signal), after(seconds))


def test_the_first_signal_stands_until_more_of_the_series_comes(records):
    received(records, ct(), ct("1.6", series_uid=OTHER_SERIES))
    assert (series(records).signal, series(records).ready_at) == ("", None)
    find_ready(records, "counted", 5)
    find_ready(records, "quiet", 9, SERIES, OTHER_SERIES, "9.9")
    assert (series(records).signal, series(records).ready_at) == ("counted", after(5))
    assert (series(records, OTHER_SERIES).signal, series(records, OTHER_SERIES).ready_at) == ("quiet", after(9))
    received(records, ct("1.5", received_at=after(11)))
    assert (series(records).signal, series(records).ready_at) == ("", None)
    assert series(records, OTHER_SERIES).signal == "quiet"


@pytest.mark.parametrize("late", [ct(), ct(digest="ff"), ct("1.7", is_own=True), ct("1.7", unreadable="too deep")])
def test_what_is_not_routable_takes_no_signal_away(records, late):
    received(records, ct())
    find_ready(records, "counted", 5)
    received(records, late)
    assert series(records).signal == "counted"


# what is held


def test_what_is_held_is_counted_by_uid_whatever_becomes_of_it(records):
    received(records, ct("1.4"), ct("1.5"), ct("1.4", digest="ff"))
    received(records, ct("1.7", unreadable="too deep"), ct("1.7", digest="ee", unreadable="too deep"))
    received(records, ct("1.8", is_own=True), ct("1.9", series_uid=OTHER_SERIES))
    assert (series(records).held, len(series(records).instances), series(records).left_out) == (4, 2, 2)
    assert series(records, OTHER_SERIES).held == 1
