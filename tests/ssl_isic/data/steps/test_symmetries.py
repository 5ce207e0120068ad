"""Mirrors and quarter turns against numpy's."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.steps.symmetries import D4, HorizontalFlip, VerticalFlip

Image = NDArray[np.uint8]


def test_d4_is_the_eight_symmetries_of_the_square(wide_image: Image) -> None:
    expected = {np.rot90(start, k).tobytes() for start in (wide_image, wide_image[:, ::-1]) for k in range(4)}
    made = [D4().apply(wide_image, (symmetry,)) for symmetry in range(8)]
    assert {turned.tobytes() for turned in made} == expected
    assert all(turned.flags.c_contiguous for turned in made)


def test_d4_draws_all_of_them_alike() -> None:
    rng = np.random.default_rng(0)
    counts = np.bincount([int(D4().draw(rng, 8, 8)[0]) for _ in range(8000)], minlength=8)
    assert counts.shape == (8,)
    assert np.all(np.abs(counts - 1000) < 5 * 30)  # five standard deviations


def test_flips(wide_image: Image) -> None:
    np.testing.assert_array_equal(HorizontalFlip().apply(wide_image, ()), wide_image[:, ::-1])
    np.testing.assert_array_equal(VerticalFlip().apply(wide_image, ()), wide_image[::-1])


def test_a_flip_is_taken_half_of_the_time() -> None:
    rng = np.random.default_rng(0)
    assert abs(sum(HorizontalFlip().sampled(rng, 8, 8) is not None for _ in range(4000)) - 2000) < 5 * 32
    assert all(HorizontalFlip(p=0).sampled(rng, 8, 8) is None for _ in range(100))
    assert all(HorizontalFlip(p=1).sampled(rng, 8, 8) == () for _ in range(100))


def test_the_batch_is_the_same_bits(image: Image, on_batch: Any) -> None:
    symmetries = [(float(k),) for k in (3, 0, 1, 2, 7, 6, 5, 4, 4)]
    for made, drawn in zip(on_batch(D4(), [image] * 9, symmetries), symmetries, strict=True):
        np.testing.assert_array_equal(made, D4().apply(image, drawn))
    for flip in (HorizontalFlip(), VerticalFlip()):
        np.testing.assert_array_equal(on_batch(flip, [image], [()])[0], flip.apply(image, ()))
