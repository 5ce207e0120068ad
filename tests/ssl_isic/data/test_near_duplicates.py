"""Near-duplicates survive another encoding and size; the search is exact; what skin has in common makes no pair."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import simplejpeg
from numpy.typing import NDArray
from scipy.fft import dctn

from ssl_isic.data import near_duplicates as near_duplicates_module
from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.near_duplicates import (
    CORRELATION,
    DISTANCE,
    NO_HASH,
    close_pairs,
    connected,
    correlations,
    kept_small_copies,
    near_duplicates,
    perceptual_hash,
    small_copies,
    small_copy,
)
from ssl_isic.data.views import Image


def textured(seed: int, height: int = 120, width: int = 150) -> Image:
    """A picture with detail of every size, unlike any of another seed."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(0, 20, (k, k, 3)), (width, height), interpolation=cv2.INTER_CUBIC) for k in (4, 9, 24)
    ]
    return (np.sum(layers, axis=0) + np.array([170, 130, 110])).clip(0, 255).astype(np.uint8)


def encoded(image: Image, quality: int) -> Image:
    """The image after JPEG."""
    return decode_rgb(simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality))


def resized(image: Image, height: int, width: int) -> Image:
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def cropped(image: Image, share: float) -> Image:
    """The image without `share` of its sides at each of them."""
    y, x = (round(share * side) for side in image.shape[:2])
    return image[y : image.shape[0] - y, x : image.shape[1] - x]


def within(hashes: NDArray[np.uint64], distance: int) -> list[tuple[int, int]]:
    """Pairs by comparing all with all."""
    texts = [f"{int(value):064b}" for value in hashes]
    return [
        (i, j)
        for i in range(len(texts))
        for j in range(i + 1, len(texts))
        if sum(a != b for a, b in zip(texts[i], texts[j], strict=True)) <= distance
    ]


@pytest.mark.parametrize("distance", [0, 1, 2, 3, 4, 6, 7, 8, 11])
def test_the_search_finds_what_comparing_all_with_all_finds(distance: int) -> None:
    rng = np.random.default_rng(distance)
    hashes = [int(value) for value in rng.integers(1, 2**63, size=20)]
    for flipped in range(14):
        hashes += [value ^ sum(1 << int(bit) for bit in rng.choice(64, flipped, replace=False)) for value in hashes[:8]]
    array = np.array([*hashes, 0, 0], np.uint64)  # the last two have no hash
    pairs = [tuple(pair) for pair in close_pairs(array, distance).tolist()]
    assert pairs == within(array[:-2], distance)
    assert len(pairs) >= 8 * (distance + 1)
    assert close_pairs(array[:0], distance).shape == close_pairs(array[-2:], distance).shape == (0, 2)


def test_a_hash_is_the_signs_of_low_frequencies() -> None:
    copy = small_copy(textured(0))
    spectrum = dctn(copy.astype(float))
    signs = [
        spectrum[u, v] > 0 for u in range(11) for v in range(11) if 1 <= u + v <= 10 and (u, v) != (5, 5)
    ]  # from the first bit on
    assert len(signs) == 64
    assert int(perceptual_hash(textured(0))) == sum(1 << bit for bit, sign in enumerate(signs) if sign)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: encoded(image, 50),
        lambda image: encoded(resized(image, 60, 75), 85),
        lambda image: encoded(resized(image, 450, 600), 90),
        lambda image: resized(image, 224, 224),
        lambda image: encoded((image * 0.8 + 20).astype(np.uint8), 90),
        lambda image: encoded(cropped(image, 0.01), 90),
    ],
)
def test_another_encoding_size_lamp_or_crop_is_the_same_picture(change: object) -> None:
    assert callable(change)
    images = [textured(seed) for seed in range(20)]
    copies = np.stack([small_copy(image) for image in [*images, *map(change, images)]])
    found = near_duplicates(copies, DISTANCE, CORRELATION)
    assert found.pairs.tolist() == [[seed, seed + 20] for seed in range(20)]
    assert (found.correlation > 0.8).all()


@pytest.mark.parametrize("share", [0.02, 0.035])
def test_a_crop_correlates_whichever_of_the_two_it_is_and_in_any_orientation(share: float) -> None:
    image = textured(3, 240, 240)
    crop = cropped(image, share)
    copies = np.stack([small_copy(side) for side in (image, crop, np.ascontiguousarray(np.rot90(crop)))])
    both = correlations(copies, np.array([[0, 1], [1, 0]]))
    assert both.min() > CORRELATION + 0.1
    assert both[0] == pytest.approx(both[1])
    turned = np.array([[0, 2]])
    assert correlations(copies, turned)[0] < 0.3
    assert correlations(copies, turned, flips=True)[0] == pytest.approx(both[0], abs=1e-6)


def test_a_mirror_or_a_quarter_turn_is_found_where_it_is_asked_for() -> None:
    image = textured(1, 128, 128)
    turned = [np.rot90(side, turns) for side in (image, image[:, ::-1]) for turns in range(4)]
    copies = np.stack([small_copy(np.ascontiguousarray(other)) for other in [textured(2), *turned]])
    assert len(near_duplicates(copies, DISTANCE, CORRELATION).pairs) == 0
    found = near_duplicates(copies, DISTANCE, CORRELATION, flips=True)
    assert found.pairs.tolist() == [[i, j] for i in range(1, 9) for j in range(i + 1, 9)]
    assert (found.correlation > 0.95).all()


def test_a_black_border_or_a_vignette_in_common_makes_no_pair() -> None:
    """Pixel by pixel such pictures correlate by more than 0.98; by their details they do not."""
    y, x = np.mgrid[-1:1:120j, -1:1:150j]
    vignette = np.clip(4 - 3 * np.hypot(x, y), 0, 1)
    every = np.array([[i, j] for i in range(10) for j in range(i + 1, 10)])
    for mask in (vignette, y < 0.3):
        faint = [(textured(seed).astype(float) - 130) * 0.15 + 150 for seed in range(10)]
        copies = np.stack([small_copy((image * mask[..., None]).astype(np.uint8)) for image in faint])
        plain = np.corrcoef(copies.reshape(10, -1))
        assert plain.min() > 0.98
        assert correlations(copies, every).max() < CORRELATION - 0.05


def test_what_has_no_contrast_or_does_not_decode_is_near_none(tmp_path: Path) -> None:
    grey = np.full((50, 60, 3), 128, np.uint8)
    assert perceptual_hash(grey) == NO_HASH
    for name, data in {"a": b"no image", "b": b"no image", "c": b"", "d": simplejpeg.encode_jpeg(grey)}.items():
        (tmp_path / f"{name}.jpg").write_bytes(data)
    for name in ("e", "f"):
        (tmp_path / f"{name}.jpg").write_bytes(simplejpeg.encode_jpeg(textured(3)))
    pool = ImagePool({"folder": tmp_path})
    copies = small_copies(pool, np.array([0, 1, 2, 3, -1, -1, 5, 4]), workers=0)
    assert not copies[[0, 1, 2, 4, 5]].any()
    assert near_duplicates(copies, DISTANCE, CORRELATION).pairs.tolist() == [[6, 7]]
    assert correlations(copies, np.array([[0, 1], [3, 6]])).tolist() == [0, 0]


def test_workers_change_nothing(lesions: Path) -> None:
    pool = ImagePool({"lesions": lesions})
    order = np.random.default_rng(0).permutation(len(pool))
    alone = small_copies(pool, order, workers=0)
    assert np.array_equal(small_copies(pool, order, workers=2), alone)
    assert np.array_equal(alone[5], small_copy(decode_rgb(pool.read(int(order[5])))))


def test_reading_that_is_killed_goes_on_where_it_stopped(
    lesions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_duplicates_module, "_READ_BLOCK", 4)
    pool, folder, read = ImagePool({"lesions": lesions}), tmp_path / "kept", list[int]()
    order = np.random.default_rng(0).permutation(len(pool))
    plain = pool.read

    def until_the_tenth(index: int) -> bytes:
        read.append(index)
        if len(read) == 10:
            raise KeyboardInterrupt
        return plain(index)

    monkeypatch.setattr(pool, "read", until_the_tenth)
    with pytest.raises(KeyboardInterrupt), kept_small_copies(pool, order, 0, folder):
        pass
    with kept_small_copies(pool, order, 0, folder) as copies:
        assert read[10:] == order[8:].tolist()  # two blocks of four were whole
        assert np.array_equal(copies, small_copies(pool, order, workers=0))
        with pytest.raises(RuntimeError), kept_small_copies(pool, order, 0, folder):
            raise RuntimeError  # what used them was killed
        with kept_small_copies(pool, order[1:], 0, folder) as others:
            assert np.array_equal(others, copies[1:])  # other images are read anew
    assert not folder.exists()


def test_chains_are_one_component() -> None:
    numbers = connected(6, np.array([[0, 3], [3, 5], [1, 2]]))
    assert [[int(row) for row in np.flatnonzero(numbers == number)] for number in np.unique(numbers)] == [
        [0, 3, 5],
        [1, 2],
        [4],
    ]


@pytest.mark.slow
def test_real_lesions(shared_data: Path) -> None:
    """Of 10,015 photographs 114 pairs; all but one are of one lesion, and that one is one photograph under two lesions."""
    pool = ImagePool({"ham": shared_data / "ham10000-image.hdf5"})
    found = near_duplicates(small_copies(pool, np.arange(len(pool)), workers=2), DISTANCE, CORRELATION)
    lesion = pd.read_csv(shared_data / "ham10000-metadata.csv", index_col="isic_id")["lesion_id"]
    names = np.array([pool.id_of(index) for index in range(len(pool))])[found.pairs]
    one, other = (lesion.loc[side].to_numpy() for side in names.T)
    assert len(found.pairs) == 114
    assert names[one != other].tolist() == [["ISIC_0025226", "ISIC_0030074"]]
