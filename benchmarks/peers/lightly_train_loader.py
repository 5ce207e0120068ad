"""The loader of lightly-train 0.18 with workers, timed on request, for benchmarks/loader.py. No code of ours.

    peer/bin/python benchmarks/peers/lightly_train_loader.py JPEG_FOLDER SIZE BATCH BATCHES

Reads lines with a number of workers and answers each with seconds: of the clock, of this process's CPU, of its workers' CPU.
Files come up as often as it takes for that many batches. The views are SimCLR's by lightly-train's defaults, the paper's: its
dataset (files, its own decoding), transform, collation.
"""

import os
import resource
import sys
import time
from itertools import cycle, islice
from pathlib import Path

os.environ |= {
    "LIGHTLY_TRAIN_EVENTS_DISABLED": "1",  # usage statistics
    "LIGHTLY_DID_VERSION_CHECK": "True",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_OFFLINE": "1",
}

import torch
from lightly_train._data.image_dataset import ImageDataset
from lightly_train._methods.simclr.simclr_transform import SimCLRTransform, SimCLRTransformArgs
from torch.utils.data import DataLoader


def children_s() -> float:
    """CPU time of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Answer requests until there are no more."""
    torch.set_num_threads(1)
    folder, (size, batch, batches) = Path(sys.argv[1]), map(int, sys.argv[2:5])
    names = list(islice(cycle(sorted(path.name for path in folder.iterdir())), batch * batches))
    dataset = ImageDataset(folder, names, SimCLRTransform(SimCLRTransformArgs(image_size=(size, size))), num_channels=3)
    dataset[0]  # what is only done once
    for request in sys.stdin:
        clock_s, main_s, workers_s = time.perf_counter(), time.process_time(), children_s()
        for _ in DataLoader(dataset, batch_size=batch, shuffle=True, num_workers=int(request)):
            pass
        print(time.perf_counter() - clock_s, time.process_time() - main_s, children_s() - workers_s, flush=True)


if __name__ == "__main__":
    main()
