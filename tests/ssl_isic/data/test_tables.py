"""What is read equals what was written, and each thing wrong with a table is one line that says where and what to do."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssl_isic.data.tables import encode_ids, match_ids, read_groups, read_table, read_target
from ssl_isic.errors import InputError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "meta.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_ids_stay_text_and_age_may_be_na(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeffisic_id,patient_id,age_approx,target\n001,07,NA,1\n1,7,50.0,0\n\n")
    table = read_table(path, ["target"])
    assert table["isic_id"].tolist() == ["001", "1"]
    assert table["patient_id"].tolist() == ["07", "7"]
    assert np.isnan(table["age_approx"][0])
    assert table["age_approx"][1] == 50.0
    assert read_target(table, "target", path).tolist() == [1.0, 0.0]
    assert read_groups(table, "patient_id", path).tolist() == ["07", "7"]
    assert read_groups(table, "none", path).tolist() == ["001", "1"]


def test_a_column_that_changes_type_half_way_raises_no_warning(tmp_path: Path) -> None:
    rows = [f"I{i},{'x' if i > 150_000 else i}" for i in range(160_000)]
    table = read_table(write(tmp_path, "isic_id,mixed\n" + "\n".join(rows)))
    assert table["mixed"].iloc[0] == "0"
    assert table["mixed"].iloc[-1] == "x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "meta.csv is empty, or its first line is"),
        ("isic_id,target\n", "has a header and no rows"),
        ("isic_id,target\n\n\n", "has a header and no rows"),
        ("image,target\nI1,0\n", "has no column isic_id; It has: image, target"),
        ("isicid,target\nI1,0\n", "has no column isic_id; did you mean isicid? It has: isicid, target"),
        ("isic_id;target\nI1;0\n", "has no column isic_id; did you mean isic_id;target? It has: isic_id;target"),
        ("isic_id,targets\nI1,0\n", "has no column target; did you mean targets? It has: isic_id, targets"),
        ("isic_id,target\nI1,0\nI2,0,5\n", "is not a CSV: Error tokenizing data. C error: Expected 2 fields in line 3"),
        ("isic_id,target,target\nI1,0,1\n", "has two columns target; name one of them otherwise"),
        ("isic_id,target\nI1,0,5\nI2,0,5\n", "the rows have more fields than the header"),
        ("isic_id,target\nI1,0\n,1\n,0\n", "isic_id is empty in row 3 (2 such rows)"),
        ("isic_id,target\nI1,0\n\nI2,0\n", "isic_id is empty in row 3 (1 such rows)"),
        ("isic_id,target\nI1,0\nI2,0\nI3,1\nI2,1\n", "isic_id I2 is in rows 3 and 5 (the only one); keep one row an"),
        ("isic_id,target\nI1,0\nI2,0\nI2,1\nI1,1\n", "isic_id I2 is in rows 3 and 4 (2 repeated)"),
    ],
)
def test_a_broken_table_is_named_with_its_row_or_column(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_table(path, ["target"])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_table_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*absent.csv; check the path"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory"):
        read_table(tmp_path)
    path = tmp_path / "images.hdf5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n\xff\xfe")
    with pytest.raises(InputError, match=r"images.hdf5 is not a CSV: .*; give the metadata table"):
        read_table(path)
    path.write_bytes(b"isic_id,site\nI1," + b"a" * 1_000_000 + b"\nI2,\xff\n")
    with pytest.raises(InputError, match=r"is not a CSV: .*can't decode.*; save it again as comma-separated UTF-8"):
        read_table(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["0", "1", "2"], "target must be 0 or 1, got 2 in row 4 (1 such rows)"),
        (["0", "", "1"], "target must be 0 or 1, got nan in row 3"),
        (["0", "malignant", ""], "target must be 0 or 1, got malignant in row 3 (2 such rows)"),
        (["0.5", "1", "0"], "target must be 0 or 1, got 0.5 in row 2"),
    ],
)
def test_targets_are_0_or_1(tmp_path: Path, values: list[str], message: str) -> None:
    path = write(tmp_path, "isic_id,target\n" + "".join(f"I{i},{value}\n" for i, value in enumerate(values)))
    with pytest.raises(InputError, match=re.escape(message)):
        read_target(read_table(path), "target", path)


@pytest.mark.parametrize("value", ["0", "1"])
def test_labels_of_one_class_are_refused_where_both_are_needed(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, "isic_id,target\n" + "".join(f"I{i},{value}\n" for i in range(3)))
    assert set(read_target(read_table(path), "target", path)) == {float(value)}
    with pytest.raises(InputError, match=rf"target is {value} in all 3 rows; name the column"):
        read_target(read_table(path), "target", path, both=True)


def test_rows_keep_their_number_when_others_are_dropped(tmp_path: Path) -> None:
    path = write(tmp_path, "isic_id,target,clinic\nI1,0,a\nI2,1,b\nI3,7,\n")
    table = read_table(path)
    kept = table[table["isic_id"] != "I2"]
    with pytest.raises(InputError, match="got 7 in row 4"):
        read_target(kept, "target", path)
    with pytest.raises(InputError, match=r"clinic is empty in row 4 \(1 such rows\)"):
        read_groups(kept, "clinic", path)
    with pytest.raises(InputError, match="Name the column that keeps a patient together, or none"):
        read_groups(kept, "patient_id", path)


def test_match_ids_equals_a_dictionary() -> None:
    rng = np.random.default_rng(0)
    store = encode_ids(sorted(f"ISIC_{i}" for i in rng.choice(10_000, 4000, replace=False)))
    wanted = [f"ISIC_{i}" for i in rng.choice(10_000, 3000, replace=False)] + ["ISIC_ä", "", "ISIC_12345678901234"]
    where = {identifier.decode(): position for position, identifier in enumerate(store)}
    match = match_ids(wanted, store)
    assert match.rows.tolist() == [where.get(identifier, -1) for identifier in wanted]
    assert match.missing == [identifier for identifier in wanted if identifier not in where]
    assert match.surplus == len(set(where) - set(wanted))


def test_match_ids_at_the_edges() -> None:
    empty = encode_ids([])
    assert match_ids(["a", "b"], empty)[1:] == (["a", "b"], 0)
    assert match_ids(["a", "b"], empty).rows.tolist() == [-1, -1]
    assert match_ids([], encode_ids(["a", "b"])).surplus == 2
    for wrong in (["b", "a"], ["a", "a"]):
        with pytest.raises(ValueError, match="sorted and unique"):
            match_ids(["a"], encode_ids(wrong))


def test_real_tables_are_read(shared_data: Path) -> None:
    path = shared_data / "isic2024-fullschema-metadata.csv"
    table = read_table(path, ["target", "patient_id", "age_approx"])
    assert table.shape == (29, 55)
    plain = pd.read_csv(path, low_memory=False)
    assert read_target(table, "target", path).tolist() == plain["target"].tolist()
    assert read_groups(table, "patient_id", path).tolist() == plain["patient_id"].tolist()
    path = shared_data / "isic2024-train-metadata.csv"
    table = read_table(path)
    assert len(table) == 8967
    assert read_target(table, "target", path).sum() == 261
    with pytest.raises(InputError, match="has no column patient_id; It has: isic_id, target, attribution, site_known"):
        read_groups(table, "patient_id", path)
