"""Images of the same patient, lesion or clinic, and what training makes of it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.decks import dealt

Texts = NDArray[np.str_]
Group = Literal["patient", "lesion"]
"""Whose images belong together."""


def numbered(values: Texts) -> NDArray[np.int64]:
    """A number for each distinct value, and one of its own for each image whose value is "" (N,)."""
    numbers = np.unique(values, return_inverse=True)[1].astype(np.int64)
    unknown = np.flatnonzero(values == "")
    numbers[unknown] = len(values) + np.arange(len(unknown))
    return numbers


class SameGroup:
    """For each row, the other rows of its group (its lesion)."""

    def __init__(self, group: NDArray[np.int64]) -> None:
        self._rows = np.argsort(group, kind="stable")
        self._place = np.empty_like(self._rows)
        self._place[self._rows] = np.arange(len(group))
        in_order = group[self._rows]
        self._first = np.searchsorted(in_order, group, side="left")
        self._size = np.searchsorted(in_order, group, side="right") - self._first

    def other(self, row: int, rng: np.random.Generator) -> int:
        """Another row of the group of `row`, drawn at random; `row` itself where there is none."""
        size = int(self._size[row])
        if size == 1:
            return row
        own = int(self._place[row] - self._first[row])
        return int(self._rows[self._first[row] + (own + 1 + int(rng.integers(size - 1))) % size])


@dataclass(frozen=True)
class BalancedByGroup:
    """Every group (clinic) equally often: any G draws in a row hold each of the G groups once.

    An epoch has as many draws as there are rows, less what does not divide by G. Large groups are dealt from shuffled decks
    over the epochs, so that all of their rows come; small ones come again. An `ssl_isic.data.loading.Order`.
    """

    group: NDArray[np.int64]
    seed: int

    def __len__(self) -> int:
        groups = len(np.unique(self.group))
        return len(self.group) // groups * groups

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        names = np.unique(self.group)
        share = len(self.group) // len(names)
        drawn = [
            dealt(np.flatnonzero(self.group == name), epoch * share, (epoch + 1) * share, (self.seed, number))
            for number, name in enumerate(names)
        ]
        rng = np.random.default_rng([self.seed, len(names), epoch])
        return rng.permuted(np.stack(drawn, axis=1), axis=1).reshape(-1)
