"""Facts of the order: rules wait for it, decide without it when their time is over, and again when it comes late."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.domain.errors import Refused
from orchestrator.domain.order import KEPT_FOR, Order
from orchestrator.domain.site import SiteContent
from orchestrator.domain.study import Patient
from orchestrator.rulebook import YamlRulebook
from orchestrator.service.operating import replace_site
from orchestrator.service.ordering import drop_order, keep_order
from orchestrator.service.repairing import reroute_study
from orchestrator.service.replaying import replay
from orchestrator.service.routing import due_studies
from tests.fakes.system import CT, QUIET_S, FakeSystem, rule, slices
from tests.strategies import STUDY_UID, manifest_of

BOOK = YamlRulebook()
FALL = {"field": "order.reason", "matches": "(?i)fall"}
WAIT_S = 300
SECOND = "1.2.3.2"


def asking(*conditions: dict[str, Any], **given: Any) -> dict[str, Any]:
    return rule(**{"when": {"all": [CT, *conditions]}, "wait_s": WAIT_S, **given})


@pytest.fixture
def system(tmp_path):
    return FakeSystem(
        tmp_path, manifests=(manifest_of("bone_ct"), manifest_of("density")), rules=(asking(FALL, name="fall"),)
    )


def images(**given: Any) -> list[Any]:
    return slices(**{"accession_number": "A1", **given})


def tell(system: FakeSystem, **given: Any) -> None:
    facts = {"accession_number": "A1", "patient_id": "P1", "reason": "fall from a ladder", **given}
    keep_order(system.records, system.clock, Order(at=system.clock.now(), **facts))


def said(system: FakeSystem) -> list[tuple[str, bool, str]]:
    """What rules said, each in its own row, oldest first."""
    with system.records.reading() as unit:
        kept = [decision for _, _, _, decision in unit.jobs.decisions(STUDY_UID)]
    return [(d.rule, d.is_yes, d.reason) for d in kept if not d.series_uid and d.reason]


def end_of_wait(system: FakeSystem) -> None:
    system.clock.pass_s(WAIT_S - QUIET_S)
    system.route()


# waiting


def test_an_order_that_is_there_is_not_waited_for(system):
    tell(system)
    system.receive_and_route(*images())
    assert system.job().pipeline == "bone_ct"
    assert said(system)[0][:2] == ("fall", True)


def test_the_study_waits_until_its_order_comes(system):
    system.receive_and_route(*images())
    assert system.jobs() == []
    assert not any(series.is_settled for series in system.study().series)
    assert said(system) == [
        ("fall", False, "not decided yet: it waits for an order until 300 s after the first object")
    ]
    assert due_studies(system.router) == [], "it is looked at again at the end, not in every round"
    system.clock.pass_s(100)
    tell(system)
    assert due_studies(system.router) == [STUDY_UID]
    system.route()
    assert system.job()
    assert due_studies(system.router) == []


def test_without_an_order_it_is_decided_at_the_end_and_the_explanation_says_so(system):
    system.receive_and_route(*images())
    system.clock.pass_s(WAIT_S - QUIET_S - 1)
    system.route()
    assert len(said(system)) == 1
    system.clock.pass_s(1)
    system.route()
    assert system.jobs() == []
    assert said(system)[1:] == [
        ("fall", False, "not known: order.reason is missing: no order came within 300 s"),
    ]
    assert due_studies(system.router) == []
    assert all(series.is_settled for series in system.study().series)


def test_an_order_that_comes_late_decides_again(system):
    system.receive_and_route(*images())
    end_of_wait(system)
    tell(system)
    system.route()
    assert system.job().pipeline == "bone_ct"
    assert system.study().revision == 1
    assert said(system)[-1][:2] == ("fall", True)


def test_an_order_that_changes_nothing_makes_no_job_again(tmp_path):
    system = FakeSystem(tmp_path, rules=(rule(forward=["pacs"]), asking(FALL, name="fall", run=[])))
    system.receive_and_route(*images())
    end_of_wait(system)
    system.report()
    before = system.jobs()
    tell(system)
    system.route()
    assert system.jobs() == before
    rows = len(said(system))
    tell(system)
    assert due_studies(system.router) == [], "told again as it is known"
    drop_order(system.records, system.clock, "A1")
    system.route()
    assert (system.jobs(), len(said(system)) > rows) == (before, True)


def test_an_order_without_what_a_rule_asks_for_is_waited_for_no_longer(system):
    tell(system, reason="")
    system.receive_and_route(*images())
    assert said(system) == [("fall", False, "not known: order.reason is missing")]
    tell(system)
    system.route()
    assert system.job()


def test_only_a_rule_that_the_order_decides_on_makes_a_study_wait(tmp_path):
    mr = {"field": "series.modality", "eq": "MR"}
    unsaid = {"field": "series.kernel", "eq": "B70f"}
    system = FakeSystem(
        tmp_path,
        rules=(
            rule("early"),
            asking(FALL, mr, name="of others"),
            asking(FALL, unsaid, name="never known"),
            asking(name="anyway", when={"any": [CT, FALL]}),
        ),
    )
    system.receive_and_route(*images())
    assert system.job()
    assert ("never known", False, "not known: order.reason is missing") in said(system), "no order would help"


def test_a_rule_that_is_not_asked_is_not_waited_for(tmp_path):
    system = FakeSystem(tmp_path, rules=(rule(stop=True), asking(FALL, name="fall")))
    system.receive_and_route(*images())
    assert system.job()


def test_of_two_rules_each_waits_its_own_time(tmp_path):
    soon = asking(FALL, name="soon", wait_s=60, run=["density"])
    absent = asking({"field": "order.is_known", "eq": False}, name="absent")
    system = FakeSystem(tmp_path, (manifest_of("bone_ct"), manifest_of("density")), (soon, absent))
    system.receive_and_route(*images())
    system.clock.pass_s(30)
    assert due_studies(system.router) == [STUDY_UID]
    system.route()
    assert system.jobs() == [], "the other waits still"
    assert due_studies(system.router) == []
    system.clock.pass_s(240)
    system.route()
    assert system.job().pipeline == "bone_ct"
    assert ("soon", False, "not known: order.reason is missing: no order came within 60 s") in said(system)
    tell(system)
    system.route()
    assert [job.pipeline for job in system.jobs()] == ["bone_ct", "density"]


def test_while_a_study_waits_no_series_of_it_starts_early(tmp_path):
    each = manifest_of("bone_ct", replace(manifest_of("x").primary, count="each"))
    system = FakeSystem(tmp_path, manifests=(each,), rules=(rule(), asking(FALL, name="fall", priority="stat")))
    system.receive(*images())
    visit = system.visit()
    system.send(visit, images(series_uid=SECOND)[0])
    system.clock.pass_s(QUIET_S)
    system.route()
    assert system.jobs() == []
    tell(system)
    system.route()
    assert (system.job().primary.series_uid, system.job().priority) == ("1.2.3.1", "stat")


def test_an_operator_who_has_a_study_routed_again_waits_for_no_order(system):
    system.receive_and_route(*images())
    assert not reroute_study(system.router, STUDY_UID).made
    assert said(system)[-1] == ("fall", False, "not known: order.reason is missing: no order came")
    assert due_studies(system.router) == []


def test_late_images_find_the_time_over(system):
    system.receive_and_route(*images())
    end_of_wait(system)
    system.receive_and_route(*images(first=3, count=1))
    assert said(system)[-1][2].endswith("no order came within 300 s")


# whose order


@pytest.mark.parametrize(
    ("patient", "order", "why"),
    [
        (Patient("P1", "MAIN"), {"patient_id": "P2"}, "the order of its accession number names another patient"),
        (
            Patient("P1", "MAIN"),
            {"patient_id_issuer": "NORTH"},
            "the order of its accession number names another patient",
        ),
        (Patient("P1", "MAIN"), {"patient_id_issuer": "MAIN"}, ""),
        (Patient("P1", "MAIN"), {"patient_id": ""}, ""),
        (Patient("", "", "Ann"), {}, ""),
        (Patient("P1", "MAIN"), {"accession_number": "A2"}, "no order came within 300 s"),
    ],
)
def test_an_order_counts_unless_it_contradicts_the_images(system, patient, order, why):
    tell(system, **order)
    system.receive_and_route(*images(patient=patient))
    end_of_wait(system)
    assert len(system.jobs()) == int(not why)
    if why:
        assert said(system)[-1] == ("fall", False, f"not known: order.reason is missing: {why}")


def test_of_orders_of_several_patients_that_of_the_patient_counts(system):
    tell(system, patient_id="P2", reason="headache")
    tell(system, patient_id="", reason="cough")
    tell(system)
    system.receive_and_route(*images())
    assert system.job()


def test_a_study_that_names_no_patient_takes_none_of_several(system):
    tell(system)
    tell(system, patient_id="P2")
    system.receive_and_route(*images(patient=Patient("", "", "Ann")))
    end_of_wait(system)
    assert said(system)[-1][2].endswith("orders of several patients have its accession number")


def test_a_study_without_an_accession_number_waits_for_nothing(system):
    system.receive_and_route(*slices())
    assert said(system) == [("fall", False, "not known: order.reason is missing: the images name no accession number")]


# what it tells


@pytest.mark.parametrize(
    ("condition", "is_met"),
    [
        ({"field": "order.procedure_code", "eq": "CTKNEEL"}, True),
        ({"field": "order.procedure_description", "matches": "knee"}, True),
        ({"field": "order.department", "eq": "ED"}, True),
        ({"field": "order.priority", "in": ["STAT"]}, True),
        ({"field": "order.station", "eq": "CT1"}, True),
        ({"field": "order.is_known", "eq": True}, True),
        ({"field": "order.is_known", "eq": False}, False),
        ({"field": "order.reason", "exists": False}, False),
    ],
)
def test_rules_may_ask_for_all_that_an_order_says(tmp_path, condition, is_met):
    system = FakeSystem(tmp_path, rules=(asking(condition),))
    tell(
        system, procedure_code="CTKNEEL", procedure_description="CT knee left", department="ED", priority="stat",
        scheduled_station="CT1",
    )  # fmt: skip
    system.receive_and_route(*images())
    assert len(system.jobs()) == int(is_met)


def test_no_explanation_repeats_what_an_order_says_in_words(tmp_path):
    secret = "Doe Jane fell"
    names = ("reason", "procedure_description", "department")
    rules = [asking({"field": f"order.{name}", "eq": "x"}, name=name) for name in names]
    system = FakeSystem(tmp_path, rules=tuple(rules))
    tell(system, **dict.fromkeys(names, secret))
    system.receive_and_route(*images())
    assert len(said(system)) == len(names)
    assert secret not in str(said(system))


def test_the_table_of_procedures_goes_by_the_ordered_code_where_the_images_have_none(tmp_path):
    table = ({"code": "CTKNEEL", "body_part": "KNEE"}, {"code": "CTHIP", "body_part": "HIP"})
    knee = {"field": "procedure.body_part", "eq": "KNEE"}
    system = FakeSystem(tmp_path)
    content = system.content(asking(knee, {"field": "order.is_known", "eq": True}))
    replace_site(system.records, system.clock, replace(content, procedures=table), "test")
    system.receive_and_route(*images())
    assert said(system)[-1][2].startswith("not decided yet"), "the order may tell of the procedure too"
    tell(system, procedure_code="CTKNEEL")
    system.route()
    assert system.job()
    system.receive_and_route(*(replace(header, procedure_code="CTHIP") for header in images(first=3, count=1)))
    manifests = {manifest.name: manifest for manifest in system.manifests}
    tried = replace(content, procedures=({"code": "CTKNEEL", "body_part": "FOOT"},))
    (change,) = replay(system.records, system.rulebook, manifests, tried, system.clock.now() - timedelta(days=1))
    assert [job.pipeline for job in change.dropped] == ["bone_ct"]


def test_rules_are_replayed_as_if_no_order_were_waited_for(system):
    system.receive_and_route(*images())
    end_of_wait(system)
    absent = asking({"field": "order.is_known", "eq": False})
    manifests = {manifest.name: manifest for manifest in system.manifests}
    tried = SiteContent(rules=(absent,))
    (change,) = replay(system.records, system.rulebook, manifests, tried, system.clock.now() - timedelta(days=1))
    assert [job.pipeline for job in change.begun] == ["bone_ct"]


def test_orders_are_forgotten_in_time(system):
    tell(system, accession_number="old")
    system.clock.pass_s(KEPT_FOR.total_seconds() + 1)
    tell(system)
    with system.records.reading() as unit:
        assert (len(unit.orders.of_number("old")), len(unit.orders.of_number("A1"))) == (0, 1)


# the text


def test_a_rule_that_waits_must_ask_for_the_order():
    table = {"field": "procedure.body_part", "eq": "KNEE"}
    with pytest.raises(Refused, match=r"rules\[0\]\.wait_s: the rule asks for no fact of the order"):
        BOOK.rules([asking(table)])
    for wrong in (0, 86_401, "300", 1.5, True):
        with pytest.raises(Refused, match=r"rules\[0\]\.wait_s"):
            BOOK.rules([asking(FALL, wait_s=wrong)])
    (made,) = BOOK.rules([asking({"any": [CT, {"not": FALL}]})])
    assert (made.wait_s, BOOK.rules([rule(when=FALL)])[0].wait_s) == (WAIT_S, 0)


def test_examples_state_an_order_and_are_decided_as_if_the_time_were_over():
    series = [{"modality": "CT"}]
    known = {"expect": "match", "order": {"reason": "a fall", "priority": "stat"}, "series": series}
    absent = {"expect": "no_match", "series": series}
    site = SiteContent(rules=(asking(FALL, examples=[known, absent]),))
    manifests = {"bone_ct": manifest_of("bone_ct")}
    assert BOOK.check(site, manifests, ["pacs"]) == []
    whole = asking({"field": "order.is_known", "eq": False}, examples=[absent | {"expect": "match"}])
    assert BOOK.check(SiteContent(rules=(whole,)), manifests, ["pacs"]) == []
