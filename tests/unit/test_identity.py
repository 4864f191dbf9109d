"""Whether images still say what a result made from them says: a pure decision (I5)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.domain.identity import contradiction
from orchestrator.domain.job import JobInput
from orchestrator.domain.study import Patient
from tests.rows import job_of, version_of
from tests.strategies import ct_header, ct_series, instance_of, region_series, study_of

CT, DRAWN = ct_series("1.2.3.1"), region_series("1.2.3.2", "1.2.3.1")
STUDY = study_of(CT, DRAWN)


def taken(series, kind: str = "volume") -> JobInput:
    return JobInput(kind, kind, series.uid, {i.header.sop_instance_uid: i.digest for i in series.instances})


def job(*inputs: JobInput):
    return job_of(inputs=inputs or (taken(CT), taken(DRAWN, "region")))


def found(made=None, source=None, study=STUDY, versions=()) -> str:
    made = made or job()
    doubt = contradiction(made, source or made.primary, study, versions)
    return doubt.reason if doubt else ""


def again(standing="open", **changed):
    """Other bytes under the UID of the first image."""
    return version_of(instance_of(replace(CT.instances[0].header, **changed), digest="ff"), standing=standing)


def test_images_that_are_as_they_were_contradict_nothing():
    assert found() == ""


@pytest.mark.parametrize("study", [None, study_of(DRAWN), study_of(replace(CT, instances=CT.instances[1:]))])
def test_images_that_are_not_there_any_more_cannot_confirm_it(study):
    assert "not there any more" in found(study=study)


def test_another_patient_in_the_study_contradicts():
    other = ct_series("1.2.3.9", count=1, patient=Patient("P2", "MAIN"))
    assert "different patients" in found(study=study_of(CT, DRAWN, other))


def test_other_bytes_in_use_than_those_it_was_made_from_contradict():
    given = replace(taken(DRAWN, "region"), instances={"1.2.3.2.1": "ff"})
    assert "others now" in found(job(taken(CT), given))


def test_inputs_of_other_studies_and_results_of_others_are_not_looked_for_in_this_one():
    prior = JobInput("prior", "prior", "9.9", {"9.9.1": "ab"})
    upstream = JobInput("bone", "result", "", {"bone_ct": "cd"})
    assert found(job(taken(CT), prior, upstream)) == ""


def test_a_result_on_a_result_is_asked_about_the_images_that_both_refer_to():
    made = job(JobInput("bone", "result", "", {"bone_ct": "cd"}))
    assert found(made, source=taken(CT)) == ""
    assert "not there any more" in found(made, source=taken(CT), study=study_of(DRAWN))


@pytest.mark.parametrize("standing", ["open", "asked"])
@pytest.mark.parametrize(
    "changed",
    [
        {"patient": Patient("P2", "MAIN")},
        {"patient": Patient("P1", "")},
        {"patient": Patient("P1", "MAIN", name="Ash^Robin")},
        {"accession_number": "A1"},
        {"series_uid": "1.2.99"},
    ],
    ids=["id", "issuer", "name", "accession number", "series"],
)
def test_an_undecided_version_of_an_image_with_other_identity_contradicts_and_is_not_quoted(changed, standing):
    reason = found(versions=[again(standing, **changed)])
    assert "came again" in reason
    assert not [value for value in ("P2", "A1", "Ash", "1.2.99") if value in reason]


OTHER = Patient("P2", "MAIN")


@pytest.mark.parametrize(
    "version",
    [
        again(),
        again("kept", patient=OTHER),
        again("displaced", patient=OTHER),
        again(patient=Patient(), unreadable="too deep"),
        version_of(instance_of(ct_header("9.9.9", patient=OTHER))),
    ],
    ids=["same identity", "kept out", "no longer in use", "unreadable", "no image of it"],
)
def test_versions_that_say_nothing_against_it_stop_nothing(version):
    assert found(versions=[version]) == ""
