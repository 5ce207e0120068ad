"""Which unlabelled images a teacher's word is taken for: the most certain of each class, up to a quota for each class.

Never one fixed cut: at a prevalence of 0.1 %, no malignant lesion passes 0.95 and every benign one does.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ssl_isic.config import Config


class SelectionConfig(Config):
    """Quotas of pseudo-labels."""

    positive_share: float = Field(0.3, gt=0, le=1)
    """Quota of positives in round 1, as a share of how many the calibrated teacher expects in the pool."""
    share_growth: float = Field(0.2, ge=0, le=1)
    """Added to the share in each further round."""
    negatives_per_positive: float = Field(10.0, ge=0)
    """Quota of negatives for each pseudo-positive."""
    weight: float = Field(0.5, gt=0, le=1)
    """Weight of a certain pseudo-label beside a label; less certain ones count in proportion."""
    targets: Literal["soft", "hard"] = "soft"
    """`soft` trains on calibrated probabilities, `hard` on 0 and 1."""


@dataclass(frozen=True)
class Selection:
    """M chosen images: rows of the pool's scores, pseudo-labels 0 or 1, and the two quotas."""

    rows: NDArray[np.int64]
    label: NDArray[np.int64]
    positive_quota: int
    negative_quota: int
    expected_positives: float


def select(p: NDArray[np.float64], usable: NDArray[np.bool_], config: SelectionConfig, round_number: int) -> Selection:
    """Choose by quota from calibrated probabilities `p` (N,), among the `usable` (N,). Ties go to the earlier row.

    The number of positives that a calibrated teacher expects is the sum of its probabilities; the quota is a share of it
    that grows with `round_number` (1, 2, ...).
    """
    candidates = np.flatnonzero(usable)
    by_certainty = candidates[np.argsort(-p[candidates], kind="stable")]
    expected = float(p[candidates].sum())
    share = min(1.0, config.positive_share + config.share_growth * (round_number - 1))
    positive_quota = min(round(share * expected), len(candidates))
    negative_quota = min(round(config.negatives_per_positive * positive_quota), len(candidates) - positive_quota)
    positives = by_certainty[:positive_quota]
    rest = by_certainty[positive_quota:]
    negatives = rest[np.argsort(p[rest], kind="stable")][:negative_quota]
    return Selection(
        np.concatenate([positives, negatives]),
        np.concatenate([np.ones(len(positives), np.int64), np.zeros(len(negatives), np.int64)]),
        positive_quota,
        negative_quota,
        expected,
    )
