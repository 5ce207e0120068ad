"""Whole images, as they are embedded and classified: each once, in order, nothing random."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ssl_isic.data.cleaning import clean
from ssl_isic.data.decoding import ImageDecodeError, Shown, decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import Batch
from ssl_isic.data.parcels import Packing, parcels
from ssl_isic.data.steps.step import Image
from ssl_isic.data.store import UnreadableImage
from ssl_isic.data.workers import LoaderConfig


class EvaluationImages(Dataset[tuple[Image, bool]]):
    """Each image once, whole. One that is missing (index -1), cannot be read or does not decode is black and not `readable`.

    `view` makes an image of `size` x `size` px; `shown` is what `decode_rgb` may rely on. `cleaning` names what is done to
    each image first; it is then decoded whole.
    """

    def __init__(
        self,
        pool: ImagePool,
        indices: NDArray[np.int64],
        view: Callable[[Image], Image],
        size: int,
        shown: tuple[Shown, ...] = (),
        cleaning: Sequence[str] = (),
    ) -> None:
        self.pool, self.indices, self.view, self.size = pool, indices, view, size
        self.shown, self.cleaning = () if cleaning else shown, cleaning

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, row: int) -> tuple[Image, bool]:
        try:
            if self.indices[row] < 0:
                raise ImageDecodeError("no image")
            pixels = clean(decode_rgb(self.pool.read(int(self.indices[row])), self.shown), self.cleaning)
        except (ImageDecodeError, UnreadableImage):
            return np.zeros((self.size, self.size, 3), np.uint8), False
        return self.view(pixels), True

    def pack(self, rows: list[int], packing: Packing) -> Any:
        """Put the images of a batch into `packing`, and seal it."""
        readable = np.empty(len(rows), bool)
        for place, row in enumerate(rows):
            image, readable[place] = self[row]
            packing.put(place, [image])
        return packing.sealed({"readable": readable})


def evaluation_loader(
    dataset: EvaluationImages, rows: NDArray[np.int64], batch_size: int, loader: LoaderConfig, pin_memory: bool
) -> Iterator[Batch]:
    """The dataset's `rows` in order, none dropped, none repeated: `images` uint8 (B, size, size, 3), `readable` bool (B,)."""
    largest_bytes = batch_size * dataset.size**2 * 3
    which = {"sampler": rows.tolist(), "batch_size": batch_size}
    for parcel in parcels(dataset, largest_bytes, loader, pin_memory=pin_memory, **which):
        yield {"images": parcel.views()[0], "readable": torch.from_numpy(parcel.numbers["readable"])}
