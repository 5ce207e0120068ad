from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ssl_isic.contact_sheets import contact_sheet
from ssl_isic.errors import InputError


def plain(side: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.full((side, side, 3), colour, np.uint8)


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


RED, GREEN, BLUE = (250, 10, 10), (10, 250, 10), (10, 10, 250)


def area(sheet: NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    return int((sheet == colour).all(axis=2).sum())


def test_original_fills_its_tile_and_views_share_a_scale(tmp_path: Path) -> None:
    rows = [("ISIC_1", [plain(37, RED), plain(64, GREEN), plain(32, BLUE)])]
    contact_sheet(rows, tmp_path / "sheet.png", columns=["original", "global", "local"], title="Views", tile_px=80)
    sheet = read(tmp_path / "sheet.png")
    assert area(sheet, RED) == 80 * 80
    assert area(sheet, GREEN) == 80 * 80
    assert area(sheet, BLUE) == 40 * 40


def test_a_picture_that_is_not_square_keeps_its_shape(tmp_path: Path) -> None:
    contact_sheet([("", [np.full((30, 60, 3), RED, np.uint8)])], tmp_path / "sheet.png", tile_px=80)
    assert area(read(tmp_path / "sheet.png"), RED) == 80 * 40


def test_sheet_grows_by_a_tile_a_row_and_a_column(tmp_path: Path) -> None:
    def size(rows: int, views: int) -> tuple[int, int]:
        contact_sheet([("x", [plain(9, RED)] * (1 + views))] * rows, tmp_path / "sheet.png", tile_px=50)
        height, width, _ = read(tmp_path / "sheet.png").shape
        return height, width

    (height, width), (taller, same), (_, wider) = size(2, 2), size(3, 2), size(2, 3)
    assert same == width
    assert taller - height == wider - width
    assert 50 <= taller - height <= 60


def test_rows_may_be_of_different_length_and_labels_long(tmp_path: Path) -> None:
    rows = [("short", [plain(9, RED)]), ("an endless label " * 40, [plain(9, RED), plain(9, GREEN)])]
    contact_sheet(rows, tmp_path / "new" / "sheet.png", columns=["a head too wide for its tile"], tile_px=40)
    sheet = read(tmp_path / "new" / "sheet.png")
    assert area(sheet, RED) == 2 * 40 * 40
    assert area(sheet, GREEN) == 40 * 40
    assert sheet.shape[1] < 500


def test_sheet_shows_its_text(tmp_path: Path) -> None:
    for label in ("benign", "malignant"):
        contact_sheet([(label, [plain(9, RED)])], tmp_path / f"{label}.png")
    assert (tmp_path / "benign.png").read_bytes() != (tmp_path / "malignant.png").read_bytes()


@pytest.mark.parametrize(
    ("picture", "named"),
    [
        (np.zeros((8, 8), np.uint8), "picture 0 of 'x'"),
        (np.zeros((3, 8, 8), np.uint8), "picture 0 of 'x'"),
        (np.zeros((8, 8, 3), np.float32), "float32"),
    ],
)
def test_a_picture_that_is_none_is_named(tmp_path: Path, picture: NDArray[np.uint8], named: str) -> None:
    with pytest.raises(InputError, match=named):
        contact_sheet([("x", [picture])], tmp_path / "sheet.png")


def test_an_empty_sheet_and_too_many_heads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one"):
        contact_sheet([], tmp_path / "sheet.png")
    with pytest.raises(InputError, match="2 column heads"):
        contact_sheet([("x", [plain(9, RED)])], tmp_path / "sheet.png", columns=["a", "b"])
    assert not list(tmp_path.iterdir())
