"""No header costs more than its bounds of memory and time, and what is over them is told."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest

from orchestrator.dicom import elements as walk
from orchestrator.dicom.elements import DEFLATED
from orchestrator.dicom.facts import MAX_REGIONS
from orchestrator.domain.study import RegionFact
from tests.data_sets import EXPLICIT, IMPLICIT, ITEM, ITEM_END, SEQUENCE_END, explicit, implicit, read


def nested(depth: int) -> bytes:
    return (explicit(0x00081140, b"SQ", b"")[:8] + b"\xff\xff\xff\xff" + ITEM) * depth + (
        ITEM_END + SEQUENCE_END
    ) * depth


def flood(count: int, syntax_bytes: bytes = implicit(0xFFFEE000, b"")) -> bytes:
    return explicit(0x00081140, b"SQ", syntax_bytes * count)


def sequence(tag: int, *items: bytes) -> bytes:
    return implicit(tag, b"".join(implicit(0xFFFEE000, item) for item in items))


def structures(count: int, series: int, name: bytes = b"GTV ") -> bytes:
    """A structure set of so many drawn structures of one number, on so many series."""
    on = sequence(0x30060014, *[implicit(0x0020000E, b"1.2\0")] * series)
    drawn = sequence(0x30060040, implicit(0x30060050, b"0\\0\\0 "))
    return (
        implicit(0x00080005, b"\\ISO 2022 IR 87 ")
        + sequence(0x30060010, sequence(0x30060012, on))
        + sequence(0x30060020, *[implicit(0x30060022, b"1 ") + implicit(0x30060026, name)] * count)
        + sequence(0x30060039, drawn + implicit(0x30060084, b"1 "))
    )


EMPTY_BLOCKS = bytes.fromhex("04c0810800000000207feb43001c880000000000f2b73e")
"""Two deflated blocks that hold nothing, each with a Huffman code of its own to be built first."""


@pytest.mark.parametrize(
    ("data", "syntax", "reason"),
    [
        (nested(100_000), EXPLICIT, "deeper than the 32"),
        (nested(33), EXPLICIT, "deeper than the 32"),
        (flood(1_000_000), EXPLICIT, "more than the 10000 items"),
        (flood(10_001), EXPLICIT, "more than the 10000 items"),
        (explicit(0x00091010, b"LO", b"") * 100_001, EXPLICIT, "more than the 100000 elements"),
        (flood(10_000, implicit(0xFFFEE000, explicit(0x00081140, b"SQ", b"") * 11)), EXPLICIT, "100000 elements"),
        (zlib.compress(bytes(256 << 20), 9, wbits=-15), DEFLATED, "inflates to more than the 64 MiB"),
        (b"\xff" * 1000, DEFLATED, "deflated data set is damaged"),
        (b"", DEFLATED, "ends too early"),
        (structures(10_000, 10_000), IMPLICIT, "more than the 1000 regions"),
        (structures(10_000, 1, b"\x1b(B" * 170), IMPLICIT, "more than the 1000 regions"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bombs_are_unreadable_within_64_mib(monkeypatch, data, syntax, reason):
    monkeypatch.setattr(walk, "MAX_CPU_S", 60.0)  # tracing makes reading slow
    tracemalloc.start()
    header = read(data, syntax)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason in header.unreadable
    assert peak < 64 << 20


@pytest.mark.parametrize("data", [nested(32), flood(10_000), explicit(0x00091010, b"LO", b"") * 100_000])
def test_what_is_just_within_the_bounds_is_read(data):
    assert read(data).unreadable == ""


def test_a_structure_set_names_as_many_regions_as_we_read():
    header = read(structures(MAX_REGIONS // 4, 4), IMPLICIT)
    assert header.unreadable == ""
    assert header.regions == (RegionFact("GTV", "rtstruct", "1.2"),) * MAX_REGIONS
    assert len(read(structures(MAX_REGIONS, 2), IMPLICIT).regions) == MAX_REGIONS


def test_inflating_what_holds_nothing_is_given_up():
    assert "longer to read than we allow" in read(EMPTY_BLOCKS * (2 << 20), DEFLATED).unreadable


def test_time_is_bounded(monkeypatch):
    monkeypatch.setattr(walk, "MAX_CPU_S", 0.0)
    assert "longer to read than we allow" in read(flood(10_000)).unreadable


def test_a_header_beyond_64_mib_is_not_read():
    data = explicit(0x00420011, b"OB", bytes((64 << 20) + 2)) + explicit(0x0020000D, b"UI", b"1.2\0")
    assert "longer than the 64 MiB" in read(data).unreadable
