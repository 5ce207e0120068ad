"""Metrics of a classifier and their bootstrap: pure functions of arrays, in float64, blind to the scale of a score.

`target` is 0 or 1 a row and `score` any finite number that grows with suspicion: a probability, a logit or a rank.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score

Floats = NDArray[np.float64]
Metric = Callable[[Floats, Floats], float]


class Interval(NamedTuple):
    """A metric on all rows, the ends of its bootstrap percentile interval, and the bootstrap's standard deviation."""

    value: float
    low: float
    high: float
    sd: float

    def named(self, name: str) -> dict[str, float]:
        """The value and its ends as columns of a report: `name`, `name`_low, `name`_high."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def __format__(self, spec: str) -> str:
        """The value and its ends in brackets, each by `spec`."""
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def partial_auc(target: ArrayLike, score: ArrayLike, min_tpr: float = 0.8) -> float:
    """Area of the ROC curve above TPR = `min_tpr`, 0 to 1 - `min_tpr`: ISIC-2024's metric; a constant scores 0.02.

    Kaggle turns the curve about (y' = |y - 1|, p' = -p) and takes the area for FPR' in [0, 1 - min_tpr]. So here: going
    up the scores, x counts the positives passed, the height the negatives; a tie is crossed along its diagonal.

    Raises:
        ValueError: see `roc_auc`; or `min_tpr` outside [0, 1).
    """
    if not 0 <= min_tpr < 1:
        raise ValueError(f"min_tpr must be in [0, 1), got {min_tpr}")
    target, score = _checked(target, score)
    order = np.argsort(score, kind="stable")  # linear in time on sorted scores, which is what bootstrap() brings
    target, score = target[order], score[order]
    tie_end = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    positives = np.diff(np.cumsum(target)[tie_end], prepend=0)
    negatives = np.diff(np.cumsum(1 - target)[tie_end], prepend=0)
    positives_before = np.cumsum(positives) - positives
    negatives_before = np.cumsum(negatives) - negatives

    limit = (1 - min_tpr) * positives.sum()
    width = np.clip(limit - positives_before, 0, positives)
    share_of_tie = np.divide(width, positives, out=np.zeros_like(width), where=positives > 0)
    height = negatives_before + 0.5 * share_of_tie * negatives
    return float(np.sum(width * height) / (positives.sum() * negatives.sum()))


def roc_auc(target: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve, 0 to 1: the chance that a positive outscores a negative, ties counting half.

    Raises:
        ValueError: shapes differ or are not (rows,); a NaN or infinite score; a target not 0 or 1, or of one class.
    """
    return partial_auc(target, score, min_tpr=0.0)


def average_precision(target: ArrayLike, score: ArrayLike) -> float:
    """Mean precision over the steps of recall, prevalence to 1 for useful scores (scikit-learn's definition).

    Raises:
        ValueError: as `roc_auc`.
    """
    target, score = _checked(target, score)
    return float(average_precision_score(target, score))


def top_k_sensitivity(target: ArrayLike, score: ArrayLike, patient: NDArray[np.generic], k: int = 15) -> float:
    """Share of the positives that are among the `k` rows of their patient with the highest scores, 0 to 1.

    ISIC-2024's secondary metric, with its `k`. A positive that ties with negatives comes after them.

    Raises:
        ValueError: as `roc_auc`; a `patient` that is not (rows,); `k` below 1.
    """
    target, score = _checked(target, score)
    if patient.shape != target.shape or k < 1:
        raise ValueError(
            f"patient must have the shape {target.shape}, got {patient.shape}, and k be 1 or more, got {k}"
        )
    of_patient = np.unique(patient, return_inverse=True)[1]
    order = np.lexsort((target, -score, of_patient))
    place = np.arange(len(order)) - np.searchsorted(of_patient[order], of_patient[order])
    return float((place[target[order] == 1] < k).mean())


def balanced_accuracy(target: ArrayLike, predicted: ArrayLike) -> float:
    """Mean recall over the classes in `target`, 0 to 1; classes are whole numbers, two or more of them.

    Raises:
        ValueError: shapes differ or are not (rows,); no rows; a value that is no class number.
    """
    target, predicted = _rows("target", target), _rows("predicted", predicted)
    _same_length(target, predicted)
    for name, values in (("target", target), ("predicted", predicted)):
        broken = np.flatnonzero(values != np.floor(values))
        if broken.size:
            row = broken[0]
            raise ValueError(f"{name} must hold class numbers, got {values[row]} at row {row}; threshold scores first")
    if not target.size:
        raise ValueError("balanced accuracy of no rows is undefined")
    return float(np.mean([np.mean(predicted[target == label] == label) for label in np.unique(target)]))


def classification_metrics(target: ArrayLike, score: ArrayLike) -> dict[str, float]:
    """`pauc` (0 to 0.2), `auc` and `ap` (0 to 1) of one set of scores; raises ValueError as `roc_auc`."""
    return {
        "pauc": partial_auc(target, score),
        "auc": roc_auc(target, score),
        "ap": average_precision(target, score),
    }


def bootstrap(
    metric: Metric,
    target: ArrayLike,
    score: ArrayLike,
    groups: NDArray[Any] | None = None,
    *,
    repeats: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of `metric(target, score)`, resampling whole `groups` (patients), or rows within each class.

    A resample that lost all classes but one is drawn again.

    Raises:
        ValueError: what `metric` refuses; one class or one group only; fewer than 2 repeats; a level outside (0, 1).
    """
    target, score = _rows("target", target), _rows("score", score)
    value = metric(target, score)
    resampled = _by_counts(metric, target, score)
    return _interval(value, [resampled(counts) for counts in _draw_counts(target, groups, repeats, seed)], level)


def bootstrap_over_draws(
    metric: Metric,
    target: ArrayLike,
    scores: Sequence[ArrayLike],
    groups: NDArray[Any] | None = None,
    *,
    repeats: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The mean of `metric` over several sets of scores of the same rows, such as of models trained on other draws, with the
    interval of a single set.

    Each resample of the rows takes the next set in turn, so that the interval holds the noise of both: it is where the
    metric of one more draw is to be expected, and wider than that of the mean. Of one set it is that of `bootstrap`.

    Raises:
        ValueError: as `bootstrap`; no scores.
    """
    target, sets = _rows("target", target), [_rows("scores", score) for score in scores]
    if not sets:
        raise ValueError("there are no scores")
    value = float(np.mean([metric(target, score) for score in sets]))
    metrics = [_by_counts(metric, target, score) for score in sets]
    draws = enumerate(_draw_counts(target, groups, repeats, seed))
    return _interval(value, [metrics[number % len(sets)](counts) for number, counts in draws], level)


def paired_bootstrap(
    metric: Metric,
    target: ArrayLike,
    score_a: ArrayLike,
    score_b: ArrayLike,
    groups: NDArray[Any] | None = None,
    *,
    repeats: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of `metric(target, score_a) - metric(target, score_b)` on the same resamples; else as `bootstrap`."""
    target, score_a, score_b = _rows("target", target), _rows("score_a", score_a), _rows("score_b", score_b)
    value = metric(target, score_a) - metric(target, score_b)
    metric_a, metric_b = _by_counts(metric, target, score_a), _by_counts(metric, target, score_b)
    differences = [metric_a(counts) - metric_b(counts) for counts in _draw_counts(target, groups, repeats, seed)]
    return _interval(value, differences, level)


def _by_counts(metric: Metric, target: Floats, score: Floats) -> Callable[[NDArray[np.int64]], float]:
    """`metric` as a function of how often each row is drawn; rows stay sorted by score, so no resample sorts again."""
    order = np.argsort(score, kind="stable")
    target, score = target[order], score[order]

    def resampled(counts: NDArray[np.int64]) -> float:
        counts = counts[order]
        return metric(np.repeat(target, counts), np.repeat(score, counts))

    return resampled


def _draw_counts(target: Floats, groups: NDArray[Any] | None, repeats: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield `repeats` times how often each row is drawn, (rows,)."""
    if repeats < 2:
        raise ValueError(f"a bootstrap needs 2+ repeats, got {repeats}")
    classes, class_of_row = np.unique(target, return_inverse=True)
    if classes.size < 2:
        raise ValueError(f"a bootstrap needs both classes in target, got only {classes}")
    rng = np.random.default_rng(seed)
    if groups is None:
        rows_by_class = [np.flatnonzero(class_of_row == label) for label in range(classes.size)]
        for _ in range(repeats):
            drawn = np.concatenate([rng.choice(rows, size=rows.size) for rows in rows_by_class])
            yield np.bincount(drawn, minlength=target.size)
        return
    if len(groups) != target.size:
        raise ValueError(f"groups must have one value a row: got {len(groups)} for {target.size} rows")
    names, group_of_row = np.unique(groups, return_inverse=True)
    if names.size < 2:
        raise ValueError(
            f"resampling groups needs 2+ of them, got only {names[0]!r}; leave groups out to resample rows"
        )
    done = 0
    while done < repeats:
        drawn = rng.integers(names.size, size=names.size)
        counts = np.bincount(drawn, minlength=names.size)[group_of_row]
        if np.unique(class_of_row[counts > 0]).size > 1:
            done += 1
            yield counts


def _interval(value: float, resampled: list[float], level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), float(np.std(resampled, ddof=1)))


def _checked(target: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
    target, score = _rows("target", target), _rows("score", score)
    _same_length(target, score)
    broken = np.flatnonzero((target != 0) & (target != 1))
    if broken.size:
        raise ValueError(f"target must be 0 or 1, got {target[broken[0]]} at row {broken[0]}")
    positives = int(target.sum())
    if positives in (0, target.size):
        raise ValueError(f"both classes are needed, got {positives} positives in {target.size} rows")
    return target, score


def _rows(name: str, values: ArrayLike) -> Floats:
    """`values` as float64 of shape (rows,), all finite."""
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 1:
        raise ValueError(f"{name} must have the shape (rows,), got {rows.shape}")
    broken = np.flatnonzero(~np.isfinite(rows))
    if broken.size:
        raise ValueError(f"{name} must be finite, got {rows[broken[0]]} at row {broken[0]} ({broken.size} such rows)")
    return rows


def _same_length(target: Floats, other: Floats) -> None:
    if target.size != other.size:
        raise ValueError(f"target has {target.size} rows and what is compared with it {other.size}")
