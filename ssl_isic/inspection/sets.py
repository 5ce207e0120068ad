"""Sets of images that belong together (copies, near-duplicates, a lesion's photographs), as flat arrays.

Shapes: N images in the pool, S sets, M members of all sets together.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.near_duplicates import connected

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class ImageSets:
    """Sets of two or more images. `members` (M,) are pool indices, set after set; set s is from `starts[s]`, (S + 1,), on."""

    members: Indices
    starts: Indices

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> Indices:
        return self.members[self.starts[number] : self.starts[number + 1]]

    @property
    def sizes(self) -> Indices:
        """Images in each set (S,)."""
        return np.diff(self.starts)

    @property
    def number(self) -> Indices:
        """The set of each member (M,)."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @property
    def links(self) -> Indices:
        """Pairs (M - S, 2) that join each set: its first member with each of the others."""
        first = np.repeat(self.members[self.starts[:-1]], self.sizes)
        others = first != self.members
        return np.stack([first[others], self.members[others]], axis=1)

    def differ(self, codes: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which sets (S,) hold two images whose `codes` (N,) are known, that is 0 or more, and differ."""
        if not len(self):
            return np.zeros(0, bool)
        here = codes[self.members].astype(np.int64)
        least = np.minimum.reduceat(np.where(here >= 0, here, np.iinfo(np.int64).max), self.starts[:-1])
        return np.maximum.reduceat(here, self.starts[:-1]) > least

    def only(self, chosen: NDArray[np.bool_]) -> "ImageSets":
        """The sets where `chosen` (S,) is true."""
        sizes = self.sizes[chosen]
        return ImageSets(self.members[np.repeat(chosen, self.sizes)], np.concatenate([[0], np.cumsum(sizes)]))

    def by(self, rank: NDArray[np.generic]) -> "ImageSets":
        """The sets in the order of `rank` (S,), least first."""
        order = np.argsort(rank, kind="stable")
        members = [self[number] for number in order.tolist()]
        return ImageSets(
            np.concatenate([np.empty(0, np.int64), *members]), np.concatenate([[0], np.cumsum(self.sizes[order])])
        )


def alike(labels: NDArray[np.integer], rows: Indices) -> ImageSets:
    """The images `rows` (R,) that share their number in `labels` (R,), where two or more do."""
    order = np.argsort(labels, kind="stable")
    counts = np.unique(labels, return_counts=True)[1]
    shared = np.repeat(counts > 1, counts)
    counts = counts[counts > 1]
    return ImageSets(rows[order][shared], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def numbered(digests: NDArray[np.uint8]) -> Indices:
    """A number for each of the `digests` (N, bytes), the same for the same (N,)."""
    words = np.ascontiguousarray(digests).view(">u8")
    return np.unique(words, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def joined(size: int, pairs: Indices) -> ImageSets:
    """The sets of `size` images that the `pairs` (P, 2) join, directly or through others."""
    rows = np.unique(pairs)
    return alike(connected(size, pairs)[rows], rows)


def shared_between(sets: ImageSets, source: NDArray[np.integer], sources: int) -> Indices:
    """How many images of one source (row) have a mate in another (column), (sources, sources); its own too."""
    counts = np.zeros((sources, sources), np.int64)
    if not len(sets):
        return counts
    within = np.zeros((len(sets), sources), np.int64)
    np.add.at(within, (sets.number, source[sets.members]), 1)
    there = within > 0
    for one in range(sources):
        counts[one] = within[:, one] @ there
        counts[one, one] = within[within[:, one] > 1, one].sum()
    return counts
