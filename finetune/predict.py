"""Predictions of a classifier on images: none dropped, none repeated, on one process or many.

Shapes: N images. Probabilities are float64, since ranks of tiny ones decide pAUC.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import EvaluationImages, evaluation_loader
from ssl_isic.data.views import eval_view
from ssl_isic.files import atomic_write
from ssl_isic.loop import LoaderConfig


class GivesLogits(Protocol):
    """A classifier: uint8 pixels (B, h, w, 3) to float32 logits (B,)."""

    def logits(self, pixels: Tensor) -> Tensor:
        """The logits of a batch."""


class Prediction(NamedTuple):
    """Logits (N,), and which images could be read, bool (N,). The logit of an image that could not means nothing."""

    logits: NDArray[np.float64]
    readable: NDArray[np.bool_]

    def probabilities(self, prior: float) -> NDArray[np.float64]:
        """Probabilities (N,) of malignancy; an image that could not be read gets `prior`."""
        return np.where(self.readable, sigmoid(self.logits), prior)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logistic function, without overflow, (N,)."""
    return np.exp(-np.logaddexp(0.0, -logits))


@torch.no_grad()
def predict(
    classifier: GivesLogits,
    pool: ImagePool,
    indices: NDArray[np.int64],
    *,
    image_size: int,
    batch_size: int,
    loader: LoaderConfig,
    accelerator: Accelerator,
    title: str | None = None,
) -> Prediction:
    """Predict the pool's images `indices` (N,), of which -1 stands for an image that is not there.

    Every rank calls this and gets all N. The classifier must be in evaluation mode, on the accelerator's device.
    """
    rows = np.arange(accelerator.process_index, len(indices), accelerator.num_processes)
    images = EvaluationImages(pool, indices, eval_view(image_size), image_size)
    batches = evaluation_loader(images, rows, batch_size, loader.workers, loader.start_method)
    bar = tqdm(batches, desc=title, unit="batch", disable=title is None or not accelerator.is_main_process)
    logits, readable = [np.empty(0)], [np.empty(0, bool)]
    for batch in bar:
        with accelerator.autocast():
            values = classifier.logits(batch["images"].to(accelerator.device, non_blocking=True))
        logits.append(values.double().cpu().numpy())
        readable.append(batch["readable"].numpy())
    parts = gather_object([(rows, np.concatenate(logits), np.concatenate(readable))])
    everything = Prediction(np.zeros(len(indices)), np.zeros(len(indices), bool))
    for part_rows, part_logits, part_readable in parts:
        everything.logits[part_rows], everything.readable[part_rows] = part_logits, part_readable
    return everything


def write_predictions(path: Path, ids: Sequence[str], **columns: NDArray[np.generic]) -> None:
    """Write a CSV of `isic_id` and `columns`, float64 with all their digits."""
    with atomic_write(path) as temporary:
        pd.DataFrame({"isic_id": list(ids), **columns}).to_csv(temporary, index=False, float_format="%.17g")
