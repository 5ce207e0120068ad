"""What one set of features is worth on labelled lesions: scores of every image, then metrics of the scores."""

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_isic.evaluation.lesions import Lesions
from ssl_isic.evaluation.neighbours import Features, knn_scores
from ssl_isic.evaluation.probe import FewShot, few_shot
from ssl_isic.evaluation.spectrum import alpha_req, or_none, rankme
from ssl_isic.metrics import bootstrap, bootstrap_over_draws, paired_bootstrap, partial_auc, roc_auc

Floats = NDArray[np.float64]
SPECTRUM_ROWS = 25_600  # as many as RankMe's authors use; a spectrum of more rows costs minutes
FEW_SHOT_RESAMPLES = 200
SCORING = 2
"""To be raised when the same features and settings begin to score otherwise: kept scores are then made anew."""
METRICS = {"auc": roc_auc, "pauc": partial_auc}


@dataclass(frozen=True)
class Scores:
    """Of N lesions and features of width `size`: scores (N,), few-shot scores by share, and two numbers of the spectrum."""

    size: int
    knn: Floats
    few_shot: list[FewShot]
    rankme: float | None
    """None where all features are zero."""
    alpha_req: float | None
    """None where the features have too few directions for a slope."""

    @property
    def probe(self) -> Floats:
        """Out-of-fold scores (N,) of the probe that was trained on every group outside the fold."""
        scores: Floats = self.few_shot[-1].scores[0]
        return scores


def score(
    features_ND: Features, lesions: Lesions, shares: tuple[float, ...], draws: int, neighbours: int, seed: int
) -> Scores:
    """Score N lesions by their features, each by what is outside its fold.

    `shares` of the training groups ascend and end in 1; `neighbours` vote for kNN.
    """
    rows = np.arange(len(features_ND))
    if len(rows) > SPECTRUM_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, SPECTRUM_ROWS, replace=False))
    return Scores(
        size=features_ND.shape[1],
        knn=knn_scores(features_ND, lesions.target, lesions.fold.astype(np.str_), neighbours),
        few_shot=few_shot(features_ND, lesions.target, lesions.groups, lesions.fold, shares, draws, seed),
        rankme=or_none(rankme, features_ND[rows]),
        alpha_req=or_none(alpha_req, features_ND[rows]),
    )


def standardised(features_ND: Features) -> Features:
    """Features (N, D) of mean 0 and standard deviation 1: what numbers of unlike units need before a cosine."""
    spread = features_ND.std(axis=0)
    result: Features = (features_ND - features_ND.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return result


def measure(scores: Scores, colour: Scores | None, lesions: Lesions, repeats: int, seed: int) -> dict[str, Any]:
    """The row of a report: metrics of kNN and probe, and their lead over `colour`'s, with 95 % intervals over groups."""
    row: dict[str, Any] = {"size": scores.size}
    settings: Any = {"groups": lesions.groups, "repeats": repeats, "seed": seed}
    for kind, values in (("knn", scores.knn), ("probe", scores.probe)):
        for name, metric in METRICS.items():
            row |= bootstrap(metric, lesions.target, values, **settings).named(f"{kind}_{name}")
    if colour is not None:
        row |= lead(scores, colour, "minus_colour", lesions, repeats, seed)
    return row | {"rankme": scores.rankme, "alpha_req": scores.alpha_req}


def lead(scores: Scores, other: Scores, name: str, lesions: Lesions, repeats: int, seed: int) -> dict[str, float]:
    """By how much kNN and probe of `scores` are ahead of `other`'s, as knn_METRIC_`name` and probe_METRIC_`name`.

    The 95 % intervals are of the same resamples of groups.
    """
    row = dict[str, float]()
    settings: Any = {"groups": lesions.groups, "repeats": repeats, "seed": seed}
    for kind, mine, others in (("knn", scores.knn, other.knn), ("probe", scores.probe, other.probe)):
        for metric_name, metric in METRICS.items():
            ahead = paired_bootstrap(metric, lesions.target, mine, others, **settings)
            row |= ahead.named(f"{kind}_{metric_name}_{name}")
    return row


def few_shot_rows(scores: Scores, lesions: Lesions, repeats: int, seed: int) -> list[dict[str, Any]]:
    """A row a share and draw: the groups trained on, mean over folds and draws, and the metrics.

    The ends of their 95 % intervals are the share's, over its draws and over groups, of 200 resamples at most.
    """
    settings: Any = {"groups": lesions.groups, "repeats": min(repeats, FEW_SHOT_RESAMPLES), "seed": seed}
    rows = list[dict[str, Any]]()
    for shot in scores.few_shot:
        ends = dict[str, float]()
        for name, metric in METRICS.items():
            ends |= bootstrap_over_draws(metric, lesions.target, list(shot.scores), **settings).named(name)
        rows += [
            {
                "share": shot.share,
                "draw": draw,
                "train_groups": shot.train_groups,
                "train_positive_groups": shot.train_positives,
                **ends,
                **{name: metric(lesions.target, drawn) for name, metric in METRICS.items()},
            }
            for draw, drawn in enumerate(shot.scores)
        ]
    return rows


def to_arrays(scores: Scores) -> dict[str, NDArray[Any]]:
    """`scores` as named arrays, which `from_arrays` turns back."""
    about = [(shot.share, shot.train_groups, shot.train_positives) for shot in scores.few_shot]
    spectrum = [np.nan if value is None else value for value in (scores.rankme, scores.alpha_req)]
    arrays = {"knn": scores.knn, "about": np.array(about), "numbers": np.array([scores.size, *spectrum])}
    return arrays | {f"shot{place}": shot.scores for place, shot in enumerate(scores.few_shot)}


def from_arrays(arrays: dict[str, NDArray[Any]]) -> Scores:
    """The `Scores` that `to_arrays` was given."""
    size, *spectrum = arrays["numbers"].tolist()
    rank, alpha = (None if np.isnan(value) else value for value in spectrum)
    shots = [
        FewShot(share, arrays[f"shot{place}"], groups, positives)
        for place, (share, groups, positives) in enumerate(arrays["about"].tolist())
    ]
    return Scores(int(size), arrays["knn"], shots, rank, alpha)


def lesions_hash(lesions: Lesions, *settings: object) -> str:
    """A hash of all that scores depend on besides the features: labels, groups, folds, settings and this library's version."""
    digest = hashlib.sha256(
        repr((version("ssl-isic"), SCORING, lesions.ids, lesions.groups.tolist(), settings)).encode()
    )
    for array in (lesions.target, lesions.fold):
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
