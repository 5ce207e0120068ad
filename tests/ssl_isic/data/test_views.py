"""Views are a function of the image and the seed; the paper's preset is the papers', and the lesion's keeps colour."""

import pickle
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_isic.data.steps.blur import GaussianBlur
from ssl_isic.data.steps.crop import RandomResizedCrop
from ssl_isic.data.steps.dropout import CoarseDropout
from ssl_isic.data.steps.symmetries import HorizontalFlip
from ssl_isic.data.steps.tone import Solarize
from ssl_isic.data.views import (
    SeededViews,
    TrainViewConfig,
    View,
    ViewsConfig,
    dino_views,
    dinov2_views,
    eval_view,
    mae_view,
    simclr_views,
    train_view,
)


def lesion_image(seed: int = 0) -> NDArray[np.uint8]:
    """Skin with a brown square: red is above green is above blue everywhere."""
    pixels = np.tile(np.array([215, 165, 140], np.uint8), (90, 120, 1))
    pixels[30:60, 40:80] = [130, 80, 55]
    return (pixels + np.random.default_rng(seed).integers(0, 10, pixels.shape)).astype(np.uint8)


def differs(first: list[NDArray[np.uint8]], second: list[NDArray[np.uint8]]) -> list[bool]:
    return [not np.array_equal(a, b) for a, b in zip(first, second, strict=True)]


BOTH = [
    simclr_views(ViewsConfig(size=32)),
    simclr_views(ViewsConfig(size=32, preset="paper")),
    dino_views(ViewsConfig(size=32, local_size=16), 3),
    dino_views(ViewsConfig(size=32, local_size=16, preset="paper"), 3),
]


@pytest.mark.parametrize("views", BOTH)
def test_the_same_seed_gives_the_same_views_whatever_ran_before(views: SeededViews) -> None:
    image = lesion_image()
    first = views(image, (0, 7))
    for other in range(5):
        views(lesion_image(other), (1, other))
    assert not any(differs(first, views(image, (0, 7))))


@pytest.mark.parametrize("views", BOTH)
def test_a_pickled_copy_gives_the_same_views_for_each_of_many_seeds(views: SeededViews) -> None:
    copy = pickle.loads(pickle.dumps(views))
    for position in range(10):
        assert not any(differs(views(lesion_image(), (3, position)), copy(lesion_image(), (3, position))))


@pytest.mark.parametrize("views", BOTH)
def test_other_seeds_give_other_views_and_the_views_of_one_image_differ(views: SeededViews) -> None:
    image = lesion_image()
    for seed in ((0, 8), (1, 7), (7, 0)):
        assert all(differs(views(image, (0, 7)), views(image, seed)))
    first, second, *_ = views(image, (0, 7))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("shape", [(61, 61, 3), (20, 239, 3), (8, 8, 3)])
def test_every_view_has_its_size(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    made = dino_views(ViewsConfig(size=40, local_size=24), 2)(image, (0, 0))
    assert [view.shape for view in made] == [(40, 40, 3)] * 2 + [(24, 24, 3)] * 2
    assert {view.dtype for view in made} == {np.dtype(np.uint8)}
    assert all(view.flags.c_contiguous for view in made)
    assert [view.shape for view in simclr_views(ViewsConfig(size=40))(image, (0, 0))] == [(40, 40, 3)] * 2


def step_by_step(view: View, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The view in the order in which its steps are written down."""
    for step in view.steps:
        height, width, _ = image.shape
        parameters = step.sampled(rng, height, width)
        if parameters is not None:
            image = step.apply(image, parameters)
    return image


@pytest.mark.parametrize("preset", ["lesion", "paper"])
def test_colour_on_the_px_that_there_are_makes_the_same_view_but_for_rounding(preset: str) -> None:
    (view, _) = simclr_views(ViewsConfig(size=224, preset=preset)).views
    image = cv2.GaussianBlur(lesion_image(), (5, 5), 1.0)  # 90 x 120 px
    pairs = [(view(image, _rng(k)), step_by_step(view, image, _rng(k))) for k in range(40)]
    apart = np.array([np.abs(one.astype(int) - other).mean() for one, other in pairs])
    assert apart.max() < 1.5
    assert np.median(apart) < 0.5
    assert np.count_nonzero(apart) > 10  # not the same work twice


def test_a_view_that_shrinks_is_made_in_the_order_of_its_steps() -> None:
    large = cv2.resize(lesion_image(), (360, 270))
    for view in dino_views(ViewsConfig(size=32, local_size=16, preset="paper"), 1).views:
        for k in range(10):
            assert not differs([view(large, _rng(k))], [step_by_step(view, large, _rng(k))])[0]


def test_what_needs_the_views_own_px_waits_for_the_enlargement() -> None:
    crop, flip = RandomResizedCrop(size=200), HorizontalFlip(p=1)
    for last in (GaussianBlur(), Solarize(), CoarseDropout(p=1)):
        view, image = View((crop, flip, last)), lesion_image()
        for k in range(5):
            assert not differs([view(image, _rng(k))], [step_by_step(view, image, _rng(k))])[0]


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_evaluation_view_is_a_plain_resize() -> None:
    image = lesion_image()
    expected = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    for _ in range(3):
        np.testing.assert_array_equal(eval_view(32)(image), expected)
    grown = cv2.resize(image, (130, 130), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(eval_view(130)(image), grown)


def test_the_evaluation_view_averages_along_the_side_that_shrinks() -> None:
    """OpenCV does so only where both do; columns of one colour leave no doubt of what is averaged."""
    columns = np.tile(_rng(0).integers(0, 256, (1, 320, 3)).astype(np.uint8), (30, 1, 1))
    seen = eval_view(32)(columns)
    averages = columns[0].reshape(32, 10, 3).mean(axis=1)
    assert np.abs(seen.astype(float) - averages).max() <= 1


def test_the_training_view_has_its_size() -> None:
    (made,) = train_view(TrainViewConfig(), 32)(lesion_image(), (0, 0))
    assert (made.shape, made.dtype) == ((32, 32, 3), np.uint8)


def test_an_image_is_not_written_to_and_every_other_view_shows_the_other_photograph() -> None:
    image, other = lesion_image(), np.full((50, 50, 3), [0, 0, 250], np.uint8)
    before = image.copy()
    for views in BOTH:
        shown = [view[..., 2].mean() > view[..., 0].mean() for view in views(image, (0, 1), other)]
        np.testing.assert_array_equal(image, before)
        if views in BOTH[::2]:  # the lesion preset, which keeps colours
            assert shown == [number % 2 == 1 for number in range(len(views))]


def test_a_seed_is_four_words_at_most() -> None:
    views, image = BOTH[0], lesion_image()
    assert all(differs(views(image, (1, 2)), views(image, (1, 2, 3))))
    assert all(differs(views(image, (1, 2, 3)), views(image, (1, 2, 3, 2**64 - 1))))
    with pytest.raises(ValueError, match="4 integers at most"):
        views(image, (1, 2, 3, 4, 5))


def parts(view: View) -> dict[str, dict[str, Any]]:
    return {settings["name"]: settings for settings in (step.model_dump() for step in view.steps)}


def check_paper_colours(view: View, jitter: tuple[float, float, float, float], blur: float) -> dict[str, Any]:
    """What the two papers share: crop, flip, jitter with probability 0.8, grey with 0.2, blur of sigma 0.1 to 2."""
    found = parts(view)
    order = ["random_resized_crop", "horizontal_flip", "colour_jitter", "grey", "gaussian_blur"]
    assert list(found)[:5] == order
    assert [found[name]["p"] for name in order] == [1, 0.5, 0.8, 0.2, blur]
    assert found["gaussian_blur"]["sigma"] == (0.1, 2.0)
    assert found["random_resized_crop"]["ratio"] == (3 / 4, 4 / 3)
    assert tuple(found["colour_jitter"][name] for name in ("brightness", "contrast", "saturation", "hue")) == jitter
    return found


def test_the_paper_preset_of_simclr_is_the_papers() -> None:
    """Chen et al. 2020, appendix A: scale 0.08 to 1, jitter 0.8, 0.8, 0.8, 0.2, blur in half of the views."""
    views = simclr_views(ViewsConfig(preset="paper", size=224)).views
    assert len(views) == 2
    for view in views:
        found = check_paper_colours(view, (0.8, 0.8, 0.8, 0.2), blur=0.5)
        assert (found["random_resized_crop"]["scale"], found["random_resized_crop"]["size"]) == ((0.08, 1.0), 224)
        assert len(found) == 5


@pytest.mark.parametrize(
    ("build", "whole", "local"),
    [(dino_views, (0.4, 1.0), (0.05, 0.4)), (dinov2_views, (0.32, 1.0), (0.05, 0.32))],
)
def test_the_paper_presets_of_dino_are_the_papers(build: Any, whole: Any, local: Any) -> None:
    """Caron et al. 2021, official code: jitter 0.4, 0.4, 0.2, 0.1; blur 1, 0.1, 0.5; solarize 0.2 on the second view only."""
    views = build(ViewsConfig(preset="paper", size=224, local_size=96), 8).views
    assert len(views) == 10
    expected = [(whole, 224, 1.0, None), (whole, 224, 0.1, 0.2), *[(local, 96, 0.5, None)] * 8]
    for view, (scale, size, blur, solarize) in zip(views, expected, strict=True):
        found = check_paper_colours(view, (0.4, 0.4, 0.2, 0.1), blur)
        assert (found["random_resized_crop"]["scale"], found["random_resized_crop"]["size"]) == (scale, size)
        solarized = found.get("solarize", {"p": None, "threshold": 0.5})
        assert (solarized["p"], solarized["threshold"]) == (solarize, 0.5)


def test_the_paper_preset_of_mae_is_the_papers() -> None:
    """He et al. 2022, appendix A.1: a crop of 0.2 to 1 and its mirror image."""
    (view,) = mae_view(ViewsConfig(preset="paper", size=64)).views
    assert {name: settings["p"] for name, settings in parts(view).items()} == {
        "random_resized_crop": 1,
        "horizontal_flip": 0.5,
    }
    assert parts(view)["random_resized_crop"]["scale"] == (0.2, 1.0)


def test_the_lesion_preset_has_the_scales_of_each_method() -> None:
    config = ViewsConfig()
    for built, whole in (
        (simclr_views(config), (0.4, 1.0)),
        (dino_views(config, 1), (0.5, 1.0)),
        (dinov2_views(config, 1), (0.5, 1.0)),
        (mae_view(config), (0.4, 1.0)),
    ):
        scales = [parts(view)["random_resized_crop"]["scale"] for view in built.views]
        assert scales == [whole, whole, (0.2, 0.5)][: len(scales)]
    assert list(parts(mae_view(config).views[0])) == ["random_resized_crop", "d4"]


def test_the_training_view_is_mild() -> None:
    (view,) = train_view(TrainViewConfig(), 48).views
    assert list(parts(view)) == ["random_resized_crop", "d4", "colour_jitter"]
    assert parts(view)["random_resized_crop"]["scale"] == (0.6, 1.0)
    (cropped,) = train_view(TrainViewConfig(scale=(0.9, 1.0)), 48).views
    assert parts(cropped)["random_resized_crop"]["scale"] == (0.9, 1.0)


def test_scales_that_are_set_replace_the_presets() -> None:
    views = dino_views(ViewsConfig(global_scale=(0.7, 0.9), local_scale=(0.3, 0.4)), 1).views
    scales = [parts(view)["random_resized_crop"]["scale"] for view in views]
    assert scales == [(0.7, 0.9), (0.7, 0.9), (0.3, 0.4)]


def mean_hue_shift(views: SeededViews) -> float:
    """Mean distance between the mean colour direction of an image and of its views, in the chromatic plane of Lab."""
    image = np.full((40, 40, 3), [190, 130, 105], np.uint8)  # of one colour, so that crops change nothing
    home = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).reshape(-1, 3).mean(axis=0)[1:]
    shifts = []
    for position in range(60):
        for view in views(image, (0, position)):
            there = cv2.cvtColor(view, cv2.COLOR_RGB2LAB).reshape(-1, 3).mean(axis=0)[1:]
            shifts.append(float(np.linalg.norm(there - home)))
    return float(np.mean(shifts))


def test_the_lesion_preset_keeps_colour_where_the_papers_do_not() -> None:
    for build in (simclr_views, lambda config: dino_views(config, 2)):
        lesion = mean_hue_shift(build(ViewsConfig(size=32, local_size=32)))
        paper = mean_hue_shift(build(ViewsConfig(size=32, local_size=32, preset="paper")))
        assert lesion < 6  # steps of 8-bit Lab
        assert lesion < paper / 2


def test_the_lesion_preset_shows_all_eight_symmetries() -> None:
    """A square with one dark corner lands in every corner, and mirrored, which rotations alone do not give."""
    image = np.full((64, 64, 3), 200, np.uint8)
    image[:16, :8] = 20
    views = simclr_views(ViewsConfig(size=16, global_scale=(0.99, 1.0)))
    seen = {
        (int(np.argmin(view.mean(axis=(1, 2)))) > 8, int(np.argmin(view.mean(axis=(0, 2)))) > 8, tall(view))
        for position in range(60)
        for view in views(image, (0, position))
    }
    assert len(seen) == 8


def tall(view: NDArray[np.uint8]) -> bool:
    dark = view.mean(axis=2) < 110
    return bool(dark.any(axis=1).sum() > dark.any(axis=0).sum())
