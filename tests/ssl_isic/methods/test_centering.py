"""Sinkhorn-Knopp against plain loops and its marginals; the moving center by hand."""

import math

import pytest
import torch
from torch import Tensor

from ssl_isic.methods.centering import MovingCenter, SinkhornCentering, sinkhorn_knopp

K = 6


def cosines(rows: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(rows, K, generator=torch.Generator().manual_seed(seed)) - 1


def plain_sinkhorn(outputs: Tensor, temperature: float, iterations: int) -> list[list[float]]:
    """The official code's steps on Q, prototypes by rows, in double precision."""
    rows, prototypes = outputs.shape
    q = [[math.exp(float(outputs[b, k]) / temperature) for b in range(rows)] for k in range(prototypes)]
    total = sum(map(sum, q))
    q = [[value / total for value in line] for line in q]
    for _ in range(iterations):
        q = [[value / sum(line) / prototypes for value in line] for line in q]
        sums = [sum(q[k][b] for k in range(prototypes)) for b in range(rows)]
        q = [[q[k][b] / sums[b] / rows for b in range(rows)] for k in range(prototypes)]
    return [[q[k][b] * rows for k in range(prototypes)] for b in range(rows)]


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("temperature", [0.04, 0.07, 1.0])
def test_sinkhorn_is_the_official_code(temperature: float, iterations: int) -> None:
    outputs = cosines(10)
    expected = torch.tensor(plain_sinkhorn(outputs, temperature, iterations))
    torch.testing.assert_close(sinkhorn_knopp(outputs, temperature, iterations), expected, rtol=1e-4, atol=1e-6)


def test_sinkhorns_marginals() -> None:
    p = sinkhorn_knopp(cosines(24), temperature=0.5, iterations=30)
    torch.testing.assert_close(p.sum(dim=1), torch.ones(24))
    torch.testing.assert_close(p.sum(dim=0), torch.full((K,), 24 / K))


def test_sinkhorn_tells_a_collapsed_teacher_nothing_else_than_uniform() -> None:
    p = sinkhorn_knopp(cosines(1).repeat(8, 1), temperature=0.04, iterations=3)
    torch.testing.assert_close(p, torch.full((8, K), 1 / K))


def test_sinkhorn_at_a_low_temperature_is_finite_where_exponentials_are_not() -> None:
    extremes = torch.where(cosines(64) > 0, 1.0, -1.0)
    assert not (extremes / 0.005).exp().isfinite().all()
    assert sinkhorn_knopp(extremes, temperature=0.005, iterations=3).isfinite().all()


@pytest.mark.parametrize("centering", [SinkhornCentering(3), MovingCenter(K, 0.9)])
def test_no_rows_are_no_targets(centering: SinkhornCentering | MovingCenter) -> None:
    assert centering(torch.zeros(0, K), 0.04).shape == (0, K)
    centering.after_step()
    assert all(value.isfinite().all() for value in centering.state_dict().values())


def test_the_center_is_subtracted_and_moves_by_the_mean_of_all_rows_since_the_last_step() -> None:
    centering = MovingCenter(K, momentum=0.8)
    first, second = cosines(2), cosines(5, seed=1)
    for outputs in (first, second):
        torch.testing.assert_close(centering(outputs, 0.5), torch.softmax(outputs / 0.5, dim=1))
        assert not centering.center.any()
    centering.after_step()
    center = 0.2 * torch.cat([first, second]).mean(dim=0)
    torch.testing.assert_close(centering.center, center)
    torch.testing.assert_close(centering(first, 0.5), torch.softmax((first - center) / 0.5, dim=1))
    centering.after_step()
    torch.testing.assert_close(centering.center, 0.8 * center + 0.2 * first.mean(dim=0))


def test_what_is_seen_outside_training_does_not_move_the_center() -> None:
    centering = MovingCenter(K, momentum=0.0).eval()
    centering(cosines(4), 0.5)
    centering.after_step()
    assert not centering.center.any()


def test_a_center_forgets_the_rows_of_a_step_that_was_left_out() -> None:
    one, other = MovingCenter(K, 0.9), MovingCenter(K, 0.9)
    outputs = torch.randn(6, K, generator=torch.Generator().manual_seed(0))
    one(outputs * 5, 1.0)
    one.forget()
    for centering in (one, other):
        centering(outputs, 1.0)
        centering.after_step()
    assert torch.equal(one.center, other.center)
    assert one.center.abs().max() > 0
