"""What is evaluated on: folds that are made keep copies together, folds that are read may not leak."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ssl_isic.data.images import ImagePool
from ssl_isic.errors import InputError
from ssl_isic.evaluation.embedding import SOURCE
from ssl_isic.evaluation.lesions import Lesions, read_lesions
from ssl_isic.folds import main as make_folds


def read(images: Path, table: Path, folds: int | Path, *group: str) -> Lesions:
    pool = ImagePool({SOURCE: images})
    return read_lesions(table, pool, target="target", group=group, folds=folds, seed=0, columns=["clinic"])


def test_folds_that_are_made_keep_equal_bytes_together(
    tmp_path: Path, labelled_files: Any, lesion_jpegs: dict[str, bytes], write_hdf5: Any
) -> None:
    first, last = labelled_files.ids[0], labelled_files.ids[-1]
    images = write_hdf5(tmp_path / "copied.hdf5", {**lesion_jpegs, last: lesion_jpegs[first]})
    plain = read(labelled_files.images, labelled_files.table, 3, "patient_id")
    assert plain.groups.tolist() == labelled_files.groups
    copied = read(images, labelled_files.table, 3, "patient_id")
    assert copied.groups[0] == copied.groups[-1] == first
    assert copied.fold[0] == copied.fold[-1]
    assert len(set(copied.groups)) == len(set(plain.groups)) - 1
    with pytest.raises(InputError, match=f"{first} and {last}.*by bytes"):
        read(images, labelled_files.table, labelled_files.folds, "patient_id")


def test_a_patient_or_lesion_in_two_folds_is_named(tmp_path: Path, labelled_files: Any) -> None:
    folds = pd.read_csv(labelled_files.folds)
    folds["fold"] = [row % 3 for row in range(36)]
    folds.to_csv(tmp_path / "folds.csv", index=False)
    with pytest.raises(InputError, match=r"folds.csv leaks: patient_id P00 is in folds 0 and 1 \(ISIC_0000000 and "):
        read(labelled_files.images, labelled_files.table, tmp_path / "folds.csv", "isic_id")
    table = pd.read_csv(labelled_files.table).assign(lesion_id=["L1", *[None] * 34, "L1"])
    table.to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(InputError, match=r"patient_id P\d\d is in folds .*name that column among the groups"):
        read(labelled_files.images, tmp_path / "table.csv", 3, "isic_id")
    joined = read(labelled_files.images, tmp_path / "table.csv", 3, "patient_id", "lesion_id")
    assert joined.fold[0] == joined.fold[35]


def test_what_images_are_grouped_by_is_what_the_folds_say(tmp_path: Path, labelled_files: Any) -> None:
    folds = tmp_path / "folds.csv"
    assert make_folds([f"table={labelled_files.table}", f"out={folds}", "folds=3", "group=patient_id"]) == 0
    lesions = read(labelled_files.images, labelled_files.table, folds, "isic_id")
    assert (lesions.groups.tolist(), lesions.grouped_by) == (labelled_files.groups, ["patient_id"])
    plain = read(labelled_files.images, labelled_files.table, 3, "patient_id", "isic_id")
    assert plain.grouped_by == ["patient_id", "isic_id"]
