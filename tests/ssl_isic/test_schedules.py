"""Schedules against the values they are defined by."""

import math

import pytest

from ssl_isic.schedules import cosine, is_due, linear_then_constant, warmup_cosine


def test_cosine_is_half_a_cosine() -> None:
    """Ends, the middle, and the two quarters, where a cosine is at 1/2 +- sqrt(2)/4 of its way."""
    values = [cosine(step, 101, 3.0, 1.0) for step in (0, 25, 50, 75, 100)]
    quarter = math.sqrt(2) / 2
    assert values == pytest.approx([3.0, 2 + quarter, 2.0, 2 - quarter, 1.0])
    assert cosine(500, 101, 3.0, 1.0) == 1.0
    assert cosine(7, 10, 0.3, 0.3) == 0.3


def test_warmup_rises_in_equal_steps_to_the_peak_and_meets_the_cosine() -> None:
    values = [warmup_cosine(step, total=20, warmup=5, start=1.0, end=0.1) for step in range(20)]
    assert values[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert values[5:] == pytest.approx([cosine(k, 15, 1.0, 0.1) for k in range(15)])
    assert (values[5], values[-1]) == pytest.approx((1.0, 0.1))
    assert sorted(values[5:], reverse=True) == values[5:]


def test_runs_of_one_step_and_without_warmup() -> None:
    assert warmup_cosine(0, total=1, warmup=0, start=1.0, end=0.1) == 1.0
    assert cosine(0, 1, 2.0, 1.0) == 2.0


def test_linear_then_constant() -> None:
    assert [linear_then_constant(step, 4, 0.04, 0.08) for step in range(7)] == pytest.approx(
        [0.04, 0.05, 0.06, 0.07, 0.08, 0.08, 0.08]
    )
    assert linear_then_constant(0, 0, 0.04, 0.08) == 0.08


def test_is_due_every_so_many_steps_and_after_the_last() -> None:
    assert [step for step in range(1, 11) if is_due(step, every=4, total=10)] == [4, 8, 10]
    assert [step for step in range(1, 11) if is_due(step, every=5, total=10)] == [5, 10]
    assert [step for step in range(1, 11) if is_due(step, every=0, total=10)] == [10]
