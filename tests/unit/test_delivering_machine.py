"""Whatever destinations answer and wherever processes die: nothing is lost, doubled, or called what it is not."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.domain.delivery import job_state
from orchestrator.domain.errors import Fault, Refused
from orchestrator.domain.study import Patient
from orchestrator.ports import Sent
from orchestrator.service.delivering import Dispatch, deliver_due, deliver_to
from orchestrator.service.desks import Desks
from orchestrator.service.leading import ROUNDS, Office
from orchestrator.service.resuming import resume_destination
from tests.fakes.records import MemoryRecords
from tests.fakes.system import LEASE_S, PACS, SEG, SHARE, FakeSystem, slices
from tests.parcels import SR, every_delivery, every_job, result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from orchestrator.domain.delivery import Delivery, Destination, Output

HOLDERS = ("first", "second")
SITE = (PACS, SHARE)
OPEN = ("waiting", "sent")
SETTLED = ("delivering", "done", "failed", "held")
PAUSES = st.sampled_from([0.5, 2.0, 20.0, 70.0, 4000.0, 80 * 3600.0])
ANSWERS = st.sampled_from(
    ["accept", "accept", "accept", "forget", "lose the answer", "refuse", "unreachable", "silence", "nonsense"]
)


class ProcessDied(BaseException):
    """A kill: nothing after it is done by that process."""


class MortalRecords(MemoryRecords):
    """Records whose process dies in one of its next transactions, before or after it is durable."""

    dies_after: int | None = None
    is_durable = False

    @contextmanager
    def transaction(self) -> Iterator:
        dies = self.dies_after == 0
        self.dies_after = None if self.dies_after in (0, None) else self.dies_after - 1
        if not dies:
            with super().transaction() as unit:
                yield unit
            return
        if not self.is_durable:
            self.fail_next = ProcessDied()
        with super().transaction() as unit:
            yield unit
        raise ProcessDied


@dataclass
class Unruly:
    """A destination that takes, forgets, refuses and falls silent as it is told."""

    plan: list[str] = field(default_factory=list)
    shown: dict[tuple[str, str], bytes] = field(default_factory=dict)
    accepted: set[tuple[str, str]] = field(default_factory=set)
    tried: Counter[str] = field(default_factory=Counter)
    in_hand: dict[str, Callable[[], bool]] = field(default_factory=dict)
    meanwhile: Callable[[], None] = lambda: None
    wrongs: list[str] = field(default_factory=list)

    def take(self, destination: Destination, output: Output, path: str) -> list[Sent]:
        plan = self.plan.pop(0) if self.plan else "accept"
        key = (destination.name, output.id)
        self.tried[output.job_id] += 1
        if plan in ("accept", "lose the answer"):
            data = Path(path).read_bytes()
            if self.shown.setdefault(key, data) != data:
                self.wrongs.append("one object with other bytes")
        if plan in ("accept", "forget"):
            self.accepted.add(key)
        return {
            "refuse": [Sent(output.id, "refused", "status 0xC000")],
            "accept": [Sent(output.id, "accepted")],
            "forget": [Sent(output.id, "accepted")],
            "silence": [],
            "nonsense": [Sent(output.id, "perhaps"), Sent("nobody", "accepted")],
        }.get(plan, [Sent(output.id, "unreachable", "nobody answers")])


@dataclass
class Carrier:
    """The port `Sender` as one process has it."""

    peer: Unruly
    is_leading: Callable[[], bool]

    def send(self, destination: Destination, outputs: Sequence[tuple[Output, str]]) -> list[Sent]:
        keys = [f"{destination.name} {output.id}" for output, _ in outputs]
        for key in keys:
            other = self.peer.in_hand.get(key)
            if other is not None and other():
                self.peer.wrongs.append("sent twice at once, and both processes lead")
        mine = dict.fromkeys(keys, self.is_leading)
        before = dict(self.peer.in_hand)
        self.peer.in_hand |= mine
        try:
            meanwhile, self.peer.meanwhile = self.peer.meanwhile, lambda: None
            meanwhile()
            answers = [answer for output, path in outputs for answer in self.peer.take(destination, output, path)]
        finally:
            self.peer.in_hand = before
        if self.peer.plan[:1] == ["raise"]:
            raise ConnectionResetError
        return answers

    def prove(self, destination: Destination, outputs: Sequence[Output]) -> dict[str, str]:
        if self.peer.plan[:1] == ["unreachable"]:
            return {}
        return {"nobody": "query"} | {o.id: "query" for o in outputs if (destination.name, o.id) in self.peer.shown}


class Delivering(RuleBasedStateMachine):
    """Two processes that contend for the office, one PACS, one share, and staff."""

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.peer = Unruly()
        self.system = FakeSystem(self.folder, destinations=SITE, records=MortalRecords())
        self.offices = {name: Office(self.system.records, self.system.clock, ROUNDS, name, LEASE_S) for name in HOLDERS}
        self.dispatches = {name: self.started(name) for name in HOLDERS}
        self.attempts: dict[str, int] = {}
        self.proven: set[str] = set()
        self.stopped: dict[str, int] = {}
        self.count = 0
        self.a_result_is_made(send=["pacs", "share"], both=True)

    def started(self, name: str) -> Dispatch:
        office = self.offices[name]
        carrier = Carrier(self.peer, lambda: office.leads)
        kinds = dict.fromkeys(("dicom", "folder"), carrier)
        return Dispatch(self.system.records, self.system.objects, self.system.clock, kinds, office, Desks())

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.all_ends_well()
            shutil.rmtree(self.folder)

    # what happens

    @precondition(lambda self: self.count < 4)
    @rule(send=st.sampled_from([["pacs"], ["pacs", "share"], ["pacs", "gone"]]), both=st.booleans())
    def a_result_is_made(self, *, send: list[str], both: bool) -> None:
        self.count += 1
        result(self.system, self.count, *((SEG, SR) if both else (SEG,)), send=send)

    @rule(seconds=PAUSES)
    def time_passes(self, seconds: float) -> None:
        self.system.clock.pass_s(seconds)

    @rule(
        seconds=PAUSES,
        name=st.sampled_from(HOLDERS),
        to=st.sampled_from(["pacs", "pacs", "share", "gone"]),
        plan=st.lists(ANSWERS | st.just("raise"), max_size=6),
        pause_s=st.sampled_from([None, 0.0, LEASE_S]),
    )
    def one_delivers(self, seconds: float, name: str, to: str, plan: list[str], pause_s: float | None) -> None:
        self.system.clock.pass_s(seconds)
        self.offices[name].take()
        self.peer.plan = list(plan)
        if pause_s is not None:
            other = next(holder for holder in HOLDERS if holder != name)
            self.peer.meanwhile = lambda: self.pause(other, to, pause_s)
        deliver_to(self.dispatches[name], to)
        self.peer.meanwhile = lambda: None

    def pause(self, other: str, to: str, seconds: float) -> None:
        """While one sends, the other tries to; it leads if the first was paused for as long as its lease."""
        self.system.clock.pass_s(seconds)
        self.offices[other].take()
        deliver_to(self.dispatches[other], to)
        self.nothing_goes_back()

    @rule(
        name=st.sampled_from(HOLDERS),
        to=st.sampled_from(["pacs", "share"]),
        plan=st.lists(ANSWERS, max_size=4),
        after=st.integers(0, 3),
        is_durable=st.booleans(),
    )
    def one_dies_while_it_delivers(self, *, name: str, to: str, plan: list[str], after: int, is_durable: bool) -> None:
        self.offices[name].take()
        self.peer.plan = list(plan)
        records = self.system.records
        records.dies_after, records.is_durable = after, is_durable
        try:
            deliver_to(self.dispatches[name], to)
        except ProcessDied:
            self.dispatches[name] = self.started(name)
        records.dies_after = records.fail_next = None

    @rule(name=st.sampled_from(["pacs", "share", "gone"]))
    def staff_resume(self, name: str) -> None:
        with pytest.raises(Refused) if name == "gone" else nullcontext():
            resume_destination(self.system.records, self.system.clock, name)

    @precondition(lambda self: self.count)
    @rule(data=st.data(), state=st.sampled_from(["held", "cancelled", "superseded"]))
    def a_job_is_stopped(self, data: st.DataObject, state: str) -> None:
        jobs = [job for job in every_job(self.system) if job.state in ("delivering", "failed")]
        if jobs:
            job = data.draw(st.sampled_from(jobs))
            with self.system.records.transaction() as unit:
                unit.jobs.save(job.changed(state, self.system.clock.now(), reason="a person said so"))
            self.stopped[job.id] = self.peer.tried[job.id]

    @precondition(lambda self: self.count)
    @rule()
    def an_image_comes_again_as_another_patients(self) -> None:
        study_uid = f"1.2.{self.count}"
        (header,) = slices(f"{study_uid}.1", count=1, study_uid=study_uid)
        visit = self.system.visit()
        self.system.send(visit, replace(header, patient=Patient("P9", "MAIN")), b"other pixels")
        self.system.reception.close(visit, "released")

    # what holds

    def deliveries(self) -> list[Delivery]:
        return every_delivery(self.system) if hasattr(self, "system") else []

    @invariant()
    def proven_is_what_the_destination_shows(self) -> None:
        for d in self.deliveries():
            assert d.state != "proven" or (d.destination, d.output_id) in self.peer.shown

    @invariant()
    def what_stands_still_says_why(self) -> None:
        for d in self.deliveries():
            assert d.state in ("waiting", "sent", "accepted", "proven") or d.reason

    @invariant()
    def what_was_acknowledged_is_never_given_up(self) -> None:
        for d in self.deliveries():
            if d.state == "accepted":
                assert (d.destination, d.output_id) in self.peer.accepted
                assert d.code in ("", Fault.NOT_PROVEN.code)

    @invariant()
    def nothing_is_sent_twice_at_once(self) -> None:
        assert not hasattr(self, "peer") or self.peer.wrongs == []

    @invariant()
    def nothing_is_sent_of_a_job_that_was_stopped(self) -> None:
        for job_id, tried in self.stopped.items() if hasattr(self, "system") else ():
            assert self.peer.tried[job_id] == tried

    @invariant()
    def nothing_goes_back(self) -> None:
        for d in self.deliveries():
            assert d.attempt >= self.attempts.get(d.id, 0)
            assert d.state == "proven" or d.id not in self.proven
            self.attempts[d.id] = d.attempt
            self.proven |= {d.id} if d.state == "proven" else set()

    @invariant()
    def jobs_are_what_their_deliveries_make_of_them(self) -> None:
        for job in every_job(self.system) if hasattr(self, "system") else []:
            if job.state in SETTLED and job.reason != "a person said so":
                assert (job.state, job.reason) == job_state(d for d in self.deliveries() if d.job_id == job.id)

    def all_ends_well(self) -> None:
        """The faults are over: within the ceilings of every back-off all is at its end."""
        self.peer.plan, self.peer.meanwhile = [], lambda: None
        self.system.clock.pass_s(LEASE_S)
        for _ in range(12):
            assert self.offices["first"].take()
            for _ in range(5):
                deliver_due(self.dispatches["first"])
            self.system.clock.pass_s(3600)
        for d in self.deliveries():
            assert d.state not in OPEN
        self.jobs_are_what_their_deliveries_make_of_them()
        self.proven_is_what_the_destination_shows()
        self.what_stands_still_says_why()
        self.nothing_is_sent_of_a_job_that_was_stopped()


TestDelivering = Delivering.TestCase
TestDelivering.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, report_multiple_bugs=False)
