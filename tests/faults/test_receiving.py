"""`tests.faults.receiving` in short: what was acknowledged is there after any kill, once and unchanged (I1, I10)."""

from __future__ import annotations

import pytest

from orchestrator.store import packs
from tests.benchmarks.ingest.objects import small_objects
from tests.faults.receiving import Ledger, judge, strace
from tests.faults.receiving.calls import Point, violations_at
from tests.faults.receiving.storm import storm
from tests.receiver import Scp

POINTS = [
    Point("scp", "fdatasync", 1),
    Point("scp", "pwritev2", 1),
    Point("recorder", "rename", 1),
    Point("recorder", "fdatasync", 1),
]


@pytest.mark.skipif(strace() is None, reason="strace is not installed or may not trace here")
@pytest.mark.parametrize("point", POINTS, ids=str)
def test_a_kill_at_a_system_call_loses_nothing_that_was_acknowledged(point):
    assert violations_at(point) == []


def test_a_storm_with_kills_loses_nothing_that_was_acknowledged(tmp_path):
    outcome = storm(tmp_path, kills=6, seed=1)
    assert outcome.violations == ()
    assert outcome.acknowledged > 0


def test_the_judge_sees_what_was_lost_changed_doubled_or_left_over(tmp_path):
    scp, ledger = Scp(tmp_path), Ledger()
    scp.start()
    ledger.send(scp.port, small_objects("judged", 2))
    assert judge(scp, ledger) == []
    first, second = ledger.sent
    ledger.acknowledged["1.2.3"] = 0.0
    ledger.sent[first] = b"something else"
    (tmp_path / "data" / "objects" / "journal" / f"left{packs.SUFFIX}").write_bytes(b"")
    (tmp_path / "data" / "objects" / "00" / ("0" * 64)).write_bytes(b"half")
    found = judge(scp, ledger)
    assert f"not what was sent: {first}" in found
    assert "acknowledged and lost: 1.2.3" in found
    assert f"half an object: {'0' * 64}" in found
    assert f"a pack is left: left{packs.SUFFIX}" in found
    assert not any(second in violation for violation in found)
