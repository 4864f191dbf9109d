"""Regions drawn elsewhere become masks on the images they were drawn on, voxel for voxel, or are passed over."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from orchestrator.dicom.author import Drawing, StudyIdentity, write_ct, write_rtstruct
from orchestrator.dicom.facts import read_file_header
from orchestrator.dicom.regions import read_regions
from orchestrator.dicom.volume import read_volume
from orchestrator.domain.contours import contours_of
from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.geometry import Volume
from tests.synthetic import AXIAL, CORONAL, OBLIQUE, SAGITTAL, grid_of, limb, uid

SHAPE = (8, 24, 20)
IDENTITY = StudyIdentity(
    patient_id="P-7",
    patient_name="Doe^Jane",
    study_uid=uid("study"),
    series_uid=uid("series"),
    frame_of_reference_uid=uid("frame"),
)


@pytest.fixture(params=[AXIAL, SAGITTAL, CORONAL, OBLIQUE], ids=["axial", "sagittal", "coronal", "oblique"])
def source(request, tmp_path: Path):
    array, _, _ = limb(SHAPE)
    return read_volume(write_ct(Volume(array, grid_of(request.param, SHAPE), "1"), tmp_path, identity=IDENTITY))


@pytest.fixture
def axial(tmp_path: Path):
    array, _, _ = limb(SHAPE)
    return read_volume(write_ct(Volume(array, grid_of(AXIAL, SHAPE), "1"), tmp_path, identity=IDENTITY))


def two_masks() -> tuple[np.ndarray, np.ndarray]:
    _, bone, lump = limb(SHAPE)
    lump[3:5, 10, 7] = ~lump[3:5, 10, 7]
    return bone, lump


def structure_set(source, *drawings, identity=IDENTITY) -> str:
    path = Path(source.files[0]).parent / "rt.dcm"
    return write_rtstruct(drawings, source.files, path, identity=identity)


def edited(path: str, edit) -> str:
    data_set = pydicom.dcmread(path)
    edit(data_set)
    data_set.save_as(path)
    return path


def refusal(paths, source) -> str:
    with pytest.raises(Unfit) as caught:
        read_regions(paths, source)
    assert caught.value.fault is Fault.REGION_UNUSABLE
    return caught.value.detail


# structure sets


def test_structures_come_back_voxel_for_voxel(source):
    grid = source.volume.grid
    bone, lump = two_masks()
    path = structure_set(
        source, Drawing("Bone", contours_of(bone, grid)), Drawing("GTV", contours_of(lump, grid), "GTV")
    )
    first, second = read_regions([path], source)
    assert (first.name, second.name) == ("Bone", "GTV")
    assert np.array_equal(first.mask, bone)
    assert np.array_equal(second.mask, lump)
    assert second.drawn_slices == tuple(np.flatnonzero(lump.any(axis=(1, 2))))
    assert second.grid is grid
    assert second.source_uid == read_file_header(path).sop_instance_uid


def test_only_the_names_asked_for_are_read(axial):
    contours = contours_of(two_masks()[0], axial.volume.grid)
    path = structure_set(axial, Drawing("a", contours), Drawing("b", contours))
    assert [region.name for region in read_regions([path], axial, names=["b"])] == ["b"]


def test_the_body_empty_structures_points_and_specks_are_no_regions(axial):
    grid = axial.volume.grid
    contours = contours_of(two_masks()[0], grid)
    speck = grid.to_mm(np.array([(2, 3.1, 3.1), (2, 3.1, 3.2), (2, 3.2, 3.2)], float))
    drawings = [Drawing("BODY", contours, "EXTERNAL"), Drawing("none", []), Drawing("speck", [speck])]
    path = structure_set(axial, *drawings, Drawing("point", contours[:1]))
    edited(path, lambda d: setattr(d.ROIContourSequence[3].ContourSequence[0], "ContourGeometricType", "POINT"))
    assert refusal([path], axial) == "the region holds no voxel centre"


def test_a_structure_between_slices_is_passed_over_beside_a_good_one(axial):
    grid = axial.volume.grid
    contours = contours_of(two_masks()[1], grid)
    between = [contour + grid.affine[:3, 0] / 2 for contour in contours]
    path = structure_set(axial, Drawing("between", between), Drawing("good", contours))
    assert [region.name for region in read_regions([path], axial)] == ["good"]
    assert "between two slices" in refusal([structure_set(axial, Drawing("between", between))], axial)


def test_structures_on_another_series_are_passed_over(axial):
    other = replace(IDENTITY, series_uid=uid("another series"))
    path = structure_set(axial, Drawing("a", contours_of(two_masks()[0], axial.volume.grid)), identity=other)
    assert [r.name for r in read_regions([path], axial)] == ["a"], "its contours refer to our images"

    def forget_images(data_set):
        for contour in data_set.ROIContourSequence[0].ContourSequence:
            del contour.ContourImageSequence

    assert refusal([edited(path, forget_images)], axial) == "the region is drawn on other images"


def test_names_lose_control_characters_and_length(axial):
    contours = contours_of(two_masks()[0], axial.volume.grid)
    path = structure_set(axial, Drawing(" Tumör 腫瘍 \n", contours), Drawing("x" * 64, contours))
    names = [region.name for region in read_regions([path], axial)]
    assert names == ["Tumör 腫瘍", "x" * 64]
    assert names == [region.name for region in read_file_header(path).regions]


@pytest.mark.parametrize("value", [[1, 2], ["x"], []])
def test_broken_contours_are_a_reason_not_a_crash(axial, value):
    path = structure_set(axial, Drawing("a", contours_of(two_masks()[0], axial.volume.grid)))

    def damage(data_set):
        contour = data_set.ROIContourSequence[0].ContourSequence[0]
        data_set.ROIContourSequence[0].ContourSequence = [contour]
        contour["ContourData"] = pydicom.DataElement(
            0x30060050, "LO", [str(v) for v in value], validation_mode=pydicom.config.IGNORE
        )

    assert refusal([edited(path, damage)], axial)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0.05, 1), found=st.binary(min_size=1, max_size=40))
def test_no_damage_to_a_structure_set_makes_anything_but_unfit(axial, place, found):
    path = structure_set(axial, Drawing("a", contours_of(two_masks()[1], axial.volume.grid)))
    data = bytearray(Path(path).read_bytes())
    start = int(place * len(data))
    data[start : start + len(found)] = found
    Path(path).write_bytes(data)
    try:
        read_regions([path], axial)
    except Unfit:
        return


# segmentations


def segmentation(source, masks, kind="BINARY", slices=None, images=None) -> str:
    """A segmentation of these masks (z, y, x), by another library; `slices` restricts it to some images."""
    chosen = list(range(len(source.files))) if slices is None else slices
    files = images or [pydicom.dcmread(source.files[k]) for k in chosen]
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"segment {number}",
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Bone,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, _ in enumerate(masks, start=1)
    ]
    pixels = np.stack([np.asarray(mask)[chosen] for mask in masks], axis=-1)
    if kind == "LABELMAP":
        pixels = sum(pixels[..., n].astype(np.uint8) * (n + 1) for n in range(len(masks)))
    made = hd.seg.Segmentation(
        source_images=files,
        pixel_array=pixels.astype(np.float32) if kind == "FRACTIONAL" else pixels.astype(np.uint8),
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=uid("seg series"),
        series_number=9,
        sop_instance_uid=uid("seg", kind),
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=True,
    )
    path = Path(source.files[0]).parent / "seg.dcm"
    made.save_as(path)
    return str(path)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_segments_come_back_voxel_for_voxel(source, kind):
    bone, lump = two_masks()
    lump &= ~bone
    first, second = read_regions([segmentation(source, [bone, lump], kind)], source)
    assert (first.name, second.name) == ("segment 1", "segment 2")
    assert np.array_equal(first.mask, bone)
    assert np.array_equal(second.mask, lump)
    assert second.drawn_slices == tuple(np.flatnonzero(lump.any(axis=(1, 2))))


def test_a_fractional_segment_is_what_is_above_one_half(axial):
    bone, lump = two_masks()
    (region,) = read_regions([segmentation(axial, [bone * 0.8 + lump * ~bone * 0.4], "FRACTIONAL")], axial)
    assert np.array_equal(region.mask, bone)


def test_overlapping_segments_of_some_slices_keep_their_overlap(axial):
    bone, _ = two_masks()
    wide = np.roll(bone, 2, axis=2) | bone
    first, second = read_regions([segmentation(axial, [bone, wide], slices=[2, 3, 6])], axial)
    assert first.drawn_slices == second.drawn_slices == (2, 3, 6)
    assert np.array_equal(second.mask[[2, 3, 6]], wide[[2, 3, 6]])
    assert not (first.mask & ~second.mask).any()


def test_a_segmentation_with_its_frames_turned_and_cropped_lands_on_the_same_voxels(axial):
    bone, _ = two_masks()
    images = [pydicom.dcmread(f) for f in axial.files]
    grid = axial.volume.grid
    for k, image in enumerate(images):
        image.Rows, image.Columns = 20, 15
        image.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        image.ImagePositionPatient = list(grid.to_mm(np.array([[k, 21, 18]], float))[0])
        image.PixelData = bytes(20 * 15 * 2)
    turned = bone[:, 2:22, 4:19][:, ::-1, ::-1]
    (region,) = read_regions([segmentation(axial, [turned], images=images)], axial)
    expected = np.zeros_like(bone)
    expected[:, 2:22, 4:19] = bone[:, 2:22, 4:19]
    assert np.array_equal(region.mask, expected)


def shifted_frames(data_set):
    for frame in data_set.PerFrameFunctionalGroupsSequence:
        plane = frame.PlanePositionSequence[0]
        plane.ImagePositionPatient = [float(plane.ImagePositionPatient[0]) + 0.4, *plane.ImagePositionPatient[1:]]


def lifted_frames(data_set):
    for frame in data_set.PerFrameFunctionalGroupsSequence:
        plane = frame.PlanePositionSequence[0]
        plane.ImagePositionPatient = [*plane.ImagePositionPatient[:2], float(plane.ImagePositionPatient[2]) + 24.0]


def other_spacing(data_set):
    data_set.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [1.6, 0.8]


def without_positions(data_set):
    for frame in data_set.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence


def without_frames(data_set):
    del data_set.PerFrameFunctionalGroupsSequence


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (shifted_frames, "do not lie on the images' voxels"),
        (other_spacing, "do not lie on the images' voxels"),
        (lifted_frames, "beyond the images"),
        (without_positions, "does not say where"),
        (without_frames, "broken"),
    ],
)
def test_a_segmentation_off_the_grid_is_refused(axial, edit, reason):
    assert reason in refusal([edited(segmentation(axial, two_masks()), edit)], axial)


def test_a_segmentation_of_another_series_is_refused(axial, tmp_path: Path):
    path = segmentation(axial, two_masks())
    folder = tmp_path / "other"
    folder.mkdir()
    array, _, _ = limb(SHAPE)
    other = read_volume(
        write_ct(Volume(array, grid_of(AXIAL, SHAPE), "1"), folder, identity=replace(IDENTITY, series_uid=uid("2")))
    )
    assert refusal([path], other) == "the region is drawn on other images"


def test_what_holds_no_regions_is_refused(axial, tmp_path: Path):
    assert "neither a structure set nor a segmentation" in refusal([axial.files[0]], axial)
    (tmp_path / "x").write_bytes(b"hello")
    assert refusal([str(tmp_path / "x")], axial)
    assert refusal([], axial) == "no region is drawn in these objects"


# the public sample images


@pytest.mark.parametrize(
    ("case", "name", "voxels"),
    [
        ("knee_STS_042/ct", "GTV_Mass_CT", 11175),
        ("knee_STS_042/mr_t1", "GTV_Mass_MR_T1", 11175),
        ("foot_STS_019/ct", "GTV_Mass_CT", 5564),
        ("hip_femur_STS_012/ct", "GTV_Mass_CT", 25263),
    ],
)
def test_sarcomas_have_exactly_the_voxels_they_have_elsewhere(sample_data: Path, case, name, voxels):
    folder = sample_data / "msk_sarcoma" / case
    source = read_volume([str(p) for p in (folder / "dicom").iterdir()])
    (region,) = read_regions([str(folder / "rtstruct.dcm")], source)
    assert region.name == name
    assert region.mask.sum() == voxels
    mask = nibabel.as_closest_canonical(nibabel.load(folder / "mask.nii.gz"))
    assert np.array_equal(region.mask, np.asarray(mask.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1] > 0)


def test_a_structure_set_of_another_patient_is_refused(sample_data: Path):
    sarcoma = sample_data / "msk_sarcoma"
    source = read_volume([str(p) for p in (sarcoma / "knee_STS_042" / "ct" / "dicom").iterdir()])
    strangers = [sarcoma / "foot_STS_019" / "ct" / "rtstruct.dcm", *(sample_data / "malformed").rglob("*rt*.dcm")]
    assert "other images" in refusal([str(p) for p in strangers], source)


def nrrd(path: Path) -> np.ndarray:
    """Voxels (z, y, x) of an NRRD file with one value a voxel."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line and line[0] != "#")
    types = {"unsigned char": "u1", "uchar": "u1", "uint8": "u1", "short": "<i2", "unsigned short": "<u2"}
    raw = gzip.decompress(body) if fields["encoding"] in ("gzip", "gz") else body
    sizes = [int(n) for n in fields["sizes"].split()]
    return np.frombuffer(raw, types[fields["type"]]).reshape(sizes[::-1])


def test_segmentations_of_another_vendor_equal_its_own_arrays(sample_data: Path):
    folder = sample_data / "seg_sr" / "dcmqi_ct3slice"
    source = read_volume([str(folder / f"0{n}.dcm") for n in (1, 2, 3)])
    (liver,) = read_regions([str(folder / "liver.dcm")], source)
    assert np.array_equal(liver.mask, nrrd(folder / "liver_seg.nrrd") > 0)
    overlaps = read_regions([str(folder / "partial_overlaps.dcm")], source)
    assert [region.name for region in overlaps] == ["GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE"]
    together = np.any([region.mask for region in overlaps], axis=0)
    arrays = [nrrd(folder / f"partial_overlaps-{n}.nrrd") for n in (1, 2, 3)]
    assert np.array_equal(together, np.any(arrays, axis=0))
    small = sample_data / "seg_sr" / "dcmqi_23x38x3"
    (label,) = read_regions([str(small / "label.seg")], read_volume([str(p) for p in small.glob("*.dcm")]))
    assert np.array_equal(label.mask, nrrd(small / "label.nrrd") > 0)
