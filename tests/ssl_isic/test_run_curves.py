"""The pictures of runs' metrics: which series are drawn, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from ssl_isic import curves
from ssl_isic.errors import InputError
from ssl_isic.run_curves import CurvesConfig, draw_curves, loss_curves


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def log(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    return write(folder, rows) / "metrics.jsonl"


def pixels(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(path).convert("RGB"))


def test_a_panel_for_each_series_in_rows_of_four(tmp_path: Path) -> None:
    rows = [{"step": k, "epoch": k / 9, "bad_images": 0, "loss": 1 / k, "lr": 0.1} for k in range(1, 30)]
    one_row = pixels(draw_curves(CurvesConfig(run_dir=write(tmp_path, rows)))).shape
    more = [{**row, "a": 1.0, "b": 2.0, "c": -1.0, "broken": float("nan")} for row in rows]
    two_rows = pixels(draw_curves(CurvesConfig(run_dir=write(tmp_path, more), out=tmp_path / "x.png"))).shape
    assert two_rows[0] == pytest.approx(2 * one_row[0], abs=2)
    assert two_rows[1] == one_row[1]


def test_the_line_follows_the_values(tmp_path: Path) -> None:
    rising, falling = (
        pixels(draw_curves(CurvesConfig(run_dir=write(tmp_path, [{"step": k, "loss": sign * k} for k in range(40)]))))
        for sign in (1.0, -1.0)
    )
    blue = [(picture[..., 2] > 150) & (picture[..., 0] < 90) for picture in (rising, falling)]
    slopes = [np.polyfit(*np.nonzero(mask)[::-1], deg=1)[0] for mask in blue]
    assert slopes[0] < -0.2, "pixels count from the top"
    assert slopes[1] > 0.2


@pytest.mark.parametrize(("rows", "says"), [(None, "there is no metrics.jsonl"), ([], "holds no numbers yet")])
def test_nothing_to_draw_is_one_line(
    tmp_path: Path, rows: list[dict[str, Any]] | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if rows is not None:
        write(tmp_path, rows)
    assert curves.main([f"run_dir={tmp_path}"]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "curves.png").exists()


def falling(steps: int) -> list[dict[str, Any]]:
    return [{"step": step, "loss": 3 + 4 * math.exp(-step / 20), "images": 64 * step} for step in range(steps)]


def test_each_run_gets_a_panel(tmp_path: Path) -> None:
    runs = {f"run {i}": log(tmp_path / f"{i}", falling(60)) for i in range(3)}
    loss_curves(dict(list(runs.items())[:1]), tmp_path / "one.png")
    loss_curves(runs, tmp_path / "three.png")
    one, three = pixels(tmp_path / "one.png"), pixels(tmp_path / "three.png")
    assert three.shape[1] == 3 * one.shape[1]
    assert three.shape[0] == one.shape[0]


def drawn(tmp_path: Path, records: list[dict[str, Any]]) -> bytes:
    loss_curves({"run": log(tmp_path, records)}, tmp_path / "curves.png")
    return (tmp_path / "curves.png").read_bytes()


def test_the_metric_is_drawn_where_there_is_one(tmp_path: Path) -> None:
    metric: list[dict[str, Any]] = [{"step": 10, "valid/pauc": 0.1}, {"step": 40, "valid/pauc": 0.15}]
    assert drawn(tmp_path, falling(60) + metric) != drawn(tmp_path, falling(60))


def test_a_step_logged_twice_counts_once_and_late(tmp_path: Path) -> None:
    stale: list[dict[str, Any]] = [{"step": step, "loss": 99.0} for step in range(30, 40)]
    assert drawn(tmp_path, falling(30) + stale + falling(60)) == drawn(tmp_path, falling(60))


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    wild: list[dict[str, Any]] = [{"step": 70, "loss": math.nan}, {"step": 71, "loss": math.inf}]
    assert drawn(tmp_path, falling(60) + wild) == drawn(tmp_path, falling(60))


@pytest.mark.parametrize("count", [0, 1, 2, 9, 11])
def test_short_runs_can_be_drawn(tmp_path: Path, count: int) -> None:
    drawn(tmp_path, falling(count))
    assert pixels(tmp_path / "curves.png").std() > 1


def test_text_is_plain(tmp_path: Path) -> None:
    path = log(tmp_path, falling(5))
    loss_curves({r"$\frac{1}$ a $ b": path}, tmp_path / "curves.png", title=r"$\nonsense$")  # as mathtext: an error
    assert pixels(tmp_path / "curves.png").std() > 1


def test_global_matplotlib_state_is_left_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    drawn(tmp_path, falling(5))
    assert dict(matplotlib.rcParams) == before


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jsonl"):
        loss_curves({"run": tmp_path / "gone.jsonl"}, tmp_path / "curves.png")
    with pytest.raises(InputError, match="at least one run"):
        loss_curves({}, tmp_path / "curves.png")
