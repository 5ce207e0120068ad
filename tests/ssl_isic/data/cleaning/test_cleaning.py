"""What holds for every cleaning function, and the names by which they are called."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from ssl_isic.config import Config, validate
from ssl_isic.data.cleaning import CLEANERS, CleanNames, clean
from ssl_isic.errors import InputError

Image = NDArray[np.uint8]
FINDERS = ("border", "hair", "ruler", "ink", "bubbles")


class Named(Config):
    """A configuration with a list of cleanings."""

    clean: CleanNames = []


@pytest.mark.parametrize("name", CLEANERS)
def test_the_image_is_not_written_to_and_what_comes_back_is_rgb_bytes(name: str, lesion: Image) -> None:
    before = lesion.copy()
    lesion.flags.writeable = False
    cleaned = CLEANERS[name](lesion)
    np.testing.assert_array_equal(lesion, before)
    assert cleaned.dtype == np.uint8
    assert cleaned.ndim == 3
    assert cleaned.shape[2] == 3
    np.testing.assert_array_equal(CLEANERS[name](lesion), cleaned)


@pytest.mark.parametrize("name", FINDERS)
def test_an_image_with_nothing_to_clean_comes_back_as_it_is(name: str, lesion: Image) -> None:
    np.testing.assert_array_equal(CLEANERS[name](lesion), lesion)


@pytest.mark.parametrize("name", CLEANERS)
@pytest.mark.parametrize("colour", [0, 128, 255])
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (3, 40), (51, 60)])
def test_flat_and_tiny_images_are_no_trouble(name: str, colour: int, shape: tuple[int, int]) -> None:
    cleaned = CLEANERS[name](np.full((*shape, 3), colour, np.uint8))
    assert cleaned.dtype == np.uint8
    assert cleaned.size > 0


@pytest.mark.parametrize("name", CLEANERS)
def test_noise_is_no_trouble(name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (51, 67, 3), dtype=np.uint8)
    assert CLEANERS[name](noise).dtype == np.uint8


def test_names_are_applied_in_order(lesion: Image, with_hairs: Callable[..., Any]) -> None:
    hairy, _ = with_hairs(lesion, 4)
    expected = CLEANERS["lab"](CLEANERS["shades_of_gray"](CLEANERS["hair"](hairy)))
    np.testing.assert_array_equal(clean(hairy, ["hair", "shades_of_gray", "lab"]), expected)
    assert clean(hairy, []) is hairy


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["hiar"], "clean: no cleaning is called hiar; did you mean hair?"),
        (["hair", "shades_of_grey"], "did you mean shades_of_gray?"),
        (["zzz"], "choose from border, hair, "),
        (["hair", "clahe", "hair"], "hair is named twice"),
        (["lab", "hair"], "lab leaves no RGB for what follows it; name it last"),
        ("hair", "clean: it is a list; write [hair]"),
    ],
)
def test_a_wrong_list_is_refused_with_what_to_do(names: Any, message: str) -> None:
    with pytest.raises(InputError, match="clean: ") as refused:
        validate(Named, {"clean": names}, source="x.yaml")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValidationError):
        Named(clean=names)


def test_a_right_list_stays_as_it_is() -> None:
    assert Named(clean=["hair", "hsv"]).clean == ["hair", "hsv"]
    assert Named().clean == []
