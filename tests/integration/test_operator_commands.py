"""What `tendon jobs`, `study`, `alarms`, `retry`, `cancel`, `reroute` and `identity` print, and how they exit."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from getpass import getuser
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator import settings
from orchestrator.__main__ import main
from orchestrator.assembly import open_system
from orchestrator.dicom.archive import Archive
from orchestrator.domain.admission import Caller, Rejection
from orchestrator.domain.audit import opened, rejected
from orchestrator.domain.delivery import Node
from orchestrator.domain.job import JobInput
from orchestrator.domain.study import Patient
from orchestrator.ports import Association
from orchestrator.service.operating import note_unusable_message
from orchestrator.service.staffing import report
from tests.dicom_peers import LOOPBACK, free_port, listening
from tests.fakes.system import CT1, PACS, SHARE, rule, slices
from tests.rows import after, delivery_of, instance_of, job_of, output_of, site_of, stage_of, worker_of
from tests.strategies import STUDY_UID

if TYPE_CHECKING:
    from orchestrator.assembly import System
    from orchestrator.domain.job import Job

JOB = "abcdef0123456789"


@dataclass
class Desk:
    """An operator's terminal at an installation, and what she sees."""

    system: System
    capsys: pytest.CaptureFixture[str]

    def tendon(self, *arguments: str, expect: int = 0) -> str:
        code = main(arguments)
        seen = self.capsys.readouterr()
        assert code == expect, seen
        return seen.out if expect == 0 else seen.err

    def ask(self, *arguments: str) -> Any:
        return json.loads(self.tendon(*arguments, "--json"))

    def add(self, job: Job, **stage: Any) -> None:
        with self.system.records.transaction() as unit:
            unit.jobs.add(job)
            unit.jobs.add_stage(stage_of(job, **stage))

    def add_delivery(self, name: str, destination: str, **given: Any) -> None:
        with self.system.records.transaction() as unit:
            unit.deliveries.add_output(output_of(name, JOB))
            unit.deliveries.add(replace(delivery_of(f"d {name}", name, destination, **given), job_id=JOB))

    def job(self) -> Job:
        with self.system.records.reading() as unit:
            found = unit.jobs.get(JOB)
        assert found is not None
        return found


@pytest.fixture
def desk(empty_database, tmp_path, monkeypatch, capsys):
    """A study was received an hour ago; rules, a PACS and a shared folder are in force."""
    monkeypatch.setenv("TENDON_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    shutil.copy(empty_database, tmp_path / "tendon.db")
    system = open_system(settings.load())
    received_at = system.clock.now() - timedelta(hours=1)
    with system.records.transaction() as unit:
        unit.site.add(site_of(1, nodes=(CT1,), destinations=(PACS, SHARE), rules=(rule(),)))
        for header in slices(count=12):
            unit.studies.add(instance_of(header, received_at=received_at), received_at)
    yield Desk(system, capsys)
    system.records.close()


def failed_job(desk: Desk) -> None:
    desk.add(
        job_of(JOB, state="failed", reason="it died", code="TND-4002"),
        state="failed",
        attempt=3,
        reason="it died",
        code="TND-4002",
    )


# retry


def test_retry_says_which_stage_is_tried_again(desk):
    failed_job(desk)
    told = desk.tendon("retry", JOB[:6])
    assert f"Job {JOB} of bone_ct is waiting" in told
    assert "stage segment is ready" in told
    assert desk.job().state == "waiting"


def test_retry_says_how_many_deliveries_go_on_and_how_many_cannot(desk):
    desk.add(job_of(JOB, state="failed", reason="status 0xC000"), name="report", state="done")
    desk.add_delivery("o1", "pacs", state="quarantined", code="TND-5002", reason="status 0xC000")
    desk.add_delivery("o2", "gone", state="quarantined", code="TND-2003", reason="there is no destination named gone")
    told = desk.tendon("retry", JOB)
    assert "deliveries taken up again: 1" in told
    assert "deliveries that stay in quarantine: 1" in told


def test_retry_prints_json(desk):
    failed_job(desk)
    assert desk.ask("retry", JOB) == {
        "id": JOB,
        "study_uid": STUDY_UID,
        "pipeline": "bone_ct",
        "state": "waiting",
        "reason": "",
        "stage": "segment",
        "resumed": 0,
        "still_quarantined": 0,
    }


def test_what_cannot_be_retried_exits_with_one_and_says_what_to_do(desk):
    desk.add(job_of(JOB, state="unfit", reason="metal"))
    told = desk.tendon("retry", JOB, expect=1)
    assert "is unfit" in told
    assert "What to do: see its state and reason" in told


# cancel


def test_cancel_says_what_is_withdrawn_what_stays_and_how_to_go_on(desk):
    desk.add(job_of(JOB, state="delivering"), name="report", state="done")
    desk.add_delivery("o1", "pacs", state="proven")
    desk.add_delivery("o2", "share")
    told = desk.tendon("cancel", JOB, "--reason", "the wrong rule")
    assert f"Job {JOB} of bone_ct is cancelled: cancelled by " in told
    assert ": the wrong rule" in told
    assert "deliveries withdrawn: 1" in told
    assert "objects sent to pacs before: 1; they stay there" in told
    assert f"tendon reroute {STUDY_UID}" in told
    again = desk.tendon("cancel", JOB)
    assert "was cancelled before" in again
    assert "the wrong rule" in again


def test_cancel_prints_json(desk):
    desk.add(job_of(JOB, state="running"), state="leased", attempt=1, owner="worker", lease_until=after(10))
    told = desk.ask("cancel", JOB)
    assert told.pop("reason").startswith("cancelled by ")
    assert told == {
        "id": JOB,
        "study_uid": STUDY_UID,
        "pipeline": "bone_ct",
        "state": "cancelled",
        "was_cancelled": False,
        "withdrawn": 0,
        "sent": {},
    }


def test_in_a_container_whose_account_has_no_name_an_operator_cancels(desk, monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2_000_000_001)
    desk.add(job_of(JOB))
    assert desk.ask("cancel", JOB)["reason"] == "cancelled by an operator"


# reroute


def test_reroute_names_jobs_that_are_new_kept_and_not_asked_for_any_more(desk):
    desk.add(job_of(JOB, pipeline="removed"))
    told = desk.tendon("reroute", STUDY_UID)
    assert "Rule set 1 has decided on the study again." in told
    assert "new: bone_ct, waiting (job " in told
    assert f"asked for by no rule now, left as it is: removed, waiting (job {JOB})" in told
    assert "kept as it is: bone_ct, waiting (job " in desk.tendon("reroute", STUDY_UID)


def test_reroute_says_why_where_no_job_is_asked_for(desk):
    with desk.system.records.transaction() as unit:
        unit.site.add(site_of(2, rules=(rule(when={"field": "series.modality", "eq": "MR"}),)))
    told = desk.tendon("reroute", STUDY_UID)
    assert "no job is asked for:" in told
    assert "bone_ct: " in told


def test_reroute_prints_json(desk):
    told = desk.ask("reroute", STUDY_UID)
    (made,) = told["new"]
    assert (made["pipeline"], made["series_uid"], made["generation"], made["state"]) == (
        "bone_ct",
        "1.2.3.1",
        0,
        "waiting",
    )
    assert (told["study_uid"], told["rule_set_version"], told["kept"], told["unasked"]) == (STUDY_UID, 1, [], [])
    assert {decision["yes"] for decision in told["decisions"]} == {True}


# jobs and study


def test_jobs_shows_the_stage_with_its_attempt_and_enough_of_the_id_to_act_on(desk):
    failed_job(desk)
    told = desk.tendon("jobs")
    assert "segment failed, attempt 3" in told
    assert JOB[:12] in told
    assert STUDY_UID in told
    assert "operator must act" not in told


def test_jobs_shows_what_an_operator_must_act_on(desk):
    for _ in range(2):
        note_unusable_message(desk.system.records, desk.system.clock, "tendon.cpu.stat", "it names no stage")
    told = desk.tendon("jobs")
    assert "An operator must act on tendon.cpu.stat: it names no stage [TND-9006], seen 2 times" in told
    assert desk.ask("jobs") == {"items": []}


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("failed", f"`tendon retry {JOB}`"),
        ("unfit", f"`tendon reroute {STUDY_UID}`"),
        ("cancelled", f"`tendon reroute {STUDY_UID}`"),
    ],
)
def test_study_says_what_an_operator_can_do(desk, state, told):
    desk.add(job_of(JOB, state=state, reason="why"), state="failed", attempt=2, reason="why")
    seen = desk.tendon("study", STUDY_UID)
    assert f"{state}: why" in seen
    assert "stage segment: failed, attempt 2 of 3: why" in seen
    assert told in seen


def test_study_says_nothing_to_do_where_nothing_is_wrong(desk):
    desk.add(job_of(JOB, state="done"), state="done")
    assert "what to do" not in desk.tendon("study", STUDY_UID)


def test_study_says_by_which_signal_each_series_was_ready(desk):
    assert desk.ask("study", STUDY_UID)["series"][0]["ready_at"] is None
    desk.tendon("reroute", STUDY_UID)
    signal = "nothing came for 30 s and no slice is missing"
    (series,) = desk.ask("study", STUDY_UID)["series"]
    assert (series["settled"], series["signal"]) == (True, signal)
    told = f"12 instances, ready and routed (ready on {series['ready_at']}: {signal})"
    assert told in desk.tendon("study", STUDY_UID)


# help and errors


@pytest.mark.parametrize("command", ["retry", "cancel", "reroute"])
def test_each_command_explains_itself_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"example:\n  tendon {command} " in capsys.readouterr().out


@pytest.mark.parametrize("command", ["retry", "cancel", "reroute"])
def test_without_saying_what_it_is_a_wrong_call(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command])
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["retry", "cancel", "reroute"])
def test_what_nobody_knows_exits_with_one_and_says_what_to_do(desk, command):
    told = desk.tendon(command, "9.9.9.9.9", expect=1)
    assert "9.9.9.9.9" in told
    assert "What to do: check the name or id" in told


# workers and alarms


def test_a_stage_that_no_worker_can_run_says_what_it_waits_for(desk):
    desk.add(job_of(JOB), lane="gpu", gpu="required")
    assert "waits: no worker serves the queue [TND-4012]" in desk.tendon("study", STUDY_UID)
    report(desk.system.staff(), worker_of(["gpu"], has_gpu=False))
    (job,) = desk.ask("study", STUDY_UID)["jobs"]
    assert job["stages"][0]["lacks"] == "the stage needs a GPU and no worker has one [TND-4011]"
    report(desk.system.staff(), worker_of(["gpu"]))
    assert "waits:" not in desk.tendon("study", STUDY_UID)


def test_check_counts_the_workers_that_are_there(desk):
    def workers() -> str:
        main(["check", "--json"])
        return json.loads(desk.capsys.readouterr().out)["findings"]["workers"]

    assert workers() == "ok, none while Tendon does not run"
    report(desk.system.staff(), worker_of(["gpu"], name="a"))
    report(desk.system.staff(), worker_of(name="b", has_gpu=False))
    assert workers() == "ok, 1 of lane cpu, 2 of lane gpu, 1 of these with a GPU"


def test_check_asks_the_nodes_that_answer_queries(desk, tmp_path):
    archive = Archive("PACS", tmp_path / "pacs")
    with listening(archive) as port:
        asked, silent = (Node(name, "PACS", LOOPBACK, at, query=True) for name, at in (("a", port), ("b", free_port())))
        with desk.system.records.transaction() as unit:
            unit.site.add(site_of(2, nodes=(CT1, asked, silent), destinations=(), rules=()))
        main(["check", "--json"])
    findings = json.loads(desk.capsys.readouterr().out)["findings"]
    assert {name: told for name, told in findings.items() if name.startswith("node ")} == {
        "node a": "ok",
        "node b": "the node does not answer queries [TND-5005]",
    }


def test_alarms_are_listed_and_cleared(desk):
    assert desk.tendon("alarms") == "No alarm is open.\n"
    for _ in range(2):
        note_unusable_message(desk.system.records, desk.system.clock, "tendon.cpu.stat", "rejected")
    assert desk.tendon("alarms").startswith("TND-9006 on tendon.cpu.stat: rejected (since 20")
    (alarm,) = desk.ask("alarms")["items"]
    assert (alarm["code"], alarm["subject"], alarm["times"]) == ("TND-9006", "tendon.cpu.stat", 2)
    assert desk.tendon("alarms", "--clear", "TND-9006", "tendon.cpu.stat") == "No alarm is open.\n"
    assert "TND-9004" in desk.tendon("alarms", "--clear", "TND-9006", "tendon.cpu.stat", expect=1)


def test_the_audit_trail_is_listed_newest_first_and_by_its_age(desk):
    assert desk.tendon("audit") == "No event.\n"
    now = desk.system.clock.now()
    ours, theirs = Caller("CT1", "TENDON", "10.0.0.1"), Caller("EVIL\x1b[2J", "TENDON", "10.9.9.9")
    refused = rejected(theirs, Rejection.UNKNOWN_CALLING_AE, "", now - timedelta(minutes=90))
    with desk.system.records.transaction() as unit:
        unit.audit.add(refused)
        unit.audit.add(opened(ours, "ct1", now))
    table = desk.tendon("audit", "list")
    assert table.index("association.opened") < table.index("calling-ae-unknown")
    assert r"EVIL\x1b[2J" in table
    assert "\x1b" not in table
    newest, oldest = desk.ask("audit", "--since", "2h")["items"]
    assert (newest["actor"], newest["node"], newest["outcome"]) == ("CT1", "ct1", "success")
    assert (oldest["reason"], oldest["times"]) == ("calling-ae-unknown", 1)
    assert datetime.fromisoformat(oldest["last_at"]) == refused.last_at
    assert desk.ask("audit", "--since", "89m")["items"] == desk.ask("audit", "--limit", "1")["items"] == [newest]


@pytest.mark.parametrize("span", ["7", "-1d", "7w", "1h30m", "\N{SUPERSCRIPT TWO}h", ""])
def test_a_span_that_is_none_is_a_matter_of_usage(desk, span):
    with pytest.raises(SystemExit) as ended:
        main(["audit", f"--since={span}"])
    assert ended.value.code == 2
    assert "write 30m, 12h or 7d" in desk.capsys.readouterr().err


# identity


@pytest.fixture
def doubted(desk):
    """Two images came again as another's, and a third with pixels that nobody could decode."""
    now = desk.system.clock.now()
    with desk.system.records.transaction() as unit:
        unit.studies.open_association(Association("a2", "PACS1", "10.0.0.2", now, closed_at=now))
        for header in slices(count=3, patient=Patient("P2", "MAIN", "Ash^\u202eRobin")):
            again = instance_of(header, digest=f"again {header.sop_instance_uid}", received_at=now)
            unit.studies.add(replace(again, association_id="a2"), now)
        for version, difference in zip(
            unit.versions.of_study(STUDY_UID), ("identity", "identity", "conflict"), strict=True
        ):
            reason = "an image cannot be decoded" if difference == "conflict" else ""
            unit.versions.save(replace(version, difference=difference, standing="asked", reason=reason))
    return desk


def test_identity_shows_the_question_and_what_can_be_answered(doubted):
    told = doubted.tendon("identity", STUDY_UID)
    assert "2 objects came again from 'PACS1': the same pixels, another identity" in told
    assert "1.2.3.1.2 came again from 'PACS1': other content (an image cannot be decoded)" in told
    assert "patient id: in use 'P1', came 'P2'" in told
    assert "patient's name: in use '', came 'Ash^\\u202eRobin'" in told
    assert f"tendon identity {STUDY_UID} --keep" in told
    assert f"tendon identity {STUDY_UID} --take-new" in told


def test_identity_says_what_followed_and_study_who_decided(doubted):
    told = doubted.tendon("study", STUDY_UID)
    assert "2 objects: the same pixels, another identity, a person is to decide" in told
    assert f"tendon identity {STUDY_UID}" in told
    doubted.add(job_of(JOB, inputs=(JobInput("ct", "volume", "1.2.3.1", in_use(doubted)),)), state="done")
    told = doubted.tendon("identity", STUDY_UID, "--take-new")
    assert told.startswith(f"Study {STUDY_UID}: taken 3, kept out 0\n")
    assert f"job {JOB} is superseded" in told
    assert f"in use by {getuser()} on 20" in doubted.tendon("study", STUDY_UID)
    assert "TND-9004" in doubted.tendon("identity", STUDY_UID, "--keep", expect=1)


def in_use(desk: Desk) -> dict[str, str]:
    with desk.system.records.reading() as unit:
        study = unit.studies.get(STUDY_UID)
        return {i.header.sop_instance_uid: i.digest for series in study.series for i in series.instances}


def test_identity_is_answered_one_way_or_the_other(doubted):
    with pytest.raises(SystemExit):
        main(["identity", STUDY_UID, "--keep", "--take-new"])


COMMANDS = [
    ("retry", JOB),
    ("cancel", JOB),
    ("reroute", STUDY_UID),
    ("alarms",),
    ("audit",),
    ("identity", STUDY_UID),
    ("identity", STUDY_UID, "--keep"),
    ("export",),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_for_an_installation_makes_none(tmp_path, monkeypatch, capsys, command):
    monkeypatch.setenv("TENDON_DATA_DIR", str(tmp_path / "nowhere"))
    assert main(command) == 1
    assert "there is no installation in" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_a_site_that_has_no_folder_yet_is_prepared(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TENDON_DATA_DIR", str(tmp_path / "new" / "site"))
    for _ in range(2):
        assert main(["migrate"]) == 0
        assert capsys.readouterr().out == "schema up to date\n"
    open_system(settings.load()).records.close()


def test_where_the_records_are_on_a_server_they_are_prepared_without_a_folder(
    tmp_path, monkeypatch, capsys, postgres_server
):
    no_folder = tmp_path / "file"
    no_folder.touch()
    monkeypatch.setenv("TENDON_DATA_DIR", str(no_folder / "data"))
    monkeypatch.setenv("TENDON_DATABASE_URL", postgres_server.new_database())
    assert main(["migrate"]) == 0
    assert capsys.readouterr().out == "schema up to date\n"


# rules replay


def test_replay_tells_of_each_study_what_the_rules_of_a_file_would_change(desk, tmp_path):
    desk.tendon("reroute", STUDY_UID)
    file = tmp_path / "site.yaml"
    file.write_text(json.dumps({"rules": [rule()]}))
    told = desk.tendon("rules", "replay", str(file))
    assert f"{STUDY_UID}: unchanged\n" in told
    assert "1 studies, 0 of them change; jobs: the same\n" in told

    file.write_text(json.dumps({"rules": [rule(priority="stat", send=[]), rule("other", run=["virtual_biopsy"])]}))
    told = desk.tendon("rules", "replay", str(file), "--since", "2h")
    assert (
        f"{STUDY_UID}: bone_ct on series 1.2.3.1: priority routine -> stat, send pacs -> nowhere\n"
        "1 studies, 1 of them change; jobs: the same\n"
    ) in told

    file.write_text(json.dumps({"rules": []}))
    asked = desk.ask("rules", "replay", str(file))
    assert asked["items"][0]["dropped"][0]["pipeline"] == "bone_ct"
    assert asked["sum"]["dropped"] == {"bone_ct": 1}
    assert asked["sum"]["unknown"] == ["bone_ct"]
    assert "0 studies" in desk.tendon("rules", "replay", str(file), "--since", "5m")
