"""Dealing rows from shuffled decks: none comes again before every other has come."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def dealt(rows: NDArray[np.int64], start: int, stop: int, seed: Sequence[int]) -> NDArray[np.int64]:
    """Cards `start` to `stop` of the endless row of shuffled decks of `rows`, a function of `seed`."""
    decks = range(start // len(rows), (stop - 1) // len(rows) + 1)
    cards = np.concatenate([np.random.default_rng([*seed, deck]).permutation(rows) for deck in decks])
    offset = start - decks[0] * len(rows)
    return cards[offset : offset + stop - start]
