"""The views of SimCLR (2) and DINO (2 + 6 at half the size), preset `paper`, from JPEG bytes, beside the peers'. For input.py.

- ours: decoding and the views as they leave a worker, uint8; what normalises them runs on the device.
- ours, floats: the same as normalised float32 (3, h, w), as the peers' views leave theirs.
- ours, loader: files through the training loader, without workers, collated into batches of 64.
- albumentations: the Compose of albumentations that these presets were before; our decoding, uint8.
- lightly: its SimCLRTransform or DINOTransform with its defaults, which are the papers'; Pillow, floats, normalised.
- lightly-train: its loader on the same files (`peers/lightly_train_views.py`), in a process of its own.

The same parameters for all: scales and shapes of crops, flip, jitter and its chance, grey, blur, solarisation. Not the same:
how a crop that shrinks is resized (lightly: Pillow's antialiased bilinear; lightly-train and albumentations: an area average),
and lightly's blur, which is Pillow's.
"""

import io
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import asks the network for a newer release

import albumentations as A
import cv2
import numpy as np
import torch
from lightly.transforms.dino_transform import DINOTransform
from lightly.transforms.simclr_transform import SimCLRTransform
from PIL import Image as Pillow

from ssl_isic.data.images import ImagePool, decode_rgb
from ssl_isic.data.loading import BatchLayout, ShuffledOrder, TrainingImages, TrainingStream, training_loader
from ssl_isic.data.shown import shown_by
from ssl_isic.data.views import SeededViews, ViewsConfig, dino_views, simclr_views
from ssl_isic.data.workers import LoaderConfig

HERE = Path(__file__).resolve().parent
LOCAL_CROPS = 6
BATCH = 64
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Method = Literal["simclr", "dino"]
Block = Callable[[], float]
"""Works through the images once; returns the images a second of CPU time."""
NAMES: dict[Method, str] = {"simclr": "2 SimCLR", "dino": f"2 + {LOCAL_CROPS} DINO"}


def measure_views(folder: Path, sizes: Sequence[int], count: int, rounds: int, peer_python: Path | None) -> None:
    """Time all of them on the `count` files of `folder` and print the tables."""
    data = [path.read_bytes() for path in sorted(folder.iterdir())]
    peer = _Peer(peer_python, folder, count) if peer_python else None
    for method, name in NAMES.items():
        for size in sizes:
            blocks = _blocks(method, size, data, folder)
            if peer:
                blocks["lightly-train"] = lambda method=method, size=size: peer.rate(method, size)
            speeds: dict[str, list[float]] = defaultdict(list)
            for number in range(rounds):
                for block in list(blocks) if number % 2 == 0 else reversed(blocks):
                    speeds[block].append(blocks[block]())
                print(f"{name}, {size} px, round {number}", file=sys.stderr, flush=True)
            print(
                f"\n{name} views at {size} px, {rounds} rounds of {count} images\n\n{table(speeds, list(blocks))}",
                flush=True,
            )
    if peer:
        peer.close()


def table(speeds: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    """A row for each of `names`: images/s, and how many times as fast ours is."""
    lines = ["views | images/s per core | ours is x as fast", "--- | --- | ---"]
    for name in names:
        ratios = [ours / other for ours, other in zip(speeds["ours"], speeds[name], strict=True)]
        lines.append(f"{name} | {median(speeds[name]):,.0f} | {_spread(ratios)}")
    return "\n".join(f"| {line} |" for line in lines)


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def _blocks(method: Method, size: int, data: Sequence[bytes], folder: Path) -> dict[str, Block]:
    config = ViewsConfig(preset="paper", size=size, local_size=size // 2)
    views = simclr_views(config) if method == "simclr" else dino_views(config, LOCAL_CROPS)
    transforms = [_compose(*words) for words in _albumentations_words(method, size)]
    lightly = _lightly(method, size)
    return {
        "ours": _timed(data, lambda image, number: views(decode_rgb(image), (0, number))),
        "ours, floats": _timed(data, lambda image, number: _floats(views(decode_rgb(image), (0, number)))),
        "ours, loader": lambda: _loader_rate(views, folder),
        "albumentations": _timed(data, lambda image, _: _each(transforms, decode_rgb(image))),
        "lightly": _timed(data, lambda image, _: lightly(Pillow.open(io.BytesIO(image)).convert("RGB"))),
    }


def _timed(data: Sequence[bytes], work: Callable[[bytes, int], Any]) -> Block:
    def block() -> float:
        work(data[0], 0)  # what is only done once
        started = time.process_time()
        for number, image in enumerate(data):
            work(image, number)
        return len(data) / (time.process_time() - started)

    return block


def _floats(views: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]) -> list[torch.Tensor]:
    mean, std = (255 * torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return [(torch.from_numpy(view).permute(2, 0, 1).float() - mean) / std for view in views]


def _each(transforms: Sequence[A.Compose], image: np.ndarray[Any, np.dtype[np.uint8]]) -> list[Any]:
    return [transform(image=image)["image"] for transform in transforms]


def _loader_rate(views: SeededViews, folder: Path) -> float:
    pool = ImagePool({"images": folder})
    dataset = TrainingImages(pool, np.arange(len(pool)), views, seed=0, shown=shown_by(views, "reduced"))
    stream = TrainingStream(ShuffledOrder(len(pool), 0), BatchLayout(BATCH), 0, len(pool) // BATCH)
    loader = training_loader(dataset, stream, LoaderConfig(workers=0), pin_memory=False)
    started = time.process_time()
    images = sum(len(batch["row"]) for batch in loader)
    return images / (time.process_time() - started)


def _albumentations_words(method: Method, size: int) -> list[tuple[int, tuple[float, float], float, float, float]]:
    """For each view its size, scale, strength of the jitter (1: SimCLR's), and the chances of blur and solarisation."""
    if method == "simclr":
        return [(size, (0.08, 1.0), 1.0, 0.5, 0.0)] * 2
    whole, local = (0.4, 1.0), (size // 2, (0.05, 0.4), 0.5, 0.5, 0.0)
    return [(size, whole, 0.5, 1.0, 0.0), (size, whole, 0.5, 0.1, 0.2), *[local] * LOCAL_CROPS]


def _compose(size: int, scale: tuple[float, float], strength: float, blur: float, solarize: float) -> A.Compose:
    light, saturation, hue = 0.8 * strength, 0.8 if strength == 1 else 0.2, 0.2 * strength
    steps = [
        A.RandomResizedCrop((size, size), scale=scale, interpolation=cv2.INTER_LINEAR, area_for_downscale="image"),
        A.HorizontalFlip(p=0.5),
        A.ColorJitter(
            (1 - light, 1 + light), (1 - light, 1 + light), (1 - saturation, 1 + saturation), (-hue, hue), p=0.8
        ),
        A.ToGray(p=0.2),
        A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=blur),
    ]
    return A.Compose([*steps, A.Solarize(threshold_range=(0.5, 0.5), p=solarize)] if solarize else steps)


def _lightly(method: Method, size: int) -> Callable[[Pillow.Image], Any]:
    if method == "simclr":
        return SimCLRTransform(input_size=size)
    return DINOTransform(global_crop_size=size, local_crop_size=size // 2, n_local_views=LOCAL_CROPS)


class _Peer:
    """lightly-train's loader in its own process, which answers one request at a time."""

    def __init__(self, python: Path, folder: Path, count: int) -> None:
        words = [str(python), str(HERE / "peers" / "lightly_train_views.py"), str(folder), str(count)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**environment, "OMP_NUM_THREADS": "1"}
        )

    def rate(self, method: Method, size: int) -> float:
        """Images/s of one block."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{method} {size}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End it: there are no more requests."""
        self._process.communicate()
