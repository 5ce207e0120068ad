"""Rows that share a patient, a lesion or a picture by any chain are one group; an empty value is no one's."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssl_isic.config import validate
from ssl_isic.data.grouping import GroupColumns, group_names, identities, joined, read_columns, texts_hash
from ssl_isic.data.near_duplicates import NO_PAIRS
from ssl_isic.errors import InputError

TABLE = pd.DataFrame(
    {
        "isic_id": ["e", "d", "c", "b", "a", "f"],
        "patient_id": ["P1", None, "P2", "P1", None, "P3"],
        "lesion_id": [None, "L1", "L1", None, "L9", None],
    }
)


def columns(*names: str) -> dict[str, np.ndarray]:
    return read_columns(TABLE, names, Path("t.csv"))


def test_a_chain_of_shared_values_and_pairs_is_one_group() -> None:
    ids = TABLE["isic_id"].tolist()
    both = columns("patient_id", "lesion_id")
    assert both["lesion_id"].tolist() == ["", "L1", "L1", "", "L9", ""]
    assert group_names(ids, both, NO_PAIRS).tolist() == ["b", "c", "c", "b", "a", "f"]
    pairs = np.array([[0, 1], [4, 5]])  # e with d, a with f
    assert group_names(ids, both, pairs).tolist() == ["b", "b", "b", "b", "a", "a"]
    assert len(np.unique(joined(both, pairs))) == 2


def test_one_column_keeps_its_values_and_has_to_be_full() -> None:
    full = read_columns(TABLE, ["isic_id"], Path("t.csv"))
    assert group_names(TABLE["isic_id"].tolist(), full, NO_PAIRS).tolist() == TABLE["isic_id"].tolist()
    with pytest.raises(InputError, match=r"t.csv: patient_id is empty in row 3 \(2 such rows\)"):
        columns("patient_id")


def test_of_several_columns_a_row_needs_one() -> None:
    table = TABLE.assign(lesion_id=None)
    with pytest.raises(InputError, match=r"patient_id and lesion_id are empty in row 3 \(2 such rows\).*add isic_id"):
        read_columns(table, ["patient_id", "lesion_id"], Path("t.csv"))
    mended = read_columns(table, ["patient_id", "lesion_id", "isic_id"], Path("t.csv"))
    assert group_names(table["isic_id"].tolist(), mended, NO_PAIRS).tolist() == ["b", "d", "c", "b", "a", "f"]


def test_random_groups_against_a_search_from_row_to_row() -> None:
    rng = np.random.default_rng(0)
    ids = [f"I{row:03d}" for row in rng.permutation(120)]
    values = {name: np.array([rng.choice(["", f"{name}{rng.integers(60)}"]) for _ in ids]) for name in "xyz"}
    pairs = np.sort(rng.choice(120, (10, 2), replace=False), axis=1)
    linked = [
        [
            any(values[name][one] == values[name][other] != "" for name in "xyz")
            or [min(one, other), max(one, other)] in pairs.tolist()
            for other in range(120)
        ]
        for one in range(120)
    ]
    names = group_names(ids, values, pairs)
    for row in range(120):
        seen, todo = {row}, [row]
        while todo:
            here = todo.pop()
            new = {other for other in range(120) if linked[here][other]} - seen
            seen |= new
            todo += new
        assert names[row] == min(ids[other] for other in seen)


def test_the_keys() -> None:
    assert validate(GroupColumns, {}, "words").group_columns() == ["patient_id"]
    assert validate(GroupColumns, {"group": "none"}, "words").group_columns() == ["isic_id"]
    assert validate(GroupColumns, {"groups": ["patient_id", "clinic"]}, "words").group_columns() == [
        "patient_id",
        "clinic",
    ]
    with pytest.raises(InputError, match="group=clinic is not among groups"):
        validate(GroupColumns, {"group": "clinic", "groups": ["patient_id"]}, "words")


def test_identities_are_what_the_table_has_of_them() -> None:
    found = identities(TABLE.drop(columns="patient_id"), Path("t.csv"))
    assert {name: values.tolist() for name, values in found.items()} == {"lesion_id": ["", "L1", "L1", "", "L9", ""]}


def test_a_hash_of_values_is_of_the_set_of_rows() -> None:
    assert texts_hash(["a", "b"], ["1", "2"]) == texts_hash(["b", "a"], np.array([2, 1]))
    assert texts_hash(["a", "b"], ["1", "2"]) != texts_hash(["a", "b"], ["2", "1"])
