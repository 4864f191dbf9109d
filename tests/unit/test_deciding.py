"""Staff change the rules, one as author, another as the one who switches them on, and go back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.domain.errors import Fault, Refused
from orchestrator.rulebook import YamlRulebook
from orchestrator.service.deciding import Office, activate, propose, roll_back
from orchestrator.service.operating import current_site, replace_site
from tests.fakes.records import MemoryRecords
from tests.fakes.surroundings import GivenCatalog, SettableClock
from tests.fakes.system import CT1, EHR, PACS, FakeSystem, rule, slices
from tests.strategies import manifest_of

if TYPE_CHECKING:
    from orchestrator.domain.site import SiteFile

STAT = rule(priority="stat")


@pytest.fixture(params=[False, True], ids=["at once", "approved"])
def office(request, tmp_path):
    """Two pipelines are installed; rules for CT, a node and two destinations are in force."""
    return office_of(FakeSystem(tmp_path), needs_approval=request.param)


def office_of(system: FakeSystem, *, needs_approval: bool) -> Office:
    catalog = GivenCatalog(manifest_of("bone_ct"), manifest_of("density"))
    return Office(system.records, catalog, system.clock, system.rulebook, needs_approval=needs_approval)


def in_force(office: Office) -> SiteFile:
    return current_site(office.records)


def switched_on(office: Office, *rules: dict[str, Any], author: str = "ann", by: str = "bob", **given: Any) -> SiteFile:
    """Rules proposed by one, and switched on by another where that is needed."""
    site = propose(office, author, "a reason", rules=rules, **given)
    return activate(office, site.version, by) if office.needs_approval else site


def test_other_rules_are_a_draft_where_approval_is_needed_else_in_force_at_once(office):
    site = propose(office, "ann", "urgent", rules=[STAT])
    assert (site.version, site.author, site.reason, site.at) == (2, "ann", "urgent", office.clock.now())
    assert site.is_draft is office.needs_approval
    assert in_force(office).version == (1 if office.needs_approval else 2)


def test_what_is_not_given_stays_as_it_is(office):
    table = ({"code": "A", "body_part": "KNEE"},)
    studies = ({"name": "none", "expect": []},)
    switched_on(office, STAT, procedures=table, test_studies=studies)
    site = switched_on(office, rule())
    assert (site.procedures, site.test_studies) == (table, studies)
    assert (site.nodes, [d.name for d in site.destinations]) == ((CT1,), ["pacs", "ehr", "share"])
    assert switched_on(office, rule(), procedures=[]).procedures == ()


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"rules": [rule(priority="soon")]}, r"rules\[0\]\.priority"),
        ({"rules": [rule(run=["bone"])]}, r"rules\[0\]\.run\[0\]"),
        ({"rules": [rule(send=["nowhere"])]}, r"rules\[0\]\.send\[0\]"),
        ({"rules": [rule()], "procedures": [{"code": "A"}]}, r"procedures\[0\]"),
        ({"rules": [rule()], "test_studies": [{"name": "a", "expect": ["CT"]}]}, r"test_studies\[0\]"),
    ],
)
def test_what_does_not_hold_is_refused_with_its_path_and_nothing_is_kept(office, wrong, path):
    with pytest.raises(Refused, match=path) as refusal:
        propose(office, "ann", "", **wrong)
    assert refusal.value.fault is Fault.RULE_INVALID
    with office.records.reading() as unit:
        assert [site.version for site in unit.site.page(9)] == [1]


def test_a_hint_keeps_nothing_from_being_put_in_force(office):
    assert switched_on(office, rule("a", stop=True), rule("b")).rules == (rule("a", stop=True), rule("b"))


def test_the_first_rules_of_a_site_need_nothing_before_them():
    office = Office(MemoryRecords(), GivenCatalog(), SettableClock(), YamlRulebook())
    assert propose(office, "ann", "", rules=[]).version == 1


# approval


def test_nobody_switches_on_what_he_wrote_himself(tmp_path):
    office = office_of(FakeSystem(tmp_path), needs_approval=True)
    draft = propose(office, "ann", "", rules=[STAT])
    with pytest.raises(Refused) as refusal:
        activate(office, draft.version, "ann")
    assert refusal.value.fault is Fault.APPROVAL_NEEDED
    assert in_force(office).version == 1
    office.clock.pass_s(60)
    site = activate(office, draft.version, "bob")
    assert in_force(office) == site
    assert (site.author, site.activated_by, site.activated_at) == ("ann", "bob", office.clock.now())
    assert site.at < site.activated_at


def test_what_was_decided_on_nodes_and_destinations_meanwhile_stays(tmp_path):
    office = office_of(FakeSystem(tmp_path), needs_approval=True)
    draft = propose(office, "ann", "", rules=[STAT])
    other = replace(in_force(office).content, nodes=(replace(CT1, host="elsewhere"),), destinations=(PACS, EHR))
    replace_site(office.records, office.clock, other, "eve")
    site = activate(office, draft.version, "bob")
    assert (site.rules, site.nodes, site.destinations) == ((STAT,), other.nodes, other.destinations)


def test_a_draft_that_does_not_hold_any_more_is_not_switched_on(tmp_path):
    office = office_of(FakeSystem(tmp_path), needs_approval=True)
    draft = propose(office, "ann", "", rules=[STAT])
    replace_site(office.records, office.clock, replace(in_force(office).content, destinations=(EHR,), rules=()), "eve")
    with pytest.raises(Refused, match=r"rules\[0\]\.send\[0\]"):
        activate(office, draft.version, "bob")
    assert in_force(office).version == 3


def test_what_was_in_force_is_gone_back_to_not_switched_on(office):
    switched_on(office, STAT)
    for version, fault in ((1, Fault.RULES_ACTIVE), (2, Fault.RULES_ACTIVE), (7, Fault.NOT_FOUND)):
        with pytest.raises(Refused) as refusal:
            activate(office, version, "bob")
        assert refusal.value.fault is fault


# back


def test_going_back_makes_a_new_version_of_the_old_rules_and_keeps_nodes_and_destinations(office):
    before = in_force(office)
    switched_on(office, STAT)
    nodes = (replace(CT1, host="elsewhere"),)
    replace_site(office.records, office.clock, replace(in_force(office).content, nodes=nodes), "eve")
    site = roll_back(office, 1, "bob", "too many")
    assert (site.version, site.author, site.reason) == (4, "bob", "back to version 1: too many")
    assert (site.rules, site.nodes) == (before.rules, nodes)
    assert in_force(office) == site


def test_there_is_no_way_back_to_what_never_was_in_force(tmp_path):
    office = office_of(FakeSystem(tmp_path), needs_approval=True)
    draft = propose(office, "ann", "", rules=[STAT])
    for version, fault in ((draft.version, Fault.APPROVAL_NEEDED), (9, Fault.NOT_FOUND)):
        with pytest.raises(Refused) as refusal:
            roll_back(office, version, "ann")
        assert refusal.value.fault is fault


def test_studies_are_decided_by_what_is_in_force(tmp_path):
    system = FakeSystem(tmp_path)
    office = office_of(system, needs_approval=True)
    draft = propose(office, "ann", "", rules=[STAT])
    system.receive_and_route(*slices())
    assert [(job.priority, job.rule_set_version) for job in system.jobs()] == [("routine", 1)]
    activate(office, draft.version, "bob")
    system.receive_and_route(*slices("1.5.1", study_uid="1.5"))
    assert [(job.priority, job.rule_set_version) for job in system.jobs("1.5")] == [("stat", 2)]
