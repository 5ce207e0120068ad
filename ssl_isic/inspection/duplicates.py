"""All sets of alike images in a pool, from its records: by bytes, pixels, perceptual hash, backbone and id."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.images import ImagePool
from ssl_isic.data.near_duplicates import Pairs
from ssl_isic.inspection.inspected import EMBEDDED, FILE, NEAR, PIXELS, SAME_ID
from ssl_isic.inspection.scanning import Records, State
from ssl_isic.inspection.sets import ImageSets, Indices, alike, joined, numbered


class Duplicates(NamedTuple):
    """`same_pixels` whatever their bytes, and `sets` by kind: each kind leaves out what a closer one has found."""

    same_pixels: ImageSets
    sets: Mapping[str, ImageSets]


def distinct_pictures(records: Records) -> Indices:
    """Pool indices (R,) of the images that decode, one of those that have the same pixels: a thousand copies are no work."""
    readable = np.flatnonzero(records["state"] <= State.SUSPECT)
    return readable[np.unique(numbered(records["pixels_sha256"][readable]), return_index=True)[1]]


def find_duplicates(pool: ImagePool, records: Records, near: Pairs, embedded: Pairs | None) -> Duplicates:
    """The sets of alike images of `pool`. `near` and `embedded` (P, 2) are pairs of `distinct_pictures`, as pool indices."""
    size = len(pool)
    readable = np.flatnonzero(records["state"] <= State.SUSPECT)
    there = np.flatnonzero(records["bytes"] > 0)
    file, pixels = numbered(records["file_sha256"]), numbered(records["pixels_sha256"])
    same_pixels = alike(pixels[readable], readable)
    close = joined(size, np.concatenate([near, same_pixels.links]))
    sets = {
        FILE: alike(file[there], there),
        PIXELS: same_pixels.only(same_pixels.differ(file)),
        NEAR: close.only(close.differ(pixels)),
    }
    if embedded is not None:
        seen_alike = joined(size, np.concatenate([embedded, same_pixels.links]))
        sets[EMBEDDED] = seen_alike.only(seen_alike.differ(_near_or_same(size, pixels, close)))
    if len(pool.names) > 1:
        ids = np.concatenate([store.ids for store in pool.stores])
        sets[SAME_ID] = alike(np.unique(ids, return_inverse=True)[1].reshape(-1), np.arange(size))
    return Duplicates(same_pixels, sets)


def _near_or_same(size: int, pixels: NDArray[np.int64], close: ImageSets) -> NDArray[np.int64]:
    """A number for each image (N,), the same for near-duplicates and for images of the same pixels."""
    number = np.arange(size) + int(pixels.max(initial=0)) + 1
    number[close.members] = number[close.members[close.starts[:-1]]][close.number]
    alone = np.ones(size, bool)
    alone[close.members] = False
    return np.where(alone, pixels, number)
