"""Views that are finished in batches by torch are those that a worker would have made, but for rounding."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ssl_isic.data.device_views import split
from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import DRAWN, BatchLayout, ShuffledOrder, TrainingImages, TrainingStream, training_loader
from ssl_isic.data.steps.step import OnDevice
from ssl_isic.data.views import (
    SeededViews,
    TrainViewConfig,
    ViewsConfig,
    dino_views,
    mae_view,
    simclr_views,
    train_view,
)
from ssl_isic.data.workers import LoaderConfig

Image = NDArray[np.uint8]
IMAGES = 24
BUILT: dict[str, Callable[[ViewsConfig], SeededViews]] = {
    "simclr": simclr_views,
    "dino": lambda config: dino_views(config, 3),
    "mae": mae_view,
}


def lesion(seed: int) -> Image:
    """Smooth skin with a dark, coloured blob; sizes differ."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(60, 120, 2)
    shade = cv2.resize(rng.normal(0, 20, (6, 6, 3)), (int(width), int(height)), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:height, :width]
    blob = np.exp(-(((y - height / 2) / 20) ** 2) - ((x - width / 2) / 25) ** 2)[..., None]
    return np.clip(np.array([210, 160, 140]) + shade - blob * rng.uniform(20, 120, 3), 0, 255).astype(np.uint8)


def both(views: SeededViews) -> list[tuple[Image, Image]]:
    """The views of several images, made in the worker and finished in a batch."""
    made = [views(lesion(seed), (3, seed)) for seed in range(IMAGES)]
    begun = [views.begun(lesion(seed), (3, seed)) for seed in range(IMAGES)]
    pixels = [torch.from_numpy(np.stack(same)) for same in zip(*(images for images, _ in begun), strict=True)]
    finished = views.finished(pixels, torch.tensor([numbers for _, numbers in begun], dtype=torch.float64))
    assert all(view.dtype == torch.uint8 and view.is_contiguous() for view in finished)
    return [(made[seed][number], view[seed].numpy()) for number, view in enumerate(finished) for seed in range(IMAGES)]


@pytest.mark.parametrize("method", BUILT)
@pytest.mark.parametrize("preset", ["lesion", "paper"])
def test_they_are_the_same_views(method: str, preset: str) -> None:
    pairs = both(BUILT[method](ViewsConfig(preset=preset, size=48, local_size=24, on_device=True)))
    differences = np.array([np.abs(one.astype(int) - other).mean() for one, other in pairs])
    assert np.median(differences) < 1  # steps of 8 bits, most of them by hue, which has 8 bits in the worker
    assert differences.max() < 4
    ahead = [(one, pairs[k - 1][1]) for k, (one, _) in enumerate(pairs) if pairs[k - 1][1].shape == one.shape]
    apart = np.array([np.abs(one.astype(int) - other).mean() for one, other in ahead])
    assert np.median(apart) > 10  # and other views are far away
    for statistic in (np.mean, np.std):
        values = np.array([[statistic(one), statistic(other)] for one, other in pairs])
        assert np.abs(values[:, 0] - values[:, 1]).max() < 3
        assert np.abs((values[:, 0] - values[:, 1]).mean()) < 0.3


@pytest.mark.parametrize("preset", ["paper", "lesion"])
def test_only_crops_are_left_to_the_worker(preset: str) -> None:
    for view in dino_views(ViewsConfig(preset=preset), 1).views:
        first, left = split(view.steps)
        assert [type(step).__name__ for step in first] == ["RandomResizedCrop"]
        assert first + left == view.steps


def test_what_stands_before_a_step_that_needs_the_worker_is_done_there() -> None:
    (view,) = train_view(TrainViewConfig(preset="finetune-strong"), 32).views
    first, left = split(view.steps)
    assert first + left == view.steps
    assert first
    assert not isinstance(first[-1], OnDevice)
    assert all(isinstance(step, OnDevice) for step in left)
    for one, other in both(train_view(TrainViewConfig(preset="finetune-strong", on_device=True), 32)):
        np.testing.assert_array_equal(one, other)  # its last step needs the worker, and so all do


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_sends_pixels_and_what_was_drawn(workers: int, lesions: Path) -> None:
    pool = ImagePool({"a": lesions})
    views = simclr_views(ViewsConfig(size=32, preset="paper", on_device=True))
    dataset = TrainingImages(pool, np.arange(len(pool)), views, seed=1)
    stream = TrainingStream(ShuffledOrder(len(pool), 0), BatchLayout(8), 0, 3)
    in_worker = TrainingImages(pool, np.arange(len(pool)), simclr_views(ViewsConfig(size=32, preset="paper")), seed=1)
    expected = list(training_loader(in_worker, stream, LoaderConfig(workers=0), pin_memory=False))
    batches = list(training_loader(dataset, stream, LoaderConfig(workers=workers), pin_memory=False))
    for batch, plain in zip(batches, expected, strict=True):
        assert torch.equal(batch["row"], plain["row"])
        assert DRAWN not in plain
        made = views.finished(batch["views"], batch[DRAWN])
        for one, other in zip(made, plain["views"], strict=True):
            assert (one.float() - other.float()).abs().mean() < 1
