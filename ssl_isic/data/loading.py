"""From a pool of images to batches: which image is drawn when, by which rank, with which views.

Everything here is a function of (seed, step), never of the worker or of what ran before, so that a run can stop at any
step and go on exactly, and so that N processes see together what one process would see alone.

Shapes: B images in a micro-batch of one rank, views are uint8 (B, height, width, 3).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from ssl_isic.data.cleaning import clean
from ssl_isic.data.decoding import ImageDecodeError, Shown, decode_rgb
from ssl_isic.data.groups import SameGroup
from ssl_isic.data.images import ImagePool
from ssl_isic.data.parcels import Packing, parcels
from ssl_isic.data.steps.step import Image
from ssl_isic.data.views import SeededViews
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import InputError

Batch = dict[str, Any]
DRAWN = "drawn"
"""Of a batch whose views are finished on the device: what was drawn for them, float64 (B, D)."""
FEWEST_TRIES = 8


class Draw(NamedTuple):
    """One image of a batch: its row in the dataset, and its place in the run's endless stream of images."""

    row: int
    position: int
    ahead: int | None = None
    """A row that is drawn later, and may be fetched meanwhile."""


class Order(Protocol):
    """The order in which an epoch goes through the rows of a dataset: a pure function of the epoch."""

    def __len__(self) -> int:
        """Draws in an epoch."""

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """The rows of epoch `epoch`, in order."""


@dataclass(frozen=True)
class ShuffledOrder:
    """Every row once an epoch, in a new random order each time."""

    rows: int
    seed: int

    def __len__(self) -> int:
        return self.rows

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, epoch]).permutation(self.rows)


@dataclass(frozen=True)
class BatchLayout:
    """How the images of one optimizer step are shared out over ranks and accumulated micro-batches.

    Raises:
        InputError: `batch_size` does not divide evenly.
    """

    batch_size: int
    accumulate: int = 1
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        shares = self.accumulate * self.world_size
        if self.batch_size % shares:
            raise InputError(
                f"loop.batch_size={self.batch_size} does not divide into {self.world_size} processes x "
                f"loop.accumulate={self.accumulate}; use a multiple of {shares}"
            )

    @property
    def micro_batch(self) -> int:
        """Images of one forward pass on one rank."""
        return self.batch_size // (self.accumulate * self.world_size)

    def slices(self) -> Iterator[slice]:
        """This rank's share of the images of a step, one slice a micro-batch."""
        for micro in range(self.accumulate):
            start = (micro * self.world_size + self.rank) * self.micro_batch
            yield slice(start, start + self.micro_batch)


class TrainingStream(Sampler[list[Draw]]):
    """The micro-batches of one rank from `start_step` to `total_steps`, epoch after epoch; a last, smaller batch is dropped.

    Each draw names the row that is drawn about `lookahead` images later; with 0, none.
    """

    def __init__(
        self, order: Order, layout: BatchLayout, start_step: int, total_steps: int, lookahead: int = 0
    ) -> None:
        self.order, self.layout, self.lookahead = order, layout, lookahead
        self.start_step, self.total_steps = start_step, total_steps
        self.steps_per_epoch = steps_per_epoch(order, layout.batch_size)

    def __len__(self) -> int:
        return max(0, self.total_steps - self.start_step) * self.layout.accumulate

    def __iter__(self) -> Iterator[list[Draw]]:
        size = self.layout.batch_size
        steps = range(self.start_step, self.total_steps)
        for step, batch, ahead in zip(steps, self._batches(self.start_step), self._ahead(), strict=False):
            draws = list(map(Draw, batch, range(step * size, (step + 1) * size), ahead))
            for part in self.layout.slices():
                yield draws[part]

    def _batches(self, start_step: int) -> Iterator[list[int]]:
        """The rows of each step, from `start_step` on."""
        size = self.layout.batch_size
        epoch, rows = -1, np.empty(0, np.int64)
        for step in range(start_step, self.total_steps):
            step_epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
            if step_epoch != epoch:
                epoch, rows = step_epoch, self.order.epoch(step_epoch)
            yield rows[step_in_epoch * size : (step_in_epoch + 1) * size].tolist()

    def _ahead(self) -> Iterator[Sequence[int | None]]:
        """For each step, the rows of a later one, as long as there is one."""
        none = repeat([None] * self.layout.batch_size)
        if self.lookahead == 0:
            return none
        return chain(self._batches(self.start_step + max(1, self.lookahead // self.layout.batch_size)), none)


def steps_per_epoch(order: Order, batch_size: int) -> int:
    """Optimizer steps of one epoch. InputError when an epoch does not fill one batch."""
    steps = len(order) // batch_size
    if steps == 0:
        raise InputError(f"an epoch of {len(order)} images does not fill one batch; lower loop.batch_size={batch_size}")
    return steps


class TrainingImages(Dataset[dict[str, Any]]):
    """Views of pool images for training, with the columns (targets, weights) that go with them.

    An image that does not decode is replaced by another that does, so that every rank keeps equal batches; its row is
    reported in the batch as `bad`. With `pairs`, every other view shows another photograph of the same lesion where there
    is one. `shown` is what `decode_rgb` may rely on (`shown.shown_by`). `cleaning` names what is done to each image before
    its views are made; it is then decoded whole, since what is thin is gone from a reduced one.
    """

    def __init__(
        self,
        pool: ImagePool,
        indices: NDArray[np.int64],
        views: SeededViews,
        seed: int,
        columns: Mapping[str, NDArray[np.float64]] | None = None,
        pairs: SameGroup | None = None,
        shown: tuple[Shown, ...] = (),
        cleaning: Sequence[str] = (),
    ) -> None:
        self.pool, self.indices, self.views, self.seed = pool, indices, views, seed
        self.columns, self.pairs = dict(columns or {}), pairs
        self.shown, self.cleaning = () if cleaning else shown, cleaning

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        bad: list[int] = []
        if draw.ahead is not None:
            self.pool.fetch_ahead(int(self.indices[draw.ahead]))
        row, pixels = self._decoded(draw.row, bad)
        columns = {name: float(values[row]) for name, values in self.columns.items()}
        seed, other = (self.seed, draw.position), self._other_photograph(row, draw.position, bad)
        views, drawn = (
            self.views.begun(pixels, seed, other) if self.views.on_device else (self.views(pixels, seed, other), [])
        )
        return {"views": views, "drawn": drawn, "row": row, "bad": bad, "columns": columns}

    def pack(self, draws: list[Draw], packing: Packing) -> Any:
        """Put the samples of a batch into `packing`, and seal it."""
        rows, bad, drawn = np.empty(len(draws), np.int64), [], []
        columns = {name: np.empty(len(draws), np.float32) for name in self.columns}
        for place, draw in enumerate(draws):
            sample = self[draw]
            packing.put(place, sample["views"])
            rows[place] = sample["row"]
            bad += sample["bad"]
            drawn.append(sample["drawn"])
            for name, values in columns.items():
                values[place] = sample["columns"][name]
        on_device = {DRAWN: np.array(drawn)} if self.views.on_device else {}
        return packing.sealed({"row": rows, **columns, **on_device}, bad)

    def _decoded(self, row: int, bad: list[int]) -> tuple[int, Image]:
        """The first that decodes of `row` and the 1st, 3rd, 7th, 15th, ... row after it, and its pixels; those that do not
        are added to `bad`. Damaged stretches of a file are soon left, and not all replaced by the image behind them."""
        tries = max(FEWEST_TRIES, len(self).bit_length())
        for attempt in range(tries):
            try:
                return row, self._pixels(row)
            except ImageDecodeError as error:
                bad.append(row)
                last = f"the last {self.id_of(row)} ({error})"
                row = (row + 2**attempt) % len(self)
        raise InputError(
            f"none of {tries} images, near and far in the file, decodes, {last}; is the file of images damaged?"
        )

    def _other_photograph(self, row: int, position: int, bad: list[int]) -> Image | None:
        if self.pairs is None:
            return None
        other = self.pairs.other(row, np.random.default_rng([self.seed, position, 1]))
        try:
            return self._pixels(other) if other != row else None
        except ImageDecodeError:
            bad.append(other)
            return None

    def _pixels(self, row: int) -> Image:
        return clean(decode_rgb(self.pool.read(int(self.indices[row])), self.shown), self.cleaning)

    def id_of(self, row: int) -> str:
        """The `isic_id` of dataset row `row`."""
        return self.pool.id_of(int(self.indices[row]))


def training_loader(
    dataset: TrainingImages, stream: TrainingStream, loader: LoaderConfig, pin_memory: bool
) -> Iterator[Batch]:
    """The batches of `stream`, made by the loader's processes, which live as long as the iterator.

    A batch is `views`, a list of uint8 (B, h, w, 3), one a view; `row` (B,); `bad`, rows that do not decode; float32 (B,)
    columns.
    """
    blank = np.zeros((64, 64, 3), np.uint8)
    largest_bytes = stream.layout.micro_batch * sum(view.size for view in dataset.views(blank, seed=(0,)))
    for parcel in parcels(dataset, largest_bytes, loader, batch_sampler=stream, pin_memory=pin_memory):
        numbers = {name: torch.from_numpy(values) for name, values in parcel.numbers.items()}
        yield {"views": parcel.views(), "bad": parcel.bad, **numbers}
