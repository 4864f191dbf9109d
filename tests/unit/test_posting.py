"""Notices reach their receivers at least once; one that fails delays no other and is tried less and less often."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from orchestrator.domain.errors import Fault, Refused, Transient
from orchestrator.domain.notice import Happening, Notice
from orchestrator.service.leading import ROUNDS, Office
from orchestrator.service.operating import replace_site
from orchestrator.service.posting import Post, forget_told, notices_due, post_to
from tests.fakes.notices import MemoryMessenger
from tests.fakes.system import FakeSystem

NO_ANSWER = Transient(Fault.NOTICE_UNSENT, "nobody answers")
REFUSED = Refused(Fault.NOTICE_UNSENT, "answered with status 404")


@pytest.fixture
def system(tmp_path):
    system = FakeSystem(tmp_path)
    notices = [Notice(name, "webhook", ("job.done",), url=f"https://{name}.example/") for name in ("ops", "slow")]
    content = replace(system.content(), notices=(*notices, Notice("mail", "email", ("job.done",), to=("a@b.example",))))
    replace_site(system.records, system.clock, content, "test")
    return system


@pytest.fixture
def messenger():
    return MemoryMessenger()


@pytest.fixture
def post(system, messenger):
    return Post(system.records, system.clock, {"webhook": messenger}, "north")


def happen(system: FakeSystem, *names: str, job_id: str = "j1") -> None:
    with system.records.transaction() as unit:
        for name in names:
            unit.notices.add(name, Happening(event="job.done", at=system.clock.now(), job_id=job_id))


def alarms(system: FakeSystem) -> list[tuple[str, str, str, int]]:
    with system.records.reading() as unit:
        return [(alarm.code, alarm.subject, alarm.detail, alarm.times) for alarm in unit.alarms.open()]


def test_what_is_due_is_sent_once_to_each_receiver(system, post, messenger):
    happen(system, "ops", "slow")
    assert notices_due(post) == ["ops", "slow"]
    assert [post_to(post, name) for name in ("ops", "slow")] == [1, 1]
    assert [name for name, _ in messenger.told] == ["ops", "slow"]
    assert (messenger.told[0][1]["installation"], messenger.told[0][1]["job_id"]) == ("north", "j1")
    assert notices_due(post) == []
    assert post_to(post, "ops") == 0


def test_a_receiver_that_fails_is_tried_less_often_and_then_told_all_in_order(system, post, messenger):
    for number in range(9):
        happen(system, "ops", job_id=f"j{number}")
    messenger.fails["ops"] = NO_ANSWER
    tries = []
    messenger.on_send = lambda: tries.append(system.clock.now())
    for _ in range(3600):
        for name in notices_due(post):
            post_to(post, name)
        system.clock.pass_s(1)
    assert 60 <= len(tries) <= 130
    assert max(later - earlier for earlier, later in pairwise(tries)) <= timedelta(seconds=61)
    assert alarms(system) == []
    messenger.fails.clear()
    system.clock.pass_s(60)
    assert post_to(post, "ops") == 9
    assert sorted(fields["job_id"] for _, fields in messenger.told) == [f"j{number}" for number in range(9)]
    assert notices_due(post) == []


def test_one_posting_that_its_receiver_cannot_take_keeps_none_of_the_others(system, post, messenger):
    happen(system, "ops", job_id="poison")
    messenger.fails["ops"] = REFUSED
    post_to(post, "ops")
    for number in range(3):
        happen(system, "ops", job_id=f"j{number}")
    messenger.fails.clear()

    def refuse_poison() -> None:
        with system.records.reading() as unit:
            waiting = unit.notices.failures("ops")
        messenger.fails = {"ops": REFUSED} if waiting and len(messenger.told) == 3 else {}

    messenger.on_send = refuse_poison
    system.clock.pass_s(1)
    assert post_to(post, "ops") == 3
    assert [fields["job_id"] for _, fields in messenger.told] == ["j0", "j1", "j2"]


def test_a_receiver_that_fails_delays_no_other(system, post, messenger):
    happen(system, "ops", "slow")
    messenger.fails["ops"] = NO_ANSWER
    assert [post_to(post, name) for name in ("ops", "slow")] == [0, 1]


def test_what_waited_for_72_hours_is_given_up_with_an_alarm(system, post, messenger):
    happen(system, "ops", job_id="old")
    happen(system, "ops", job_id="as old")
    messenger.fails["ops"] = NO_ANSWER
    system.clock.pass_s(72 * 3600 - 1)
    post_to(post, "ops")
    happen(system, "ops", job_id="young")
    system.clock.pass_s(2)
    post_to(post, "ops")
    detail = "2 given up after 72 hours: nobody answers"
    assert alarms(system) == [(Fault.NOTICE_UNSENT.code, "notice ops", detail, 1)]
    messenger.fails.clear()
    system.clock.pass_s(60)
    assert post_to(post, "ops") == 1


def test_a_refusal_sounds_an_alarm_once_and_is_tried_again(system, post, messenger):
    happen(system, "ops")
    messenger.fails["ops"] = REFUSED
    for _ in range(5):
        post_to(post, "ops")
        system.clock.pass_s(60)
    assert alarms(system) == [(Fault.NOTICE_UNSENT.code, "notice ops", "answered with status 404", 1)]
    messenger.fails.clear()
    assert post_to(post, "ops") == 1


def test_a_kind_without_a_messenger_says_what_is_missing(system, post):
    happen(system, "mail")
    assert post_to(post, "mail") == 0
    assert "setting" in alarms(system)[0][2]


def test_a_fault_of_the_messenger_is_no_more_than_no_answer(system, post, messenger):
    happen(system, "ops")
    messenger.fails["ops"] = ZeroDivisionError("patient Ann")
    assert post_to(post, "ops") == 0
    with system.records.transaction() as unit:
        posting = unit.notices.claim("ops", system.clock.now() + timedelta(seconds=60), system.clock.now())
    assert (posting.reason, posting.tries) == ("sending failed: ZeroDivisionError", 1)


def test_what_is_named_by_no_site_any_more_is_told_to_nobody(system, post, messenger):
    happen(system, "gone", "ops")
    assert [post_to(post, name) for name in notices_due(post)] == [0, 1]
    assert notices_due(post) == []
    assert alarms(system) == []


def test_no_other_process_sends_what_one_is_sending(system, post, messenger):
    other = Post(system.records, system.clock, post.messengers, "north")
    happen(system, "ops")
    taken: list[int] = []
    messenger.on_send = lambda: taken.append(post_to(other, "ops"))
    assert post_to(post, "ops") == 1
    assert (taken, len(messenger.told)) == ([0], 1)


def test_what_a_sender_takes_too_long_over_is_sent_by_another_and_stays_sent(system, post, messenger):
    other = Post(system.records, system.clock, {"webhook": MemoryMessenger()}, "north")
    happen(system, "ops")
    messenger.fails["ops"] = NO_ANSWER
    taken: list[int] = []

    def hang() -> None:
        system.clock.pass_s(61)
        taken.append(post_to(other, "ops"))

    messenger.on_send = hang
    assert post_to(post, "ops") == 0
    assert taken == [1]
    system.clock.pass_s(61)
    assert notices_due(post) == []


def test_who_has_lost_the_office_sends_nothing(system, post, messenger):
    first, second = (Office(system.records, system.clock, ROUNDS, name, 15.0) for name in ("first", "second"))
    assert first.take()
    happen(system, "ops")
    system.clock.pass_s(20)
    assert second.take()
    assert post_to(replace(post, office=first), "ops") == 0
    assert post_to(replace(post, office=second), "ops") == 1


def test_one_thread_at_a_time_sends_to_a_receiver(system, post, messenger):
    happen(system, "ops")
    happen(system, "ops")
    taken: list[int] = []
    messenger.on_send = lambda: taken.append(post_to(post, "ops"))
    assert post_to(post, "ops") == 2
    assert taken == [0, 0]


def test_what_was_told_is_forgotten_after_a_week(system, post):
    happen(system, "ops")
    post_to(post, "ops")
    system.clock.pass_s(7 * 86400)
    forget_told(post)
    assert system.records._state.notices
    system.clock.pass_s(1)
    forget_told(post)
    assert not system.records._state.notices
