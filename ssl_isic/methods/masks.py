"""Which patches are hidden: a function of the step and of each image's row in the dataset, never of the rank.

So a resumed run hides the same patches, and N processes hide together what one process would hide alone.
Shapes: B images, C of them chosen, N = h * w patches, W words of 64 bits.
"""

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
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
    drawn = _uniform(keys_B, 2 + 4 * BLOCK_TRIES).double().numpy()
    hidden_BW = np.zeros((len(keys_B), _words(grid)), np.uint64)
    chosen_C = np.flatnonzero(drawn[:, 0] < probability)
    hidden_BW[chosen_C] = _blocks(drawn[chosen_C, 1], np.split(drawn[chosen_C, 2:].T, BLOCK_TRIES), grid, ratio)
    bits = np.unpackbits(hidden_BW.view(np.uint8), axis=1, count=height * width)
    return torch.from_numpy(bits.view(np.bool_).reshape(-1, height, width))


def _blocks(
    share_C: NDArray[np.float64], tries: list[NDArray[np.float64]], grid: tuple[int, int], ratio: tuple[float, float]
) -> NDArray[np.uint64]:
    """uint64 (C, W): a bit for each hidden patch; a try is four numbers an image in [0, 1), (4, C)."""
    height, width = grid
    of_rows, of_columns = _stretches(grid, 0), _stretches(grid, 1)
    left_over_C = np.floor((ratio[0] + (ratio[1] - ratio[0]) * share_C) * height * width)
    hidden_CW = np.zeros((len(share_C), _words(grid)), np.uint64)
    for area_u, shape_u, top_u, left_u in tries:
        area = FEWEST_IN_BLOCK + np.maximum(left_over_C - FEWEST_IN_BLOCK, 1 - FEWEST_IN_BLOCK) * area_u
        aspect = np.exp((1 - 2 * shape_u) * math.log(FLATTEST_BLOCK))
        tall, wide = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
        block_CW = (
            of_rows[_stretch(height, np.minimum(tall, height), top_u)]
            & of_columns[_stretch(width, np.minimum(wide, width), left_u)]
        )
        new_C = np.bitwise_count(block_CW & ~hidden_CW).sum(axis=1, dtype=np.int64)
        fits_C = (tall < height) & (wide < width) & (new_C <= left_over_C)
        hidden_CW |= block_CW * fits_C[:, None]
        left_over_C -= new_C * fits_C
    return hidden_CW


def _words(grid: tuple[int, int]) -> int:
    """Words of 64 bits that a bit for each patch takes."""
    return -(-grid[0] * grid[1] // 64)


def _stretch(side: int, length_B: NDArray[np.float64], place_u: NDArray[np.float64]) -> NDArray[np.int64]:
    """int64 (B,): where `_stretches` has those of `length_B` that start at a share `place_u` of the places there are."""
    start = np.floor(place_u * (side - length_B + 1))
    numbers: NDArray[np.int64] = (length_B * side + start).astype(np.int64)
    return numbers


@cache
def _stretches(grid: tuple[int, int], axis: int) -> NDArray[np.uint64]:
    """uint64 ((side + 1) * side, W): a bit for each patch of the whole rows (axis 0) or columns that are one of `length` from
    `start` on, at `length * side + start`."""
    side = grid[axis]
    length, start, place = np.ogrid[: side + 1, :side, :side]
    inside = ((place >= start) & (place < start + length)).reshape(-1, side)
    patches = np.repeat(inside, grid[1], axis=1) if axis == 0 else np.tile(inside, grid[0])
    padded = np.pad(patches, ((0, 0), (0, 64 * _words(grid) - patches.shape[1])))
    return np.packbits(padded, axis=1).view(np.uint64)


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
