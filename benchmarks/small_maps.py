"""What `small_maps` saves: a forward and backward pass with torch's convolutions and with ours, in turns, on a CPU.

    python benchmarks/small_maps.py

A row for each network and side of the input; noise for pixels, weights with channels last, batches of equally many pixels.
CPU seconds of all threads, medians over rounds after one that is not counted; ratios within a round, median and range.
"""

import copy
import os
import sys
import time
from collections.abc import Sequence
from statistics import median

import timm
import torch
from pydantic import Field
from torch import nn

from ssl_isic.config import Config, read_config
from ssl_isic.errors import command
from ssl_isic.small_maps import speed_up_small_maps


class SmallMapsConfig(Config):
    """Time networks on small images."""

    models: list[str] = ["resnet18", "resnet50", "tf_efficientnet_lite0"]
    """timm architectures."""
    sizes: list[int] = [32, 64, 96, 128]
    """Sides of the input, px."""
    pixels: int = Field(1 << 18, ge=1)
    """Pixels of a batch."""
    threads: int = Field(os.cpu_count() or 1, ge=1)
    """Threads."""
    rounds: int = Field(7, ge=1)
    """Turns of each."""


@command
def main(argv: Sequence[str]) -> None:
    """Print the table."""
    config = read_config(SmallMapsConfig, argv, prog="benchmarks/small_maps.py")
    torch.set_num_threads(config.threads)
    print("| network | px | batch | torch's, s | ours, s | torch's / ours |\n| --- | --- | --- | --- | --- | --- |")
    for name in config.models:
        plain = timm.create_model(name, num_classes=0).to(memory_format=torch.channels_last)
        fast = copy.deepcopy(plain)
        speed_up_small_maps(fast)
        for size in config.sizes:
            pixels = torch.randn(max(1, config.pixels // size**2), 3, size, size)
            turns = [(seconds(plain, pixels), seconds(fast, pixels)) for _ in range(config.rounds + 1)][1:]
            ratios = [slow / quick for slow, quick in turns]
            times = " | ".join(f"{median(column):.3f}" for column in zip(*turns, strict=True))
            spread = f"{median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
            print(f"| {name} | {size} | {len(pixels)} | {times} | {spread} |", flush=True)


def seconds(network: nn.Module, pixels: torch.Tensor) -> float:
    """CPU time of a forward and a backward pass."""
    network.zero_grad()
    started = time.process_time()
    network(pixels).square().mean().backward()
    return time.process_time() - started


if __name__ == "__main__":
    sys.exit(main())
