"""Whole images, as they are embedded and classified: each once, in order, nothing random."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from ssl_isic.data.decoding import ImageDecodeError, Shown, decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import Batch
from ssl_isic.data.parcels import Packing, Parcel, as_it_is, parcels
from ssl_isic.data.steps.step import Image
from ssl_isic.data.workers import LoaderConfig, worker_options


class EvaluationImages(Dataset[tuple[Image, bool]]):
    """Each image once, whole. An image that is missing (index -1) or does not decode comes back black and not `readable`.

    `view` makes an image of `size` x `size` px; `shown` is what `decode_rgb` may rely on.
    """

    def __init__(
        self,
        pool: ImagePool,
        indices: NDArray[np.int64],
        view: Callable[[Image], Image],
        size: int,
        shown: tuple[Shown, ...] = (),
    ) -> None:
        self.pool, self.indices, self.view, self.size, self.shown = pool, indices, view, size, shown

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, row: int) -> tuple[Image, bool]:
        try:
            if self.indices[row] < 0:
                raise ImageDecodeError("no image")
            pixels = decode_rgb(self.pool.read(int(self.indices[row])), self.shown)
        except ImageDecodeError:
            return np.zeros((self.size, self.size, 3), np.uint8), False
        return self.view(pixels), True

    def __getitems__(self, rows: list[int]) -> Parcel:
        packing, readable = Packing(len(rows)), np.empty(len(rows), bool)
        for place, row in enumerate(rows):
            image, readable[place] = self[row]
            packing.put(place, [image])
        return packing.sealed({"readable": readable})


def evaluation_loader(
    dataset: EvaluationImages, rows: NDArray[np.int64], batch_size: int, loader: LoaderConfig, pin_memory: bool
) -> Iterator[Batch]:
    """The dataset's `rows` in order, none dropped, none repeated: `images` uint8 (B, size, size, 3), `readable` bool (B,)."""
    batches: DataLoader[tuple[Image, bool]] = DataLoader(
        dataset,
        sampler=rows.tolist(),
        batch_size=batch_size,
        collate_fn=as_it_is,
        pin_memory=pin_memory,
        **worker_options(loader),
    )
    for parcel in parcels(batches):
        yield {"images": parcel.views()[0], "readable": torch.from_numpy(parcel.numbers["readable"])}
