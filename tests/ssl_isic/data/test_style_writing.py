"""Styles of clinics: the numbers by hand, and what is said of wrong input."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simplejpeg

from ssl_isic.data.augmentations.fourier_style import low_amplitudes
from ssl_isic.data.augmentations.reinhard import skin_statistics
from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.styles import read_styles
from ssl_isic.styles import main

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]


@pytest.fixture
def two_clinics(tmp_path: Path, write_hdf5: WriteHdf5, lesion_jpegs: dict[str, bytes]) -> tuple[Path, Path]:
    """48 lesions: 20 of clinic A, 20 of B, 5 of C, three of none; one of A does not decode, and one of B is black."""
    jpegs = dict(lesion_jpegs)
    names = list(jpegs)
    jpegs[names[3]] = jpegs[names[3]][:300]
    jpegs[names[25]] = simplejpeg.encode_jpeg(np.zeros((40, 40, 3), np.uint8))
    clinic = ["A"] * 20 + ["B"] * 20 + ["C"] * 5 + [None] * 3
    table = tmp_path / "table.csv"
    pd.DataFrame({"isic_id": names, "attribution": clinic}).to_csv(table, index=False)
    return write_hdf5(tmp_path / "images.hdf5", jpegs), table


def test_they_are_the_means_of_a_clinics_images(
    tmp_path: Path, two_clinics: tuple[Path, Path], lesion_jpegs: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    images, table = two_clinics
    assert main([f"images={images}", f"table={table}", f"out={tmp_path / 'styles.json'}"]) == 0
    printed = capsys.readouterr().out
    assert "left out, with fewer than 20 images: C" in printed
    assert "A: 19 images" in printed
    assert "B: 19 images" in printed
    clinics = read_styles(tmp_path / "styles.json").clinics
    assert [clinic.name for clinic in clinics] == ["A", "B"]
    of_a = [decode_rgb(data) for number, data in enumerate(list(lesion_jpegs.values())[:20]) if number != 3]
    skins = [skin_statistics(image) for image in of_a]
    assert np.allclose(clinics[0].skin.mean, np.mean([skin.mean for skin in skins if skin], axis=0), atol=1e-3)
    assert np.allclose(clinics[0].skin.spread, np.mean([skin.spread for skin in skins if skin], axis=0), atol=1e-3)
    expected = np.mean([low_amplitudes(image, 1) for image in of_a], axis=0)
    assert np.allclose(clinics[0].amplitudes, expected, atol=1e-3)


def test_without_a_table_all_are_one_style(tmp_path: Path, lesions: Path) -> None:
    words = [f"images={lesions}", "highest=2", "per_clinic=30", f"out={tmp_path / 'styles.json'}"]
    assert main(words) == 0
    (clinic,) = read_styles(tmp_path / "styles.json").clinics
    assert clinic.name == "lesions"
    assert clinic.amplitudes.shape == (5, 3, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clinic=hospital"], "table.csv has no column hospital"),
        (["least=100"], "no clinic has least=100 images"),
        (["highest=-1"], "highest"),
        (["images=/nowhere.hdf5"], "no such file: /nowhere.hdf5"),
    ],
)
def test_wrong_input_is_one_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    two_clinics: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    images, table = two_clinics
    out = tmp_path / "styles.json"
    assert main([f"images={images}", f"table={table}", f"out={out}", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not out.exists()
