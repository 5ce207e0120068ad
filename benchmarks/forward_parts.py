"""What a CPU gains by taking a batch through a network in parts, as embedding, evaluation and prediction do.

    python benchmarks/forward_parts.py

Forward passes of one batch, the whole at once and in the parts of `parts_for` in turns; noise for pixels. Images/s by the
clock, medians over rounds after one that is not counted; ratios within a round, median and range.
"""

import os
import sys
from collections.abc import Sequence
from functools import partial
from statistics import median

import torch
from pydantic import Field
from torch import Tensor, nn
from turns import turns

from ssl_isic.backbones import BackboneConfig, build_backbone
from ssl_isic.config import Config, read_config
from ssl_isic.errors import command
from ssl_isic.evaluation.forward import parts_for


class PartsConfig(Config):
    """Time forward passes."""

    models: list[str] = ["tf_efficientnet_lite0", "resnet18", "vit_tiny_patch16_224"]
    """timm architectures."""
    sizes: list[int] = [64, 128, 224]
    """Sides of the input, px."""
    batch: int = Field(256, ge=1)
    """Images."""
    threads: int = Field(os.cpu_count() or 1, ge=1)
    """Threads."""
    rounds: int = Field(5, ge=1)
    """Turns of each."""


@command
def main(argv: Sequence[str]) -> None:
    """Print the table."""
    config = read_config(PartsConfig, argv, prog="benchmarks/forward_parts.py")
    torch.set_num_threads(config.threads)
    print("| network | px | parts of | whole, images/s | in parts, images/s | in parts / whole |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in config.models:
        for size in config.sizes:
            model = build_backbone(BackboneConfig(model=name), size).eval()
            pixels = torch.randint(0, 256, (config.batch, size, size, 3), dtype=torch.uint8)
            parts = parts_for(pixels)
            whole_s, parts_s = turns([partial(through, model, [pixels]), partial(through, model, parts)], config.rounds)
            ratios = [whole / part for whole, part in zip(whole_s, parts_s, strict=True)]
            speeds = [f"{config.batch / median(seconds):.0f}" for seconds in (whole_s, parts_s)]
            spread = f"{median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
            print(f"| {' | '.join([name, str(size), str(len(parts[0])), *speeds, spread])} |", flush=True)


def through(model: nn.Module, parts: Sequence[Tensor]) -> None:
    """Each part, uint8 (B, H, W, 3), through the network."""
    with torch.no_grad():
        for part in parts:
            model(part.permute(0, 3, 1, 2).float() / 255)


if __name__ == "__main__":
    sys.exit(main())
