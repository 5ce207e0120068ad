"""Which pixels are taken for skin."""

import cv2
import numpy as np
import pytest

from ssl_isic.data.augmentations.skin import edge_pixels, skin_colour
from ssl_isic.data.steps.step import Image


def test_the_ring_is_an_eighth_of_each_side_wide() -> None:
    image = np.full((40, 24, 3), 200, np.uint8)
    image[5:-5, 3:-3] = 90
    assert len(edge_pixels(image)) == 40 * 24 - 30 * 18
    assert (edge_pixels(image) == 200).all()


def test_skin_is_what_lies_around_the_lesion(lesion: Image) -> None:
    colour = skin_colour(lesion)
    assert colour is not None
    assert np.allclose(255 * colour, [215, 170, 150], atol=2)


def test_a_black_border_hairs_and_a_lesion_at_the_edge_are_no_skin(lesion: Image) -> None:
    cut = lesion.copy()
    cut[:, :25] = 4  # a third of the ring
    cut[:18, 60:110] = (120, 75, 55)
    cut[::10] = 40
    colour = skin_colour(cut)
    assert colour is not None
    assert np.allclose(255 * colour, [215, 170, 150], atol=5)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (9, 300)])
def test_an_image_of_any_size_has_an_edge(size: tuple[int, int]) -> None:
    assert skin_colour(np.full((*size, 3), 100, np.uint8)) == pytest.approx(np.full(3, 100 / 255))


def test_where_all_is_black_there_is_no_skin() -> None:
    assert skin_colour(np.full((30, 30, 3), 20, np.uint8)) is None


def test_a_table_of_levels_changes_the_skins_colour_by_just_that(lesion: Image) -> None:
    levels = (np.arange(256) // 2 + 60).astype(np.uint8)
    before, after = skin_colour(lesion), skin_colour(cv2.LUT(lesion, levels))
    assert before is not None
    assert after is not None
    assert np.array_equal(np.rint(255 * after), levels[np.rint(255 * before).astype(int)])
