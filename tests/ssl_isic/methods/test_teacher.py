"""What methods with a teacher share; moves of the teacher are tested with each method."""

import pytest
import torch
from torch import nn

from ssl_isic.methods.teacher import (
    frozen_prototypes_default,
    hold_prototypes,
    move_teacher,
    prototype_head,
    prototypes_default,
    start_teacher,
)


@pytest.mark.parametrize(
    ("images", "prototypes"),
    [(100, 512), (6_144, 512), (10_000, 1024), (19_000, 2048), (400_000, 32768), (910_000, 65536), (10**8, 65536)],
)
def test_a_prototype_for_about_12_images(images: int, prototypes: int) -> None:
    key, value, _ = prototypes_default(images)
    assert (key, value) == ("method.prototypes", prototypes)


@pytest.mark.parametrize(("epochs", "frozen"), [(800, 1.0), (100, 1.0), (2, 0.02)])
def test_prototypes_wait_for_a_hundredth_of_a_short_run(epochs: float, frozen: float) -> None:
    key, value, _ = frozen_prototypes_default(epochs)
    assert (key, value) == ("method.freeze_last_layer_epochs", frozen)


def test_a_head_gives_cosines_with_its_prototypes() -> None:
    torch.manual_seed(0)
    head, features = prototype_head(8, 5, 16, 4), torch.randn(3, 8)
    below = head.layers(features)
    directions = head.last_layer.weight_v
    expected = nn.functional.cosine_similarity(below[:, None], directions[None], dim=2)
    torch.testing.assert_close(head(features), expected)


def test_a_held_head_moves_all_but_its_prototypes() -> None:
    head = prototype_head(8, 5, 16, 4)
    head(torch.randn(3, 8)).square().sum().backward()
    hold_prototypes(head)
    without = [name for name, p in head.named_parameters() if p.grad is None]
    assert sorted(without) == ["last_layer.weight_g", "last_layer.weight_v"]


def test_a_teacher_starts_as_the_student_and_follows_it_slowly() -> None:
    torch.manual_seed(0)
    student, teacher = nn.Linear(3, 2), nn.Linear(3, 2)
    start_teacher(teacher, student)
    assert torch.equal(teacher.weight, student.weight)
    assert not teacher.weight.requires_grad
    start = student.weight.detach().clone()
    with torch.no_grad():
        student.weight.add_(1.0)
    move_teacher(teacher, student, momentum=0.9)
    torch.testing.assert_close(teacher.weight, start + 0.1)
