"""Ink, rulers and bubbles go; what a lesion has of their colour or form stays."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_isic.data.cleaning.bubbles import bubble_mask, remove_bubbles
from ssl_isic.data.cleaning.ink import remove_ink
from ssl_isic.data.cleaning.ruler import evenly_spaced, remove_ruler, ruler_mask

Image = NDArray[np.uint8]
VIOLET = (75, 50, 150)


def test_ink_beside_the_lesion_goes(lesion: Image) -> None:
    height, width = lesion.shape[:2]
    inked = lesion.copy()
    mark = np.zeros((height, width), np.uint8)
    cv2.circle(mark, (round(0.9 * width), round(0.12 * height)), round(0.1 * min(height, width)), 1, -1)
    inked[mark > 0] = VIOLET
    cleaned = remove_ink(inked)
    assert np.abs(cleaned.astype(int) - lesion)[mark > 0].mean() < 8
    far = cv2.dilate(mark, np.ones((15, 15), np.uint8)) == 0
    np.testing.assert_array_equal(cleaned[far], inked[far])


def test_a_blue_lesion_is_no_ink(skin: Image) -> None:
    height, width = skin.shape[:2]
    cv2.circle(skin, (round(0.6 * width), height // 2), round(0.3 * min(height, width)), VIOLET, -1)
    np.testing.assert_array_equal(remove_ink(skin), skin)


def test_skin_under_a_violet_lamp_is_no_ink(lesion: Image) -> None:
    violet = np.rint(lesion * np.array([0.85, 0.75, 1.25])).clip(0, 255).astype(np.uint8)
    np.testing.assert_array_equal(remove_ink(violet), violet)


def scale(image: Image, angle: float, ticks: int, even: bool = True) -> tuple[Image, NDArray[np.bool_]]:
    """Ticks of a ruler near the edge, turned by `angle`; every fifth is longer. And where they are."""
    height, width = image.shape[:2]
    side = np.sqrt(height * width)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    middle = np.array([width / 2, height / 2]) + 0.32 * side * across
    drawn = np.zeros((height, width), np.uint8)
    places = np.linspace(-0.35, 0.35, ticks) + (0 if even else np.random.default_rng(0).uniform(-0.04, 0.04, ticks))
    for number, place in enumerate(places):
        start = middle + place * side * along
        end = start + (0.09 if number % 5 == 0 else 0.06) * side * across
        first, last = np.rint(start).astype(int).tolist(), np.rint(end).astype(int).tolist()
        cv2.line(drawn, first, last, 1, max(1, round(0.006 * side)))
    ruled = image.copy()
    ruled[drawn > 0] = (60, 50, 48)
    return ruled, drawn > 0


@pytest.mark.parametrize("angle", [0.0, 0.35, np.pi / 2])
def test_the_ticks_of_a_scale_go(lesion: Image, angle: float) -> None:
    if len(lesion) < 100:
        pytest.skip("at 51 px a tick is a dot")
    ruled, drawn = scale(lesion, angle, 9)
    assert ruler_mask(ruled)[drawn].mean() > 0.85
    error = [np.abs(image.astype(int) - lesion)[drawn].mean() for image in (ruled, remove_ruler(ruled))]
    assert error[1] < 0.35 * error[0]


def test_a_line_along_the_ticks_goes_with_them(lesion: Image) -> None:
    ruled, _ = scale(lesion, 0.0, 9)
    if len(lesion) < 100:
        pytest.skip("at 51 px a tick is a dot")
    height, width = lesion.shape[:2]
    side = np.sqrt(height * width)
    y = round(height / 2 + 0.32 * side)
    cv2.line(ruled, (round(0.12 * width), y), (round(0.88 * width), y), (60, 50, 48), max(1, round(0.006 * side)))
    line = np.s_[y, round(width / 2 - 0.3 * side) : round(width / 2 + 0.3 * side)]
    assert ruler_mask(ruled)[line].mean() > 0.9


@pytest.mark.parametrize(("ticks", "even"), [(4, True), (9, False)])
def test_few_or_uneven_dashes_are_no_scale(lesion: Image, ticks: int, even: bool) -> None:
    ruled, _ = scale(lesion, 0.0, ticks, even)
    np.testing.assert_array_equal(remove_ruler(ruled), ruled)


def test_evenly_spaced_names_the_ticks_in_their_order() -> None:
    ticks = [(10.0 * k, 50.0, np.pi / 2, 8.0) for k in (3, 1, 2, 5, 4, 6, 7)]
    others = [(33.0, 80.0, np.pi / 2, 8.0), (44.0, 50.0, 0.3, 8.0)]
    scales = evenly_spaced(np.array([*others, *ticks]))
    assert scales
    for rows in scales:
        assert sorted(rows.tolist()) == [2, 3, 4, 5, 6, 7, 8]
        places = [ticks[row - 2][0] for row in rows]
        assert places in (sorted(places), sorted(places, reverse=True))
    assert evenly_spaced(np.empty((0, 4))) == []


def test_bubbles_and_reflections_go(lesion: Image) -> None:
    height, width = lesion.shape[:2]
    side = np.sqrt(height * width)
    drawn = np.zeros((height, width), np.uint8)
    cv2.circle(drawn, (round(0.2 * width), round(0.25 * height)), round(0.07 * side), 1, max(1, round(0.015 * side)))
    cv2.circle(drawn, (width // 2, height // 2), max(1, round(0.012 * side)), 1, -1)
    bubbly = lesion.copy()
    bubbly[drawn > 0] = (250, 248, 246)
    assert bubble_mask(bubbly)[drawn > 0].mean() > 0.95
    cleaned = remove_bubbles(bubbly)
    assert np.abs(cleaned.astype(int) - lesion)[drawn > 0].mean() < 8


def test_pale_skin_and_a_white_scar_are_no_bubbles(lesion: Image) -> None:
    pale = np.minimum(lesion.astype(int) + 60, 255).astype(np.uint8)
    np.testing.assert_array_equal(remove_bubbles(pale), pale)
    height, width = lesion.shape[:2]
    scar = lesion.copy()
    cv2.circle(scar, (width // 2, height // 2), round(0.15 * min(height, width)), (240, 225, 220), -1)
    soft = cv2.GaussianBlur(scar, (0, 0), 0.012 * width)
    np.testing.assert_array_equal(remove_bubbles(soft), soft)
