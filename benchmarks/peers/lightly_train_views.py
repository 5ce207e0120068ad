"""The loader of lightly-train 0.18 with the views of the papers, timed on request, for benchmarks/input.py. No code of ours.

    peer/bin/python benchmarks/peers/lightly_train_views.py JPEG_FOLDER IMAGES

Reads lines `simclr SIZE` or `dino SIZE` and answers each with the images a second of CPU time: its dataset (files, its own
decoding), its transform (albumentations, floats, normalised) and PyTorch's collation into batches of 64, in this process. What
differs from the papers in its defaults, DINO's scales of crops, is set to theirs.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ |= {
    "LIGHTLY_TRAIN_EVENTS_DISABLED": "1",  # usage statistics
    "LIGHTLY_DID_VERSION_CHECK": "True",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_OFFLINE": "1",
}

import cv2
import torch
from lightly_train._data.image_dataset import ImageDataset
from lightly_train._methods.dino import dino_transform as dino
from lightly_train._methods.simclr.simclr_transform import SimCLRTransform, SimCLRTransformArgs
from torch.utils.data import DataLoader

BATCH = 64
LOCAL_CROPS = 6


def transform(method: str, size: int) -> Any:
    """The views of a method, global ones of `size` px, local ones of half of that."""
    if method == "simclr":
        return SimCLRTransform(SimCLRTransformArgs(image_size=(size, size)))
    local = dino.DINOLocalViewTransformArgs(
        num_views=LOCAL_CROPS,
        view_size=(size // 2, size // 2),
        random_resize=dino.DINOLocalViewRandomResizedCropArgs(min_scale=0.05, max_scale=0.4),
    )
    crop = dino.DINORandomResizedCropArgs(min_scale=0.4)
    return dino.DINOTransform(dino.DINOTransformArgs(image_size=(size, size), random_resize=crop, local_view=local))


def main() -> None:
    """Answer requests until there are no more."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    names = sorted(path.name for path in folder.iterdir())[:count]
    for request in sys.stdin:
        method, size = request.split()
        dataset = ImageDataset(folder, names, transform(method, int(size)), num_channels=3)
        loader = DataLoader(dataset, batch_size=BATCH, shuffle=False, num_workers=0)
        dataset[0]  # what is only done once
        started = time.process_time()
        for _ in loader:
            pass
        print(len(names) / (time.process_time() - started), flush=True)


if __name__ == "__main__":
    main()
