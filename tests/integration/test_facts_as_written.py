"""Facts are read whatever character set and representation they were written in, right or wrong."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import ENCODINGS_TO_CODES, python_encoding
from pydicom.valuerep import PersonName

from tests.data_sets import BIG, EXPLICIT, IMPLICIT, explicit, implicit, item, read
from tests.data_sets import encoded as encoded_data_set

NAME, STUDY_DESCRIPTION, STATION, CHARACTER_SET = 0x00100010, 0x00081030, 0x00081010, 0x00080005
TEXT_REPRESENTATIONS = [b"LO", b"SH", b"LT", b"ST", b"UT", b"UC", b"PN", b"UN", b"CS"]
DIGITS = {b"DS", b"IS", b"LO", b"SH", b"UT", b"CS"}
BINARY = {b"US": "H", b"SS": "h", b"UL": "L", b"SL": "l", b"FL": "f", b"FD": "d"}

HANZI, KANJI, KANA, HANGUL = "王小東张三东", "山田太郎", "ﾔﾏﾀﾞﾀﾛｳ", "김희중홍길동"
ONE_SET = {
    "": "abc XYZ",
    "ISO_IR 100": "äöüßÅéñ",
    "ISO_IR 101": "Řžčłőű",
    "ISO_IR 109": "ħĝŝŭ",
    "ISO_IR 110": "āēģķļņ",
    "ISO_IR 126": "Διονυσιος",
    "ISO_IR 127": "قبانيلنزار",
    "ISO_IR 138": "שרוןדבורה",
    "ISO_IR 144": "Люксембург",
    "ISO_IR 148": "çığöşüİ",
    "ISO_IR 166": "นามสกุล",
    "ISO_IR 13": KANA,
    "ISO_IR 192": HANZI + KANJI + HANGUL + "äΔЛ𠮷",
    "GB18030": HANZI + HANGUL + "äΔЛ€",
    "GBK": HANZI,
}
"""Characters of each character set that is used alone (PS3.3 C.12.1.1.2)."""

EXTENDED = {
    ("", "ISO 2022 IR 87"): KANJI,
    ("ISO 2022 IR 13", "ISO 2022 IR 87"): KANJI,
    ("", "ISO 2022 IR 149"): HANGUL,
    ("", "ISO 2022 IR 58"): "王小张三东",
    ("ISO 2022 IR 100", "ISO 2022 IR 144"): "Люксембург",
    ("ISO 2022 IR 100", "ISO 2022 IR 126"): "Διονυσιος",
    ("", "ISO 2022 IR 166"): "นามสกุล",
}
"""Characters that the second set of a pair adds to the first by code extension (PS3.5 6.1.2.5)."""


def texts_of(alphabet: str, extra: str = "") -> st.SearchStrategy[str]:
    """Texts without blanks around them."""
    return st.text(alphabet + "aZ09 .-" + extra, max_size=12).map(str.strip)


def padded(value: bytes) -> bytes:
    return value + b" " * (len(value) % 2)


def written(terms: str, tag: int, vr: bytes, value: bytes, syntax: str) -> bytes:
    """A data set of a character set and one text."""
    parts = sorted([(CHARACTER_SET, b"CS", padded(terms.encode())), (tag, vr, padded(value))])
    if syntax == IMPLICIT:
        return b"".join(implicit(tag, value) for tag, _, value in parts)
    return b"".join(explicit(*part) for part in parts)


@given(data=st.data(), term=st.sampled_from(sorted(ONE_SET)), vr=st.sampled_from(TEXT_REPRESENTATIONS))
def test_text_of_every_character_set_is_read_in_every_representation(data, term, vr):
    text = data.draw(texts_of(ONE_SET[term], "^="))
    value = text.encode(python_encoding[term])
    for syntax in (EXPLICIT, IMPLICIT):
        header = read(written(term, STUDY_DESCRIPTION, vr, value, syntax), syntax)
        assert (header.study_description, header.unreadable) == (text, "")


def switched(text: str, codec: str) -> bytes:
    """Text in the second set of a pair, with the escape sequences around it."""
    if codec.startswith("iso2022"):
        return text.encode(codec)
    back = b"" if codec in ("euc_kr", "iso_ir_58") else b"\x1b-A"
    return ENCODINGS_TO_CODES[codec] + text.encode(codec) + back


@given(data=st.data(), terms=st.sampled_from(sorted(EXTENDED)), vr=st.sampled_from(TEXT_REPRESENTATIONS))
def test_code_extensions_are_followed_in_every_representation(data, terms, vr):
    before, after = data.draw(texts_of("")), data.draw(texts_of(""))
    inside = data.draw(st.text(EXTENDED[terms], min_size=1, max_size=6))
    value = f"{before}-".encode() + switched(inside, python_encoding[terms[1]]) + f"-{after}".encode()
    header = read(written("\\".join(terms), STATION, vr, value, EXPLICIT))
    assert header.station == f"{before}-{inside}-{after}"


@given(st.lists(st.text(HANGUL, min_size=1, max_size=4), min_size=2, max_size=3))
def test_each_part_of_a_name_switches_anew(parts):
    name = PersonName("^".join(parts)).encode([python_encoding[""], "euc_kr"])
    assert read(written("\\ISO 2022 IR 149", NAME, b"PN", name, EXPLICIT)).patient.name == "^".join(parts)


def test_in_other_text_a_caret_ends_no_extension():
    value = b"\x1b$)C" + "홍^길동".encode("euc_kr")
    terms = "\\ISO 2022 IR 149"
    assert read(written(terms, STUDY_DESCRIPTION, b"LO", value, EXPLICIT)).study_description == "홍^길동"
    assert read(written(terms, NAME, b"PN", value, EXPLICIT)).patient.name != "홍^길동"


@pytest.mark.parametrize(
    "term", ["ISO IR 144", "ISO-IR 144", "ISO_IR_144", "ISO_IR144", "ISO-2022-IR-144", " ISO_IR 144 "]
)
def test_a_character_set_spelt_with_other_separators_is_known(term):
    header = read(written(term, STUDY_DESCRIPTION, b"LO", "колено".encode("iso8859_5"), EXPLICIT))
    assert header.study_description == "колено"


def test_an_items_own_character_set_holds_in_it():
    segment = item(SpecificCharacterSet="ISO_IR 144", SegmentNumber=1, SegmentLabel="кость")
    species = item(SpecificCharacterSet="ISO_IR 192", CodeMeaning="Hündin")
    made = item(
        SpecificCharacterSet="ISO_IR 100",
        StudyDescription="Knöchel",
        PatientSpeciesCodeSequence=[species],
        SegmentSequence=[segment, item(SegmentNumber=2, SegmentLabel="Knöchel")],
    )
    header = read(encoded_data_set(made, EXPLICIT))
    assert [region.name for region in header.regions] == ["кость", "Knöchel"]
    assert (header.patient_species, header.study_description) == ("Hündin", "Knöchel")


# numbers

NUMBERS = {
    0x00280010: ("rows", b"US"),
    0x00280011: ("columns", b"US"),
    0x00200013: ("instance_number", b"IS"),
    0x00280008: ("frames", b"IS"),
    0x00180060: ("kvp", b"DS"),
    0x00180050: ("slice_thickness_mm", b"DS"),
    0x00189345: ("ctdi_vol_mgy", b"FD"),
    0x00181152: ("exposure_mas", b"IS"),
    0x0018115E: ("dose_area_product_dgycm2", b"DS"),
}


def number_as(vr: bytes, number: int, order: str) -> bytes:
    return struct.pack(f"{order}{BINARY[vr]}", number) if vr in BINARY else padded(str(number).encode())


@given(
    number=st.integers(1, 30_000),
    tag=st.sampled_from(sorted(NUMBERS)),
    vr=st.sampled_from(sorted(DIGITS | set(BINARY))),
)
def test_numbers_are_read_in_the_representation_they_were_written_in(number, tag, vr):
    name, right_vr = NUMBERS[tag]
    assert getattr(read(explicit(tag, vr, number_as(vr, number, "<"))), name) == number
    unknown = number_as(right_vr, number, "<")
    assert getattr(read(explicit(tag, b"UN", unknown)), name) == number
    assert getattr(read(implicit(tag, unknown), IMPLICIT), name) == number
    big = struct.pack(">HH2s", tag >> 16, tag & 0xFFFF, vr)
    value = number_as(vr, number, ">")
    big += struct.pack(">HI", 0, len(value)) if vr == b"UT" else struct.pack(">H", len(value))
    assert getattr(read(big + value, BIG), name) == number


@pytest.mark.parametrize(
    ("tag", "vr", "value", "name", "found"),
    [
        (0x00280010, b"US", b"\0", "rows", 0),
        (0x00280010, b"US", b"\0\2\0\0", "rows", 512),
        (0x00280010, b"US", b"", "rows", 0),
        (0x00189345, b"FD", bytes(6), "ctdi_vol_mgy", None),
        (0x00189345, b"FD", struct.pack("<d", float("nan")), "ctdi_vol_mgy", None),
        (0x00189345, b"DS", b"12.5", "ctdi_vol_mgy", 12.5),
        (0x00180050, b"FD", struct.pack("<d", 1.25), "slice_thickness_mm", 1.25),
        (0x00280030, b"FD", struct.pack("<dd", 0.5, 0.75), "spacing_mm", (0.5, 0.75)),
        (0x00280030, b"FD", struct.pack("<ddd", 0.5, 0.75, 1), "spacing_mm", None),
        (0x00280008, b"IS", b"-3", "frames", 1),
        (0x00181153, b"IS", b"420 ", "exposure_mas", 0.42),
        (0x00280301, b"CS", b"YES ", "burned_in", True),
        (0x00280301, b"CS", b"NO", "burned_in", False),
        (0x00280301, b"CS", b"MAYBE ", "burned_in", None),
        (0x00280301, b"CS", b"", "burned_in", None),
    ],
)
def test_wrong_lengths_and_words_say_nothing_wrong(tag, vr, value, name, found):
    header = read(explicit(tag, vr, value) + explicit(0x00420010, b"ST", b"more"))
    assert (getattr(header, name), header.unreadable) == (found, "")


def test_exposure_rounded_down_to_nothing_is_taken_from_the_finer_unit():
    fine = explicit(0x00181153, b"IS", b"420 ")
    assert read(explicit(0x00181152, b"IS", b"0 ") + fine).exposure_mas == 0.42
    assert read(explicit(0x00181152, b"IS", b"2 ") + fine).exposure_mas == 2
    assert read(explicit(0x00181152, b"IS", b"0 ")).exposure_mas == 0


# syntaxes


def test_a_data_set_in_the_other_of_implicit_and_explicit_is_read():
    made = item(
        ImageType=["ORIGINAL", "PRIMARY"], Modality="CT", StudyInstanceUID="1.2.3", Rows=512, PixelSpacing=[1, 2]
    )
    made.ProcedureCodeSequence = [item(CodeValue="24725-4")]
    right = read(encoded_data_set(made, EXPLICIT), EXPLICIT)
    assert (right.study_uid, right.rows, right.procedure_code) == ("1.2.3", 512, "24725-4")
    for written_in, said in ((IMPLICIT, EXPLICIT), (EXPLICIT, IMPLICIT)):
        wrong = read(encoded_data_set(made, written_in), said)
        assert wrong.as_record() == right.as_record() | {"transfer_syntax_uid": said}


def test_private_elements_with_and_without_their_creator_are_passed_over():
    public = explicit(0x0020000D, b"UI", b"1.2\0")
    for private in (
        explicit(0x00091010, b"SQ", implicit(0xFFFEE000, explicit(0x00091011, b"LO", b"word"))),
        explicit(0x00090010, b"LO", b"MAKER ") + explicit(0x00091001, b"UN", b"\xff" * 7),
        explicit(0x00190010, b"LO", b"") + implicit(0x00191001, b"odd"),
        explicit(0x00091010, b"XX", b"word"),
    ):
        assert read(private + public).study_uid == "1.2"
