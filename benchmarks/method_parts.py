"""What DINOv2's masks and VICReg's loss cost a step on a CPU, beside lightly's.

    python benchmarks/method_parts.py

Masks of both global crops of a batch; VICReg's three terms, forward and backward, over two batches of projections. In turns;
milliseconds by the clock, medians over rounds after one that is not counted; ratios within a round, median and range.
"""

import sys
from collections.abc import Callable, Sequence
from statistics import median

import torch
from lightly.loss.vicreg_loss import VICRegLoss
from lightly.models.utils import random_block_mask
from pydantic import Field
from torch import Tensor, nn
from turns import turns

from ssl_isic.config import Config, read_config
from ssl_isic.errors import command
from ssl_isic.methods.masks import block_masks, image_keys
from ssl_isic.methods.vicreg import VICRegConfig, covariance_term, variance_term

Work = Callable[[], object]


class MethodPartsConfig(Config):
    """Time parts of methods."""

    batches: list[int] = [64, 512]
    """Images of a step."""
    grid: tuple[int, int] = (8, 8)
    """Patches of a global crop, down and across."""
    projection_size: int = Field(2048, ge=1)
    """Width of VICReg's projections."""
    rounds: int = Field(9, ge=1)
    """Turns of each."""


@command
def main(argv: Sequence[str]) -> None:
    """Print the table."""
    config = read_config(MethodPartsConfig, argv, prog="benchmarks/method_parts.py")
    torch.set_num_threads(1)
    print("| part | images | ours, ms | lightly's, ms | lightly's / ours |")
    print("| --- | --- | --- | --- | --- |")
    for batch in config.batches:
        for name, pair in {"DINOv2's masks": masks(config, batch), "VICReg's loss": vicreg(config, batch)}.items():
            ours, theirs = turns(pair, config.rounds)
            ratios = [other / own for own, other in zip(ours, theirs, strict=True)]
            times = [f"{1000 * median(seconds):.2f}" for seconds in (ours, theirs)]
            spread = f"{median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
            print(f"| {' | '.join([name, str(batch), *times, spread])} |", flush=True)


def masks(config: MethodPartsConfig, batch: int) -> tuple[Work, Work]:
    """Ours and lightly's masks of two crops of each image, half of them without any."""
    rows = torch.arange(batch)

    def ours() -> Tensor:
        keys = torch.cat([image_keys(0, rows, view) for view in range(2)])
        return block_masks(keys, config.grid, 0.5, (0.1, 0.5))

    return ours, lambda: random_block_mask((2 * batch, *config.grid))


def vicreg(config: MethodPartsConfig, batch: int) -> tuple[Work, Work]:
    """Ours and lightly's loss, with the gradient."""
    first, second = (torch.randn(batch, config.projection_size, requires_grad=True) for _ in range(2))
    weights, criterion = VICRegConfig(), VICRegLoss()

    def ours() -> None:
        invariance = nn.functional.mse_loss(first, second)
        variance = (variance_term(first) + variance_term(second)) / 2
        covariance = covariance_term(first) + covariance_term(second)
        loss = weights.invariance_weight * invariance + weights.variance_weight * variance
        (loss + weights.covariance_weight * covariance).backward()

    return ours, lambda: criterion(first, second).backward()


if __name__ == "__main__":
    sys.exit(main())
