"""Batches on their way from a worker to the training process.

By default a worker takes new shared memory for each tensor of each batch: a file, a message, a mapping in either process, and a
page fault for each 4 kB, all over again for the next batch. Here the workers write into blocks that were shared out before they
started, each image as soon as it is made, and send the number of the block. A block is free again when nothing in the training
process refers to its pixels any more; where none is free, the batch is sent through the pipe.

Shapes: B images in a batch; a view is uint8 (B, height, width, 3).
"""

import weakref
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from math import prod
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ssl_isic.data.shared_array import SharedArray, shared_zeros
from ssl_isic.data.steps.step import Image
from ssl_isic.data.workers import LoaderConfig, started_by, worker_options
from ssl_isic.errors import InputError

Shape = tuple[int, ...]
MOST_BYTES = 4 << 30
"""Of all blocks together, unless each worker would have less than two: it fills one while the other is copied."""
BEING_USED = 2
"""Batches of a worker that may be in use beyond those made ahead: one that trains, one that is taken."""


class Blocks:
    """Memory for the batches of all workers, of `size` bytes each."""

    _known: "weakref.WeakValueDictionary[int, Blocks]" = weakref.WeakValueDictionary()
    _numbers = count()

    def __init__(self, loader: LoaderConfig, size: int) -> None:
        each = max(2, min(loader.prefetch + BEING_USED, MOST_BYTES // (loader.workers * size)))
        self._pixels = SharedArray((loader.workers, each, size), np.uint8)
        self._taken = shared_zeros((loader.workers, each), np.bool_)
        self.number = next(self._numbers)
        self._known[self.number] = self

    @classmethod
    def of(cls, number: int) -> "Blocks":
        """The blocks of this number, in the process that made them."""
        return cls._known[number]

    def free(self, worker: int, size: int) -> int | None:
        """A block that `worker` may write `size` bytes to, or None."""
        if size > self._pixels.values.shape[2] or self._taken.values[worker].all():
            return None
        return int(self._taken.values[worker].argmin())

    def pixels(self, worker: int, block: int, size: int) -> NDArray[np.uint8]:
        """The first `size` bytes of a block."""
        pixels: NDArray[np.uint8] = self._pixels.values[worker, block, :size]
        return pixels

    def take(self, worker: int, block: int) -> None:
        """Nobody may write to the block from now on."""
        self._taken.values[worker, block] = True

    def lend(self, worker: int, block: int, size: int) -> Tensor:
        """The pixels of a block that was taken; it is free again when the last tensor that shares them is gone."""
        pixels = self.pixels(worker, block, size)
        weakref.finalize(pixels, self._give_back, self._taken.values, worker, block).atexit = False
        return torch.from_numpy(pixels)

    @staticmethod
    def _give_back(taken: NDArray[np.bool_], worker: int, block: int) -> None:
        taken[worker, block] = False


class Parcel:
    """The views of B images, one after the other in `pixels`, and arrays (B,) by name."""

    def __init__(self, pixels: Tensor, shapes: list[Shape], numbers: dict[str, NDArray[Any]], bad: list[int]) -> None:
        self.pixels, self.shapes, self.numbers, self.bad = pixels, shapes, numbers, bad

    def pin_memory(self) -> "Parcel":
        """The same in memory that a GPU reads from directly. DataLoader calls this."""
        return Parcel(self.pixels.pin_memory(), self.shapes, self.numbers, self.bad)

    def views(self) -> list[Tensor]:
        """The views, as parts of `pixels`."""
        return _parts(self.pixels, self.shapes)


class Packing:
    """A parcel of B images in the making: in a block of `blocks`, where one is free."""

    def __init__(self, images: int, blocks: Blocks | None) -> None:
        self._images, self._blocks = images, blocks
        self._place: tuple[int, int] | None = None
        self._pixels = np.empty(0, np.uint8)
        self._shapes: list[Shape] = []
        self._views: list[NDArray[np.uint8]] = []

    def put(self, row: int, views: Sequence[Image]) -> None:
        """Write the views of image `row`; those of all images have the same sizes."""
        if not self._views:
            self._make_room([(self._images, *view.shape) for view in views])
        for all_of_it, view in zip(self._views, views, strict=True):
            all_of_it[row] = view

    def sealed(self, numbers: dict[str, NDArray[Any]], bad: Iterable[int] = ()) -> "Parcel | _Sent | _Copied":
        """The parcel, or what a worker sends in its place, when all images are in it."""
        if self._blocks is None:
            return Parcel(torch.from_numpy(self._pixels), self._shapes, numbers, list(bad))
        if self._place is None:
            return _Copied(self._pixels, self._shapes, numbers, list(bad))
        self._blocks.take(*self._place)
        return _Sent(self._blocks.number, self._place, self._pixels.size, self._shapes, numbers, list(bad))

    def _make_room(self, shapes: list[Shape]) -> None:
        size, worker = sum(map(prod, shapes)), get_worker_info()
        if self._blocks is not None and worker is not None:
            block = self._blocks.free(worker.id, size)
            self._place = None if block is None else (worker.id, block)
        if self._blocks is None or self._place is None:
            self._pixels = np.empty(size, np.uint8)
        else:
            self._pixels = self._blocks.pixels(*self._place, size)
        self._shapes, self._views = shapes, _parts(self._pixels, shapes)


class _Sent:
    """A parcel in a block on its way: unpickled, it is the `Parcel`."""

    def __init__(self, *contents: Any) -> None:
        self._contents = contents

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, self._contents


class _Copied(_Sent):
    """A parcel without a block on its way: its pixels go through the pipe, where a tensor's would take shared memory.

    Where there is none, in a container of 64 MB, a tensor is lost in a thread of the worker's, and waited for without end.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, self._contents


def _unpacked(
    pixels: NDArray[np.uint8], shapes: list[Shape], numbers: dict[str, NDArray[Any]], bad: list[int]
) -> Parcel:
    return Parcel(torch.from_numpy(pixels), shapes, numbers, bad)


def _arrived(
    blocks: int,
    place: tuple[int, int],
    size: int,
    shapes: list[Shape],
    numbers: dict[str, NDArray[Any]],
    bad: list[int],
) -> Parcel:
    return Parcel(Blocks.of(blocks).lend(*place, size), shapes, numbers, bad)


class Packs(Protocol):
    """A dataset that makes whole batches."""

    def pack(self, rows: list[Any], packing: Packing) -> Any:
        """Put the images of a batch into `packing`, and seal it."""


class _Packed(Dataset[Any]):
    """A dataset as DataLoader wants it, with the blocks that its workers write to."""

    def __init__(self, images: Packs, blocks: Blocks | None) -> None:
        self._images, self._blocks = images, blocks

    def __getitems__(self, rows: list[Any]) -> Any:
        return self._images.pack(rows, Packing(len(rows), self._blocks))


def parcels(images: Packs, largest_bytes: int, loader: LoaderConfig, **options: Any) -> Iterator[Parcel]:
    """The batches of `images`, made by the loader's processes, which live as long as the iterator.

    Args:
        largest_bytes: pixels of the largest batch.
        options: of the DataLoader: which rows make a batch.

    Raises:
        InputError: as a worker did, without its traceback.
    """
    blocks = Blocks(loader, largest_bytes) if loader.workers else None
    packed = _Packed(images, blocks)
    with started_by(loader.start_method):
        batches = iter(DataLoader(packed, collate_fn=_as_it_is, **options, **worker_options(loader)))
    while True:
        try:
            parcel: Parcel = next(batches)
        except StopIteration:
            return
        except InputError as error:  # DataLoader puts a worker's traceback before the message
            raise InputError(str(error).strip().rpartition("InputError: ")[2]) from None
        yield parcel
        del parcel  # or its block would be taken until the next one has come


def _as_it_is(parcel: Any) -> Any:
    return parcel


def _parts(pixels: Any, shapes: list[Shape]) -> list[Any]:
    """A flat array or tensor as arrays of `shapes`, one after the other."""
    ends = np.cumsum([prod(shape) for shape in shapes]).tolist()
    return [pixels[end - prod(shape) : end].reshape(shape) for end, shape in zip(ends, shapes, strict=True)]
