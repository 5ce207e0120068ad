"""`ssl-isic clean`: a sheet of what cleaning does, from the command to its pixels."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from ssl_isic.clean import main
from ssl_isic.data.cleaning import CLEANERS

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]


@pytest.fixture
def files(tmp_path: Path, write_hdf5: WriteHdf5) -> tuple[Path, Path]:
    """Two flat images of which one has a black bar, and the mask of one of them."""
    plain = np.full((60, 80, 3), (200, 160, 140), np.uint8)
    barred = plain.copy()
    barred[:20] = 0
    mask = np.zeros((60, 80, 3), np.uint8)
    mask[20:40, 30:50] = 255
    images = {name: simplejpeg.encode_jpeg(pixels, quality=95) for name, pixels in {"A": plain, "B": barred}.items()}
    masks = {"A": simplejpeg.encode_jpeg(mask, quality=100)}
    return write_hdf5(tmp_path / "images.hdf5", images), write_hdf5(tmp_path / "masks.hdf5", masks)


def test_the_sheet_has_a_column_for_each_function_and_one_for_all(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = files
    out = tmp_path / "made" / "sheet.png"
    words = [f"images={images}", f"masks={masks}", f"out={out}", "ids=[B,A]", "tile_px=80"]
    assert main([*words, "clean=[border,shades_of_gray]"]) == 0
    said = capsys.readouterr().out
    assert [line.split()[:4] for line in said.splitlines()[1:4]] == [
        ["border", "1", "of", "2"],
        ["shades_of_gray", "2", "of", "2"],
        ["all,", "in", "order", "2"],
    ]
    sheet = np.asarray(Image.open(out).convert("RGB")).astype(int)
    gray = CLEANERS["shades_of_gray"](np.full((8, 8, 3), (200, 160, 140), np.uint8))[0, 0]
    is_gray = np.abs(sheet - gray).max(axis=2) < 6
    assert is_gray.sum() > 4 * 0.6 * 80 * 60 * 0.8
    black = sheet.max(axis=2) < 12
    assert 2 * 20 * 80 * 0.9 < black.sum() < 3.2 * 20 * 80  # before, and under shades_of_gray; not where it is cropped
    assert (np.abs(sheet - (0, 200, 255)).max(axis=2) < 30).sum() > 40  # the outline, before


def test_images_are_drawn_by_the_seed_and_what_does_not_decode_is_named(
    tmp_path: Path, write_hdf5: WriteHdf5, lesion_jpegs: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    names = list(lesion_jpegs)[:4]
    store = write_hdf5(tmp_path / "some.hdf5", {**{name: lesion_jpegs[name] for name in names}, "BAD": b"no image"})
    sheets = []
    for number, seed in enumerate((0, 0, 1)):
        out = tmp_path / f"{number}.png"
        assert main([f"images={store}", f"out={out}", "rows=4", "clean=[clahe]", "tile_px=32", f"seed={seed}"]) == 0
        sheets.append(out.read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]
    assert main([f"images={store}", f"out={tmp_path / 'x.png'}", "ids=[BAD]"]) == 2
    said = capsys.readouterr()
    assert "BAD does not decode" in said.out
    assert "none of the images asked for" in said.err
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("clean=[hiar]", "clean: no cleaning is called hiar; did you mean hair?"),
        ("clean=[]", "clean: "),
        ("ids=[NOBODY]", "has no image NOBODY; check the id"),
        ("images=/nowhere.hdf5", "no such file: /nowhere.hdf5"),
        ("masks=/nowhere.hdf5", "no such file: /nowhere.hdf5"),
        ("tile_px=3", "tile_px: "),
        ("row=3", "unknown key row; did you mean rows?"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(
    word: str, message: str, lesions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sheet.png"
    assert main([f"images={lesions}", f"out={out}", word]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ssl-isic: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not out.exists()
