"""An image is reduced only as far as no view has to be enlarged for it, and then looks as it does when it is averaged."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg

from ssl_isic.data.decoding import Shown, decode_rgb, reduction
from ssl_isic.data.images import open_store
from ssl_isic.data.shown import shown_by
from ssl_isic.data.steps.blur import GaussianBlur
from ssl_isic.data.steps.crop import RandomResizedCrop, Resize
from ssl_isic.data.steps.symmetries import D4
from ssl_isic.data.views import SeededViews, View, ViewsConfig, dino_views, simclr_views


@pytest.mark.parametrize(
    ("height", "width", "shown", "factor"),
    [
        (450, 600, (Shown(450),), 1),
        (450, 600, (Shown(226),), 1),
        (450, 600, (Shown(225),), 2),
        (450, 600, (Shown(112),), 4),
        (450, 600, (Shown(56),), 8),
        (4000, 6000, (Shown(56),), 8),
        (100, 100, (Shown(25, share=0.25),), 2),  # a crop of 50 px
        (100, 100, (Shown(26, share=0.25),), 1),
        (100, 100, (Shown(10), Shown(26, share=0.25)), 1),
        (20, 2000, (Shown(10, share=0.3),), 2),  # sqrt(0.3 x 20 x 2000) is 110, but no crop is higher than 20 px
        (450, 600, (), 1),
    ],
)
def test_the_reduction_is_the_largest_that_enlarges_nothing(
    height: int, width: int, shown: tuple[Shown, ...], factor: int
) -> None:
    assert reduction(height, width, shown) == factor


def jpeg_of(height: int, width: int) -> bytes:
    """Smooth colours with an edge, as a JPEG of quality 95."""
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(y - height / 2, x - width / 2) < height / 4
    pixels = np.stack([200 - 80 * inside, 120 + 40 * np.sin(x / 40), 100 + 30 * np.cos(y / 30)], axis=-1)
    data: bytes = simplejpeg.encode_jpeg(pixels.astype(np.uint8), quality=95)
    return data


@pytest.mark.parametrize(("side", "size"), [((300, 421), (150, 211)), ((301, 420), (151, 210))])
def test_a_reduced_image_has_its_size_rounded_up_and_the_average_of_its_pixels(
    side: tuple[int, int], size: tuple[int, int]
) -> None:
    data = jpeg_of(*side)
    reduced, whole = decode_rgb(data, (Shown(150),)), decode_rgb(data)
    assert reduced.shape[:2] == size
    averaged = cv2.resize(whole, size[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - averaged).mean() < 2


def test_what_cannot_be_reduced_is_left_whole(lesion_jpegs: dict[str, bytes]) -> None:
    small = lesion_jpegs["ISIC_0000000"]
    np.testing.assert_array_equal(decode_rgb(small, (Shown(32),)), decode_rgb(small))
    png = cv2.imencode(".png", decode_rgb(jpeg_of(300, 420)))[1].tobytes()
    assert decode_rgb(png, (Shown(16),)).shape == (300, 420, 3)


def test_reduced_views_of_real_images_differ_by_a_level_or_two(shared_data: Path) -> None:
    store = open_store(shared_data / "ham10000-image.hdf5")
    for position in (0, 2000, 5000):
        large = cv2.resize(decode_rgb(store.read(position)), (600, 450), interpolation=cv2.INTER_CUBIC)
        data = simplejpeg.encode_jpeg(large, quality=90)
        reduced, whole = decode_rgb(data, (Shown(128),)), decode_rgb(data)
        assert reduced.shape == (225, 300, 3)
        views = [cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA).astype(int) for image in (reduced, whole)]
        assert np.abs(views[0] - views[1]).mean() < 1


@pytest.mark.parametrize("build", [simclr_views, lambda config: dino_views(config, 4)])
def test_no_crop_of_a_preset_is_enlarged_for_it(build: Any) -> None:
    views = build(ViewsConfig(size=64, local_size=32))
    shown = shown_by(views, "reduced")
    rng = np.random.default_rng(0)
    reduced_some = False
    for height, width in rng.integers(60, 1200, (40, 2)).tolist():
        factor = reduction(height, width, shown)
        reduced_some |= factor > 1
        for view in views.views:
            for _ in range(5 if factor > 1 else 0):
                box = view.steps[0].draw(rng, -(-height // factor), -(-width // factor))
                assert min(box[2:]) >= view.steps[0].size
    assert reduced_some


def test_what_is_shown_follows_from_the_first_step_that_sets_the_size() -> None:
    crop, resize = RandomResizedCrop(scale=(0.4, 1), ratio=(0.5, 1.5), size=64), Resize(size=48)
    views = SeededViews([View((D4(), crop)), View((resize, GaussianBlur(sigma=(0.1, 1)))), View((crop,))])
    assert shown_by(views, "reduced") == (Shown(64, 0.4 * 0.5), Shown(48))
    assert shown_by(views, "full") == ()
    blurred_first = SeededViews([View((crop,)), View((GaussianBlur(sigma=(0.1, 1)), crop))])
    assert shown_by(blurred_first, "reduced") == ()
