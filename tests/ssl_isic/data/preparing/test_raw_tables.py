"""Tables as they come: separators, byte order marks, zips, no first row; and what is no table."""

import zipfile
from pathlib import Path

import pytest

from ssl_isic.data.preparing.raw_tables import read_raw
from ssl_isic.errors import InputError


@pytest.mark.parametrize(
    "text",
    [
        "image_id,dx,note\nA,nv,x\nB,mel,\n",
        "\ufeffimage_id;dx;note\r\nA;nv;x\r\nB;mel;\r\n",
        '"image_id"\t"dx"\t"note"\n"A"\t"nv"\t"x"\n"B"\t"mel"\t\n',
        "|| image_id ||  dx | note ||\n|| A ||   nv |  x  ||\n|| B || mel |    ||\n\nLegend | nothing\n",
        "image_id, dx, note\n\nA, nv, x\n,,\nB, mel,\n",
    ],
)
def test_separators_are_found(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    table = read_raw(tmp_path / "t.csv", [], ["image_id"])
    assert table.to_dict("list") == {"image_id": ["A", "B"], "dx": ["nv", "mel"], "note": ["x", ""]}


def test_cells_stay_text_and_the_index_is_the_spreadsheets_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('image_id,note\n007,NA\n\n1e5,"a, b"\n')
    table = read_raw(tmp_path / "t.csv", [], ["image_id"])
    assert table.to_dict("list") == {"image_id": ["007", "1e5"], "note": ["NA", "a, b"]}
    assert table.index.tolist() == [2, 4]


def test_a_table_without_a_row_of_names(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("ISIC_1,benign\nISIC_2,malignant\n")
    table = read_raw(tmp_path / "t.csv", ["image_id", "label"], ["image_id"])
    assert table.to_dict("list") == {"image_id": ["ISIC_1", "ISIC_2"], "label": ["benign", "malignant"]}
    assert table.index.tolist() == [1, 2]
    (tmp_path / "named.csv").write_text("label,image_id\nbenign,ISIC_1\n")
    assert read_raw(tmp_path / "named.csv", ["image_id", "label"], ["image_id"])["image_id"].tolist() == ["ISIC_1"]


def test_the_only_table_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("x/LICENSE.txt", "licence")
        archive.writestr("__MACOSX/x/._t.csv", b"\x00\x05")
        archive.writestr("x/t.csv", "image,dx\nA,nv\n")
    assert read_raw(tmp_path / "t.zip", [], ["image"]).to_dict("list") == {"image": ["A"], "dx": ["nv"]}
    with zipfile.ZipFile(tmp_path / "t.zip", "a") as archive:
        archive.writestr("y/u.csv", "image,dx\nA,nv\n")
    with pytest.raises(InputError, match=r"holds 2 \(x/t.csv, y/u.csv\)"):
        read_raw(tmp_path / "t.zip", [], ["image"])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"image,dx\nA,nv\nB\n", "line 3 has 1 fields, the first has 2"),
        (b"image,dx\nA,nv,x\n", "line 2 has 3 fields"),
        (b"image,dx,dx\nA,nv,nv\n", "two columns dx"),
        (b"image,,\nA,nv,nv\n", "two columns without a name"),
        (b"\xff\xd8\xff\xe0\x00", "is not text in UTF-8; give"),
        (b"PK\x03\x04\x00\xe9", "is a spreadsheet; save it as CSV"),
        (b'image,dx\n"A,nv\n', "line 2 has 1 fields"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / ("t.xlsx" if data.startswith(b"PK") else "t.csv")
    path.write_bytes(data)
    with pytest.raises(InputError, match=says):
        read_raw(path, [], ["image"])


def test_a_missing_table_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read_raw(tmp_path / "t.csv", [], ["image"])
    with pytest.raises(InputError, match="Is a directory"):
        read_raw(tmp_path, [], ["image"])
