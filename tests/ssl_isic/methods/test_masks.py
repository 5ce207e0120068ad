"""Masks: the generator against its definition in whole numbers, blocks against the rules of DINOv2's code."""

import math
import random

import pytest
import torch
from lightly.models.utils import random_block_mask_image

from ssl_isic.methods.masks import _bits, _uniform, block_masks, image_keys, random_order

MANY = torch.arange(3000)


def splitmix64(state: int, draws: int) -> list[int]:
    """The public-domain C code, in Python's integers, as signed numbers."""
    outputs = []
    for _ in range(draws):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        z ^= z >> 31
        outputs.append(z - 2**64 if z >= 2**63 else z)
    return outputs


@pytest.mark.parametrize("seed", [0, 1, 1234567, 2**63 - 1, -1])
def test_the_bits_are_those_of_splitmix64(seed: int) -> None:
    assert _bits(torch.tensor([seed]), 5)[0].tolist() == splitmix64(seed % 2**64, 5)


def test_numbers_of_neighbouring_images_steps_views_and_draws_are_uniform_and_do_not_correlate() -> None:
    first = _uniform(image_keys(3, MANY), 2)
    columns = [*first.T, _uniform(image_keys(4, MANY), 1)[:, 0], _uniform(image_keys(3, MANY, 1), 1)[:, 0]]
    columns.append(first[:, 0].roll(1))
    for column in columns:
        counts = torch.histc(column, 20, 0, 1)
        assert ((counts - 150).square() / 150).sum().item() < 50  # chi-squared with 19 degrees of freedom
    correlations = torch.corrcoef(torch.stack(columns)) - torch.eye(len(columns))
    assert correlations.abs().max().item() < 5 / math.sqrt(len(MANY))


def test_masks_depend_on_the_image_and_the_step_and_not_on_the_rest_of_the_batch() -> None:
    rows = torch.tensor([5, 9, 2, 7])
    order, blocks = (
        make(image_keys(11, rows))
        for make in (lambda keys: random_order(keys, 16), lambda keys: block_masks(keys, (4, 4), 1.0, (0.4, 0.6)))
    )
    for k, row in enumerate(rows):
        assert torch.equal(random_order(image_keys(11, row[None]), 16)[0], order[k])
        assert torch.equal(block_masks(image_keys(11, row[None]), (4, 4), 1.0, (0.4, 0.6))[0], blocks[k])
    assert not torch.equal(random_order(image_keys(12, rows), 16), order)
    assert not torch.equal(random_order(image_keys(11, rows, view=1), 16), order)


def test_an_order_has_each_patch_once_and_each_patch_is_as_often_first() -> None:
    order = random_order(image_keys(0, MANY), 9)
    assert torch.equal(order.sort(dim=1).values, torch.arange(9).expand(len(MANY), -1))
    assert order[:, 0].bincount(minlength=9).tolist() == pytest.approx([len(MANY) / 9] * 9, rel=0.2)


def test_a_share_of_the_images_is_hidden_by_a_share_of_its_patches() -> None:
    masks = block_masks(image_keys(0, MANY), (14, 14), 0.4, (0.1, 0.5))
    shares = masks.float().mean(dim=(1, 2))
    hidden = shares[shares > 0]
    assert len(hidden) / len(MANY) == pytest.approx(0.4, abs=0.03)
    assert hidden.max().item() <= 0.5
    assert hidden.mean().item() == pytest.approx(0.3, abs=0.015)


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_none_or_all_of_the_images(probability: float, share: float) -> None:
    masks = block_masks(image_keys(0, MANY), (8, 8), probability, (0.3, 0.5))
    assert masks.any(dim=2).any(dim=1).float().mean().item() == share


@pytest.mark.parametrize(("side", "wanted"), [(8, 8), (8, 20), (4, 6)])
def test_blocks_hide_as_much_in_as_few_pieces_as_the_official_algorithm(side: int, wanted: int) -> None:
    """lightly's port of the official algorithm; a mask's outline tells blocks from single patches."""
    random.seed(0)  # of lightly's blocks
    own = block_masks(image_keys(0, MANY), (side, side), 1.0, (wanted / side**2, wanted / side**2))
    theirs = torch.stack([random_block_mask_image((side, side), wanted) for _ in range(1000)])

    def edges(masks: torch.Tensor) -> float:
        return float((masks[:, 1:] ^ masks[:, :-1]).sum() + (masks[:, :, 1:] ^ masks[:, :, :-1]).sum()) / len(masks)

    def spanning(masks: torch.Tensor) -> float:
        """Share of the masks that hide a whole row or column, which no block does alone."""
        return float((masks.all(dim=1).any(dim=1) | masks.all(dim=2).any(dim=1)).float().mean())

    assert own.sum(dim=(1, 2)).max() <= wanted
    assert spanning(own) == pytest.approx(spanning(theirs), abs=0.04)
    assert own.float().mean().item() == pytest.approx(theirs.float().mean().item(), rel=0.04)
    assert edges(own) == pytest.approx(edges(theirs), rel=0.04)


@pytest.mark.parametrize("grid", [(8, 8), (6, 12), (16, 5)])
def test_a_block_is_a_rectangle_of_no_extreme_shape_anywhere_in_the_grid(grid: tuple[int, int]) -> None:
    """Four patches in one rectangle, at an aspect of 0.3 to 1 / 0.3 before rounding."""
    share = 4.01 / (grid[0] * grid[1])
    masks = block_masks(image_keys(0, MANY), grid, 1.0, (share, share))
    assert masks.shape == (len(MANY), *grid)
    assert masks.any(dim=0).all()
    tall, wide = masks.any(dim=2).sum(dim=1), masks.any(dim=1).sum(dim=1)
    filled = (masks.sum(dim=(1, 2)) == 4) & (tall * wide == 4)
    assert filled.float().mean() > 0.3
    assert {tuple(shape) for shape in torch.stack([tall, wide], dim=1)[filled].tolist()} == {(2, 2), (1, 4), (4, 1)}
