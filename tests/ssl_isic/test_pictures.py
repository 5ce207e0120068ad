import json
import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ssl_isic.errors import InputError
from ssl_isic.pictures import contact_sheet, loss_curves


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


def log(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def falling(steps: int) -> list[dict[str, object]]:
    return [{"step": step, "loss": 3 + 4 * math.exp(-step / 20), "images": 64 * step} for step in range(steps)]


def test_each_run_gets_a_panel(tmp_path: Path) -> None:
    runs = {f"run {i}": log(tmp_path / f"{i}.jsonl", falling(60)) for i in range(3)}
    loss_curves(dict(list(runs.items())[:1]), tmp_path / "one.png")
    loss_curves(runs, tmp_path / "three.png")
    one, three = read(tmp_path / "one.png"), read(tmp_path / "three.png")
    assert three.shape[1] == 3 * one.shape[1]
    assert three.shape[0] == one.shape[0]


def drawn(tmp_path: Path, records: list[dict[str, object]]) -> bytes:
    loss_curves({"run": log(tmp_path / "metrics.jsonl", records)}, tmp_path / "curves.png")
    return (tmp_path / "curves.png").read_bytes()


def test_the_metric_is_drawn_where_there_is_one(tmp_path: Path) -> None:
    metric: list[dict[str, object]] = [{"step": 10, "valid/pauc": 0.1}, {"step": 40, "valid/pauc": 0.15}]
    assert drawn(tmp_path, falling(60) + metric) != drawn(tmp_path, falling(60))


def test_a_step_logged_twice_counts_once_and_late(tmp_path: Path) -> None:
    stale: list[dict[str, object]] = [{"step": step, "loss": 99.0} for step in range(30, 40)]
    assert drawn(tmp_path, falling(30) + stale + falling(60)) == drawn(tmp_path, falling(60))


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    wild: list[dict[str, object]] = [{"step": 70, "loss": math.nan}, {"step": 71, "loss": math.inf}]
    assert drawn(tmp_path, falling(60) + wild) == drawn(tmp_path, falling(60))


@pytest.mark.parametrize("count", [0, 1, 2, 9, 11])
def test_short_runs_can_be_drawn(tmp_path: Path, count: int) -> None:
    drawn(tmp_path, falling(count))
    assert read(tmp_path / "curves.png").std() > 1


def test_text_is_plain(tmp_path: Path) -> None:
    path = log(tmp_path / "metrics.jsonl", falling(5))
    loss_curves({r"$\frac{1}$ a $ b": path}, tmp_path / "curves.png", title=r"$\nonsense$")  # as mathtext: an error
    assert read(tmp_path / "curves.png").std() > 1


def test_global_matplotlib_state_is_left_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    drawn(tmp_path, falling(5))
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"step": 3, "lo', "not JSON"),
        ("[1, 2]", "JSON object"),
        ('{"loss": 1.0}', "step"),
        ('{"step": true}', "step"),
        ('{"step": 3, "loss": "low"}', "loss must be a number"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n\n' + line + "\n")
    with pytest.raises(InputError, match=rf"metrics\.jsonl, line 3: .*{problem}"):
        loss_curves({"run": path}, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jsonl"):
        loss_curves({"run": tmp_path / "gone.jsonl"}, tmp_path / "curves.png")
    with pytest.raises(InputError, match="at least one run"):
        loss_curves({}, tmp_path / "curves.png")
