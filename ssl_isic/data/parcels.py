"""Batches on their way from a worker to the training process.

A tensor that a worker sends takes a file in shared memory, a message and a mapping of its own, whatever its size. So all
pixels of a batch travel as one tensor, into which each image is written as soon as it is made; a few numbers go beside it.

Shapes: B images in a batch; a view is uint8 (B, height, width, 3).
"""

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from ssl_isic.data.steps.step import Image
from ssl_isic.errors import InputError

Shape = tuple[int, ...]


class Parcel:
    """The views of B images, one after the other in `pixels`, and arrays (B,) by name."""

    def __init__(self, pixels: Tensor, shapes: list[Shape], numbers: dict[str, NDArray[Any]], bad: list[int]) -> None:
        self.pixels, self.shapes, self.numbers, self.bad = pixels, shapes, numbers, bad

    def pin_memory(self) -> "Parcel":
        """The same in memory that a GPU reads from directly. DataLoader calls this."""
        return Parcel(self.pixels.pin_memory(), self.shapes, self.numbers, self.bad)

    def views(self) -> list[Tensor]:
        """The views, as parts of `pixels`."""
        ends = np.cumsum([prod(shape) for shape in self.shapes]).tolist()
        return [self.pixels[end - prod(shape) : end].view(shape) for end, shape in zip(ends, self.shapes, strict=True)]


class Packing:
    """A parcel of B images in the making."""

    def __init__(self, images: int) -> None:
        self._images = images
        self._pixels: Tensor | None = None
        self._views: list[NDArray[np.uint8]] = []

    def put(self, row: int, views: Sequence[Image]) -> None:
        """Write the views of image `row`; those of all images have the same sizes."""
        if self._pixels is None:
            self._pixels = _room_for(sum(self._images * view.size for view in views))
            shapes = [(self._images, *view.shape) for view in views]
            self._views = [view.numpy() for view in Parcel(self._pixels, shapes, {}, []).views()]
        for all_of_it, view in zip(self._views, views, strict=True):
            all_of_it[row] = view

    def sealed(self, numbers: dict[str, NDArray[Any]], bad: Iterable[int] = ()) -> Parcel:
        """The parcel, when all images are in it."""
        if self._pixels is None:
            raise ValueError("a parcel of no images")
        return Parcel(self._pixels, [view.shape for view in self._views], numbers, list(bad))


def _room_for(size: int) -> Tensor:
    if get_worker_info() is None:
        return torch.empty(size, dtype=torch.uint8)
    # in a worker straight in shared memory, as torch's own collating does: it would be copied there to be sent
    return torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(size))  # type: ignore[no-untyped-call]


def as_it_is(parcel: Any) -> Any:
    """Collate nothing: the dataset makes whole batches."""
    return parcel


def parcels(loader: DataLoader[Any]) -> Iterator[Parcel]:
    """The batches of `loader`.

    Raises:
        InputError: as a worker did, without its traceback.
    """
    batches = iter(loader)
    while True:
        try:
            parcel: Parcel = next(batches)
        except StopIteration:
            return
        except InputError as error:  # DataLoader puts a worker's traceback before the message
            raise InputError(str(error).strip().rpartition("InputError: ")[2]) from None
        yield parcel
