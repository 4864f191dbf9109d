from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain import codes
from orchestrator.domain.result import Measurement, Notice, Results, Score
from orchestrator.picture import draw, page
from orchestrator.service.reporting import build_outputs
from tests.synthetic import bone_segment, ibsi, limb, lump_segment, request_on, results_of, write_series

if TYPE_CHECKING:
    from orchestrator.ports import ReportRequest

_, BONE, LUMP = limb()
BOTH = results_of(bone_segment(BONE), lump_segment(LUMP))
SUMMARY: dict[str, Any] = {
    "study_uid": "2.25.1",
    "jobs": [
        {"pipeline": "bone_ct", "state": "done", "reason": "", "stages": [{"name": "segment", "seconds": 1.25}]},
        {
            "pipeline": "virtual_biopsy",
            "state": "failed",
            "reason": "no memory",
            "stages": [{"name": "m", "seconds": None}],
        },
    ],
    "objects": [
        {"kind": "seg", "path": "pacs/1.dcm", "proven": True},
        {"kind": "sr", "path": "pacs/2.dcm", "proven": False},
    ],
    "ehr": ["ehr/bone_ct.json"],
    "seconds": {"received": 0.4, "complete": 1.5, "routed": 1.6, "computed": 4.8, "delivered": 5.2},
    "problems": ["One file was not sent."],
    "received": [{"modality": "CT", "description": "bone", "instances": 12}],
    "decisions": [{"rule": "limbs", "pipeline": "bone_ct", "is_yes": False, "reason": "modality is MR"}],
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_series(tmp_path_factory.mktemp("source"))


def made(request: ReportRequest) -> str:
    return build_outputs(request, (draw.build, page.build))[-1].data.decode()


class Words(HTMLParser):
    """What a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.marked: set[str] = set()
        self.sources: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.marked |= {tag, *(name for name, _ in attrs)}
        self.sources += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.seen.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(self.seen)


def check_form(html: str) -> None:
    """Well-formed to the letter, self-contained, without script or link."""
    ET.fromstring(html.partition("\n")[2])
    assert "http" not in html.lower()
    read = Words(html)
    assert "script" not in read.marked
    assert not [name for name in read.marked if name.startswith("on")]
    assert all(source.startswith("data:image/png;base64,") for source in read.sources)
    assert "url(" not in html
    assert "@import" not in html


def test_page_is_well_formed_and_self_contained(paths: list[str]) -> None:
    html = made(request_on(paths, BOTH))
    check_form(html)
    assert "data:image/png;base64," in html


def test_page_tells_regions_numbers_notices_marks_and_origin(paths: list[str]) -> None:
    said = Words(made(request_on(paths, BOTH, environment="test"))).text
    for word in (
        "AI, not reviewed",
        "For research use only: not for clinical use",
        "TEST: not a real report",
        "Tibia, left",
        "2.742 ml",
        "SCT:52988006",
        "Volume of Mesh",
        "2346",
        "mm³",
        "IBSI:RNU0",
        "not measurable",
        "Not checked: contrast agent",
        "virtual_biopsy 1.0.0",
        "version 3",
        "ab" * 32,
        "Setting: bin_width_hu",
    ):
        assert word in said, word


def test_page_names_no_patient(paths: list[str]) -> None:
    html = made(request_on(paths, BOTH))
    for secret in ("Ash", "Robin", "T-0042", "19700102", "A-77", "Birch", "KNEE"):
        assert secret not in html.replace(html[html.find("base64,") : html.find('"/></figure>')], "")


def test_equal_requests_give_equal_bytes(paths: list[str]) -> None:
    assert made(request_on(paths, BOTH)) == made(request_on(paths, BOTH))


def test_an_empty_result_has_a_page_too(paths: list[str]) -> None:
    html = made(request_on(paths, Results()))
    check_form(html)
    assert "It outlined nothing." in Words(html).text


def test_many_numbers_show_what_people_ask_for_first_and_fold_the_rest(paths: list[str]) -> None:
    many = tuple(Measurement(ibsi(f"X{n}", f"Texture {n}"), float(n), codes.NO_UNITS, "Lump") for n in range(40))
    asked = Measurement(ibsi("YEKZ", "Volume from Voxel Summation"), 743.0, codes.CUBIC_MILLIMETRE, "Lump")
    html = made(request_on(paths, results_of(lump_segment(LUMP), measurements=(*many, asked))))
    check_form(html)
    shown, _, folded = html.partition("<details>")
    assert "Volume from Voxel Summation" in shown
    assert "40 more measurements" in folded
    assert "Texture 39" in folded


def test_numbers_of_no_region_and_scores_are_shown(paths: list[str]) -> None:
    lone = Measurement(codes.sct("410668003", "Length"), 12.0, codes.MILLIMETRE)
    score = Score(
        codes.dcm("111047", "Probability of cancer"), None, 0.25, (0.1, 0.4), "M", "2", "Somebody 2020", (), ("pain",)
    )
    said = Words(made(request_on(paths, Results(measurements=(lone,), scores=(score,))))).text
    assert "Length 12 mm" in said
    assert "25 % (10 to 40 %)" in said
    assert "Missing: pain" in said


HOSTILE = "<img src=x onerror=alert(1)> <script>http://evil</script> \"'&"


def test_hostile_words_stay_words(paths: list[str]) -> None:
    results = Results(
        segments=(lump_segment(LUMP, label=HOSTILE),),
        measurements=(Measurement(codes.Code("A", "B", HOSTILE), 1.0, codes.NO_UNITS, HOSTILE, HOSTILE),),
        notices=(Notice(HOSTILE, "warning", HOSTILE),),
        parameters={HOSTILE: HOSTILE},
    )
    html = made(request_on(paths, results))
    check_form(html)
    assert HOSTILE in Words(html).text
    check_form(page.whole_page([html], SUMMARY | {"decisions": [{"reason": HOSTILE}]}))


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"))))
def test_text_is_shown_as_it_is(text: str) -> None:
    safe = page.safe(text)
    assert not set(safe) & set("<>\"'")
    parsed = ET.fromstring(f"<p>{safe}</p>").text or ""
    assert parsed == text


def test_chance_words_in_picture_data_cannot_be_taken_for_a_link(paths: list[str]) -> None:
    request = request_on(paths, BOTH)
    (picture,) = draw.build(request)
    chance = replace(picture, data=bytes.fromhex("86db69"))
    html = page.build(replace(request, built=(chance,)))[0].data.decode()
    assert "base64,ht\ntp" in html
    check_form(html)


def test_whole_page_tells_the_whole_story(paths: list[str]) -> None:
    html = page.whole_page([made(request_on(paths, BOTH))], SUMMARY)
    check_form(html)
    said = Words(html).text
    order = [
        "Report of a run",
        "1 of 2 AI jobs done, 1 of 2 objects proven stored.",
        "One file was not sent.",
        "What came in",
        "What was decided, and why",
        "modality is MR",
        "no memory",
        "Virtual biopsy",
        "Measurements of Lump",
        "What was delivered",
        "not proven",
        "ehr/bone_ct.json",
        "How long it took",
        "5.2 s",
        "1.25 s",
    ]
    places = [said.find(word) for word in order]
    assert -1 not in places
    assert places == sorted(places)


def test_whole_page_needs_no_more_than_the_summary_of_a_run() -> None:
    bare = {key: SUMMARY[key] for key in ("study_uid", "jobs", "objects", "ehr", "seconds")}
    check_form(page.whole_page([], bare))
