"""Orders for images in shards: few shards at a time, so that each is fetched once an epoch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class WindowedOrder:
    """Every row once an epoch: shards in a new random order, `window` of them at a time, their images shuffled together.

    Several sources in shards are spread evenly over an epoch, and so are the images that are in no shard: each window has
    its part of them. An `ssl_isic.data.loading.Order`.
    """

    shard: NDArray[np.int64]
    """The shard of each row; -1 for a row in none."""
    source: NDArray[np.int64]
    """The source of each shard."""
    window: int
    seed: int

    def __len__(self) -> int:
        return len(self.shard)

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, epoch])
        window = self._windows(rng)[self.shard]
        loose = np.flatnonzero(self.shard < 0)
        shares = np.cumsum(np.bincount(window[self.shard >= 0]))
        places = (rng.permutation(len(loose)) + 0.5) * shares[-1] / max(1, len(loose))
        window[loose] = np.searchsorted(shares, places)
        return np.lexsort((rng.random(len(self)), window))

    def _windows(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The window of each shard; shards without a row count for nothing."""
        used = np.unique(self.shard[self.shard >= 0])
        place = np.empty(len(used))
        for source in np.unique(self.source[used]):
            own = np.flatnonzero(self.source[used] == source)
            place[own] = (rng.permutation(len(own)) + rng.random(len(own))) / len(own)
        windows = np.zeros(len(self.source), np.int64)
        windows[used[np.argsort(place)]] = np.arange(len(used)) // self.window
        return windows


def take_from_few_shards(
    candidates: NDArray[np.int64], size: int, shard: NDArray[np.int64], source: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The first `size` of `candidates`, but of each source in shards those that are in its first shards, as many.

    Args:
        shard: the shard of each image of the pool, (N,); -1 for an image in none.
        source: the source of each shard.
    """
    taken = candidates[:size].copy()
    for number in np.unique(source):
        own = np.isin(shard, np.flatnonzero(source == number))
        few = candidates[own[candidates]]
        here = own[taken]
        taken[here] = few[np.argsort(shard[few], kind="stable")][: np.count_nonzero(here)]
    return taken
