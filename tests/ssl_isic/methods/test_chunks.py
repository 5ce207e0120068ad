"""A batch in chunks against the whole batch."""

from typing import Any

import pytest
import torch
from torch import nn

from ssl_isic.backbones import BackboneConfig
from ssl_isic.methods.chunks import in_chunks
from ssl_isic.methods.simclr import SimCLR, SimCLRConfig


def simclr(chunk: int | None, model: str = "test_vit") -> SimCLR:
    torch.manual_seed(0)
    config = SimCLRConfig(hidden_size=32, projection_size=16, chunk=chunk)
    return SimCLR(config, BackboneConfig(model=model), image_size=32)


def batch_of(images: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    views = [torch.randint(0, 256, (images, 32, 32, 3), dtype=torch.uint8, generator=generator) for _ in range(2)]
    return {"views": views, "row": torch.arange(images)}


@pytest.mark.parametrize("chunk", [1, 3, 5])
def test_simclrs_gradient_in_chunks_is_that_of_the_whole_batch(chunk: int) -> None:
    whole, parts = simclr(None).double(), simclr(chunk).double()
    losses = [task(batch_of(7), 0)["loss"] for task in (whole, parts)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-12)
    for loss in losses:
        loss.backward()
    for own, other in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-9, atol=1e-12)


def test_the_gradient_is_not_that_of_accumulated_chunks() -> None:
    """Which would have fewer negatives: the trap that chunks are there to avoid."""
    whole, accumulated = simclr(None), simclr(None)
    whole(batch_of(8), 0)["loss"].backward()
    for part in range(2):
        views = [view[part * 4 : part * 4 + 4] for view in batch_of(8)["views"]]
        (accumulated({"views": views, "row": torch.arange(4)}, 0)["loss"] / 2).backward()
    first = next(whole.parameters()).grad, next(accumulated.parameters()).grad
    assert (first[0] - first[1]).abs().max() > 0.05 * first[0].abs().max()


def test_only_one_chunk_is_in_the_network_at_a_time_and_each_twice() -> None:
    task = simclr(chunk=3)
    seen: list[int] = []
    task.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    task(batch_of(4), 0)["loss"].backward()
    assert seen[:3] == [3, 3, 2]
    assert sorted(seen[3:]) == [2, 3, 3]


def test_chunks_are_equal_so_that_batch_norm_never_sees_one_image_alone() -> None:
    """resnet10t at 32 px has maps of one pixel at the end."""
    task = simclr(chunk=7, model="resnet10t").train()
    seen: list[int] = []
    task.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    task(batch_of(4), 0)["loss"].backward()
    assert seen[:2] == [4, 4], "of 8 views; not 7 and 1"


def test_running_statistics_move_once_a_chunk_and_dropout_draws_the_same_again() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    images = torch.randn(6, 4)
    torch.manual_seed(1)
    features = in_chunks(network, images, 2, network)
    statistics = network[1].running_mean.clone()
    assert network[1].num_batches_tracked == 3
    (features**2).sum().backward()
    assert network[1].num_batches_tracked == 3
    assert torch.equal(network[1].running_mean, statistics)
    assert network[1].momentum == 0.1

    plain = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    plain.load_state_dict({**network.state_dict()})
    torch.manual_seed(1)
    expected = torch.cat([plain(part) for part in torch.split(images, 2)])
    assert torch.equal(features, expected)
    (expected**2).sum().backward()
    torch.testing.assert_close(network[0].weight.grad, plain[0].weight.grad)


@pytest.mark.parametrize("chunk", [None, 8, 100])
def test_a_chunk_that_holds_the_batch_is_the_batch(chunk: int | None) -> None:
    network = nn.Linear(3, 2)
    images = torch.randn(8, 3)
    assert torch.equal(in_chunks(network, images, chunk, network), network(images))
