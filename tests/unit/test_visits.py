"""Who has to go when too many come: the one that is waited for, never the one that is owed an answer."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from orchestrator.admin.visits import Stage, Visit, Visits

PROXY, FAR, LOCAL = "10.0.0.5", "10.9.9.9", "127.0.0.1"


class Crowd:
    """A register, and who was sent away."""

    def __init__(self, **given) -> None:
        self.visits = Visits([ip_network("10.0.0.0/29")], **given)
        self.gone: list[Visit] = []

    def comes(self, stage: Stage = Stage.SILENT, address: str = LOCAL, *, has_answer: bool = False) -> Visit | None:
        """The visitor, or None where it was not let in."""
        visit = Visit(address, lambda: self.gone.append(visit), has_answer=has_answer)
        is_welcome = self.visits.welcome(visit)
        self.visits.move(visit, stage)
        return visit if is_welcome else None


def test_the_one_that_has_been_silent_for_longest_makes_room():
    crowd = Crowd(most=3)
    silent = [crowd.comes() for _ in range(3)]
    assert crowd.comes() is not None
    assert crowd.gone == silent[:1]
    assert len(crowd.visits) == 3


def test_who_was_answered_goes_after_the_silent_and_in_the_order_of_resting():
    crowd = Crowd(most=3)
    first, second, silent = crowd.comes(Stage.AWAITED), crowd.comes(Stage.AWAITED), crowd.comes()
    crowd.visits.move(first, Stage.OWED)
    crowd.visits.move(first, Stage.AWAITED)
    for _ in range(3):
        crowd.comes(Stage.OWED)
    assert crowd.gone == [silent, second, first]


def test_where_all_are_owed_an_answer_the_newcomer_is_not_let_in():
    crowd = Crowd(most=2)
    crowd.comes(Stage.OWED)
    crowd.comes(Stage.OWED)
    assert crowd.comes() is None
    assert crowd.gone == []


def test_one_address_holds_its_share_and_no_more():
    crowd = Crowd(most_of_address=2)
    first, *_ = [crowd.comes(address=FAR) for _ in range(2)]
    crowd.comes(address="10.9.9.8")
    crowd.comes(address=FAR)
    assert crowd.gone == [first]
    assert len(crowd.visits) == 3


def test_what_has_had_an_answer_counts_no_more_against_its_address():
    crowd = Crowd(most_of_address=2)
    for _ in range(5):
        crowd.comes(Stage.AWAITED, FAR, has_answer=True)
    assert crowd.gone == []


@pytest.mark.parametrize("address", [PROXY, LOCAL, "127.8.8.8", "::1"])
def test_this_machine_and_trusted_proxies_speak_for_many(address):
    crowd = Crowd(most_of_address=2)
    for _ in range(5):
        crowd.comes(address=address)
    assert crowd.gone == []


def test_who_has_left_is_not_sent_away_and_nobody_is_counted_twice():
    crowd = Crowd(most=1)
    visit = crowd.comes()
    crowd.visits.leave(visit)
    crowd.visits.leave(visit)
    crowd.visits.move(visit, Stage.AWAITED)
    crowd.comes()
    assert crowd.gone == []
    assert len(crowd.visits) == 1


def test_at_the_end_only_those_stay_that_are_owed_an_answer():
    crowd = Crowd()
    owed = crowd.comes(Stage.OWED)
    crowd.comes()
    crowd.comes(Stage.AWAITED)
    crowd.visits.dismiss_all()
    assert owed not in crowd.gone
    assert len(crowd.visits) == 1
