"""What `small_maps` saves on a CPU: torch's convolutions and ours in turns, in one layer and in whole networks.

    python benchmarks/small_maps.py

First the parts of one layer as the last stage of a ResNet has it, 3 x 3 from 512 to 512 channels, by the side of its map; then
forward and backward passes of networks by the side of their input, batches of equally many pixels. Noise for pixels, weights
with channels last. CPU time of all threads, medians over rounds after one that is not counted; ratios within a round, median
and range.
"""

import copy
import os
import sys
import time
from collections.abc import Callable, Sequence
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
    """Pixels of a network's batch."""
    batch: int = Field(256, ge=1)
    """Images of the one layer's batch."""
    threads: int = Field(os.cpu_count() or 1, ge=1)
    """Threads."""
    rounds: int = Field(7, ge=1)
    """Turns of each."""


@command
def main(argv: Sequence[str]) -> None:
    """Print the table."""
    config = read_config(SmallMapsConfig, argv, prog="benchmarks/small_maps.py")
    torch.set_num_threads(config.threads)
    one_layer(config)
    networks(config)


def one_layer(config: SmallMapsConfig) -> None:
    """Print what each part of a layer takes."""
    plain = nn.Conv2d(512, 512, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    fast = copy.deepcopy(plain)
    speed_up_small_maps(fast)
    print("| map, px | part | torch's, ms | ours, ms | torch's / ours |\n| --- | --- | --- | --- | --- |")
    for side in (1, 2, 3):
        pixels = torch.randn(config.batch, 512, side, side).to(memory_format=torch.channels_last).requires_grad_()
        parts: dict[str, Callable[[nn.Conv2d], float]] = {
            "output": lambda layer, pixels=pixels: seconds(lambda: layer(pixels)),
            "gradients": lambda layer, pixels=pixels: gradient_seconds(layer, pixels),
        }
        for part, measure in parts.items():
            turns = [(1000 * measure(plain), 1000 * measure(fast)) for _ in range(config.rounds + 1)][1:]
            print(f"| {side} | {part} | {cells(turns, '.1f')} |", flush=True)
    print()


def networks(config: SmallMapsConfig) -> None:
    """Print what whole networks take."""
    print("| network | px | batch | torch's, s | ours, s | torch's / ours |\n| --- | --- | --- | --- | --- | --- |")
    for name in config.models:
        plain = timm.create_model(name, num_classes=0).to(memory_format=torch.channels_last)
        fast = copy.deepcopy(plain)
        speed_up_small_maps(fast)
        for size in config.sizes:
            pixels = torch.randn(max(1, config.pixels // size**2), 3, size, size)
            turns = [(step_seconds(plain, pixels), step_seconds(fast, pixels)) for _ in range(config.rounds + 1)][1:]
            print(f"| {name} | {size} | {len(pixels)} | {cells(turns, '.3f')} |", flush=True)


def step_seconds(network: nn.Module, pixels: torch.Tensor) -> float:
    """CPU time of a forward and a backward pass."""
    network.zero_grad()
    return seconds(lambda: network(pixels).square().mean().backward())


def gradient_seconds(layer: nn.Conv2d, pixels: torch.Tensor) -> float:
    """CPU time of the backward pass to the pixels and the weights."""
    output = layer(pixels)
    return seconds(lambda: torch.autograd.grad(output, (pixels, layer.weight), torch.ones_like(output)))


def seconds(work: Callable[[], object]) -> float:
    """CPU time of all threads."""
    started = time.process_time()
    work()
    return time.process_time() - started


def cells(turns: Sequence[tuple[float, float]], form: str) -> str:
    """Medians of both, and of their ratio with its range."""
    times = " | ".join(f"{median(column):{form}}" for column in zip(*turns, strict=True))
    ratios = [slow / quick for slow, quick in turns]
    return f"{times} | {median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"


if __name__ == "__main__":
    sys.exit(main())
