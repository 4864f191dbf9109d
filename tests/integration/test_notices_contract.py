"""What the port `Notices` promises, on the fake and on real databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.domain.notice import Happening, Posting
from tests.rows import after

if TYPE_CHECKING:
    from orchestrator.ports import Records

FAILED = Happening(
    event="job.failed",
    at=after(0),
    study_uid="1.5",
    job_id="j1",
    pipeline="bone_ct",
    destination="pacs",
    state="failed",
    code="TND-4002",
    reason="it died",
)


def happened(second: float, **given: Any) -> Happening:
    return Happening(event="job.done", at=after(second), **given)


def add(records: Records, notice: str, *happenings: Happening) -> None:
    with records.transaction() as unit:
        for happening in happenings:
            unit.notices.add(notice, happening)


def claim(records: Records, notice: str, second: float, until: float = 100) -> Posting | None:
    with records.transaction() as unit:
        return unit.notices.claim(notice, after(second), after(until))


def due(records: Records, second: float) -> list[str]:
    with records.reading() as unit:
        return unit.notices.due(after(second))


def test_what_is_to_be_told_is_claimed_once_with_all_that_is_known_of_it(records):
    assert due(records, 0) == []
    add(records, "ops", FAILED)
    add(records, "mail", happened(1))
    assert (due(records, 0), due(records, 1)) == (["ops"], ["mail", "ops"])
    claimed = claim(records, "ops", 0)
    assert claimed is not None
    assert claimed.happening == FAILED
    assert (claimed.notice, claimed.attempt, claimed.tries, claimed.due_at) == ("ops", 1, 0, after(100))
    assert claim(records, "ops", 99) is None
    assert due(records, 99) == ["mail"]
    again = claim(records, "ops", 100, 200)
    assert again is not None
    assert (again.number, again.attempt) == (claimed.number, 2)
    with records.transaction() as unit:
        assert not unit.notices.keep(claimed.sent(after(101)))
        assert unit.notices.keep(again.sent(after(102)))
        assert not unit.notices.keep(again.sent(after(103)))
    assert due(records, 999) == ["mail"]


def test_what_failed_least_often_comes_first_then_the_oldest(records):
    add(records, "ops", *(happened(second, job_id=f"j{second}") for second in range(3)))
    first = claim(records, "ops", 5)
    assert first is not None
    failed = first.failed(after(5), "no answer", 3)
    with records.transaction() as unit:
        assert unit.notices.failures("ops") == 0
        assert unit.notices.keep(failed)
        assert unit.notices.failures("ops") == 3
        assert unit.notices.failures("mail") == 0
        unit.notices.put_off("ops", failed.due_at)
    assert due(records, 5.9) == []
    order = [claim(records, "ops", 50) for _ in range(4)]
    assert [claimed and claimed.happening.job_id for claimed in order] == ["j1", "j2", "j0", None]
    assert order[2] is not None
    assert (order[2].tries, order[2].reason, order[2].attempt) == (3, "no answer", 2)


def test_putting_off_shortens_no_claim_and_touches_no_other_receiver(records):
    add(records, "ops", happened(0), happened(0))
    add(records, "mail", happened(0))
    claim(records, "ops", 0, 100)
    with records.transaction() as unit:
        unit.notices.put_off("ops", after(50))
    assert due(records, 49) == ["mail"]
    assert claim(records, "ops", 50, 100) is not None
    assert claim(records, "ops", 99) is None


def test_what_waited_too_long_is_given_up_and_what_ended_is_forgotten(records):
    add(records, "ops", happened(0), happened(1), happened(2))
    add(records, "mail", happened(0))
    with records.transaction() as unit:
        assert unit.notices.give_up("ops", after(2), after(10), "nobody answers") == 2
        assert unit.notices.give_up("ops", after(2), after(10), "nobody answers") == 0
    left = claim(records, "ops", 10)
    assert left is not None
    assert left.happening.at == after(2)
    with records.transaction() as unit:
        assert unit.notices.keep(left.given_up(after(12), "refused"))
        unit.notices.forget(after(12))
        assert not unit.notices.keep(left.sent(after(13)))
        assert unit.notices.is_under_way()
        unit.notices.forget(after(13))
    mail = claim(records, "mail", 10)
    assert mail is not None
    with records.transaction() as unit:
        assert unit.notices.keep(mail.sent(after(12)))
        assert not unit.notices.is_under_way()


def test_what_is_rolled_back_is_not_told(records):
    def fail() -> None:
        with records.transaction() as unit:
            unit.notices.add("ops", FAILED)
            unit.jobs.save(unit.jobs.get("no such job"))

    with pytest.raises(AttributeError):
        fail()
    assert due(records, 9) == []
