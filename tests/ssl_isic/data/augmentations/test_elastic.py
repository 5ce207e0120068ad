"""Elastic deformation against scipy, and that it never folds."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from ssl_isic.data.augmentations.elastic import deformed, deformed_mask, elastic_places
from ssl_isic.data.steps.step import Image


def test_it_samples_the_image_where_the_field_says(lesion: Image) -> None:
    places = elastic_places(np.random.default_rng(0), *lesion.shape[:2])
    for channel in range(3):
        coordinates = [places[..., 1], places[..., 0]]
        theirs = map_coordinates(lesion[..., channel].astype(float), coordinates, order=1, mode="mirror")
        assert np.abs(deformed(lesion, places)[..., channel] - theirs).max() <= 4  # OpenCV rounds places to 1/32 px


def test_without_strength_nothing_moves(lesion: Image) -> None:
    assert np.array_equal(deformed(lesion, elastic_places(np.random.default_rng(0), 120, 150, strength=0)), lesion)


def test_a_mask_moves_with_its_image(lesion: Image) -> None:
    mask = (lesion[..., 0] < 170).astype(np.uint8) * 7
    places = elastic_places(np.random.default_rng(1), *mask.shape)
    moved = deformed_mask(mask, places)
    assert set(np.unique(moved)) == {0, 7}, "labels are not mixed"
    assert ((deformed(lesion, places)[..., 0] < 170) == (moved == 7)).mean() > 0.98
    assert (moved != mask).mean() > 0.005


@pytest.mark.parametrize("size", [(8, 8), (128, 128), (150, 200)])
def test_displacements_are_as_large_as_asked_and_nothing_is_folded(size: tuple[int, int]) -> None:
    height, width = size
    spread = []
    for seed in range(40):
        places = elastic_places(np.random.default_rng(seed), height, width)
        y, x = np.mgrid[:height, :width]
        spread.append([(places[..., 0] - x).std() / width, (places[..., 1] - y).std() / height])
        down_x, along_x = np.gradient(places[..., 0])
        down_y, along_y = np.gradient(places[..., 1])
        assert (along_x * down_y - down_x * along_y).min() > 0, "the Jacobian is positive: no fold"
    assert np.mean(spread, axis=0) == pytest.approx(np.full(2, 0.08 / 4), rel=0.45)
