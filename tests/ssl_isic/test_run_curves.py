"""The picture of a run's metrics: which series are drawn, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssl_isic import curves
from ssl_isic.run_curves import CurvesConfig, draw_curves


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


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
