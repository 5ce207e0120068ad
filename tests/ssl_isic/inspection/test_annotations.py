"""Tables joined with their images, against the table itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssl_isic.data.images import ImagePool
from ssl_isic.errors import InputError
from ssl_isic.inspection.annotations import Annotations, ColumnsConfig, read_annotations


def annotations(clean: Any, **names: Any) -> Annotations:
    clean.write()
    pool = ImagePool({"here": clean.folder / "images.hdf5"})
    return read_annotations(pool, {"here": clean.folder / "table.csv"}, ColumnsConfig(**names))


def values(rows: Annotations, role: str) -> list[str]:
    column = rows.columns[role]
    return [column.values[code] if code >= 0 else "" for code in column.codes]


def test_columns_are_the_tables(clean: Any) -> None:
    clean.table = clean.table.sample(frac=1, random_state=0)
    rows = annotations(clean)
    table = clean.table.sort_values("isic_id")
    for role, name in (("clinic", "attribution"), ("diagnosis", "dx"), ("patient", "patient_id"), ("sex", "sex")):
        assert values(rows, role) == table[name].tolist()
        assert rows.columns[role].found == {"here": name}
    assert rows.target.tolist() == table["target"].tolist()
    assert values(rows, "age")[:5] == ["20-29"] * 4 + ["20-29"]
    assert rows.has_row.all()


def test_gaps_and_odd_values(clean: Any) -> None:
    clean.set("age_approx", 0, "NA")
    clean.set("age_approx", 1, "about 40")
    clean.set("age_approx", 2, 105)
    clean.set("age_approx", 3, 0)
    clean.set("sex", 4, None)
    clean.set("sex", 5, "  ")
    clean.set("target", 6, None)
    clean.set("target", 7, 2)
    clean.set("target", 8, "melanoma")
    rows = annotations(clean)
    assert values(rows, "age")[:4] == ["", "", "100-109", "0-9"]
    assert rows.columns["age"].values[0] == "0-9"
    assert rows.columns["age"].values[-1] == "100-109"
    assert values(rows, "sex")[4:6] == ["", ""]
    assert rows.target[6:9].tolist() == [-1, -1, -1]
    facts = rows.tables["here"]
    assert (facts.no_labels, facts.first_no_label) == (2, "2 in row 9")
    assert facts.missing["sex"] == 1
    assert facts.missing["target"] == 1


def test_a_gap_that_tells_the_target_has_an_auc_of_one(clean: Any) -> None:
    clean.table["attribution"] = clean.table["attribution"].where(clean.table["target"] == 1)
    clean.table["sex"] = clean.table["sex"].where(np.arange(len(clean.table)) % 3 > 0)
    tell = annotations(clean).tables["here"].tell
    assert tell["attribution"] == 1
    assert 0.5 <= tell["sex"] < 0.6
    assert "dx" not in tell


def test_rows_without_image_and_images_without_row(clean: Any) -> None:
    clean.table.loc[3, "isic_id"] = "ISIC_ELSEWHERE"
    rows = annotations(clean)
    assert rows.tables["here"].without_image == ["ISIC_ELSEWHERE"]
    assert np.flatnonzero(~rows.has_row).tolist() == [3]


def test_two_sources_share_the_values_of_a_column(clean: Any, tmp_path: Path) -> None:
    clean.write()
    other = clean.table.rename(columns={"dx": "diagnosis", "sex": "gender"}).drop(columns="attribution")
    other.to_csv(tmp_path / "other.csv", index=False)
    pool = ImagePool({"one": tmp_path / "images.hdf5", "two": tmp_path / "images.hdf5"})
    tables = {"one": tmp_path / "table.csv", "two": tmp_path / "other.csv"}
    rows = read_annotations(pool, tables, ColumnsConfig())
    half = len(pool) // 2
    assert rows.columns["diagnosis"].found == {"one": "dx", "two": "diagnosis"}
    assert np.array_equal(rows.columns["diagnosis"].codes[:half], rows.columns["diagnosis"].codes[half:])
    assert np.all(rows.columns["clinic"].codes[half:] == -1)


def test_an_asked_column_that_is_not_there_is_refused(clean: Any) -> None:
    with pytest.raises(InputError, match=r"columns\.clinic: .*no column hospital"):
        annotations(clean, clinic="hospital")
    assert values(annotations(clean, clinic=["hospital", "sex"]), "clinic")[0] == "female"


def test_a_table_of_other_images_is_refused(clean: Any) -> None:
    clean.table["isic_id"] = [f"X{k}" for k in range(len(clean.table))]
    with pytest.raises(InputError, match="none of the 40 ids"):
        annotations(clean)


def test_a_table_of_no_source_is_refused(clean: Any) -> None:
    clean.write()
    pool = ImagePool({"here": clean.folder / "images.hdf5"})
    with pytest.raises(InputError, match=r"data\.tables\.there: there is no such source"):
        read_annotations(pool, {"there": clean.folder / "table.csv"}, ColumnsConfig())


def test_a_column_without_any_value_is_all_missing(clean: Any) -> None:
    clean.table["sex"] = pd.Series([None] * len(clean.table), dtype=object)
    rows = annotations(clean)
    assert np.all(rows.columns["sex"].codes == -1)
    assert rows.tables["here"].missing["sex"] == len(clean.table)
