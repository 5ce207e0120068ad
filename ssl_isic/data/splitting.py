"""Groups dealt to folds so that each fold has its share of every class. Shapes: G groups, C classes, K folds."""

import numpy as np
from numpy.typing import NDArray


def deal_groups(counts: NDArray[np.int64], n_folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each group (G,), 0 to `n_folds` - 1, from the rows that it has of each class, (G, C).

    Greedy, from large to small: a group goes where the sum over folds and classes of (share of the class's rows)^2 then
    grows least. Groups whose shares are within a factor of two are shuffled, so that another seed deals even patients of
    unlike sizes anew; scikit-learn's StratifiedGroupKFold, whose idea this is, sorts them strictly and takes minutes for
    300,000 groups where this takes seconds.
    """
    rng = np.random.default_rng(seed)
    totals = np.maximum(1, counts.sum(axis=0))
    octave = np.floor(np.log2((counts / totals).sum(axis=1)))
    order = np.lexsort((rng.permutation(len(counts)), -octave))
    growth = (counts / totals**2)[order].tolist()
    loads = [[0] * counts.shape[1] for _ in range(n_folds)]
    chosen = []
    for added, grows in zip(counts[order].tolist(), growth, strict=True):
        costs = [sum(load * weight for load, weight in zip(fold, grows, strict=True)) for fold in loads]
        best = costs.index(min(costs))
        chosen.append(best)
        loads[best] = [load + more for load, more in zip(loads[best], added, strict=True)]
    fold = np.empty(len(counts), np.int64)
    fold[order] = chosen
    return fold
