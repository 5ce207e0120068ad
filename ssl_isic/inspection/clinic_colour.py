"""Whether colour gives the clinic away: a network that sees the clinic in the light can learn it in place of the lesion.

Shapes: N images, K clinics. Lab is CIE L*a*b*: L* 0 to 100, a* and b* about -128 to 127.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Floats = NDArray[np.float64]

FOLDS = 5
MOST_IMAGES = 20_000
"""Images that the clinic is predicted on; of more, a random sample."""
FEWEST_GROUPS = 2 * FOLDS
"""A clinic with fewer groups (patients) is not predicted: some fold would lack it."""
MAX_ITERATIONS = 1000
_SCALE, _OFFSET = np.array([100 / 255, 1, 1]), np.array([0, 128, 128])  # OpenCV's Lab in bytes


class ClinicColour(NamedTuple):
    """A clinic's images: the mean of their mean colours, and the standard deviation over images, Lab (3,)."""

    clinic: str
    images: int
    mean: Floats
    spread: Floats


class Told(NamedTuple):
    """How well twelve colour numbers tell the clinic of images whose group was not trained on."""

    clinics: list[str]
    images: int
    groups: int
    accuracy: float
    """The share of held-out images whose clinic is named rightly, over all folds."""
    majority: float
    """That of always naming the most frequent clinic of the images trained on."""
    by_fold: list[float]
    recall: Floats
    """The share of each clinic's images that is named rightly, (K,)."""


def colours_by_clinic(colour: NDArray[np.float32], codes: NDArray[np.int32], clinics: list[str]) -> list[ClinicColour]:
    """The colours (N, 12), as `evaluation.colour` gives them, by clinic, most images first; -1 in `codes` (N,) is no clinic."""
    lab = (colour[:, :3] - _OFFSET) * _SCALE
    found = [
        ClinicColour(name, len(own), own.mean(axis=0), own.std(axis=0))
        for code, name in enumerate(clinics)
        if len(own := lab[codes == code])
    ]
    return sorted(found, key=lambda one: -one.images)


def tell_clinic(
    colour: NDArray[np.float32], codes: NDArray[np.int32], clinics: list[str], groups: NDArray[np.int64], seed: int = 0
) -> Told | None:
    """Predict `codes` (N,), where known, from `colour` (N, 12) by logistic regression, `groups` (N,) whole in 5 folds.

    Standardised on what is trained on. None where fewer than two clinics have `FEWEST_GROUPS` groups.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(np.flatnonzero(codes >= 0))[:MOST_IMAGES])
    pairs = np.unique(np.stack([codes[rows], groups[rows]]), axis=1)[0]
    kept = np.flatnonzero(np.bincount(pairs, minlength=len(clinics)) >= FEWEST_GROUPS)
    rows = rows[np.isin(codes[rows], kept)]
    if len(kept) < 2:
        return None
    names, group = np.unique(groups[rows], return_inverse=True)
    fold = rng.permutation(np.arange(len(names)) % FOLDS)[group]
    truth, features = codes[rows], colour[rows].astype(np.float64)
    named, commonest = np.empty_like(truth), np.empty_like(truth)
    for number in range(FOLDS):
        held = fold == number
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
        named[held] = model.fit(features[~held], truth[~held]).predict(features[held])
        commonest[held] = np.bincount(truth[~held]).argmax()
    right = named == truth
    return Told(
        [clinics[code] for code in kept],
        len(rows),
        len(names),
        float(right.mean()),
        float(np.mean(commonest == truth)),
        [float(right[fold == number].mean()) for number in range(FOLDS)],
        np.array([right[truth == code].mean() for code in kept]),
    )
