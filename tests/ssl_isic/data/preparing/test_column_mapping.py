"""What a value of a source becomes, what is only counted, and what is refused."""

import pandas as pd
import pytest

from ssl_isic.data.preparing.column_mapping import Mapped, mapped_column
from ssl_isic.data.preparing.settings import ColumnRule
from ssl_isic.errors import InputError


def mapped(name: str, cells: dict[str, list[str]], **rule: object) -> Mapped:
    table = pd.DataFrame(cells, dtype=object)
    table.index = pd.Index([f"i{k}" for k in range(len(table))])
    found = mapped_column(table, name, ColumnRule.model_validate(rule), "t.csv")
    assert found is not None
    return found


def test_the_most_detailed_known_value_counts() -> None:
    found = mapped(
        "diagnosis",
        {
            "level_3": ["Nevus, Spitz", "Nevus sebaceus", "", "Melanoma in situ", "Odd"],
            "level_2": ["Nevus", "x", "Nevus", "Nevus", ""],
        },
        columns=["level_4", "level_3", "level_2"],
        values={"nevus": "NV", "Melanoma*": "MEL"},
    )
    assert found.values.tolist() == ["NV", "", "NV", "MEL", ""]
    assert found.given.tolist() == [True] * 5
    assert found.unmapped.unknown == {"Nevus sebaceus": 1, "Odd": 1}
    assert not found.unmapped.left_empty


def test_the_longest_beginning_wins_and_null_is_counted_apart() -> None:
    found = mapped(
        "diagnosis",
        {"dx": ["Dermatofibroma, Cellular", "Dermatofibrosarcoma", " mel ", ""]},
        columns=["dx"],
        values={"Dermatofibro*": "DF", "Dermatofibros*": None},
    )
    assert found.values.tolist() == ["DF", "", "MEL", ""]
    assert found.given.tolist() == [True, True, True, False]
    assert found.unmapped.left_empty == {"Dermatofibrosarcoma": 1}
    assert not found.unmapped.unknown


@pytest.mark.parametrize(
    ("name", "value", "becomes"),
    [
        ("target", "1.0", "1"),
        ("target", "0", "0"),
        ("target", "2", None),
        ("sex", "FEMALE", "female"),
        ("sex", "f", None),
        ("age_approx", "55.0", "55.0"),
        ("age_approx", "NA", None),
        ("age_approx", "nan", None),
        ("anatom_site_general", "Head/Neck", "head/neck"),
        ("anatom_site_general", "knee", None),
        ("patient_id", "007", "P_007"),
        ("diagnosis", "scc", "SCC"),
    ],
)
def test_only_our_words_come_through(name: str, value: str, becomes: str | None) -> None:
    found = mapped(name, {"raw": [value]}, columns=["raw"], prefix="P_" if name == "patient_id" else "")
    assert found.values.tolist() == [becomes or ""]
    assert found.unmapped.unknown == ({} if becomes else {value: 1})


def test_one_hot() -> None:
    found = mapped(
        "diagnosis",
        {"melanoma": ["1.0", "0.0", "0"], "seborrheic_keratosis": ["0.0", "1.0", "0"], "UNK": ["0", "0", "0"]},
        one_hot={"melanoma": "MEL", "seborrheic_keratosis": "BKL", "UNK": None},
        otherwise="NV",
    )
    assert found.values.tolist() == ["MEL", "BKL", "NV"]
    unknown = mapped("diagnosis", {"MEL": ["0", "0"], "UNK": ["1", "0"]}, one_hot={"MEL": "MEL", "UNK": None})
    assert unknown.values.tolist() == ["", ""]
    assert unknown.unmapped.left_empty == {"UNK": 1, "all 0": 1}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"MEL": ["1"], "NV": ["1"]}, "t.csv: i0 is both MEL and NV (1 such rows)"),
        ({"MEL": ["0", "yes"], "NV": ["1", "0"]}, "MEL must be 0 or 1, got yes for i1"),
        ({"MEL": ["0", ""], "NV": ["1", "0"]}, "MEL must be 0 or 1, got nothing for i1"),
        ({"MEL": ["0"]}, "t.csv has MEL, but no NV"),
    ],
)
def test_what_is_not_one_hot_is_refused(columns: dict[str, list[str]], says: str) -> None:
    with pytest.raises(InputError, match=says.replace("(", r"\(").replace(")", r"\)")):
        mapped("diagnosis", columns, one_hot={"MEL": "MEL", "NV": "NV"})


def test_a_table_without_the_columns_says_nothing() -> None:
    table = pd.DataFrame({"other": ["x"]}, index=["i0"], dtype=object)
    assert mapped_column(table, "sex", ColumnRule(columns=["sex"]), "t.csv") is None
    assert mapped_column(table, "diagnosis", ColumnRule(one_hot={"MEL": "MEL"}), "t.csv") is None
