"""Skin tone: the angle by its formula, and that it ends where it was asked to, on painted and on real lesions."""

import math

import cv2
import numpy as np
import pytest

from ssl_isic.data.augmentations.colour import linear_of
from ssl_isic.data.augmentations.skin_tone import SURFACE, category, ita_of, set_ita, shift_ita, skin_ita
from ssl_isic.data.steps.step import Image


def measured(pixels: Image) -> float:
    """ITA of the median colour of `pixels` (N, 3), by OpenCV's Lab and the formula."""
    median = np.median(pixels, axis=0).astype(np.float32)[None, None] / 255
    lightness, _, b = cv2.cvtColor(median, cv2.COLOR_RGB2LAB)[0, 0].tolist()
    return math.degrees(math.atan((lightness - 50) / b))


def skin_of(image: Image) -> Image:
    """The corners of a painted lesion, where there is nothing but skin."""
    return np.concatenate([image[:20, :20].reshape(-1, 3), image[-20:, -20:].reshape(-1, 3)])


def test_the_angle_by_hand() -> None:
    assert ita_of(np.array([70.0, 10.0, 20.0])) == pytest.approx(45.0)
    assert ita_of(np.array([40.0, 10.0, 10.0])) == pytest.approx(-45.0)
    assert ita_of(np.array([60.0, 10.0, -10.0])) == pytest.approx(135.0)


@pytest.mark.parametrize(
    ("ita", "name"),
    [
        (60, "very light"),
        (55, "light"),
        (41, "intermediate"),
        (28, "tan"),
        (10, "brown"),
        (-29.9, "brown"),
        (-30, "dark"),
    ],
)
def test_the_six_classes(ita: float, name: str) -> None:
    assert category(ita) == name


@pytest.mark.parametrize("asked", [-50, -30, -10, 10, 28, 41, 55, 65])
def test_painted_skin_ends_at_the_angle_that_was_asked_for(lesion: Image, asked: float) -> None:
    changed = set_ita(lesion, asked)
    assert measured(skin_of(changed)) == pytest.approx(asked, abs=2)
    assert skin_ita(changed) == pytest.approx(asked, abs=1.5)


@pytest.mark.parametrize("degrees", [-80, -40, -10, -2, 0, 5, 15])
def test_painted_skin_moves_by_the_angle_that_was_asked_for(lesion: Image, degrees: float) -> None:
    moved = measured(skin_of(shift_ita(lesion, degrees))) - measured(skin_of(lesion))
    assert moved == pytest.approx(degrees, abs=2)


@pytest.mark.parametrize("asked", [-50, 0, 60])
def test_the_lesion_moves_with_the_skin_and_keeps_its_contrast(lesion: Image, asked: float) -> None:
    before, after = lesion.astype(float), set_ita(lesion, asked).astype(float)
    middle, corner = (slice(50, 70), slice(65, 85)), (slice(0, 20), slice(0, 20))
    assert np.sign(after[middle].mean() - before[middle].mean()) == np.sign(
        after[corner].mean() - before[corner].mean()
    )
    assert (after[middle].mean((0, 1)) < after[corner].mean((0, 1))).all()
    below_the_surface = [
        [linear_of(image[part].mean((0, 1)) / 255) - SURFACE for part in (middle, corner)] for image in (before, after)
    ]
    (lesion_before, skin_before), (lesion_after, skin_after) = below_the_surface
    assert np.allclose(lesion_after / skin_after, lesion_before / skin_before, atol=0.04)


def test_chroma_rises_towards_tan_and_falls_towards_dark(lesion: Image) -> None:
    """As measured skin does (Chardon et al. 1991): b* of very light, tan and dark skin."""
    b = [cv2.cvtColor(set_ita(lesion, ita)[:1, :1], cv2.COLOR_RGB2LAB)[0, 0, 2] for ita in (65, 0, -55)]
    assert b[0] < b[1] > b[2]


def test_black_stays_black_and_skin_does_not_burn_out(lesion: Image) -> None:
    lesion[:8] = 0
    for ita in (-60, 75, 89):
        changed = set_ita(lesion, ita)
        assert (changed[:8] == 0).all()
        assert np.percentile(changed.reshape(-1, 3), 60, axis=0).max() <= 250


def test_no_skin_is_darker_or_lighter_than_skin_is(lesion: Image) -> None:
    assert skin_ita(shift_ita(lesion, -500)) == pytest.approx(-60, abs=2)
    red, green, blue = 120, 112, 92  # dim, so that light is left to be added
    assert skin_ita(shift_ita(np.full((30, 30, 3), (red, green, blue), np.uint8), 500)) == pytest.approx(75, abs=2)


def test_where_no_skin_is_nothing_changes() -> None:
    for level in ((10, 10, 10), (60, 40, 120)):  # a black edge; violet and dark
        image = np.full((30, 30, 3), level, np.uint8)
        assert skin_ita(image) is None
        assert shift_ita(image, -20) is image
        assert set_ita(image, 10) is image


def test_a_bluish_photograph_counts_on_beyond_90_degrees() -> None:
    image = np.full((30, 30, 3), (210, 185, 200), np.uint8)
    ita = skin_ita(image)
    assert ita is not None
    assert ita > 90
    assert skin_ita(shift_ita(image, -20)) == pytest.approx(ita - 20, abs=2)
    assert skin_ita(shift_ita(image, 20)) == pytest.approx(ita, abs=1e-9), "it is lighter than skin is already"


def test_light_too_blue_for_the_angle_is_left_as_it_is() -> None:
    image = np.full((30, 30, 3), (155, 120, 152), np.uint8)  # violet: melanin makes it dark before it makes it yellow
    ita = skin_ita(image)
    assert ita is not None
    assert ita > 140
    assert np.array_equal(set_ita(image, 10), image)
    assert np.array_equal(shift_ita(image, -40), image)


def test_real_lesions_move_as_asked(real_lesions: list[Image]) -> None:
    for asked in (-30.0, 10.0, 45.0):
        changed = [(image, set_ita(image, asked)) for image in real_lesions]
        moved = [after for before, after in changed if not np.array_equal(before, after)]
        assert len(moved) > 65
        errors = [abs((skin_ita(after) or 0.0) - asked) for after in moved]
        assert np.median(errors) < 1
        assert np.percentile(errors, 90) < 3
