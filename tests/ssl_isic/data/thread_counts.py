"""What test_workers.py sends to a spawned worker, which imports it by this module's name."""

import os
from typing import Any

import cv2
import numpy as np
import torch
from threadpoolctl import threadpool_info

from ssl_isic.data.parcels import Packing


class ThreadCounts:
    """Batches that say which process their worker is, and its threads: OpenCV's, torch's, the most of any other library."""

    def pack(self, rows: list[int], packing: Packing) -> Any:
        packing.put(0, [np.zeros((1, 1, 3), np.uint8)])
        others = [pool["num_threads"] for pool in threadpool_info()]
        threads = np.array([cv2.getNumThreads(), torch.get_num_threads(), max(others)])
        return packing.sealed({"threads": threads, "pid": np.array([os.getpid()])})
