"""Tables of a pool: values come to the right images, and what is wrong is one line."""

from pathlib import Path

import pandas as pd
import pytest

from ssl_isic.data.images import ImagePool
from ssl_isic.data.pool_tables import PoolTables
from ssl_isic.errors import InputError


@pytest.fixture
def pool(lesions: Path) -> ImagePool:
    return ImagePool({"here": lesions, "there": lesions})


def table(path: Path, **columns: list[str | None]) -> Path:
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_values_come_to_the_right_images_of_the_right_source(pool: ImagePool, tmp_path: Path) -> None:
    ids = [pool.id_of(index) for index in range(len(pool) // 2)]
    rows = table(tmp_path / "t.csv", isic_id=[ids[5], ids[2], "ISIC_none", ids[7]], patient_id=["B", "A", "C", None])
    values = PoolTables(pool, {"there": rows}, ["patient_id"]).column("patient_id", "data.patient")
    offset = len(pool) // 2
    assert {index: value for index, value in enumerate(values.tolist()) if value} == {offset + 5: "B", offset + 2: "A"}


@pytest.mark.parametrize(
    ("tables", "says"), [({"nowhere": "t.csv"}, "no such source"), ({"here": "t.csv"}, "not a column"), ({}, "empty")]
)
def test_a_column_that_is_nowhere_is_one_line(
    pool: ImagePool, tmp_path: Path, tables: dict[str, str], says: str
) -> None:
    table(tmp_path / "t.csv", isic_id=[pool.id_of(0)], other=["x"])
    paths = {name: tmp_path / file for name, file in tables.items()}
    with pytest.raises(InputError, match=says):
        PoolTables(pool, paths, ["patient_id"]).column("patient_id", "data.patient")


def test_a_table_of_other_images_is_one_line(pool: ImagePool, tmp_path: Path) -> None:
    other = table(tmp_path / "t.csv", isic_id=["lesion-1", "lesion-2"], patient_id=["A", "B"])
    says = r"t\.csv: no row is of an image of data.sources.there, whose first is ISIC_0000000; row 2 has isic_id lesion-1; "
    with pytest.raises(InputError, match=says):
        PoolTables(pool, {"there": other}, ["patient_id"])


def test_a_value_is_found_by_its_table_and_row(pool: ImagePool, tmp_path: Path) -> None:
    tables = {
        "here": table(tmp_path / "a.csv", isic_id=[pool.id_of(0)], other=["x"]),
        "there": table(tmp_path / "b.csv", isic_id=[pool.id_of(0), pool.id_of(1)], target=["0", "maybe"]),
    }
    assert PoolTables(pool, tables, ["target"]).place_of("maybe", "target") == f"{tmp_path / 'b.csv'}, row 3"
