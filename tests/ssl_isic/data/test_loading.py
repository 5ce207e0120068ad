"""What is drawn is a function of seed and step: whatever the ranks, the workers, and the step at which a run began."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssl_isic.data.cleaning import clean
from ssl_isic.data.decoding import Shown, decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import (
    BatchLayout,
    Draw,
    ShuffledOrder,
    TrainingImages,
    TrainingStream,
    steps_per_epoch,
    training_loader,
)
from ssl_isic.data.ram_cache import CachedLoaderConfig
from ssl_isic.data.views import ViewsConfig, eval_view, simclr_views
from ssl_isic.data.whole_images import EvaluationImages, evaluation_loader
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import InputError

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]
ORDER = ShuffledOrder(rows=53, seed=5)


def draws_of_steps(batch_size: int, accumulate: int, world_size: int, total: int, start: int = 0) -> list[list[Draw]]:
    """All draws of each step, over ranks and micro-batches, in the order of their place in the stream."""
    streams = [
        list(TrainingStream(ORDER, BatchLayout(batch_size, accumulate, rank, world_size), start, total))
        for rank in range(world_size)
    ]
    micro_batch = batch_size // accumulate // world_size
    assert all(len(batch) == micro_batch for stream in streams for batch in stream)
    steps = []
    for step in range(total - start):
        of_step = [s[step * accumulate + micro] for s in streams for micro in range(accumulate)]
        steps.append(sorted((draw for batch in of_step for draw in batch), key=lambda draw: draw.position))
    return steps


@pytest.mark.parametrize(("accumulate", "world_size"), [(1, 1), (2, 1), (1, 2), (2, 2), (1, 6), (3, 4)])
def test_ranks_and_micro_batches_together_draw_what_one_process_draws(accumulate: int, world_size: int) -> None:
    assert draws_of_steps(12, accumulate, world_size, total=11) == draws_of_steps(12, 1, 1, total=11)


@pytest.mark.parametrize("start", [0, 1, 3, 4, 9])
def test_starting_at_a_step_is_the_tail_of_the_whole(start: int) -> None:
    for rank in range(2):
        layout = BatchLayout(12, 2, rank, 2)
        whole, tail = (list(TrainingStream(ORDER, layout, first, 10)) for first in (0, start))
        assert tail == whole[2 * start :]
        assert len(TrainingStream(ORDER, layout, start, 10)) == len(tail)


def test_each_draw_names_a_later_one_as_long_as_there_is_one() -> None:
    plain = list(TrainingStream(ORDER, BatchLayout(4), 0, 20))
    ahead = list(TrainingStream(ORDER, BatchLayout(4), 0, 20, lookahead=13))
    assert [[draw[:2] for draw in draws] for draws in ahead] == [[draw[:2] for draw in draws] for draws in plain]
    assert all(draw.ahead is None for draws in plain for draw in draws)
    for step, draws in enumerate(ahead):
        later = [draw.row for draw in plain[step + 3]] if step + 3 < 20 else [None] * 4
        assert [draw.ahead for draw in draws] == later
    assert list(TrainingStream(ORDER, BatchLayout(4), 7, 20, lookahead=13)) == ahead[7:]
    for rank in (0, 1):
        halves = list(TrainingStream(ORDER, BatchLayout(4, 1, rank, 2), 0, 20, lookahead=13))
        assert halves == [draws[2 * rank : 2 * rank + 2] for draws in ahead]


def test_an_epoch_draws_no_row_twice_and_drops_only_the_tail() -> None:
    steps = draws_of_steps(12, 1, 1, total=12)
    assert steps_per_epoch(ORDER, 12) == 4
    epochs = [[draw.row for step in steps[k : k + 4] for draw in step] for k in (0, 4, 8)]
    for rows in epochs:
        assert len(set(rows)) == len(rows) == 48
        assert set(rows) <= set(range(53))
    assert epochs[0] != epochs[1] != epochs[2]
    assert [draw.position for step in steps for draw in step] == list(range(144))


def test_orders_differ_by_seed_and_epoch_and_hold_every_row() -> None:
    orders = [ShuffledOrder(53, seed).epoch(epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert all(sorted(order) == list(range(53)) for order in orders)


@pytest.mark.parametrize(("batch_size", "accumulate", "world_size"), [(10, 4, 1), (10, 1, 3), (8, 2, 8)])
def test_a_batch_that_does_not_divide_is_refused(batch_size: int, accumulate: int, world_size: int) -> None:
    shares = accumulate * world_size
    with pytest.raises(InputError, match=rf"batch_size={batch_size}.*multiple of {shares}"):
        BatchLayout(batch_size, accumulate, 0, world_size)


def test_an_epoch_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(InputError, match=r"53 images.*loop\.batch_size=54"):
        steps_per_epoch(ORDER, 54)


def training_images(path: Path, columns: Mapping[str, Any] | None = None) -> TrainingImages:
    pool = ImagePool({"a": path})
    views = simclr_views(ViewsConfig(size=32))
    return TrainingImages(pool, np.arange(len(pool)), views, seed=1, columns=columns)


def batches_of(
    dataset: TrainingImages, workers: int, method: Any = "fork", total: int = 4, start: int = 0
) -> list[dict[str, Any]]:
    stream = TrainingStream(ShuffledOrder(len(dataset), 0), BatchLayout(8), start, total)
    return list(training_loader(dataset, stream, LoaderConfig(workers=workers, start_method=method), pin_memory=False))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than a small machine has cores
@pytest.mark.parametrize(
    ("workers", "method", "cache", "start"),
    [
        (0, "fork", "ram", 0),
        (1, "fork", "auto", 0),
        (4, "fork", "none", 0),
        (4, "fork", "ram", 3),  # resumed
        (0, "fork", "auto", 2),
        pytest.param(2, "spawn", "none", 0, marks=pytest.mark.slow),
        pytest.param(2, "spawn", "ram", 1, marks=pytest.mark.slow),
    ],
)
def test_workers_make_the_batches_that_one_process_makes(
    workers: int, method: str, cache: Any, start: int, lesions: Path
) -> None:
    columns = {"target": np.arange(48) / 7}
    alone = batches_of(training_images(lesions, columns), 0, total=7)[start:]
    dataset = training_images(lesions, columns)
    dataset.pool.cache(CachedLoaderConfig(cache=cache), show=False)
    together = batches_of(dataset, workers, method, total=7, start=start)
    assert len(alone) == len(together) == 7 - start
    for one, other in zip(alone, together, strict=True):
        assert one.keys() == other.keys()
        assert torch.equal(one["row"], other["row"])
        assert torch.equal(one["target"], one["row"].double().div(7).float())
        assert all(torch.equal(a, b) for a, b in zip(one["views"], other["views"], strict=True))


def test_views_depend_on_the_place_in_the_stream(lesions: Path) -> None:
    dataset = training_images(lesions)
    first, again, later = (dataset[Draw(3, position)]["views"][0] for position in (10, 10, 11))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, later)


def damaged(path: Path, write_hdf5: WriteHdf5, images: dict[str, bytes], rows: set[int]) -> Path:
    """The images, those in `rows` cut in half."""
    return write_hdf5(
        path, {name: data[: len(data) // 2] if k in rows else data for k, (name, data) in enumerate(images.items())}
    )


def test_a_bad_image_is_replaced_by_a_good_one_and_reported(
    tmp_path: Path, write_hdf5: WriteHdf5, lesion_jpegs: dict[str, bytes], lesions: Path
) -> None:
    bad = {4, 5, 47}
    dataset = training_images(damaged(tmp_path / "bad.hdf5", write_hdf5, lesion_jpegs, bad), {"w": np.arange(48.0)})
    batches = batches_of(dataset, 0, total=6)  # one epoch
    assert all(len(batch["row"]) == 8 == len(batch["views"][0]) for batch in batches)
    assert set().union(*(batch["bad"] for batch in batches)) == bad
    whole = training_images(lesions)
    for row, substitute in ((4, 7), (5, 6), (47, 0)):
        sample, expected = dataset[Draw(row, 9)], whole[Draw(substitute, 9)]
        assert (sample["row"], sample["columns"]["w"]) == (substitute, float(substitute))
        assert all(np.array_equal(a, b) for a, b in zip(sample["views"], expected["views"], strict=True))


def test_a_damaged_stretch_is_left_and_not_all_replaced_by_one_image(
    tmp_path: Path, write_hdf5: WriteHdf5, lesion_jpegs: dict[str, bytes]
) -> None:
    dataset = training_images(damaged(tmp_path / "bad.hdf5", write_hdf5, lesion_jpegs, set(range(10, 30))))
    substitutes = [dataset[Draw(row, 9)]["row"] for row in range(10, 30)]
    assert not set(substitutes) & set(range(10, 30))
    assert max(np.bincount(substitutes)) <= 4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_full_of_bad_images_is_refused(
    workers: int, tmp_path: Path, write_hdf5: WriteHdf5, lesion_jpegs: dict[str, bytes]
) -> None:
    dataset = training_images(damaged(tmp_path / "bad.hdf5", write_hdf5, lesion_jpegs, set(range(48))))
    with pytest.raises(InputError, match="none of 8 images, near and far in the file, decodes, the last ISIC_"):
        batches_of(dataset, workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_keeps_every_row_in_order(
    workers: int, tmp_path: Path, write_hdf5: WriteHdf5, lesion_jpegs: dict[str, bytes]
) -> None:
    pool = ImagePool({"a": damaged(tmp_path / "bad.hdf5", write_hdf5, lesion_jpegs, {7})})
    indices = np.array([3, 7, -1, 0, 3, 46, 12])  # one is damaged, one has no image, one comes twice
    dataset = EvaluationImages(pool, indices, eval_view(24), 24)
    batches = list(evaluation_loader(dataset, np.arange(7), 3, LoaderConfig(workers=workers), pin_memory=False))
    images = torch.cat([batch["images"] for batch in batches])
    readable = torch.cat([batch["readable"] for batch in batches])
    assert [len(batch["images"]) for batch in batches] == [3, 3, 1]
    assert readable.tolist() == [True, False, False, True, True, True, True]
    for row, index in enumerate(indices.tolist()):
        if readable[row]:
            expected = eval_view(24)(decode_rgb(lesion_jpegs[pool.id_of(index)]))
            np.testing.assert_array_equal(images[row].numpy(), expected)
        else:
            assert not images[row].any()
    some = list(evaluation_loader(dataset, np.array([6, 0]), 5, LoaderConfig(workers=0), pin_memory=False))
    assert torch.equal(some[0]["images"], images[[6, 0]])


def test_images_are_cleaned_once_before_their_views(lesions: Path, lesion_jpegs: dict[str, bytes]) -> None:
    pool, names = ImagePool({"a": lesions}), ["shades_of_gray", "pad_square", "hsv"]
    expected = clean(decode_rgb(lesion_jpegs[pool.id_of(5)]), names)
    every, views = np.arange(48), simclr_views(ViewsConfig(size=32))
    training = TrainingImages(pool, every, views, seed=1, shown=(Shown(4),), cleaning=names)
    np.testing.assert_array_equal(training[Draw(5, 9)]["views"], views(expected, (1, 9)))
    # an image to be cleaned is decoded whole, whatever is shown of it
    pixels, readable = EvaluationImages(pool, every, eval_view(24), 24, (Shown(4),), names)[5]
    assert readable
    np.testing.assert_array_equal(pixels, eval_view(24)(expected))
    assert not np.array_equal(pixels, EvaluationImages(pool, every, eval_view(24), 24)[5][0])
