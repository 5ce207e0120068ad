"""`ssl-isic views` draws what a preset makes of images, and says in one line what it cannot."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_isic import cli


@pytest.mark.parametrize(("method", "views"), [("simclr", 2), ("dino", 4), ("dinov2", 4), ("mae", 1), ("finetune", 1)])
def test_a_picture_of_each_methods_views(method: str, views: int, tmp_path: Path, lesions: Path) -> None:
    widths = []
    for shown in (1, 3):
        out = tmp_path / f"{shown}.png"
        words = [f"images={lesions}", f"out={out}", f"method={method}", f"lesions={shown}", "views.size=32"]
        assert cli.main(["views", *words]) == 0
        with Image.open(out) as picture:
            widths.append(picture.size)
    assert widths[1][1] > widths[0][1]
    assert widths[0][0] > 96 * (1 + 3 * views)


def test_the_same_seed_draws_the_same_picture(tmp_path: Path, lesions: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = [f"images={lesions}", f"out={tmp_path / name}.png", "views.preset=paper", f"seed={seed}"]
        assert cli.main(["views", *words]) == 0
    a, b, c = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["out=views.jpg"], "is not a PNG"),
        (["views.preset=lesions"], "no preset of views is called"),
        (["views.preset=simclr", "method=dino"], "has no local crops"),
        (["method=byol"], "method"),
        (["images=nowhere.hdf5"], "no such file"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], says: str, tmp_path: Path, lesions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["views", f"images={lesions}", f"out={tmp_path / 'views.png'}", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert says in error[0]
    assert not list(tmp_path.glob("*.png"))
