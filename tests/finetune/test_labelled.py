"""Labels, images and folds are joined or refused in one line; what trains a fold never holds that fold."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finetune.labelled import Labelled, LabelledConfig, TrainingRows, read_labelled, rows_outside
from ssl_isic import folds
from ssl_isic.data.images import ImagePool
from ssl_isic.errors import InputError


def write_rows(folder: Path, count: int, images: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table of `count` rows in 2 folds, whose first ids are `images`, the others have no image."""
    ids = [*images, *(f"ISIC_9{row:06d}" for row in range(count - len(images)))]
    table = pd.DataFrame({"isic_id": ids, "patient_id": [f"P{row // 2}" for row in range(count)]})
    table["target"] = (np.arange(count) % 3 == 0).astype(int)
    split = table[["isic_id"]].assign(group=table["patient_id"], fold=np.arange(count) // 2 % 2)
    table.to_csv(folder / "table.csv", index=False)
    split.to_csv(folder / "folds.csv", index=False)
    return table, split


def read(images: Path, folder: Path, **settings: str) -> Labelled:
    config = LabelledConfig(images=images, table=folder / "table.csv", folds=folder / "folds.csv", **settings)
    return read_labelled(config, ImagePool({"other": images, "labelled": images}), "labelled")


def refused(images: Path, folder: Path, **settings: str) -> str:
    with pytest.raises(InputError) as caught:
        read(images, folder, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_each_row_finds_its_image_in_its_own_source(labelled_files: Any) -> None:
    config = LabelledConfig(images=labelled_files.images, table=labelled_files.table, folds=labelled_files.folds)
    pool = ImagePool({"other": labelled_files.images, "labelled": labelled_files.images})
    labelled = read_labelled(config, pool, "labelled")
    assert [pool.id_of(index) for index in labelled.indices] == labelled.ids == labelled_files.ids
    assert {pool.source_of(index) for index in labelled.indices} == {"labelled"}
    assert labelled.target.tolist() == labelled_files.target.tolist()
    assert labelled.fold.tolist() == labelled_files.fold.tolist()
    assert labelled.prevalence == 8 / 36
    assert labelled.patients is not None
    assert labelled.patients.tolist() == labelled_files.groups
    assert labelled.notes == [
        f"12 images of {labelled_files.images} are not in {labelled_files.table}: they are not used"
    ]


def test_a_row_in_a_hundred_may_lack_its_image_and_is_never_trained_on(tmp_path: Path, lesions: Path) -> None:
    images = [name.decode() for name in ImagePool({"": lesions}).slice_of("")[1]]
    folder = tmp_path / "many"
    folder.mkdir()
    jpegs = folder / "jpegs"
    jpegs.mkdir()
    ids = [f"ISIC_{row:07d}" for row in range(99)]
    for identifier in ids:
        (jpegs / f"{identifier}.jpg").write_bytes(b"")
    table, _ = write_rows(folder, 100, ids)
    labelled = read(jpegs, folder)
    last = table["isic_id"].iloc[-1]
    assert labelled.notes == [
        f"1 of 100 rows of {folder / 'table.csv'} have no image in {jpegs}, the first is {last}: "
        "they are not trained on and get the mean score"
    ]
    assert labelled.indices[:99].tolist() == list(range(99, 198))
    assert labelled.indices[99] == -1
    assert len(labelled.ids) == 100, "it is kept, and scored"
    for fold in (0, 1):
        assert (rows_outside(labelled, fold).indices >= 0).all()
    write_rows(tmp_path, 50, images)
    assert refused(lesions, tmp_path) == (
        f"2 of 50 rows of {tmp_path / 'table.csv'} have no image in {lesions}, the first is ISIC_9000000; "
        "do the two belong together?"
    )


def test_what_is_refused(tmp_path: Path, labelled_files: Any) -> None:
    table, sound = pd.read_csv(labelled_files.table), pd.read_csv(labelled_files.folds)
    path = tmp_path / "table.csv"

    def with_files(table: pd.DataFrame, split: pd.DataFrame, **settings: str) -> str:
        table.to_csv(path, index=False)
        split.to_csv(tmp_path / "folds.csv", index=False)
        return refused(labelled_files.images, tmp_path, **settings)

    message = with_files(table.rename(columns={"patient_id": "patient"}), sound)
    assert message.startswith(f"{path} has no column patient_id; did you mean patient?")
    assert f"{path}: target must be 0 or 1, got 2 in row 4 (1 such rows)" in with_files(
        table.assign(target=[0, 1, 2, *table["target"][3:]]), sound
    )
    assert f"{path} has no column malignant" in with_files(table, sound, target="malignant")
    others = sound.assign(isic_id=[f"X{row}" for row in range(len(sound))])
    first = labelled_files.ids[0]
    assert f"{tmp_path / 'folds.csv'}: 36 of 36 ids have no fold, the first is {first}" in with_files(table, others)
    message = with_files(table, sound.assign(fold=np.arange(36) % 3))
    assert "folds.csv leaks: patient_id P00 is in folds 0 and 1 (ISIC_0000000 and ISIC_0000001)" in message
    lesions = ["L1", *[None] * 34, "L1"]
    assert "lesion_id L1 is in folds 0 and 2" in with_files(table.assign(lesion_id=lesions), sound)
    alone = table.assign(isic_id=[f"X{row}" for row in range(36)])
    assert "36 of 36 rows of" in with_files(alone, sound.assign(isic_id=alone["isic_id"]))


def test_the_same_bytes_in_two_folds_are_refused_unless_near_duplicates_were_joined(
    tmp_path: Path, lesion_jpegs: dict[str, bytes], write_hdf5: Any
) -> None:
    """A lesion that was published twice, under two ids of two patients."""
    table, _ = write_rows(tmp_path, 36, list(lesion_jpegs)[:36])
    one, other = table["isic_id"].iloc[[0, 35]]
    images = write_hdf5(tmp_path / "images.hdf5", {**lesion_jpegs, other: lesion_jpegs[one]})
    message = refused(images, tmp_path)
    assert f"is in folds 0 and 1 ({one} and {other}); rows that leak: 1 by bytes" in message
    words = [f"table={tmp_path / 'table.csv'}", f"images={images}", "folds=2", "workers=0"]
    assert folds.main([*words, f"out={tmp_path / 'folds.csv'}"]) == 0
    labelled = read(images, tmp_path)
    assert labelled.fold[0] == labelled.fold[35]
    assert labelled.groups[0] == labelled.groups[35] == one, "the bootstrap draws them together, too"


def test_folds_are_held_to_their_manifest(tmp_path: Path, lesions: Path, lesion_jpegs: dict[str, bytes]) -> None:
    table, by_hand = write_rows(tmp_path, 36, list(lesion_jpegs)[:36])
    assert read(lesions, tmp_path).split.startswith("no manifest, sha256 of the folds ")
    assert folds.main([f"table={tmp_path / 'table.csv'}", f"out={tmp_path / 'folds.csv'}", "folds=2"]) == 0
    digest = hashlib.sha256((tmp_path / "folds.json").read_bytes()).hexdigest()
    assert read(lesions, tmp_path).split == f"sha256 of folds.json {digest}"
    by_hand.to_csv(tmp_path / "folds.csv", index=False)
    assert "its folds are not those that" in refused(lesions, tmp_path)
    assert folds.main([f"table={tmp_path / 'table.csv'}", f"out={tmp_path / 'folds.csv'}", "folds=2"]) == 0
    table.assign(patient_id=table["patient_id"].replace("P3", "P99")).to_csv(tmp_path / "table.csv", index=False)
    assert "patient_id is not what it was" in refused(lesions, tmp_path)
    (tmp_path / "folds.json").unlink()
    assert len(read(lesions, tmp_path).ids) == 36, "without a manifest they are the user's own"


def test_the_rows_that_train_a_fold_are_those_of_all_other_folds(labelled_files: Any) -> None:
    config = LabelledConfig(images=labelled_files.images, table=labelled_files.table, folds=labelled_files.folds)
    labelled = read_labelled(config, ImagePool({"labelled": labelled_files.images}), "labelled")
    seen = []
    for fold in range(3):
        rows = rows_outside(labelled, fold)
        outside = np.flatnonzero(labelled.fold != fold)
        assert rows.indices.tolist() == labelled.indices[outside].tolist()
        assert not {*labelled.groups[outside]} & {*labelled.groups[labelled.fold == fold]}
        assert rows.target.tolist() == labelled.target[outside].tolist()
        assert rows.positive.tolist() == (labelled.target[outside] == 1).tolist()
        assert rows.weight.tolist() == [1.0] * len(outside)
        seen += rows.indices.tolist()
    assert sorted(seen) == sorted(2 * labelled.indices.tolist()), "each row trains the other two folds"


def test_joined_rows_follow_each_other() -> None:
    one = TrainingRows(np.array([3]), np.array([1.0]), np.array([1.0]), np.array([True]))
    two = TrainingRows(np.array([8, 9]), np.array([0.2, 0.7]), np.array([0.5, 0.4]), np.array([False, True]))
    joined = one.joined(two)
    assert joined.indices.tolist() == [3, 8, 9]
    assert joined.target.tolist() == [1.0, 0.2, 0.7]
    assert joined.weight.tolist() == [1.0, 0.5, 0.4]
    assert joined.positive.tolist() == [True, False, True]
