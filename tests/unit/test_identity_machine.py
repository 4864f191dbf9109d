"""Whoever sends what again, and whoever decides when: nothing is sent of a patient in question, nor of a former one."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orchestrator.domain.errors import Refused
from orchestrator.domain.version import asking
from orchestrator.service.identifying import decide_question
from tests.fakes.system import QUIET_S, FakeSystem, slices
from tests.returns import CANARY, FINCH, OTHER_ID, WREN, alarms, come_again, patients, system_of, versions
from tests.strategies import STUDY_UID

LAST = replace(CANARY, id="P9")
WHO = st.sampled_from([CANARY, FINCH, WREN, OTHER_ID])


class Identities(RuleBasedStateMachine):
    """One study at a time of change; what is sent is looked at in the moment it is sent."""

    system: FakeSystem

    @initialize()
    def receive(self):
        self._folder = Path(tempfile.mkdtemp())
        self.system = system_of(self._folder)
        self.system.sender.on_send = self._look
        self.sent = []
        self.system.receive_and_route(*slices(patient=CANARY))

    def teardown(self):
        self._come_to_an_end()
        shutil.rmtree(self._folder)

    # what happens

    @rule(patient=WHO, by=st.sampled_from(["CT1", "ARCHIVE"]), count=st.sampled_from([3, 3, 1]))
    def comes_again(self, patient, by, count):
        come_again(self.system, patient, by=by, count=count)

    @rule()
    def time_passes(self):
        self.system.clock.pass_s(QUIET_S)

    @rule(content=st.sampled_from(["same", "same", "same", "other"]))
    def is_compared(self, content):
        self.system.compare(content)

    @rule()
    def rounds_settle(self):
        self.system.settle()

    @rule()
    def rounds_route(self):
        self.system.route()

    @rule()
    def a_worker_works(self):
        jobs = [job for job in self.system.jobs() if job.state in ("waiting", "running")]
        if any(stage.state == "ready" for job in jobs for stage in self.system.stages(job.id)):
            self.system.report()

    @rule()
    def rounds_deliver(self):
        self.system.deliver()

    @rule(take=st.booleans())
    def a_person_decides(self, take):
        with suppress(Refused):
            decide_question(self.system.router, STUDY_UID, take=take, by="alice")

    # what must hold

    def _look(self):
        """An output is being sent. What is raised here would be taken for a fault of the destination."""
        study = self.system.study()
        used = {i.header.sop_instance_uid: i.digest for series in study.series for i in series.instances}
        sent = [
            job
            for job in self.system.jobs()
            if any((d.state, d.tries) == ("sent", 0) for d in self.system.deliveries(job.id))
        ]
        self.sent.append((asking(study, versions(self.system)), [dict(job.primary.instances) == used for job in sent]))

    @invariant()
    def only_what_was_made_from_what_is_in_use_was_sent_and_nobody_doubted_it(self):
        assert self.sent == [([], [True])] * len(self.sent)

    @invariant()
    def one_version_of_each_object_is_in_use(self):
        (series,) = self.system.study().series
        assert len({i.header.sop_instance_uid for i in series.instances}) == len(series.instances) == 3

    @invariant()
    def each_generation_is_one_result(self):
        generations = [job.generation for job in self.system.jobs()]
        assert generations == sorted(set(generations))

    def _come_to_an_end(self):
        """However it went on: once all is compared and a person has decided for one patient, that one's goes out."""
        come_again(self.system, LAST, by="CT1")
        self.system.clock.pass_s(QUIET_S)
        self.system.compare()
        self.system.settle()
        self.a_person_decides(take=True)
        for _ in range(3):
            self.system.clock.pass_s(QUIET_S)
            self.system.route()
            self.a_worker_works()
            self.system.deliver()
        assert patients(self.system) == {LAST}
        assert alarms(self.system) == []
        self.only_what_was_made_from_what_is_in_use_was_sent_and_nobody_doubted_it()
        last = self.system.jobs()[-1]
        assert {d.state for d in self.system.deliveries(last.id)} == {"proven"}
        assert all(not v.is_undecided for v in versions(self.system))


TestIdentities = Identities.TestCase
TestIdentities.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
