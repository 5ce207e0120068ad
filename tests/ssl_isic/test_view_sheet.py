"""The sheet of views: which images and views are on it, and what is said of wrong input."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ssl_isic.view_sheet
from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.views import ViewsConfig, dino_views
from ssl_isic.views import main

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]


def test_a_row_is_an_image_and_its_views_draw_after_draw(
    tmp_path: Path, lesions: Path, lesion_jpegs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(ssl_isic.view_sheet, "contact_sheet", lambda rows, out, **how: drawn.update(rows=rows, **how))
    ids = ["ISIC_0000003", "ISIC_0000001"]
    words = [f"images={lesions}", f"ids=[{', '.join(ids)}]", "kind=dino", "draws=2", "local_crops=1", "seed=5"]
    assert main([*words, "views.size=32", "views.local_size=16", f"out={tmp_path / 'views.png'}"]) == 0
    assert [name for name, _ in drawn["rows"]] == ids
    views = dino_views(ViewsConfig(size=32, local_size=16), 1)
    for row, (name, pictures) in enumerate(drawn["rows"]):
        image = decode_rgb(lesion_jpegs[name])
        expected = [image, *views(image, (5, row, 0)), *views(image, (5, row, 1))]
        assert all(np.array_equal(a, b) for a, b in zip(pictures, expected, strict=True))
    assert drawn["columns"] == ["image", "view 1", "view 2", "view 3", "view 1", "view 2", "view 3"]


@pytest.mark.parametrize("kind", ["simclr", "dino", "dinov2", "mae", "finetune"])
def test_every_kind_can_be_drawn(kind: str, tmp_path: Path, lesions: Path) -> None:
    out = tmp_path / "views.png"
    assert (
        main([f"images={lesions}", f"kind={kind}", "views.preset=lesion-skin", "rows=2", "draws=1", f"out={out}"]) == 0
    )
    with Image.open(out) as sheet:
        assert sheet.width > 200


def test_an_image_that_does_not_decode_is_named_and_left_out(
    tmp_path: Path, write_hdf5: WriteHdf5, lesion_jpegs: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    data = lesion_jpegs["ISIC_0000001"]
    images = write_hdf5(tmp_path / "images.hdf5", {"good": data, "cut": data[:200]})
    assert main([f"images={images}", f"out={tmp_path / 'views.png'}"]) == 0
    printed = capsys.readouterr().out
    assert "cut does not decode" in printed
    assert "the views of 1 images" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["views.preset=lesson"], "no preset of views is called 'lesson'; there are"),
        (["ids=[ISIC_9]"], "has no image ISIC_9; check the id"),
        (["kind=byol"], "kind"),
        (["images=/nowhere.hdf5"], "no such file: /nowhere.hdf5"),
    ],
)
def test_wrong_input_is_one_line(
    words: list[str], message: str, tmp_path: Path, lesions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"images={lesions}", f"out={tmp_path / 'views.png'}", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "views.png").exists()
