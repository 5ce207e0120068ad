"""An image keeps its bytes unless it is asked for otherwise, and what does not decode is no image."""

import io

import numpy as np
import pytest
from PIL import Image

from ssl_isic.data.cleaning import clean
from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.preparing.treatment import Treatment


def encoded(pixels: np.ndarray, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def pixels() -> np.ndarray:
    """Noise of 24 x 48 px."""
    return np.random.default_rng(0).integers(0, 256, (24, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("treatment", [Treatment(), Treatment(longest_px=48), Treatment(shortest_px=24)])
def test_bytes_stay(pixels: np.ndarray, kind: str, treatment: Treatment) -> None:
    data = encoded(pixels, kind) + b"after the end\x00\x00"
    assert treatment(data) == (data, "", "")


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
def test_other_formats_become_png_of_the_same_pixels(pixels: np.ndarray, kind: str) -> None:
    data, change, fault = Treatment()(encoded(pixels, kind))
    assert (change, fault) == (f"{kind} to PNG", "")
    assert data is not None
    assert data.startswith(b"\x89PNG")
    assert np.array_equal(decode_rgb(data), pixels)


@pytest.mark.parametrize(
    ("treatment", "factor"),
    [(Treatment(longest_px=24, quality=None), 2), (Treatment(shortest_px=8, quality=None), 3)],
)
def test_shrinking_takes_the_mean_of_the_area(pixels: np.ndarray, treatment: Treatment, factor: int) -> None:
    data, change, _ = treatment(encoded(pixels, "PNG"))
    assert change == "shrunk"
    assert data is not None
    height, width = 24 // factor, 48 // factor
    means = pixels.reshape(height, factor, width, factor, 3).mean(axis=(1, 3))
    assert np.abs(decode_rgb(data) - means).max() <= 0.5 + 1e-6


def test_what_is_changed_is_a_jpeg_of_the_quality(pixels: np.ndarray) -> None:
    smooth = np.repeat(np.repeat(pixels[::8, ::8], 8, axis=0), 8, axis=1)
    sizes = []
    for quality in (50, 95):
        data = Treatment(longest_px=24, quality=quality)(encoded(smooth, "PNG")).data
        assert data is not None
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("JPEG", (24, 12))
            assert {sampling[1:3] for sampling in image.layer} == {(1, 1)}, "colour is as fine as brightness"
        sizes.append(len(data))
    assert sizes[0] < sizes[1]


def test_cleaning_comes_before_shrinking_and_is_only_noted_where_it_changes_something(pixels: np.ndarray) -> None:
    data, change, _ = Treatment(clean=("clahe",), quality=None)(encoded(pixels, "PNG"))
    assert change == "cleaned"
    assert data is not None
    assert np.array_equal(decode_rgb(data), clean(pixels, ["clahe"]))
    assert Treatment(clean=("pad_square",), longest_px=24)(encoded(pixels, "PNG")).change == "cleaned and shrunk"
    square = encoded(pixels[:, :24], "JPEG")
    assert Treatment(clean=("pad_square",))(square) == (square, "", "")


@pytest.mark.parametrize(
    "data",
    [b"", b"no image", b"\xff\xd8\xff\xe0 cut", b"\x89PNG\r\n\x1a\n", b"BM" + b"\x00" * 20],
)
def test_what_does_not_decode_is_left_out(data: bytes) -> None:
    image, change, fault = Treatment()(data)
    assert (image, change) == (None, "")
    assert fault


def test_a_truncated_jpeg_is_left_out(pixels: np.ndarray) -> None:
    whole = encoded(pixels, "JPEG")
    assert Treatment()(whole[: len(whole) // 2]).data is None
