"""A transform of albumentations is the same one, and follows from what was drawn."""

import os
import pickle
import random
import subprocess
import sys
from typing import Any

import albumentations as A
import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_isic.data.steps.wrapped import Albumentations
from ssl_isic.errors import InputError

Image = NDArray[np.uint8]
ELASTIC = Albumentations(transform="ElasticTransform", settings={"alpha": 40, "sigma": 5})


def test_it_is_albumentations_with_our_seed(wide_image: Image) -> None:
    transform = A.ElasticTransform(alpha=40, sigma=5, p=1.0)
    for seed in (3, 2**53 - 1):
        transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
        expected = transform(image=wide_image)["image"]
        np.testing.assert_array_equal(ELASTIC.apply(wide_image, (float(seed),)), expected)
        assert not np.array_equal(expected, wide_image)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(ELASTIC)).apply(wide_image, (3.0,)), ELASTIC.apply(wide_image, (3.0,))
    )


def test_what_is_drawn_is_exact_as_a_float() -> None:
    rng = np.random.default_rng(0)
    seeds = [ELASTIC.draw(rng, 8, 8)[0] for _ in range(100)]
    assert all(seed == int(seed) < 2**53 for seed in seeds)
    assert len(set(seeds)) == 100


@pytest.mark.parametrize(
    ("transform", "settings", "message"),
    [
        ("Elastic", {}, "no transform of images called Elastic"),
        ("Compose", {}, "no transform of images called Compose"),
        ("os", {}, "no transform of images called os"),
        ("ElasticTransform", {"aplha": 1}, "ElasticTransform cannot be built: .*aplha"),
        ("ElasticTransform", {"alpha": "much"}, "ElasticTransform cannot be built"),
        ("ElasticTransform", {"p": 0.5}, "p stands beside settings"),
    ],
)
def test_what_albumentations_does_not_know_is_refused(transform: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Albumentations(transform=transform, settings=settings)


@pytest.mark.parametrize(
    ("transform", "settings", "message"),
    [
        ("Normalize", {}, r"Normalize makes float32 .* views are uint8"),
        ("ToGray", {"num_output_channels": 1}, "ToGray"),
        ("RandomCrop", {"height": 5000, "width": 5000}, "RandomCrop fails on an image of"),
    ],
)
def test_what_makes_no_view_is_one_line(
    transform: str, settings: dict[str, Any], message: str, wide_image: Image
) -> None:
    with pytest.raises(InputError, match=message):
        Albumentations(transform=transform, settings=settings).apply(wide_image, (3.0,))


def test_the_network_is_not_asked_for_a_newer_albumentations() -> None:
    program = """
import sys
asked = []
sys.addaudithook(lambda event, arguments: asked.append(event) if event.startswith(("socket.", "urllib.")) else None)
from ssl_isic.data.steps.wrapped import Albumentations
Albumentations(transform="HorizontalFlip")
assert "albumentations" in sys.modules
sys.exit(f"asked by {asked}" if {"urllib.Request", "socket.getaddrinfo"} & set(asked) else 0)
"""
    unset = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run([sys.executable, "-c", program], env=unset, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
