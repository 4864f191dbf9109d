"""A series becomes the volume its headers describe, or is refused with the reason."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from orchestrator.dicom.author import Drawing, StudyIdentity, write_ct, write_rtstruct
from orchestrator.dicom.facts import read_file_header
from orchestrator.dicom.volume import read_volume
from orchestrator.domain.errors import Fault, Unfit
from orchestrator.domain.geometry import Volume
from tests.synthetic import AXIAL, CORONAL, OBLIQUE, SAGITTAL, grid_of, uid

SHAPE = (6, 40, 36)
IDENTITY = StudyIdentity(
    patient_id="P-7",
    patient_name="Doe^Jane",
    birth_date="19700101",
    sex="F",
    study_uid=uid("study"),
    series_uid=uid("series"),
    frame_of_reference_uid=uid("frame"),
    study_description="KNEE",
    series_description="bone",
    body_part="KNEE",
    laterality="L",
)


def some_hu(shape=SHAPE):
    return np.random.default_rng(3).integers(-1024, 3072, shape).astype(np.float32)


def authored(folder: Path, orientation=AXIAL, shift_mm=0.0):
    """A CT series and its volume; `shift_mm` moves each slice sideways against the last."""
    grid = grid_of(orientation, SHAPE)
    grid.affine[:3, 0] += shift_mm * grid.affine[:3, 1] / np.linalg.norm(grid.affine[:3, 1])
    volume = Volume(some_hu(), grid, "[hnsf'U]")
    return write_ct(volume, folder, identity=IDENTITY), volume


def rewritten(path: str, **changed) -> None:
    data_set = pydicom.dcmread(path)
    for keyword, value in changed.items():
        setattr(data_set, keyword, value)
    data_set.save_as(path)


def refusal(paths) -> Unfit:
    with pytest.raises(Unfit) as caught:
        read_volume(paths)
    return caught.value


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
def test_a_volume_comes_back_from_its_files_in_any_direction_and_order(tmp_path: Path, orientation):
    paths, volume = authored(tmp_path, orientation)
    source = read_volume([*paths[3:], *paths[:3]])
    assert np.array_equal(source.volume.array, volume.array)
    assert source.volume.array.dtype == np.float32
    assert np.allclose(source.volume.grid.affine, volume.grid.affine, atol=1e-9)
    assert source.volume.unit == "[hnsf'U]"
    assert source.files == tuple(paths)
    assert [h.instance_number for h in source.headers] == [1, 2, 3, 4, 5, 6]
    assert source.left_out == {}


def test_the_same_study_is_written_with_the_same_bytes(tmp_path: Path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    ours, volume = authored(tmp_path / "one")
    theirs, _ = authored(tmp_path / "two")
    contour = volume.grid.to_mm(np.array([(1, 2, 2), (1, 2, 5), (1, 5, 5)], float))
    for paths, folder in ((ours, "one"), (theirs, "two")):
        paths.append(write_rtstruct([Drawing("a", [contour])], paths, tmp_path / folder / "rt.dcm", identity=IDENTITY))
    for one, two in zip(ours, theirs, strict=True):
        assert Path(one).read_bytes() == Path(two).read_bytes()


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy is not installed")
def test_dciodvfy_finds_no_error_in_what_is_written(tmp_path: Path):
    paths, volume = authored(tmp_path, OBLIQUE)
    contour = volume.grid.to_mm(np.array([(1, 2, 2), (1, 2, 5), (1, 5, 5)], float))
    drawings = [Drawing("GTV", [contour], "GTV"), Drawing("BODY", [contour], "EXTERNAL"), Drawing("empty", [])]
    paths.append(write_rtstruct(drawings, paths, tmp_path / "rt.dcm", identity=IDENTITY))
    for path in (paths[0], paths[-1]):
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        found = done.stdout + done.stderr
        assert "Error" not in found, found


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_lossless_compression_changes_no_value(tmp_path: Path, syntax):
    paths, volume = authored(tmp_path)
    for path in paths:
        data_set = pydicom.dcmread(path)
        data_set.compress(syntax, generate_instance_uid=False)
        data_set.save_as(path)
    assert np.array_equal(read_volume(paths).volume.array, volume.array)


def test_values_without_rescale_have_no_unit(tmp_path: Path):
    paths, volume = authored(tmp_path)
    for path in paths:
        data_set = pydicom.dcmread(path)
        del data_set.RescaleSlope
        data_set.save_as(path)
    source = read_volume(paths)
    assert source.volume.unit == "1"
    assert np.array_equal(source.volume.array, volume.array + 1024)


def test_another_modality_is_rescaled_but_has_no_unit(tmp_path: Path):
    paths, volume = authored(tmp_path)
    for path in paths:
        rewritten(path, Modality="MR", RescaleSlope="0.5", RescaleIntercept="3")
    source = read_volume(paths)
    assert source.volume.unit == "1"
    assert np.array_equal(source.volume.array, (volume.array + 1024) * 0.5 + 3)


def test_a_localizer_and_a_colour_page_are_left_out_with_the_reason(tmp_path: Path):
    paths, _ = authored(tmp_path)
    (tmp_path / "more").mkdir()
    localizer, page, *_ = write_ct(
        Volume(some_hu(), grid_of(CORONAL, SHAPE), "1"),
        tmp_path / "more",
        identity=StudyIdentity("P-7", "Doe^Jane", uid("study"), uid("other"), uid("frame")),
    )
    rewritten(localizer, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    rewritten(page, PhotometricInterpretation="RGB", SamplesPerPixel=3)
    source = read_volume([localizer, page, *paths])
    assert source.files == tuple(paths)
    assert source.left_out[read_file_header(localizer).sop_instance_uid] == "localizer"
    assert "colour page" in source.left_out[read_file_header(page).sop_instance_uid]


def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path: Path):
    paths, volume = authored(tmp_path, shift_mm=3.0 * math.tan(math.radians(12)))
    fault = refusal(paths)
    assert fault.fault is Fault.GANTRY_TILT
    assert "12.0 degrees" in fault.detail
    assert volume.grid.spacing_mm[0] > 3.0


def test_a_gap_and_a_double_are_refused(tmp_path: Path):
    paths, _ = authored(tmp_path)
    assert refusal(paths[:2] + paths[3:]).fault is Fault.MISSING_SLICES
    assert refusal([*paths, paths[2]]).fault is Fault.DUPLICATE_SLICES
    assert refusal(paths[:2]).fault is Fault.NOT_A_VOLUME
    assert refusal([]).fault is Fault.NOT_A_VOLUME


def test_images_that_were_ever_lossily_compressed_are_refused(tmp_path: Path):
    paths, _ = authored(tmp_path)
    rewritten(paths[2], LossyImageCompression="01")
    assert refusal(paths).fault is Fault.LOSSY_PIXELS


def test_a_series_too_large_is_refused_before_anything_is_decoded(tmp_path: Path):
    paths, _ = authored(tmp_path)
    for path in paths:
        rewritten(path, Rows=65535, Columns=65535)
    fault = refusal(paths)
    assert fault.fault is Fault.OUT_OF_RANGE
    assert "voxels" in fault.detail


@pytest.mark.parametrize(
    "changed",
    [
        {"Rows": 41},
        {"BitsAllocated": 12},
        {"SamplesPerPixel": 2},
        {"PixelRepresentation": 7},
        {"PixelData": b"\0\0"},
    ],
)
def test_pixels_that_contradict_their_header_are_unreadable(tmp_path: Path, changed):
    paths, _ = authored(tmp_path)
    for path in paths:
        rewritten(path, **changed)
    assert refusal(paths).fault in (Fault.PIXELS_UNREADABLE, Fault.NOT_A_VOLUME)


def test_a_codestream_of_nonsense_is_unreadable(tmp_path: Path):
    paths, _ = authored(tmp_path)
    for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        data_set = pydicom.dcmread(paths[0])
        data_set.PixelData = pydicom.encaps.encapsulate([bytes(range(256))])
        data_set["PixelData"].VR, data_set["PixelData"].is_undefined_length = "OB", True
        data_set.file_meta.TransferSyntaxUID = syntax
        data_set.save_as(tmp_path / "broken.dcm")
        assert refusal([str(tmp_path / "broken.dcm"), *paths[1:]]).fault is Fault.PIXELS_UNREADABLE


def test_a_file_that_is_not_dicom_is_unreadable(tmp_path: Path):
    paths, _ = authored(tmp_path)
    (tmp_path / "x").write_bytes(b"hello")
    assert refusal([*paths, str(tmp_path / "x")]).fault is Fault.PIXELS_UNREADABLE


def test_a_reason_names_no_patient(tmp_path: Path):
    paths, _ = authored(tmp_path)
    for path in paths:
        rewritten(path, PixelData=b"\0\0")
    assert "Doe" not in str(refusal(paths))


# the public sample images


def labels_as_arrays(path: Path) -> np.ndarray:
    """A NIfTI label image as (z, y, x) in DICOM order: rows to the back, columns to the left."""
    image = nibabel.load(path)
    turned = image.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(("L", "P", "S"))
        )
    )
    return np.asarray(turned.dataobj).transpose(2, 1, 0)


def test_vertebrae_lie_where_their_labels_are_and_not_in_the_mirror(sample_data: Path, tmp_path: Path):
    folder = sample_data / "ct_abdomen_labelled"
    paths = []
    for number, path in enumerate(sorted((folder / "dicom").iterdir())):
        data_set = pydicom.dcmread(path)
        data_set.SOPClassUID = data_set.file_meta.MediaStorageSOPClassUID
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = uid("abdomen", str(number))
        data_set.StudyInstanceUID, data_set.SeriesInstanceUID = uid("abdomen study"), uid("abdomen series")
        paths.append(str(tmp_path / f"{number}.dcm"))
        data_set.save_as(paths[-1])
    source = read_volume(paths)
    labels = labels_as_arrays(folder / "labels_totalseg.nii.gz")
    assert source.volume.grid.spacing_mm == pytest.approx((2.0, 0.9765625, 0.9765625))
    for label, voxels, hu in ((32, 23576, 267), (33, 9930, 292), (5, 366708, 89)):
        assert (labels == label).sum() == voxels
        assert source.volume.array[labels == label].mean() == pytest.approx(hu, abs=0.6)
    assert source.volume.array[(labels == 32)[:, :, ::-1]].mean() == pytest.approx(110, abs=2)


@pytest.mark.parametrize(
    ("case", "voxels", "mean"),
    [
        ("knee_STS_042/ct", 11175, 38.9),
        ("foot_STS_019/ct", 5564, 12.8),
        ("hip_femur_STS_012/ct", 25263, 41.6),
        ("knee_STS_042/mr_t1", 11175, None),
    ],
)
def test_sarcoma_series_equal_the_images_made_of_them_elsewhere(sample_data: Path, case, voxels, mean):
    folder = sample_data / "msk_sarcoma" / case
    source = read_volume([str(p) for p in (folder / "dicom").iterdir()])
    assert np.array_equal(source.volume.array, labels_as_arrays(folder / "image.nii.gz").astype(np.float32))
    assert source.volume.unit == ("1" if mean is None else "[hnsf'U]")
    mask = labels_as_arrays(folder / "mask.nii.gz") > 0
    assert mask.sum() == voxels
    if mean is not None:
        assert source.volume.array[mask].mean() == pytest.approx(mean, abs=0.05)


@pytest.mark.parametrize(
    ("folders", "fault", "words"),
    [
        (["gantry_tilt_phantom"], Fault.GANTRY_TILT, "18.5 degrees"),
        (["gantry_tilt_phantom_other_series", "gantry_tilt_phantom"], Fault.GANTRY_TILT, "18.5 degrees"),
        (["gantry_tilt_phantom_other_series"], Fault.NOT_A_VOLUME, "localizer"),
        (["d2n_gantrytilting_001"], Fault.GANTRY_TILT, "degrees"),
        (["d2n_slicecount_001"], Fault.NOT_A_VOLUME, "2 images"),
    ],
)
def test_sample_series_with_bad_geometry_are_refused(sample_data: Path, folders, fault, words):
    caught = refusal([str(p) for f in folders for p in sorted((sample_data / "ct_geometry" / f).iterdir())])
    assert caught.fault is fault
    assert words in caught.detail


@pytest.mark.parametrize("folder", ["mr_knee_enhanced", "single_images", "xa_rf_us", "malformed", "charsets"])
def test_sample_files_that_are_no_stack_are_refused(sample_data: Path, folder):
    for path in sorted((sample_data / folder).glob("*")):
        if path.is_file():
            refusal([str(path)])


def three_of(path: Path, folder: Path) -> list[str]:
    """A stack of three copies of one slice, 2 mm apart, in the encoding it has."""
    paths = []
    for k in range(3):
        data_set = pydicom.dcmread(path)
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = uid("copy", str(k))
        data_set.ImagePositionPatient = [0, 0, 2 * k]
        data_set.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data_set.PixelSpacing = [0.5, 0.5]
        paths.append(str(folder / f"{k}.dcm"))
        data_set.save_as(paths[-1])
    return paths


@pytest.mark.parametrize("suffix", ["", ".1", ".2", ".1.99", ".5", ".4.80", ".4.90"])
def test_every_lossless_encoding_of_a_slice_gives_equal_values(sample_data: Path, tmp_path: Path, suffix):
    folder = sample_data / "transfer_syntaxes"
    (path,) = folder.glob(f"CTImage.dcm_*_1.2.840.10008.1.2{suffix}.dcm")
    plain = pydicom.dcmread(folder / "CTImage.dcm")
    expected = plain.pixel_array * np.float32(plain.RescaleSlope) + np.float32(plain.RescaleIntercept)
    assert np.array_equal(read_volume(three_of(path, tmp_path)).volume.array[1], expected)


@pytest.mark.parametrize(
    ("suffix", "fault"),
    [
        *((suffix, Fault.LOSSY_PIXELS) for suffix in (50, 51, 53, 55, 81, 91)),
        *((suffix, Fault.PIXELS_UNREADABLE) for suffix in (57, 70)),
    ],
)
def test_lossy_encodings_and_those_without_a_decoder_are_refused(sample_data: Path, tmp_path: Path, suffix, fault):
    (path,) = (sample_data / "transfer_syntaxes").glob(f"CTImage.dcm_*_1.2.840.10008.1.2.4.{suffix}.dcm")
    assert refusal(three_of(path, tmp_path)).fault is fault
