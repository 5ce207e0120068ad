"""Colour that gives the clinic away, and colour that does not."""

import numpy as np
import pytest

from ssl_isic.evaluation.colour import colour_numbers
from ssl_isic.inspection.clinic_colour import FEWEST_GROUPS, colours_by_clinic, tell_clinic


def test_plain_red_is_the_red_of_cie_lab() -> None:
    """53.24, 80.09, 67.20: sRGB red under D65, as any table of it says; bytes round it."""
    red = np.full((8, 8, 3), (255, 0, 0), np.uint8)
    colour = np.stack([colour_numbers(red)]).astype(np.float32)
    (clinic,) = colours_by_clinic(colour, np.zeros(1, np.int32), ["A"])
    assert clinic.mean == pytest.approx([53.24, 80.09, 67.20], abs=0.6)
    assert clinic.spread == pytest.approx([0, 0, 0])


def drawn(apart: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colours of 300 images of two clinics whose means are `apart` standard deviations, and groups of three images."""
    rng = np.random.default_rng(0)
    codes = (np.arange(300) // 3 % 3 == 0).astype(np.int32)
    colour = rng.normal(size=(300, 12)).astype(np.float32)
    colour[:, 0] += apart * codes
    return colour, codes, np.arange(300) // 3


def test_clinics_of_other_colours_are_told_apart() -> None:
    told = tell_clinic(*drawn(20)[:2], ["A", "B"], drawn(20)[2])
    assert told is not None
    assert told.accuracy == 1
    assert told.majority == pytest.approx(2 / 3, abs=0.01)
    assert (told.images, told.groups, told.clinics) == (300, 100, ["A", "B"])


def test_clinics_of_one_colour_are_not() -> None:
    told = tell_clinic(*drawn(0)[:2], ["A", "B"], drawn(0)[2])
    assert told is not None
    assert told.accuracy < told.majority + 0.02


def test_a_group_never_helps_itself() -> None:
    """Each patient has a colour of his own and nothing tells the clinic: only by knowing the patient could one say it."""
    rng = np.random.default_rng(1)
    codes = np.repeat(rng.integers(0, 2, 60), 20).astype(np.int32)
    colour = np.repeat(rng.normal(size=(60, 12)) * 10, 20, axis=0).astype(np.float32)
    told = tell_clinic(colour, codes, ["A", "B"], np.repeat(np.arange(60), 20))
    assert told is not None
    assert told.accuracy < 0.75


def test_too_few_patients_say_nothing() -> None:
    codes = np.array([0] * 50 + [1] * (FEWEST_GROUPS - 1) + [-1] * 9, np.int32)
    assert tell_clinic(np.zeros((len(codes), 12), np.float32), codes, ["A", "B"], np.arange(len(codes))) is None
