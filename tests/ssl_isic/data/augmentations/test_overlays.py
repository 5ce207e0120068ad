"""What is laid over a lesion: hairs, a ruler, a microscope's border."""

import numpy as np
import pytest

from ssl_isic.data.augmentations.hair import THICKEST, add_hair
from ssl_isic.data.augmentations.microscope_border import add_microscope_border
from ssl_isic.data.augmentations.overlay import Drawing, painted
from ssl_isic.data.augmentations.ruler import SPACING, add_ruler
from ssl_isic.data.steps.step import Image

FUNCTIONS = [add_hair, add_ruler, add_microscope_border]
SKIN = (215, 170, 150)


def skin(height: int, width: int) -> Image:
    return np.full((height, width, 3), SKIN, np.uint8)


@pytest.mark.parametrize("add", FUNCTIONS)
@pytest.mark.parametrize("size", [(8, 8), (33, 47), (300, 130)])
def test_an_image_of_any_size_comes_back_as_one(add: type, size: tuple[int, int]) -> None:
    image = skin(*size)
    for seed in range(20):
        added = add(image, np.random.default_rng(seed))
        assert added.shape == image.shape
        assert added.dtype == np.uint8
        assert np.array_equal(added, add(image, np.random.default_rng(seed)))
    assert (image == SKIN).all(), "what came in is not written to"


def test_a_line_covers_as_much_as_it_is_wide() -> None:
    for width_px in (0.1, 0.25, 0.5, 1.0, 2.0, 3.0):
        drawing = Drawing(60, 80)
        drawing.line(np.array([[10.0, 30.5], [70.0, 30.5]]), width_px, 1.0)
        covered = drawing.cover()[:, 20:60].sum(axis=0) / 255
        assert covered.mean() == pytest.approx(width_px, rel=0.05)


def test_paint_is_mixed_where_it_covers_in_part() -> None:
    cover = np.array([[0, 51, 255]], np.uint8)
    image = np.array([[(100, 150, 200)] * 3], np.uint8)
    assert painted(image, cover, (0, 50, 250)).tolist() == [[[100, 150, 200], [80, 130, 210], [0, 50, 250]]]


@pytest.mark.parametrize("side", [64, 128, 256])
def test_hairs_are_thin_dark_and_as_thick_as_the_image_is_large(side: int) -> None:
    shares = []
    for seed in range(30):
        haired = add_hair(skin(side, side), np.random.default_rng(seed), most=8, fair=0.0)
        changed = (haired != SKIN).any(axis=2)
        shares.append(changed.mean())
        assert (haired[changed] <= SKIN).all(), "dark hairs only darken"
    assert 0.005 < np.mean(shares) < 8 * 1.1 * (THICKEST + 3 / side), "at most 8 hairs, each as long as the image"
    assert max(shares) > 2 * min(shares), "some have one hair, some many"


def test_fair_hairs_are_lighter_than_skin() -> None:
    haired = add_hair(skin(128, 128), np.random.default_rng(1), fair=1.0)
    changed = (haired != SKIN).any(axis=2)
    assert changed.any()
    assert (haired[changed][:, 0] >= SKIN[0]).all()


def test_hair_is_lit_as_the_skin_is() -> None:
    light, dim = skin(128, 128), (skin(128, 128) // 2)
    ours, theirs = (add_hair(image, np.random.default_rng(3), fair=0.0) for image in (light, dim))
    assert ours.min(axis=(0, 1)) == pytest.approx(2 * theirs.min(axis=(0, 1)), abs=4)


def test_in_the_dark_no_hair_is_seen() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    assert add_hair(image, np.random.default_rng(0)) is image


def test_ticks_stand_along_one_edge_at_one_spacing() -> None:
    side, edges = 256, set()
    for seed in range(40):
        changed = (add_ruler(skin(side, side), np.random.default_rng(seed)) != SKIN).any(axis=2)
        edge = max(range(4), key=lambda turn: np.rot90(changed, turn)[: side // 4].sum())
        edges.add(edge)
        upright = np.rot90(changed, edge)
        assert not upright[round(0.4 * side) :].any(), "the middle of the image is left alone"
        profile = upright[: round(0.1 * side)].sum(axis=0).astype(float)
        spectrum = np.abs(np.fft.rfft(profile - profile.mean(), 8 * side))
        first, last = round(8 / SPACING[1] * 0.9), round(8 / SPACING[0] * 1.1)
        assert spectrum[first : last + 1].max() > 0.5 * spectrum.max()
    assert edges == {0, 1, 2, 3}


def test_on_a_dark_image_the_ruler_is_white() -> None:
    dark = np.full((128, 128, 3), 40, np.uint8)
    assert add_ruler(dark, np.random.default_rng(0)).max() > 120
    assert add_ruler(skin(128, 128), np.random.default_rng(0)).min() < 100


def test_a_border_is_black_outside_a_circle_and_nothing_inside() -> None:
    whole = 0
    for seed in range(60):
        bordered = add_microscope_border(skin(120, 120), np.random.default_rng(seed))
        assert (bordered[45:75, 45:75] == SKIN).all()
        corners = bordered[[0, 0, -1, -1], [0, -1, 0, -1]].max(axis=1)
        assert corners.min() < 25, "a corner at least is black"
        edges = bordered[[0, 60, 60, -1], [60, 0, -1, 60]].max(axis=1)
        whole += bool(edges.max() < 60)
        y, x = np.mgrid[:120, :120]
        black = bordered.max(axis=2) < 25
        assert np.hypot(y - 59.5, x - 59.5)[black].min() > 0.6 * 60
    assert 5 <= whole <= 35, "some show the whole circle"
