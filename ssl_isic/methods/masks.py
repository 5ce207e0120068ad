"""Which patches are hidden: a function of the step and of each image's row in the dataset, never of the rank.

So a resumed run hides the same patches, and N processes hide together what one process would hide alone.
Shapes: B images, N = h * w patches.
"""

import math

import torch
from torch import Tensor

GOLDEN_GAMMA = 0x9E3779B97F4A7C15 - 2**64  # SplitMix64's constants as signed integers
MIX_FACTORS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
FEWEST_IN_BLOCK = 4
FLATTEST_BLOCK = 0.3  # height / width; the tallest is its inverse
BLOCK_TRIES = 32


def image_keys(step: int, rows_B: Tensor, view: int = 0) -> Tensor:
    """int64 (B,): a key for each image's `view` at `step`. `rows_B` are the rows in the dataset, int64."""
    return _hash(_hash(_hash(torch.full_like(rows_B, step)) ^ rows_B) ^ view)


def random_order(keys_B: Tensor, patches: int) -> Tensor:
    """int64 (B, N): for each key a random order of its image's patches."""
    return _bits(keys_B, patches).argsort(dim=1)


def block_masks(keys_B: Tensor, grid: tuple[int, int], probability: float, ratio: tuple[float, float]) -> Tensor:
    """bool (B, h, w), True where hidden: of a share `probability` of the images, random rectangles of patches.

    An image's rectangles together hide a share of its patches that is drawn from `ratio` (smallest, largest), or somewhat
    less where none fits any more. Each image is drawn for itself, where the official code hides patches in exactly a half
    of each batch.

    Source: Bao et al. 2022 (BEiT), https://arxiv.org/abs/2106.08254, algorithm 1, with the constants of DINOv2's code.
    """
    height, width = grid
    y, x = (torch.arange(side, device=keys_B.device) for side in grid)
    chosen, share, *tries = _uniform(keys_B, 2 + 4 * BLOCK_TRIES).unbind(dim=1)
    wanted_B = ((ratio[0] + (ratio[1] - ratio[0]) * share) * height * width).floor() * (chosen < probability)
    hidden = torch.zeros(len(keys_B), height, width, dtype=torch.bool, device=keys_B.device)
    for area_u, shape_u, top_u, left_u in zip(*(tries[k::4] for k in range(4)), strict=True):
        left_over_B = wanted_B - hidden.sum(dim=(1, 2))
        area = FEWEST_IN_BLOCK + (left_over_B - FEWEST_IN_BLOCK).clamp(min=1 - FEWEST_IN_BLOCK) * area_u
        aspect = torch.exp((1 - 2 * shape_u) * math.log(FLATTEST_BLOCK))
        tall, wide = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        inside_y = _between(y, (top_u * (height - tall + 1)).floor(), tall)
        inside_x = _between(x, (left_u * (width - wide + 1)).floor(), wide)
        block = inside_y[:, :, None] & inside_x[:, None, :]
        new_B = (block & ~hidden).sum(dim=(1, 2))
        fits_B = (tall < height) & (wide < width) & (new_B <= left_over_B)
        hidden |= block & fits_B[:, None, None]
    return hidden


def _between(places: Tensor, start_B: Tensor, length_B: Tensor) -> Tensor:
    """bool (B, places): whether each place is one of the `length_B` from `start_B` on."""
    return (places >= start_B[:, None]) & (places < (start_B + length_B)[:, None])


def _uniform(keys_B: Tensor, draws: int) -> Tensor:
    """float32 (B, draws) in [0, 1), of 24 random bits each."""
    return _shifted(_bits(keys_B, draws), 40).float() * 2.0**-24


def _bits(keys_B: Tensor, draws: int) -> Tensor:
    """int64 (B, draws): the first outputs of a SplitMix64 generator for each key."""
    return _hash(keys_B[:, None] + GOLDEN_GAMMA * torch.arange(draws, device=keys_B.device))


def _hash(state: Tensor) -> Tensor:
    """SplitMix64's next output at each int64 state; integers wrap around.

    Source: Steele, Lea and Flood 2014, https://doi.org/10.1145/2660193.2660195, as in the public-domain code of S. Vigna.
    """
    bits = state + GOLDEN_GAMMA
    for shift, factor in zip((30, 27), MIX_FACTORS, strict=True):
        bits = (bits ^ _shifted(bits, shift)) * factor
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """A right shift that fills with zeros."""
    return (bits >> places) & ((1 << (64 - places)) - 1)
