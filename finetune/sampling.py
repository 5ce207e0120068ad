"""Sampling under extreme imbalance: every positive each epoch, and the negatives in turn until all have been seen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.decks import dealt
from ssl_isic.data.loading import steps_per_epoch
from ssl_isic.errors import InputError


@dataclass(frozen=True)
class BalancedOrder:
    """An epoch is every positive once, and `negatives_per_positive` negatives for each of weight one in `weight` (N,).

    A positive that counts half, as a pseudo-label does, draws half as many. So many more are drawn that batches of
    `batch_size` are full: what is left over of an epoch would not be shown, positives among it.

    The negatives are dealt from shuffled decks of all of them: none comes again before every other has come. A pure
    function of the epoch, as `ssl_isic.data.loading.Order` asks.

    Raises:
        InputError: there are no positives or no negatives.
    """

    positive: NDArray[np.bool_]
    weight: NDArray[np.float64]
    negatives_per_positive: float
    seed: int
    batch_size: int = 1

    def __post_init__(self) -> None:
        if not self.positive.any() or self.positive.all():
            kind = "negatives" if self.positive.all() else "positives"
            raise InputError(f"the training rows hold no {kind}; nothing can be learned from them")

    def __len__(self) -> int:
        return int(self.positive.sum()) + self._negatives_an_epoch

    @property
    def _negatives_an_epoch(self) -> int:
        wanted = max(1, round(self.negatives_per_positive * float(self.weight[self.positive].sum())))
        whole = wanted + int(self.positive.sum())
        # an epoch that fills not one batch is refused, not filled with negatives
        return wanted + (-whole % self.batch_size if whole >= self.batch_size else 0)

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """The rows of epoch `epoch`, positives and negatives mixed."""
        first = epoch * self._negatives_an_epoch
        all_negatives = np.flatnonzero(~self.positive)
        negatives = dealt(all_negatives, first, first + self._negatives_an_epoch, (self.seed, 1))
        rows = np.concatenate([np.flatnonzero(self.positive), negatives])
        return np.random.default_rng([self.seed, 0, epoch]).permutation(rows)

    def distinct_negatives(self, steps: int) -> int:
        """How many different negatives the first `steps` batches show."""
        per_epoch = steps_per_epoch(self, self.batch_size)
        shown = np.zeros(len(self.positive), bool)
        for first in range(0, steps, per_epoch):
            shown[self.epoch(first // per_epoch)[: min(per_epoch, steps - first) * self.batch_size]] = True
        return int((shown & ~self.positive).sum())
