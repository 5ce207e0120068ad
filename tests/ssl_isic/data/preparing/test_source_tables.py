"""Several tables as one: joined by id or through a link, filling each other in, refused where they contradict."""

from pathlib import Path
from typing import Any

import pytest

from ssl_isic.data.preparing.settings import PrepareConfig
from ssl_isic.data.preparing.source_tables import SourceTable, read_source_table
from ssl_isic.errors import InputError


@pytest.fixture
def source(tmp_path: Path) -> Any:
    """Reads tables, given as text, by a configuration."""

    def read(*tables: str, **settings: object) -> SourceTable:
        paths = []
        for number, table in enumerate(tables):
            paths.append(tmp_path / f"{number}.csv")
            paths[-1].write_text(table)
        return read_source_table(PrepareConfig.model_validate({"images": "i", "out": "o", "tables": paths, **settings}))

    return read


def test_tables_fill_each_other_in(source: Any) -> None:
    found = source(
        "isic_id,sex,age\nB,male,\nA,,50\n",
        "isic_id,sex,age,note\nA,female,50,x\nC,female,,y\n",
        columns={"sex": "sex", "age_approx": "age", "lesion_id": "lesion"},
        keep="n*",
    )
    assert found.rows.to_dict("index") == {
        "A": {"sex": "female", "age_approx": "50", "note": "x"},
        "B": {"sex": "male", "age_approx": "", "note": ""},
        "C": {"sex": "female", "age_approx": "", "note": "y"},
    }
    assert found.absent == ["lesion_id (lesion)"]


def test_otherwise_stands_only_where_nothing_is_said(source: Any) -> None:
    found = source(
        "isic_id,dx\nA,nv\nB,odd\nC,\n",
        "isic_id\nD\n",
        columns={"diagnosis": {"columns": ["dx"], "otherwise": "MEL"}, "attribution": {"otherwise": "Clinic"}},
    )
    assert found.rows["diagnosis"].tolist() == ["NV", "", "MEL", "MEL"]
    assert found.rows["attribution"].tolist() == ["Clinic"] * 4
    assert found.unmapped["diagnosis"].unknown == {"odd": 1}


def test_all_zeros_mean_nothing_for_rows_of_another_table(source: Any) -> None:
    found = source(
        "isic_id,melanoma\nA,0\n",
        "isic_id,sex\nA,male\nB,male\n",
        columns={"diagnosis": {"one_hot": {"melanoma": "MEL"}, "otherwise": "NV"}, "sex": "sex"},
    )
    assert found.rows["diagnosis"].tolist() == ["NV", ""]


def test_a_kept_column_with_one_of_our_names_is_renamed_where_it_differs(source: Any) -> None:
    found = source(
        "isic_id,diagnosis,sex\nA,nevus,male\n",
        columns={"diagnosis": {"columns": ["diagnosis"], "values": {"nevus": "NV"}}, "sex": "sex"},
        keep="*",
    )
    assert found.rows.to_dict("index") == {"A": {"diagnosis": "NV", "sex": "male", "source_diagnosis": "nevus"}}


def test_the_id_is_found_by_its_pattern(source: Any) -> None:
    rule = {"columns": ["name", "split+index"], "pattern": r"(\w+?_\d+)(?:_small)?", "prefix": "P_"}
    found = source("name,sex\nA_1.png,male\nA_2_small.JPG,female\n", "split,index\ntrain,7\n", id=rule, keep="*")
    assert found.rows.index.tolist() == ["P_A_1", "P_A_2", "P_train_7"]


def test_a_table_is_joined_through_a_link(source: Any) -> None:
    tables = ("isic_id,image\nA,X\nB,X\nC,Z\n", "image,lesion\nX,L1\nY,L2\n")
    found = source(*tables, link="image", columns={"lesion_id": "lesion"})
    assert found.rows["lesion_id"].to_dict() == {"A": "L1", "B": "L1", "C": ""}
    assert found.unlinked == ["C"]
    with pytest.raises(InputError, match="is joined by image, which no table before it has"):
        source("isic_id,sex\nA,male\n", tables[1], link="image")


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        (["isic,sex\nA,male\n"], "has no column isic_id; did you mean isic?"),
        (["isic_id,sex\nA,male\nB,male\nA,male\n"], r"isic_id A is in rows 2 and 4 \(the only one\)"),
        (["isic_id,sex\nA,male\n,male\n"], "isic_id is empty in row 3"),
        (["isic_id,sex\nA,male\n", "isic_id,sex\nA,female\n"], "sex of A is female, but male in .*0.csv"),
    ],
)
def test_bad_tables_name_the_row(source: Any, tables: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        source(*tables, columns={"sex": "sex"})


def test_an_id_of_another_form_names_the_row(source: Any) -> None:
    with pytest.raises(InputError, match=r"isic_id is 'X1', not of the form ISIC_\\d\+ in row 3"):
        source("isic_id\nISIC_1\nX1\n", id={"pattern": r"ISIC_\d+"})
