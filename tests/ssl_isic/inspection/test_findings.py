"""Each planted problem is found, by its name and with the images it is about; a pool in order ends with 0."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest

from ssl_isic.inspection.finding import NOTED, WRONG
from ssl_isic.survey import main

PLANTED: dict[str, tuple[Callable[[Any], None], tuple[str, ...]]] = {}


def plants(name: str, *words: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function that plants the problem `name`, whose line then has all of `words`."""

    def register(plant: Callable[[Any], None]) -> Callable[[Any], None]:
        PLANTED[plant.__name__] = (plant, (name, *words))
        return plant

    return register


@plants("unreadable", "2 of 40 images", "ISIC_0000006", "1 of them truncated")
def two_damaged(clean: Any) -> None:
    clean.images["ISIC_0000006"] = clean.images["ISIC_0000006"][:300]
    clean.images["ISIC_0000007"] = b"nothing"


@plants("rows-without-image", "1 of 40 rows", "ISIC_0000009")
def an_image_lost(clean: Any) -> None:
    del clean.images["ISIC_0000009"]


@plants("not-a-label", "1 targets", "3 in row 12")
def a_third_class(clean: Any) -> None:
    clean.set("target", 10, 3)


@plants("one-class", "every label is 0")
def no_positive(clean: Any) -> None:
    clean.table["target"] = 0


@plants("labels-contradict", "differ in their target", "ISIC_0000016 (target 1) = ISIC_0000017 (target 0)")
def a_copy_with_another_label(clean: Any) -> None:
    clean.images["ISIC_0000017"] = clean.images["ISIC_0000016"]


@plants("labels-contradict", "differ in their diagnosis", "ISIC_0000018 (diagnosis nv) = ISIC_0000019 (diagnosis bkl)")
def a_copy_with_another_diagnosis(clean: Any) -> None:
    clean.images["ISIC_0000019"] = clean.images["ISIC_0000018"]
    clean.set("dx", 19, "bkl")


@plants("group-across-folds", "1 groups of", "P3")
def a_group_in_two_folds(clean: Any) -> None:
    clean.folds.loc[13, "fold"] = 1 - clean.folds.loc[13, "fold"]


@plants("group-across-folds", "1 patients of here", "P3")
def a_patient_in_two_folds_under_two_groups(clean: Any) -> None:
    clean.folds.loc[13, ["group", "fold"]] = ["another", 1 - clean.folds.loc[13, "fold"]]


@plants("group-across-folds", "1 lesions of here", "L9")
def a_lesion_in_two_folds(clean: Any) -> None:
    clean.table.loc[[9, 14], "lesion_id"] = "L9"


@plants("duplicate-across-folds", "ISIC_0000003 (fold 0) = ISIC_0000005 (fold 1)")
def a_copy_in_another_fold(clean: Any) -> None:
    clean.images["ISIC_0000005"] = clean.images["ISIC_0000003"]


@plants("near-duplicate-across-folds", "ISIC_0000003 (fold 0) = ISIC_0000005 (fold 1)")
def a_copy_of_another_size_in_another_fold(clean: Any) -> None:
    pixels = cv2.imdecode(np.frombuffer(clean.images["ISIC_0000003"], np.uint8), cv2.IMREAD_COLOR)
    smaller = cv2.resize(pixels, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    clean.images["ISIC_0000005"] = cv2.imencode(".jpg", smaller, [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()


@plants("fold-of-one-class", "fold 1 of", "has no positives")
def a_fold_without_positives(clean: Any) -> None:
    clean.table.loc[clean.folds["fold"] == 1, "target"] = 0


@plants("fold-of-one-class", "all rows of", "are in fold 0")
def one_fold(clean: Any) -> None:
    clean.folds["fold"] = 0


@plants("folds-without-image", "1 rows of", "ISIC_GONE")
def a_fold_of_no_image(clean: Any) -> None:
    clean.folds.loc[len(clean.folds)] = ["ISIC_GONE", "P99", 0]


@plants("some-unreadable", "1 of 40 images of here do not decode (2.50%), 1 of them truncated: ISIC_0000006")
def one_damaged(clean: Any) -> None:
    clean.images["ISIC_0000006"] = clean.images["ISIC_0000006"][:300]
    clean.words.append("max_unreadable=0.05")


@plants("suspect", "1 images", "ISIC_0000006")
def a_hole(clean: Any) -> None:
    data = bytearray(clean.images["ISIC_0000006"])
    middle = len(data) * 2 // 3
    data[middle : middle + 40] = b"\xff\xd0" * 20
    clean.images["ISIC_0000006"] = bytes(data)


@plants("images-without-row", "1 of 40 images of here", "ISIC_0000039")
def a_row_lost(clean: Any) -> None:
    clean.table = clean.table.iloc[:-1]


@plants("duplicates", "2 images in 1 sets are the same bytes: ISIC_0000013 = ISIC_0000014")
def a_copy(clean: Any) -> None:
    clean.images["ISIC_0000014"] = clean.images["ISIC_0000013"]


@plants("duplicates", "the same pixels in other bytes: ISIC_0000013 = ISIC_0000014")
def a_copy_as_png(clean: Any) -> None:
    pixels = cv2.imdecode(np.frombuffer(clean.images["ISIC_0000013"], np.uint8), cv2.IMREAD_COLOR)
    clean.images["ISIC_0000013"] = cv2.imencode(".png", pixels)[1].tobytes()
    clean.images["ISIC_0000014"] = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()


@plants("near-duplicates", "2 images in 1 sets are near-duplicates by perceptual hash: ISIC_0000013 = ISIC_0000014")
def a_copy_of_another_quality(clean: Any) -> None:
    pixels = cv2.imdecode(np.frombuffer(clean.images["ISIC_0000013"], np.uint8), cv2.IMREAD_COLOR)
    clean.images["ISIC_0000014"] = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()


@plants("alike-apart", "have two patients or lesions: ISIC_0000013 (lesion L13) = ISIC_0000014 (lesion L14)")
def a_copy_under_another_lesion(clean: Any) -> None:
    clean.images["ISIC_0000014"] = clean.images["ISIC_0000013"]


@plants("near-labels-differ", "1 sets of near-duplicates", "ISIC_0000012 (target 1) = ISIC_0000013 (target 0)")
def a_near_copy_with_another_label(clean: Any) -> None:
    pixels = cv2.imdecode(np.frombuffer(clean.images["ISIC_0000013"], np.uint8), cv2.IMREAD_COLOR)
    clean.images["ISIC_0000012"] = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()


@plants("lesion-labels-differ", "1 lesions have photographs of different targets: L1")
def a_lesion_of_two_labels(clean: Any) -> None:
    clean.set("target", 3, 1)


@plants("lesion-of-two-patients", "1 lesions have photographs of two patients: L1")
def a_lesion_of_two_patients(clean: Any) -> None:
    clean.table.loc[11, "lesion_id"] = "L1"


@plants("photographs", "2 lesions have two photographs or more, 4 images together")
def nothing_at_all(clean: Any) -> None:
    """Two of the lesions of a pool in order have two photographs."""


@plants("gaps-tell", "whether attribution is empty tells the target", "1.00")
def clinics_of_positives_only(clean: Any) -> None:
    clean.table["attribution"] = clean.table["attribution"].where(clean.table["target"] == 1)


@plants("rows-without-fold", "1 labelled images have no fold", "ISIC_0000039")
def a_fold_row_lost(clean: Any) -> None:
    clean.folds = clean.folds.iloc[:-1]


@plants("colour-tells-clinic", "name the clinic of 100.0% of images")
def clinics_by_lamp(clean: Any) -> None:
    rng = np.random.default_rng(0)
    clean.table["patient_id"] = clean.folds["group"] = [f"P{k}" for k in range(40)]
    clean.table.loc[1, "patient_id"] = clean.folds.loc[1, "group"] = "P0"
    clean.table.loc[3, "patient_id"] = clean.folds.loc[3, "group"] = "P2"
    for row, name in enumerate(clean.images):
        pixels = cv2.imdecode(np.frombuffer(clean.images[name], np.uint8), cv2.IMREAD_COLOR)
        dark = rng.uniform(0.2, 0.25) if clean.table["attribution"][row] == "Clinic A" else 1
        clean.images[name] = cv2.imencode(".jpg", pixels * dark, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


@pytest.mark.parametrize("planted", sorted(PLANTED))
def test_what_is_planted_is_found(planted: str, clean: Any, capsys: pytest.CaptureFixture[str]) -> None:
    plant, (name, *words) = PLANTED[planted]
    plant(clean)
    code = clean.run()
    lines = capsys.readouterr().out.splitlines()
    kind = "WRONG" if name in WRONG else "note "
    assert any(line.startswith(f"{kind}  {name}: ") and all(word in line for word in words) for line in lines), lines
    assert code == (name in WRONG)


def test_a_near_copy_of_many_copies_is_in_one_set_with_them(clean: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = cv2.imdecode(np.frombuffer(clean.images["ISIC_0000012"], np.uint8), cv2.IMREAD_COLOR)
    clean.images["ISIC_0000013"] = clean.images["ISIC_0000014"] = clean.images["ISIC_0000012"]
    clean.images["ISIC_0000015"] = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()
    clean.table["target"] = (clean.folds.index // 2 % 2).to_numpy()
    clean.run()
    out = capsys.readouterr().out
    assert "3 images in 1 sets are the same bytes" in out
    assert (
        "4 images in 1 sets are near-duplicates by perceptual hash: ISIC_0000012 = ISIC_0000013 = ISIC_0000014 = 1 more"
        in out
    )


def test_every_finding_is_planted_somewhere() -> None:
    planted = {name for _, (name, *_) in PLANTED.values()}
    assert (WRONG.keys() | NOTED.keys()) - planted == {"overlap", "no-overlap"}  # which need two sources, below


def test_a_pool_in_order_ends_with_nothing_wrong(clean: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert clean.run() == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("note")] == ["photographs:"]
    assert not any(line.startswith("WRONG") for line in lines)
    assert last == f"0 findings would make a result wrong; {clean.out / 'report.html'} has the details"


def test_what_two_sources_share(clean: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second source has three images of the first: one as it is and under its own id, two under others."""
    words = clean.write()
    with h5py.File(tmp_path / "images.hdf5") as here, h5py.File(tmp_path / "other.hdf5", "w") as there:
        here.copy("ISIC_0000001", there)
        here.copy("ISIC_0000002", there, "other_2")
        pixels = cv2.imdecode(np.frombuffer(here["ISIC_0000004"][()], np.uint8), cv2.IMREAD_COLOR)
        small = cv2.imencode(".jpg", cv2.resize(pixels, (50, 50), interpolation=cv2.INTER_AREA))[1]
        there.create_dataset("other_4", data=np.bytes_(small.tobytes()))
    assert main([*words, f"data.sources.there={tmp_path / 'other.hdf5'}"]) == 0
    out = capsys.readouterr().out
    assert "overlap: 2 images of here and 2 of there are the same bytes" in out
    assert "overlap: 1 images of here and 1 of there are near-duplicates by perceptual hash" in out
    assert "overlap: 1 images of here and 1 of there are the same id in several sources" in out
    assert "here/ISIC_0000001 = there/ISIC_0000001" in out


def test_two_sources_that_share_nothing(clean: Any, lesions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean.images = {f"here_{name}": data for name, data in clean.images.items()}
    words = [word for word in clean.write() if not word.startswith(("data.tables", "folds"))]
    assert main([*words, f"data.sources.there={lesions}"]) == 0
    assert "note   no-overlap: here and there share no image (the same bytes; " in capsys.readouterr().out


def test_one_id_with_two_labels_in_two_sources(clean: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = clean.write()
    clean.set("target", 6, 1)
    clean.table.to_csv(tmp_path / "relabelled.csv", index=False)
    more = [f"data.sources.again={tmp_path / 'images.hdf5'}", f"data.tables.again={tmp_path / 'relabelled.csv'}"]
    assert main([*words, *more]) == 1
    out = capsys.readouterr().out
    assert "WRONG  labels-contradict: 1 sets of images with the same id differ in their target: " in out
    assert "here/ISIC_0000006 (target 0) = again/ISIC_0000006 (target 1)" in out


def test_findings_are_documented() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "inspect.md").read_text()
    for name, meaning in (WRONG | NOTED).items():
        assert f"| `{name}` | {meaning} |" in page
