"""How another version of a known object is classed, and when a person must decide: pure decisions (I5)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.study import Patient
from orchestrator.domain.version import asking, difference, identity, identity_changes, newest, why_ask
from tests.rows import after, version_of
from tests.strategies import ct_header, ct_series, headers, instance_of, region_series, study_of

WHO = Patient("P1", "MAIN", "Canary^Yellow", "19500101", "F")
IMAGE = ct_header("1.2.3.1.0", patient=WHO)
CT = ct_series(count=3, patient=WHO)
STUDY = study_of(CT)
PACS = "a1"

components = st.lists(st.text("ABé 猫", max_size=3), max_size=5)
names = st.lists(components.map("^".join), max_size=3).map("=".join)
empty_ends = st.text("^ ", max_size=4)


def renamed(**changed):
    return replace(IMAGE, patient=replace(WHO, **changed))


# identity


@given(name=names, ending=empty_ends, group=st.sampled_from(["", "=", "=^^"]))
def test_empty_components_at_the_end_of_a_name_and_padding_change_nothing(name, ending, group):
    assert identity_changes(renamed(name=name), renamed(name=f"{name}{ending}{group}")) == ()


@given(before=names, now=names)
def test_names_are_the_same_exactly_when_their_filled_components_are(before, now):
    def filled(name):
        groups = enumerate(name.split("="))
        return {(g, c, p.strip()) for g, text in groups for c, p in enumerate(text.split("^")) if p.strip()}

    assert (identity_changes(renamed(name=before), renamed(name=now)) == ()) == (filled(before) == filled(now))


@pytest.mark.parametrize(
    ("header", "what"),
    [
        (renamed(id="P2"), "patient id"),
        (renamed(issuer=""), "issuer of the patient id"),
        (renamed(name="Canary^yellow"), "patient's name"),
        (renamed(birth_date="19500102"), "birth date"),
        (renamed(sex=""), "sex"),
        (replace(IMAGE, study_uid="9"), "study"),
        (replace(IMAGE, series_uid="9"), "series"),
        (replace(IMAGE, accession_number="A1"), "accession number"),
    ],
)
def test_each_part_of_an_identity_is_compared_and_named(header, what):
    assert identity_changes(IMAGE, header) == (what,)
    assert identity_changes(header, IMAGE) == (what,)
    assert identity(header)[what] != identity(IMAGE)[what]


@given(one=headers(), two=headers())
def test_an_object_has_its_own_identity_and_differing_is_mutual(one, two):
    assert identity_changes(one, one) == ()
    assert identity_changes(one, two) == identity_changes(two, one)


# class


@pytest.mark.parametrize("content", ["other", "unknown"])
@given(one=headers(), two=headers())
def test_what_shows_something_else_or_nobody_knows_what_is_a_conflict(content, one, two):
    assert difference(one, two, content) == "conflict"


@given(one=headers(), two=headers())
def test_the_same_pixels_are_a_variant_exactly_when_nothing_of_identity_and_place_differs(one, two):
    again = replace(one, patient=two.patient, accession_number=two.accession_number, transfer_syntax_uid="1.2.4")
    assert difference(one, one, "same") == "variant"
    assert difference(one, again, "same") == ("identity" if identity_changes(one, again) else "variant")


@pytest.mark.parametrize(
    "moved",
    [{"position_mm": (0.0, 0.0, 1.0)}, {"spacing_mm": (0.7, 0.7)}, {"rows": 32}, {"rescaled": True}, {"regions": ()}],
    ids=str,
)
def test_the_same_values_elsewhere_are_other_content(moved):
    (drawn,) = region_series("1.2.3.2", "1.2.3.1").instances
    header = drawn.header if "regions" in moved else IMAGE
    assert difference(header, replace(header, **moved), "same") == "conflict"


# what is asked


def corrected(instance, *, by=PACS, difference="identity", standing="open", at=10, **changed):
    """An image that came again; `changed` of its patient."""
    patient = replace(instance.header.patient, **changed)
    came = instance_of(replace(instance.header, patient=patient), digest=f"{at}{changed}")
    return version_of(came, received_at=after(at), association_id=by, difference=difference, standing=standing)


def whole(**given):
    return [corrected(instance, **given) for instance in CT.instances]


def why(versions, study=STUDY, authorities=(PACS,)):
    return why_ask(study, asking(study, versions), authorities)


@pytest.mark.parametrize("changed", [{"name": "Finch^Yellow"}, {"birth_date": "19500102"}, {"sex": "M"}], ids=str)
def test_demographics_of_a_whole_study_from_an_authority_are_taken(changed):
    assert why(whole(**changed)) == ""


@pytest.mark.parametrize(
    ("versions", "reason"),
    [
        (whole(name="Finch", by="a2"), "no identity authority"),
        (whole(id="P2"), "another patient id"),
        (whole(issuer="OTHER", name="Finch"), "another issuer of the patient id"),
        (whole(name="Finch")[1:], "only some objects"),
        ([*whole(name="Finch")[1:], corrected(CT.instances[0], name="Wren")], "only some objects"),
        ([*whole(name="Finch")[1:], corrected(CT.instances[0], name="Finch", difference="conflict")], "other content"),
    ],
    ids=["not from an authority", "id", "issuer", "a part", "two names", "other pixels"],
)
def test_all_else_is_asked_and_names_nobody(versions, reason):
    told = why(versions)
    assert reason in told
    assert not [name for name in ("Finch", "Wren", "Canary", "P2", "OTHER") if name in told]


def test_a_part_that_comes_later_makes_the_whole():
    first, *others = whole(name="Finch")
    assert why([first]) != ""
    assert why([replace(first, standing="asked"), *others]) == ""


def test_an_object_of_the_study_that_did_not_come_again_keeps_it_in_doubt():
    assert "only some" in why(whole(name="Finch"), study_of(CT, region_series("1.2.3.2", CT.uid, patient=WHO)))


def test_the_last_version_of_an_object_counts():
    wrong, right = whole(name="Finch", at=10, by="a2"), whole(name="Wren", at=20)
    assert why([*right, *wrong]) == ""
    assert asking(STUDY, [*right, *wrong]) == right
    assert "no identity authority" in why([*whole(name="Finch", at=30, by="a2"), *right])


def test_what_is_decided_says_nothing_any_more():
    decided = [v for standing in ("kept", "taken", "displaced") for v in whole(name="Finch", standing=standing)]
    assert asking(STUDY, decided) == []
    assert newest(decided) == []


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.booleans()), max_size=12))
def test_an_authority_is_followed_only_when_the_study_names_one_patient_afterwards(sent):
    """Whatever came, in whatever order: taken is what makes the study agree, and nothing of another's."""
    versions = [corrected(CT.instances[k], at=at, name="Finch" if is_finch else "Wren") for k, at, is_finch in sent]
    asked = asking(STUDY, versions)
    if asked and why(versions) == "":
        patients = {v.instance.header.patient for v in asked}
        assert len(patients) == 1
        assert {v.uid for v in asked} == {i.header.sop_instance_uid for i in CT.instances}
