"""The same seed gives the same bits, whatever the workers, their start, and the step at which a run was resumed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import BatchLayout, ShuffledOrder, TrainingImages, TrainingStream, training_loader
from ssl_isic.data.views import SeededViews, TrainViewConfig, ViewsConfig, dino_views, train_view
from ssl_isic.data.workers import LoaderConfig

STEPS = 5
BUILT = {
    "paper": lambda: dino_views(ViewsConfig(preset="paper", size=32, local_size=16), 2),
    "device": lambda: dino_views(ViewsConfig(preset="paper", size=32, local_size=16, on_device=True), 2),
    "strong": lambda: train_view(TrainViewConfig(preset="finetune-strong"), 32),  # has albumentations' transforms
}


def batches(path: Path, views: SeededViews, loader: LoaderConfig, start: int = 0) -> list[dict[str, Any]]:
    pool = ImagePool({"a": path})
    dataset = TrainingImages(pool, np.arange(len(pool)), views, seed=7)
    stream = TrainingStream(ShuffledOrder(len(dataset), 0), BatchLayout(8), start, STEPS)
    return list(training_loader(dataset, stream, loader, pin_memory=False))


def tensors(batch: dict[str, Any]) -> list[torch.Tensor]:
    views = [*batch["views"], batch["row"]]
    return [*views, batch["drawn"]] if "drawn" in batch else views


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # 4 workers on a machine of 2 cores
@pytest.mark.parametrize("kind", BUILT)
@pytest.mark.parametrize(
    ("workers", "start_method", "start"),
    [
        (1, "fork", 0),
        (4, "fork", 0),
        (0, "fork", 3),
        (2, "fork", 2),
        pytest.param(2, "spawn", 1, marks=pytest.mark.slow),
    ],
)
def test_the_same_bits(kind: str, workers: int, start_method: Any, start: int, lesions: Path) -> None:
    whole = batches(lesions, BUILT[kind](), LoaderConfig(workers=0))
    tail = batches(lesions, BUILT[kind](), LoaderConfig(workers=workers, start_method=start_method), start)
    assert len(tail) == STEPS - start
    for one, other in zip(whole[start:], tail, strict=True):
        for expected, made in zip(tensors(one), tensors(other), strict=True):
            assert torch.equal(expected, made)
