"""The collapse guard: its signs, its patience, and real runs that collapse or do not."""

import math

import pytest

from ssl_isic.collapse import CollapseGuard, collapse_sign

K, IMAGES = 1024, 64


def row(teacher: float, marginal: float, std: float = 0.6) -> dict[str, float]:
    return {"loss": 1.0, "teacher_entropy": teacher, "marginal_entropy": marginal, "feature_std": std}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (row(0.9, 1.2), "about 3 of 1024 prototypes"),
        (row(6.931, 6.931), "tells no images apart"),
        (row(5.0, 6.5, std=0.01), "feature_std is 0.0100"),
        ({"loss": 1.0, "projection_std": 0.02}, "projection_std is 0.0200"),
        ({"loss": 0.1, "projection_std": 0.5, "variance": 0.94}, "variance, the penalty, is 0.940 of 0.99"),
    ],
)
def test_a_collapse_is_named(values: dict[str, float], says: str) -> None:
    sign = collapse_sign(values, K, IMAGES)
    assert sign is not None
    assert says in sign


@pytest.mark.parametrize(
    "values",
    [
        row(6.4, 6.7),  # a start
        row(5.3, 6.3),
        row(0.5, math.log(IMAGES)),  # the end of a long run: each image its own prototype
        {"loss": 8.0, "feature_std": 0.06},
        {"loss": 20.5, "projection_std": 0.8, "variance": 0.73},
    ],
)
def test_a_run_that_learns_is_left_alone(values: dict[str, float]) -> None:
    assert collapse_sign(values, K, IMAGES) is None


def test_few_images_bound_what_the_mean_of_their_distributions_can_be() -> None:
    """4 images of 1 nat each cannot spread over more than ln 4 + 1 nats of 65,536 prototypes; 4,096 images can."""
    assert collapse_sign(row(1.0, 2.0), 65536, 4) is None
    assert collapse_sign(row(1.0, 2.0), 65536, 4096) is not None


def test_the_guard_waits_until_a_sign_has_stayed() -> None:
    guard = CollapseGuard("stop", K, IMAGES)
    bad, good = row(0.1, 0.2), row(6.0, 6.6)
    assert [guard.look(step, bad) is None for step in (20, 30, 40)] == [True] * 3
    seen = guard.look(60, bad)
    assert seen is not None
    assert "at step 60" in seen
    assert "since step 40" in seen
    again = CollapseGuard("stop", K, IMAGES)
    assert [again.look(step, values) for step, values in ((60, bad), (70, good), (80, bad), (90, bad))] == [None] * 4
    assert again.look(100, bad) is not None


def test_the_guard_speaks_once_of_each_collapse() -> None:
    guard = CollapseGuard("warn", K, IMAGES)
    bad, good = row(0.1, 0.2), row(6.0, 6.6)
    steps = zip((40, 60, 80, 100, 120, 140, 160), (bad, bad, bad, good, bad, bad, bad), strict=True)
    assert [step for step, values in steps if guard.look(step, values) is not None] == [60, 140]


def test_a_guard_that_knows_since_when_need_not_wait_again() -> None:
    assert CollapseGuard("stop", K, IMAGES, since=40).look(60, row(0.1, 0.2)) is not None


def test_features_that_begin_nearly_the_same_and_part_are_no_collapse() -> None:
    """The standard deviations of a DINOv2 network with LayerScale, from 1e-5 on; its teacher tells nothing apart yet."""
    guard = CollapseGuard("stop", K, IMAGES)
    stds = {20: 1e-4, 40: 4e-4, 60: 1e-3, 80: 3e-3, 100: 7e-3, 120: 0.015, 140: 0.03}
    assert [guard.look(step, row(6.931, 6.931, std)) for step, std in stds.items()] == [None] * len(stds)
    assert guard.look(160, row(6.5, 6.8, 0.07)) is None
    assert guard.look(180, row(6.5, 6.8, 0.04)) is None
    assert guard.look(200, row(6.5, 6.8, 0.05 - 1e-9)) is not None, "it was larger before, and is small since"


@pytest.mark.parametrize("growth", [0.9, 1.0, 1.1, 1.3])
def test_features_that_stay_nearly_the_same_are_a_collapse(growth: float) -> None:
    """From step 40 on, `growth` times as large every 20 steps; and as seen by a guard that was asked again at step 60."""
    values = {step: {"projection_std": 0.002 * growth ** ((step - 40) / 20)} for step in range(20, 101, 2)}
    guard = CollapseGuard("stop", None, IMAGES)
    spoken = [step for step, of_step in values.items() if guard.look(step, of_step)]
    assert spoken == [60]
    assert CollapseGuard("stop", None, IMAGES, since=40, std_since=0.002).look(60, values[60]) is not None
    assert CollapseGuard("stop", None, IMAGES, since=40, std_since=0.001).look(60, values[60]) is None, "it rises"
