"""What the port `Deliveries` promises: queues by destination and their order, circuits, and queries that stay quick."""

from __future__ import annotations

from dataclasses import replace
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, text

from orchestrator.domain.circuit import Circuit
from tests.rows import after, delivery_of, job_of, output_of
from tests.strategies import START

if TYPE_CHECKING:
    from orchestrator.domain.delivery import Delivery
    from orchestrator.ports import Records

STATES = ("waiting", "sent", "accepted", "proven", "held", "quarantined", "superseded", "withdrawn")


def with_outputs(records: Records, *names: str, job_id: str = "j1") -> None:
    with records.transaction() as unit:
        unit.jobs.add(job_of(job_id))
        for name in names:
            unit.deliveries.add_output(output_of(name, job_id))


def added(records: Records, *deliveries: Delivery) -> None:
    """Deliveries, each with an output of its own, of jobs of their own unless they share one."""
    for job_id in dict.fromkeys(d.job_id for d in deliveries):
        with_outputs(records, *dict.fromkeys(d.output_id for d in deliveries if d.job_id == job_id), job_id=job_id)
    with records.transaction() as unit:
        for delivery in deliveries:
            unit.deliveries.add(delivery)


def one(identifier: str, **given) -> Delivery:
    """A delivery of a job of its own."""
    made = delivery_of(identifier, f"o-{identifier}", **{k: v for k, v in given.items() if k != "job_id"})
    return replace(made, job_id=given.get("job_id", f"j-{identifier}"))


def due(records: Records, errand: str = "send", destination: str = "pacs", seconds: float = 0, limit: int = 99):
    with records.reading() as unit:
        return [d.id for d in unit.deliveries.due(errand, destination, after(seconds), limit)]


# outputs and deliveries


def test_outputs_come_back_in_the_order_they_were_built(records):
    with_outputs(records, "o2", "o1", "o3")
    with records.reading() as unit:
        assert unit.deliveries.outputs("j1") == [output_of("o2"), output_of("o1"), output_of("o3")]
        assert unit.deliveries.outputs("j9") == []


def test_a_delivery_comes_back_as_it_was_saved(records):
    with_outputs(records, "o1")
    given = delivery_of("d1", tries=2, reason="later", code="TND-5001", priority="stat")
    proven = replace(
        given,
        state="proven",
        proof="query",
        proven_at=after(9),
        code="",
        reason="",
        attempt=3,
        resumed_at=after(5),
    )
    with records.transaction() as unit:
        unit.deliveries.add(given)
        assert unit.deliveries.of_job("j1") == [given]
        unit.deliveries.save(proven)
    with records.reading() as unit:
        assert unit.deliveries.of_job("j1") == [proven]
        assert unit.deliveries.get("d1") == proven
        assert unit.deliveries.get("d9") is None
        assert unit.deliveries.counts() == {"proven": 1}


def test_a_delivery_never_added_is_not_saved(records):
    with_outputs(records, "o1")
    with records.transaction() as unit:
        unit.deliveries.save(delivery_of("d1"))
    with records.reading() as unit:
        assert unit.deliveries.of_job("j1") == []


def test_what_is_quarantined_for_a_destination_is_found_oldest_first(records):
    added(
        records,
        one("d1", state="quarantined"),
        one("d2", state="quarantined", destination="share"),
        one("d3", state="quarantined", priority="stat"),
        one("d4", state="held"),
    )
    with records.reading() as unit:
        assert [d.id for d in unit.deliveries.quarantined("pacs")] == ["d1", "d3"]
        assert unit.deliveries.quarantined("nobody") == []


# what is due


def test_each_destination_has_its_own_queue(records):
    added(records, one("d1"), one("d2", destination="share"), one("d3"), one("d4", destination="ehr", due_at=after(9)))
    assert due(records) == ["d1", "d3"]
    assert due(records, destination="share") == ["d2"]
    assert due(records, destination="nobody") == []
    with records.reading() as unit:
        assert unit.deliveries.destinations("send", START) == ["pacs", "share"]
        assert unit.deliveries.destinations("send", after(9)) == ["ehr", "pacs", "share"]
        assert unit.deliveries.destinations("prove", after(9)) == []


def test_only_where_something_can_be_done_is_something_due(records):
    added(records, *(one(state, state=state) for state in STATES), one("ack", state="accepted", proof="ack"))
    assert due(records) == ["waiting", "sent"]
    assert due(records, "prove") == ["accepted"]


@pytest.mark.parametrize("state", STATES)
def test_deliveries_are_under_way_while_one_is_to_be_sent_or_to_be_proven(records, state):
    added(records, one("d1", state=state, due_at=after(60)))
    with records.reading() as unit:
        assert unit.deliveries.is_under_way() is (state in ("waiting", "sent", "accepted"))


def test_what_was_accepted_and_is_proven_by_that_is_not_under_way(records):
    added(records, one("d1", state="accepted", proof="ack"))
    with records.reading() as unit:
        assert not unit.deliveries.is_under_way()


def test_nothing_is_due_before_its_time(records):
    added(
        records, one("d1", due_at=after(20)), one("d2", due_at=after(10)), one("d3", state="accepted", due_at=after(5))
    )
    assert due(records, seconds=9) == []
    assert due(records, seconds=10) == ["d2"]
    assert due(records, seconds=20) == ["d1", "d2"], "by age, not by when they were due"
    assert (due(records, "prove", seconds=4), due(records, "prove", seconds=5)) == ([], ["d3"])


def test_the_most_urgent_is_sent_first_then_the_oldest(records):
    added(
        records,
        one("old", priority="batch"),
        one("b"),
        one("a"),
        one("stat", priority="stat"),
        one("late", state="sent", priority="stat"),
    )
    assert due(records) == ["stat", "late", "b", "a", "old"]
    assert due(records, limit=2) == ["stat", "late"]


def test_a_new_priority_counts(records):
    added(records, one("d1"), one("d2"))
    with records.transaction() as unit:
        unit.deliveries.save(one("d2", priority="stat"))
    assert due(records) == ["d2", "d1"]


def test_what_was_accepted_is_asked_for_by_how_long_it_is_due(records):
    added(records, *(one(f"d{k}", state="accepted", due_at=after(30 - 10 * k)) for k in range(3)))
    assert due(records, "prove", seconds=60) == ["d2", "d1", "d0"]
    assert due(records, "prove", seconds=60, limit=1) == ["d2"]


def test_no_output_overtakes_one_of_its_job_that_was_built_before_it_and_is_not_there_yet(records):
    added(
        records,
        one("seg", job_id="j1", due_at=after(9)),
        one("sr", job_id="j1"),
        one("elsewhere", job_id="j1", destination="share"),
        one("other", job_id="j2"),
    )
    assert due(records) == ["other"]
    assert due(records, destination="share") == ["elsewhere"]
    assert due(records, seconds=9) == ["seg", "sr", "other"]
    with records.transaction() as unit:
        unit.deliveries.save(one("seg", job_id="j1", state="quarantined", due_at=after(9)))
    assert due(records) == ["sr", "other"]


def test_a_destination_whose_queue_only_waits_for_one_before_is_not_named(records):
    added(records, one("seg", job_id="j1", due_at=after(9)), one("sr", job_id="j1"))
    with records.reading() as unit:
        assert unit.deliveries.destinations("send", START) == []


def test_all_that_waits_for_a_destination_can_be_made_due(records):
    added(
        records,
        one("d1", due_at=after(60)),
        one("d2", due_at=after(-5)),
        one("d3", due_at=after(60), destination="share"),
        one("d4", due_at=after(60), state="accepted"),
    )
    with records.transaction() as unit:
        unit.deliveries.hasten("pacs", START)
    with records.reading() as unit:
        found = {d.id: d.due_at for k in range(1, 5) for d in unit.deliveries.of_job(f"j-d{k}")}
    assert found == {"d1": START, "d2": after(-5), "d3": after(60), "d4": after(60)}


# circuits


def test_a_circuit_nobody_has_turned_is_closed(records):
    with records.reading() as unit:
        assert unit.deliveries.circuit("pacs") == Circuit("pacs")
        assert unit.deliveries.circuits() == []


def test_a_circuit_is_seen_by_all_as_it_was_turned(store):
    opened = Circuit("pacs", 5, after(60), "nobody answers", START)
    other = Circuit("ehr", 1, None, "nobody answers", START)
    with store.records.transaction() as unit:
        assert unit.deliveries.turn(opened, Circuit("pacs"))
        assert unit.deliveries.turn(other, Circuit("ehr"))
    with store.reopened().reading() as unit:
        assert unit.deliveries.circuit("pacs") == opened
        assert unit.deliveries.circuits() == [other, opened]


def test_a_circuit_turns_only_from_what_was_seen(records):
    first, second = (Circuit("pacs", k, None, "", after(k)) for k in (1, 2))
    with records.transaction() as unit:
        assert unit.deliveries.turn(first, Circuit("pacs"))
        assert not unit.deliveries.turn(second, Circuit("pacs"))
        assert unit.deliveries.turn(second, first)
        assert not unit.deliveries.turn(first, first)
    with records.reading() as unit:
        assert unit.deliveries.circuit("pacs") == second


def test_of_many_who_would_probe_at_once_one_does(store):
    seen = Circuit("pacs", 5, START, "", START)
    with store.records.transaction() as unit:
        assert unit.deliveries.turn(seen, Circuit("pacs"))
    barrier, won = Barrier(6), []

    def contend(number: int) -> None:
        barrier.wait(30)
        with store.records.transaction() as unit:
            if unit.deliveries.turn(seen.probed(after(number)), seen):
                won.append(number)

    threads = [Thread(target=contend, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


# speed


@pytest.fixture
def statements(database):
    """What the database is asked from now on, as text."""
    asked = []

    def note(connection, cursor, statement, parameters, context, many) -> None:
        asked.append((statement, parameters))

    event.listen(database._engine, "before_cursor_execute", note)
    yield asked
    event.remove(database._engine, "before_cursor_execute", note)


def test_what_is_proven_is_in_no_index_that_is_walked_for_what_is_due(database, statements):
    added(database, *(one(f"d{k}", state="proven" if k % 50 else "waiting") for k in range(300)))
    with database.transaction() as unit:
        if database._engine.dialect.name == "postgresql":
            unit.deliveries._connection.execute(text("SET LOCAL enable_seqscan = off"))
        del statements[:]
        assert len(unit.deliveries.due("send", "pacs", START, 99)) == 6
        assert unit.deliveries.due("prove", "pacs", START, 99) == []
        assert unit.deliveries.destinations("send", START) == ["pacs"]
        assert unit.deliveries.quarantined("pacs") == []
        asked = [(s, p) for s, p in statements if s.lstrip().startswith("SELECT")]
        plans = [explained(unit.deliveries._connection, statement, given) for statement, given in asked]
    assert len(plans) >= 4
    for plan in plans:
        assert any(name in plan for name in ("deliveries_to_send", "deliveries_to_prove", "deliveries_quarantined"))
        assert "SCAN deliveries\n" not in plan
        assert "Seq Scan" not in plan


def explained(connection, statement: str, parameters) -> str:
    """The plan, one step a line."""
    how = "EXPLAIN" if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    rows = connection.exec_driver_sql(f"{how} {statement}", parameters)
    return "".join(f"{row[-1]}\n" for row in rows)
