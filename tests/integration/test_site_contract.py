"""What the port `Records` promises of the site's versions and of what studies are known by."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.domain.notice import Notice
from orchestrator.domain.study import Patient
from orchestrator.domain.summary import Summary
from tests.rows import after, ct, job_of, site_of, stage_of


def test_a_study_is_known_by_its_first_object_until_it_is_described(records):
    ann, bob = Patient("1", "MAIN", "Ann", "19700101", "F"), Patient("2", "MAIN", "Bob")
    with records.transaction() as unit:
        unit.studies.add(ct("1.1", study_uid="1.5", patient=ann, study_date="20260101", modality="ct"), after(1))
        unit.studies.add(ct("1.2", study_uid="1.5", patient=bob, study_date="20260102"), after(1))
        unit.studies.add(ct("1.3", study_uid="1.6", patient=ann, received_at=after(2)), after(2))
    first = Summary("1.5", ann, study_date="20260101", modalities=("CT",))
    with records.reading() as unit:
        assert unit.studies.summary("1.5") == first
        assert unit.studies.summary("1.9") is None
        assert [summary.uid for summary in unit.studies.of_patient("MAIN", "1", 9)] == ["1.6", "1.5"]
        assert [summary.uid for summary in unit.studies.of_patient("MAIN", "1", 1)] == ["1.6"]
        assert unit.studies.of_patient("", "1", 9) == []
    described = Summary("1.5", bob, "A1", "20260102", "Knee", ("CT", "SR"), ("KNEE",))
    with records.transaction() as unit:
        unit.studies.describe(described, {"study": {"study.revision": 1}, "series": []})
        assert unit.studies.summary("1.5") == described
        assert unit.studies.of_patient("MAIN", "2", 9) == [described]
        unit.keeping.retire("1.5", after(3), "old")
        assert unit.studies.summary("1.5") == Summary("1.5")


def test_the_version_that_was_switched_on_last_is_in_force_and_a_draft_is_not(records):
    with records.reading() as unit:
        assert unit.site.current() is None
        assert unit.site.next_version() == 1
    draft = replace(site_of(2), activated_by="", activated_at=None, reason="why not")
    notices = (
        Notice("ops", "webhook", ("job.failed", "job.done"), url="https://hook.example/"),
        Notice("mail", "email", ("alarm.raised",), to=("a@b.example", "c@d.example"), template="{code}"),
    )
    rich = site_of(3, procedures=({"code": "A"},), test_studies=({"name": "b"},), notices=notices)
    for site in (site_of(1), draft, rich):
        with records.transaction() as unit:
            assert unit.site.next_version() == site.version
            unit.site.add(site)
    with records.reading() as unit:
        assert unit.site.current() == rich
        assert [site.version for site in unit.site.page(9)] == [3, 2, 1]
        assert unit.site.page(1, before=3) == [replace(draft, nodes=(), destinations=(), rules=())]
        assert unit.site.version(1) == site_of(1)
        assert unit.site.version(4) is None
    switched_on = replace(draft, nodes=(), activated_by="somebody", activated_at=after(9))
    with records.transaction() as unit:
        unit.site.activate(switched_on)
    with records.reading() as unit:
        assert unit.site.current() == unit.site.version(2) == switched_on
        assert unit.site.next_version() == 4


def test_the_installation_keeps_its_first_name_for_ever(store):
    for name, opened in (("north", store.records), ("south", store.records), ("west", store.reopened())):
        with opened.transaction() as unit:
            assert unit.site.installation(name) == "north"


def test_the_facts_that_studies_were_routed_by_are_told_oldest_first(records):
    with records.transaction() as unit:
        for number, uid in enumerate(("1.7", "1.6", "1.5"), 1):
            unit.studies.add(ct(f"{uid}.1", study_uid=uid, received_at=after(number)), after(number))
        for uid in ("1.5", "1.6"):
            unit.studies.describe(Summary(uid), {"study": {"study.description": uid}, "series": []})
    with records.reading() as unit:
        told = list(unit.studies.routed_since(after(1)))
        assert told == [(uid, {"study": {"study.description": uid}, "series": []}) for uid in ("1.6", "1.5")]
        assert [uid for uid, _ in unit.studies.routed_since(after(3))] == ["1.5"]


def test_how_long_jobs_take_is_told_by_the_stages_done_last(records):
    with records.transaction() as unit:
        for number, (pipeline, lane) in enumerate((("a", "cpu"), ("a", "gpu"), ("b", "cpu"))):
            job = job_of(f"j{number}", pipeline=pipeline, input_set=f"{number}")
            unit.jobs.add(job)
            unit.jobs.add_stage(
                stage_of(job, lane=lane, state="done", started_at=after(1), finished_at=after(3 + number))
            )
        job = job_of("j9", pipeline="c", input_set="9")
        unit.jobs.add(job)
        unit.jobs.add_stage(stage_of(job))
    with records.reading() as unit:
        assert unit.jobs.seconds_of_stages(9) == {"a": (2.0, 3.0), "b": (4.0, 0.0)}
        assert unit.jobs.seconds_of_stages(1) == {"b": (4.0, 0.0)}
