"""Hair is taken away and the lesion stays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_isic.data.cleaning.hair import hair_mask, remove_hair
from ssl_isic.data.cleaning.lines import along_lines, darkness, segment
from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.tables import match_ids

Image = NDArray[np.uint8]
WithHairs = Callable[..., tuple[Image, NDArray[np.bool_]]]


def test_drawn_hair_is_found_and_the_skin_under_it_comes_back(lesion: Image, with_hairs: WithHairs) -> None:
    hairy, drawn = with_hairs(lesion, 4)
    found, cleaned = hair_mask(hairy), remove_hair(hairy)
    near = cv2.dilate(drawn.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert found[drawn].mean() > 0.9
    assert near[found].mean() > 0.95
    error = [np.abs(image.astype(int) - lesion)[drawn].mean() for image in (hairy, cleaned)]
    assert error[1] < 0.25 * error[0]
    np.testing.assert_array_equal(cleaned[~found], hairy[~found])


def test_a_lesion_under_hair_stays_a_lesion(lesion: Image, with_hairs: WithHairs) -> None:
    cleaned = remove_hair(with_hairs(lesion, 6)[0])
    height, width = lesion.shape[:2]
    y, x = np.mgrid[:height, :width]
    inside = np.hypot(y - height / 2, x - width / 2) < 0.8 * min(height, width) / 6
    assert np.abs(cleaned[inside].mean(axis=0) - lesion[inside].mean(axis=0)).max() < 6


@pytest.mark.parametrize("size", [120, 400])
def test_a_pigment_network_is_no_hair(size: int) -> None:
    rng = np.random.default_rng(size)
    centres = rng.uniform(0.2, 0.8, (250, 2)) * size
    y, x = np.mgrid[:size, :size]
    distances = np.sort(np.hypot(y[..., None] - centres[:, 0], x[..., None] - centres[:, 1]), axis=2)
    inside = np.hypot(y - size / 2, x - size / 2) < 0.3 * size
    lines = inside & (distances[..., 1] - distances[..., 0] < 0.012 * size)
    image = np.full((size, size, 3), (190, 150, 130), np.uint8)
    image[lines] = (120, 75, 55)
    np.testing.assert_array_equal(remove_hair(image), image)


def test_a_vessel_is_no_hair() -> None:
    image = np.full((150, 200, 3), (205, 165, 150), np.uint8)
    cv2.line(image, (20, 30), (180, 120), (196, 100, 95), 2, cv2.LINE_AA)
    np.testing.assert_array_equal(remove_hair(image), image)


def test_large_images_are_searched_small_and_cleaned_whole(with_hairs: WithHairs) -> None:
    image = np.full((1200, 1600, 3), (205, 165, 150), np.uint8)
    hairy, drawn = with_hairs(image, 5)
    cleaned = remove_hair(hairy)
    assert cleaned.shape == image.shape
    assert np.abs(cleaned.astype(int) - image)[drawn].mean() < 0.25 * np.abs(hairy.astype(int) - image)[drawn].mean()
    far = cv2.dilate(drawn.astype(np.uint8), np.ones((41, 41), np.uint8)) == 0
    np.testing.assert_array_equal(cleaned[far], hairy[far])


def test_darkness_fills_what_is_narrow_and_is_least_over_channels() -> None:
    image = np.full((40, 40, 3), 200, np.uint8)
    image[:, 19:22] = (120, 80, 60)
    image[5:25, 5:15] = 90
    dark = darkness(image, 7, 31)
    assert (dark[30, 19:22] == 80).all()  # red, the least of 80, 120 and 140
    assert not dark[8:22, 7:13].any()


def test_along_lines_keeps_what_a_segment_fits_in() -> None:
    plane = np.zeros((60, 60), np.uint8)
    cv2.line(plane, (5, 10), (55, 35), 50, 3)
    line = plane > 0
    plane[45:52, 10:17] = 50
    kept = along_lines(plane, 21)
    assert (kept[line] == 50).mean() > 0.9
    assert not kept[~line].any()


@pytest.mark.parametrize("length", [7, 25])
def test_segments_have_their_length_and_turn_once_in_half_a_turn(length: int) -> None:
    kernels = [segment(length, k, 32) for k in range(32)]
    assert kernels[0].shape == (1, length)
    assert kernels[16].shape == (length, 1)
    for k, kernel in enumerate(kernels):
        height, width = kernel.shape
        assert abs(np.hypot(height - 1, width - 1) - (length - 1)) <= 2, k
        np.testing.assert_array_equal(kernel, kernel[::-1, ::-1])
    turned = [np.arctan2(k.shape[0] - 1, k.shape[1] - 1) for k in kernels[:17]]
    assert turned == sorted(turned)


def test_real_hairs_go_and_real_lesions_stay(shared_data: Path) -> None:
    pool = ImagePool({"ham": shared_data / "ham10000-image.hdf5"})
    ids = {"ISIC_0027109": 0.08, "ISIC_0029676": 0.04}  # hairy, and the share of it that is hair at least
    network = ["ISIC_0032699", "ISIC_0026171", "ISIC_0034063"]  # thin dark structures in the lesion, no hair
    rows = match_ids([*ids, *network], pool.slice_of("ham")[1]).rows.tolist()
    images: list[Any] = [decode_rgb(pool.read(row)) for row in rows]
    for image, share in zip(images, ids.values(), strict=False):
        assert hair_mask(image).mean() > share
    for image in images[2:]:
        height, width = image.shape[:2]
        larger = cv2.resize(image, (3 * width, 3 * height), interpolation=cv2.INTER_CUBIC)
        assert max(hair_mask(image).mean(), hair_mask(larger).mean()) < 0.005
