"""Predictions of a classifier on images: none dropped, none repeated, on one process or many.

Shapes: N images. Probabilities are float64, since ranks of tiny ones decide pAUC.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from ssl_isic.data.images import ImagePool
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import InputError
from ssl_isic.evaluation.forward import forward_images
from ssl_isic.files import atomic_write


class GivesLogits(Protocol):
    """A classifier: uint8 pixels (B, h, w, 3) to float32 logits (B,)."""

    def logits(self, pixels: Tensor) -> Tensor:
        """The logits of a batch."""


class Prediction(NamedTuple):
    """Logits (N,), finite, and which images could be read, bool (N,). The logit of an image that could not means nothing."""

    logits: NDArray[np.float64]
    readable: NDArray[np.bool_]

    def probabilities(self, prior: float) -> NDArray[np.float64]:
        """Probabilities (N,) of malignancy; an image that could not be read gets the mean of the others, `prior` if none.

        Scores are those of a network that has seen more positives than there are. On its scale the mean stands for what is
        known of an image that nobody has seen, where the prior would rank it below all others.
        """
        p = sigmoid(self.logits)
        return np.where(self.readable, p, p[self.readable].mean() if self.readable.any() else prior)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logistic function, without overflow, (N,)."""
    return np.exp(-np.logaddexp(0.0, -logits))


def predict(
    classifier: GivesLogits,
    pool: ImagePool,
    indices: NDArray[np.int64],
    *,
    image_size: int,
    batch_size: int,
    loader: LoaderConfig,
    cleaning: Sequence[str] = (),
    accelerator: Accelerator,
    title: str | None = None,
) -> Prediction:
    """Predict the pool's images `indices` (N,), of which -1 stands for an image that is not there.

    Every rank calls this and gets all N. The classifier must be in evaluation mode, on the accelerator's device.
    `cleaning` names what is done to each image first: what was done in training.

    Raises:
        InputError: a logit that is not finite, on all ranks alike.
    """
    blocks = forward_images(
        classifier.logits,
        pool,
        indices,
        image_size=image_size,
        batch_size=batch_size,
        loader=loader,
        accelerator=accelerator,
        cleaning=cleaning,
        title=title,
    )
    logits, readable = list[NDArray[np.float64]](), list[NDArray[np.bool_]]()
    done = 0
    for block in blocks:
        broken = np.flatnonzero(block.readable & ~np.isfinite(block.values))
        if broken.size:
            raise InputError(
                f"the score of {pool.id_of(int(indices[done + broken[0]]))} is not a number: the weights are damaged, or the "
                "network overflows; launch with --mixed_precision bf16 or no"
            )
        logits.append(np.where(block.readable, block.values, 0).astype(np.float64, copy=False))
        readable.append(block.readable)
        done += len(block.values)
    return Prediction(np.concatenate([np.empty(0), *logits]), np.concatenate([np.empty(0, bool), *readable]))


def write_predictions(path: Path, ids: Sequence[str], **columns: NDArray[np.generic]) -> None:
    """Write a CSV of `isic_id` and `columns`, float64 with all their digits."""
    with atomic_write(path) as temporary:
        pd.DataFrame({"isic_id": list(ids), **columns}).to_csv(temporary, index=False, float_format="%.17g")
