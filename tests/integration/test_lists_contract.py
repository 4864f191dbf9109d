"""What the ports `Lists` and `Answers` promise: studies found by what people type, lists page by page, by site."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.accounts import Answer
from orchestrator.domain.outline import SeriesOutline, StudyOutline
from orchestrator.domain.search import StudyQuery, name_key
from orchestrator.domain.study import Patient
from orchestrator.domain.summary import Summary
from orchestrator.store import finding
from tests.rows import OTHER_SERIES, SERIES, after, ct, delivery_of, job_of, output_of
from tests.strategies import START, STUDY_UID

DOE, ROE = Patient(id="P1", issuer="MAIN", name="Doe^Jane"), Patient(id="P2", name="Röe^Rik=Other")
STUDIES = {
    "1.2.1": (DOE, "A1", ["north"]),
    "1.2.2": (ROE, "A2", ["south"]),
    "1.2.3": (DOE, "A3", []),
    "1.2.4": (Patient(), "P1", ["north", "south"]),
}


def seconds_of(uid: str) -> int:
    return 10 * int(uid[-1])


@pytest.fixture(params=[finding.FEW, 1], ids=["few", "many"])
def filled(records, request, monkeypatch):
    """Four studies, the newest last, and a job with a delivery of each; two of a kind count as many, too."""
    monkeypatch.setattr(finding, "FEW", request.param)
    with records.transaction() as unit:
        for uid, (patient, accession_number, sites) in STUDIES.items():
            image = ct(f"{uid}.1.1", series_uid=f"{uid}.1", study_uid=uid, received_at=after(seconds_of(uid)))
            unit.studies.add(image, START)
            summary = Summary(uid, patient, accession_number, "2024-01-31", "Knee", ("CT",), ("KNEE",))
            unit.studies.describe(summary, {}, sites)
            job = job_of(f"j{uid[-1]}", study_uid=uid, state="failed" if uid == "1.2.2" else "done")
            unit.jobs.add(job)
            unit.deliveries.add_output(output_of(f"o{uid[-1]}", job.id))
            unit.deliveries.add(delivery_of(f"d{uid[-1]}", job_id=job.id, output_id=f"o{uid[-1]}"))
    return records


def found(records, limit: int = 9, after_mark=None, **query) -> list[str]:
    with records.reading() as unit:
        return [listed.summary.uid for listed in unit.lists.studies(StudyQuery(**query), limit, after_mark)]


def test_studies_are_listed_newest_first_page_by_page(filled):
    assert found(filled) == ["1.2.4", "1.2.3", "1.2.2", "1.2.1"]
    with filled.reading() as unit:
        first = unit.lists.studies(StudyQuery(), 3)
        second = unit.lists.studies(StudyQuery(), 3, first[-1].mark)
    assert [listed.summary.uid for listed in first + second] == found(filled)
    assert first[0].newest_at == after(40)
    assert first[1].summary == Summary("1.2.3", DOE, "A3", "2024-01-31", "Knee", ("CT",), ("KNEE",))


@pytest.mark.parametrize(
    ("text", "uids"),
    [
        ("1.2.2", ["1.2.2"]),
        ("P1", ["1.2.4", "1.2.3", "1.2.1"]),
        ("A2", ["1.2.2"]),
        ("doe", ["1.2.3", "1.2.1"]),
        (" DOE, ja", ["1.2.3", "1.2.1"]),
        ("rÖe rik", ["1.2.2"]),
        ("jane", []),
        ("%", []),
        ("_", []),
        ("' OR 1=1 --", []),
        ("^", []),
        ("*", []),
    ],
)
def test_a_study_is_found_by_its_numbers_whole_and_by_how_a_name_begins(filled, text, uids):
    assert found(filled, text=text) == uids


def test_what_is_found_comes_page_by_page_too(filled):
    with filled.reading() as unit:
        first = unit.lists.studies(StudyQuery(text="P1"), 2)
    assert found(filled, text="P1", after_mark=first[-1].mark) == ["1.2.1"]


def test_studies_are_narrowed_by_when_they_came(filled):
    assert found(filled, since=after(20), until=after(40)) == ["1.2.3", "1.2.2"]
    assert found(filled, since=after(20), text="P1") == ["1.2.4", "1.2.3"]
    assert found(filled, since=after(20), until=after(40), sites=("north", "south")) == ["1.2.2"]


def test_who_is_limited_to_sites_finds_only_what_these_have_sent(filled):
    assert found(filled, sites=("north",)) == ["1.2.4", "1.2.1"]
    assert found(filled, sites=("south", "north")) == ["1.2.4", "1.2.2", "1.2.1"]
    assert found(filled, sites=("east",)) == []
    assert found(filled, sites=("south",), text="P1") == ["1.2.4"]
    assert found(filled, sites=("south",), text="1.2.3") == []
    with filled.reading() as unit:
        assert [unit.lists.sites(uid) for uid in STUDIES] == [["north"], ["south"], [], ["north", "south"]]
        first = unit.lists.studies(StudyQuery(sites=("south", "north")), 2)
    assert found(filled, sites=("south", "north"), after_mark=first[-1].mark) == ["1.2.1"]


def test_a_study_routed_again_keeps_its_sites_and_moves_up(filled):
    with filled.transaction() as unit:
        unit.studies.add(ct("1.2.1.1.2", series_uid="1.2.1.1", study_uid="1.2.1", received_at=after(99)), START)
        unit.studies.describe(Summary("1.2.1", DOE), {}, ["north", "west"])
    assert found(filled, sites=("north",)) == ["1.2.1", "1.2.4"]
    assert found(filled, sites=("west",)) == ["1.2.1"]


def test_jobs_and_deliveries_are_listed_by_state_and_site_page_by_page(filled):
    with filled.reading() as unit:
        jobs = [job.id for job in unit.lists.jobs(2)]
        assert jobs + [job.id for job in unit.lists.jobs(9, jobs[-1])] == ["j4", "j3", "j2", "j1"]
        assert [job.id for job in unit.lists.jobs(9, states=("failed",))] == ["j2"]
        assert [job.id for job in unit.lists.jobs(9, sites=("north",))] == ["j4", "j1"]
        rows = unit.lists.deliveries(3, states=("waiting",), destination="pacs")
        assert [(d.id, o.id, j.id) for d, o, j in rows] == [(f"d{n}", f"o{n}", f"j{n}") for n in (4, 3, 2)]
        assert [d.id for d, _, _ in unit.lists.deliveries(9, "d2")] == ["d1"]
        assert [d.id for d, _, _ in unit.lists.deliveries(9, sites=("south",))] == ["d4", "d2"]
        assert unit.lists.deliveries(9, destination="ehr") == []
        found_jobs = unit.lists.jobs_of(["1.2.2", "1.2.9"])
        assert {uid: [job.id for job in found] for uid, found in found_jobs.items()} == {"1.2.2": ["j2"], "1.2.9": []}


def test_an_outline_tells_what_came_of_each_series(records):
    came = [
        ct("1.5", received_at=after(7), association_id="a2"),
        ct("1.4", received_at=after(3)),
        ct("1.6", series_uid=OTHER_SERIES, association_id="a3"),
        ct("1.7", is_own=True, association_id="a4"),
    ]
    with records.transaction() as unit:
        for instance in came:
            unit.studies.add(instance, START)
        unit.studies.find_ready(STUDY_UID, {SERIES: "quiet"}, after(9))
        unit.studies.settle(STUDY_UID, [SERIES], close=False)
    with records.reading() as unit:
        assert unit.lists.outline("9.9") is None
        assert unit.lists.outline(STUDY_UID) == StudyOutline(
            STUDY_UID,
            1,
            (
                SeriesOutline(SERIES, came[0].header, 2, after(7), is_settled=True, signal="quiet", ready_at=after(9)),
                SeriesOutline(OTHER_SERIES, came[2].header, 1, START, is_settled=False, signal="", ready_at=None),
            ),
            ("a2", "a1", "a3"),
        )


def test_what_is_open_is_counted(filled):
    with filled.transaction() as unit:
        job = job_of("j9", study_uid="1.2.3", state="held")
        unit.jobs.add(job)
        unit.deliveries.add_output(output_of("o9", job.id))
        for k, (state, destination) in enumerate(
            (("quarantined", "ehr"), ("held", "a"), ("accepted", "b"), ("proven", "c"))
        ):
            unit.deliveries.add(delivery_of(f"d9{k}", "o9", destination, job_id=job.id, state=state))
    with filled.reading() as unit:
        assert unit.lists.open_jobs() == {"failed": 1, "held": 1}
        assert unit.lists.open_deliveries() == {"waiting": 4, "unproven": 1, "quarantined": 1}
        assert unit.lists.quarantined() == {"ehr": 1}
        for state, found in (("quarantined", "d90"), ("held", "d91"), ("accepted", "d92"), ("proven", "d93")):
            assert [d.id for d, _, _ in unit.lists.deliveries(9, states=(state,))] == [found]


def test_an_answer_is_kept_for_the_request_with_its_key(records):
    with records.transaction() as unit:
        assert unit.answers.begin("ann", "k", "POST a", START) is None
        assert unit.answers.begin("bob", "k", "POST b", START) is None
        assert unit.answers.begin("ann", "k", "POST c", after(1)) == Answer("POST a", START)
        unit.answers.finish("ann", "k", 201, "{}")
    with records.transaction() as unit:
        assert unit.answers.begin("ann", "k", "POST c", after(1)) == Answer("POST a", START, 201, "{}")
        unit.answers.drop("bob", "k")
        assert unit.answers.begin("bob", "k", "POST d", after(5)) is None
        unit.answers.forget(after(5))
        assert unit.answers.begin("ann", "k", "POST e", after(9)) is None
        assert unit.answers.begin("bob", "k", "POST e", after(9)) == Answer("POST d", after(5))


WORDS = st.text("abcDEFäÖ", min_size=1)


@given(WORDS, WORDS)
def test_a_name_is_compared_by_its_words_in_any_case(one, other):
    key = name_key(f"{one}^{other}")
    assert key == name_key(f" {one} , {other}") == name_key(f"{one}^{other}^".upper()) == name_key(key)
    assert name_key(one) != name_key(one + "^" + other)


def test_only_the_alphabetic_group_of_a_name_counts():
    assert name_key("Yamada^Tarou=山田^太郎") == "yamada tarou"


def test_pages_are_whole_where_many_came_at_the_same_moment(records):
    with records.transaction() as unit:
        for k in range(7):
            unit.studies.add(ct(f"1.9.{k}.1.1", series_uid=f"1.9.{k}.1", study_uid=f"1.9.{k}"), START)
    seen, mark = [], None
    with records.reading() as unit:
        while page := unit.lists.studies(StudyQuery(), 3, mark):
            seen += [listed.summary.uid for listed in page]
            mark = page[-1].mark
    assert sorted(seen, reverse=True) == seen == [f"1.9.{k}" for k in reversed(range(7))]
