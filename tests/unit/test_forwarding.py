"""Series are sent on as they were received: each object to each destination once, with the same proof as results."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.domain.delivery import Destination
from orchestrator.domain.route import FORWARD
from orchestrator.domain.site import SiteContent
from orchestrator.rulebook import YamlRulebook
from orchestrator.service.repairing import cancel_job, reroute_study, retry_job
from tests.fakes.system import EHR, PACS, SHARE, FakeSystem, rule, slices
from tests.strategies import STUDY_UID, manifest_of

if TYPE_CHECKING:
    from orchestrator.domain.job import Job

ARCHIVE = Destination("archive", "dicom")
DESTINATIONS = (PACS, EHR, SHARE, ARCHIVE)
MR = {"field": "series.modality", "eq": "MR"}


def forwarding(*to: str, **given: Any) -> dict[str, Any]:
    return rule(**{"run": [], "send": [], "forward": list(to), **given})


@pytest.fixture
def system(tmp_path):
    return FakeSystem(tmp_path, rules=(forwarding("archive"),), destinations=DESTINATIONS)


def forwards(system: FakeSystem) -> list[Job]:
    return [job for job in system.jobs() if job.pipeline == FORWARD]


def arrived(system: FakeSystem, name: str = "archive") -> list[bytes]:
    return sorted(data for (destination, _), data in system.sender.shown.items() if destination == name)


def deliver(system: FakeSystem) -> None:
    while system.deliver():
        system.clock.pass_s(61)


def test_a_series_goes_on_byte_for_byte_and_is_proven(system):
    system.receive_and_route(*slices())
    deliver(system)
    (job,) = forwards(system)
    assert (job.state, job.send, job.primary.series_uid) == ("done", ("archive",), "1.2.3.1")
    with system.records.reading() as unit:
        outputs, deliveries = unit.deliveries.outputs(job.id), unit.deliveries.of_job(job.id)
    assert [delivery.state for delivery in deliveries] == ["proven"] * 3
    assert [output.kind for output in outputs] == ["received"] * 3
    stored = [system.objects.read(digest) for digest in job.primary.instances.values()]
    assert arrived(system) == sorted(stored)
    assert all(uid not in output.name for output in outputs for uid in ("1.2.3", STUDY_UID))


def test_only_the_series_that_the_rule_matched_go_on_and_all_where_it_matched_none_in_particular(system):
    report = slices("1.2.3.9", count=1, modality="SR", series_number=9)
    system.receive_and_route(*slices(), *report)
    assert [job.primary.series_uid for job in forwards(system)] == ["1.2.3.1"]
    system.decide(forwarding("archive", when={"field": "study.revision", "ge": 1}), destinations=DESTINATIONS)
    reroute_study(system.router, STUDY_UID)
    assert [job.primary.series_uid for job in forwards(system)] == ["1.2.3.1", "1.2.3.9"]


def test_rules_that_send_on_the_same_add_their_destinations_and_say_so(system):
    system.decide(
        forwarding("archive", name="a"), forwarding("archive", "pacs", name="b", priority="stat"),
        forwarding("share", name="c", when=MR), forwarding("share", name="d", release="shadow"),
        destinations=DESTINATIONS,
    )  # fmt: skip
    system.receive_and_route(*slices())
    (job,) = forwards(system)
    assert (job.send, job.priority, [source["name"] for source in job.rules]) == (
        ("archive", "pacs"),
        "stat",
        ["a", "b"],
    )
    with system.records.reading() as unit:
        said = [d for _, _, _, d in unit.jobs.decisions(STUDY_UID) if d.pipeline == FORWARD]
    assert [(d.rule, d.reason) for d in said] == [
        ("a", "series 1 (CT) is sent on to archive"),
        ("b", "series 1 (CT) is sent on to archive, pacs"),
    ]


def test_of_late_images_only_those_go_that_were_not_there(system):
    system.receive_and_route(*slices())
    deliver(system)
    system.receive_and_route(*slices(first=3, count=2))
    deliver(system)
    first, second = forwards(system)
    assert [len(job.primary.instances) for job in (first, second)] == [3, 2]
    assert [job.state for job in (first, second)] == ["done", "done"]
    sent = [name for destination, names in system.sender.calls if destination == "archive" for name in names]
    assert len(sent) == len(set(sent)) == 5


def test_routing_again_sends_nothing_again_and_another_destination_gets_all(system):
    system.receive_and_route(*slices())
    deliver(system)
    rerouted = reroute_study(system.router, STUDY_UID)
    assert (len(forwards(system)), rerouted.unasked) == (1, ())
    system.decide(forwarding("archive", "pacs"), destinations=DESTINATIONS)
    reroute_study(system.router, STUDY_UID)
    deliver(system)
    assert [len(arrived(system, name)) for name in ("archive", "pacs")] == [3, 3]
    sent = [name for destination, names in system.sender.calls if destination == "archive" for name in names]
    assert len(sent) == 3


def test_results_and_received_images_go_their_ways_beside_each_other(system):
    system.decide(rule(forward=["archive"]), destinations=DESTINATIONS)
    system.receive_and_route(*slices())
    system.report()
    deliver(system)
    assert {job.pipeline: job.state for job in system.jobs()} == {"bone_ct": "done", FORWARD: "done"}
    assert (len(arrived(system, "pacs")), len(arrived(system))) == (1, 3)


def test_a_destination_that_does_not_answer_is_waited_for_and_one_that_refuses_is_told_of(system):
    system.sender.down = frozenset({"archive"})
    system.receive_and_route(*slices())
    for _ in range(3):
        system.deliver()
        system.clock.pass_s(61)
    assert [job.state for job in forwards(system)] == ["delivering"]
    system.sender.down = frozenset()
    with system.records.reading() as unit:
        (name, *_) = [output.name for output in unit.deliveries.outputs(forwards(system)[0].id)]
    system.sender.refuses = frozenset({name})
    deliver(system)
    (job,) = forwards(system)
    assert (job.state, job.reason) == ("failed", "status 0xC000")
    assert len(arrived(system)) == 2
    system.sender.refuses = frozenset()
    assert retry_job(system.router, job.id).resumed == 1
    deliver(system)
    assert [job.state for job in forwards(system)] == ["done"]
    assert len(arrived(system)) == 3


def test_what_is_cancelled_goes_no_further_until_it_is_asked_for_again(system):
    system.receive_and_route(*slices())
    (job,) = forwards(system)
    assert cancel_job(system.router, job.id, by="ann").withdrawn == 3
    deliver(system)
    assert arrived(system) == []
    reroute_study(system.router, STUDY_UID)
    deliver(system)
    assert [job.state for job in forwards(system)] == ["cancelled", "done"]
    assert len(arrived(system)) == 3


def test_images_whose_patient_is_in_question_do_not_go_on(system):
    system.receive(*slices())
    system.clock.pass_s(31)
    system.route()
    (first, *_) = slices()
    other = replace(first, patient=replace(first.patient, name="Somebody else"))
    system.send(system.visit(), other, b"the same pixels, another name")
    system.deliver()
    assert arrived(system) == []
    assert [job.state for job in forwards(system)] == ["held"]


def test_a_destination_that_takes_no_images_is_refused_when_it_is_saved_and_told_of_when_it_changed_since(system):
    site = SiteContent(rules=(forwarding("ehr"),), destinations=DESTINATIONS)
    (finding,) = YamlRulebook().check(site, {}, [d.name for d in DESTINATIONS])
    assert (finding.path, finding.severity) == ("rules[0].forward[0]", "error")
    assert finding.message == "ehr is of kind fhir and takes no images"
    system.decide(forwarding("ehr", "nowhere"), destinations=DESTINATIONS)
    system.receive_and_route(*slices())
    (job,) = forwards(system)
    assert (job.state, job.reason) == ("failed", "ehr takes no images")


def test_what_is_sent_on_builds_nothing_and_stands_in_no_pipelines_way(tmp_path):
    manifests = (manifest_of("bone_ct"), manifest_of("density"))
    system = FakeSystem(tmp_path, manifests, rules=(rule(run=["density", "bone_ct"], forward=["archive"]),))
    system.destinations = DESTINATIONS
    system.decide(*system.rules, destinations=DESTINATIONS)
    system.receive_and_route(*slices())
    assert sorted(job.pipeline for job in system.jobs()) == ["bone_ct", "density", FORWARD]
