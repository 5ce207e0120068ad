"""The steps of the domain are their functions, drawn from the view's own random numbers."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from ssl_isic.data.augmentations.elastic import deformed, elastic_places
from ssl_isic.data.augmentations.fourier_style import fourier_style
from ssl_isic.data.augmentations.hair import add_hair
from ssl_isic.data.augmentations.microscope_border import add_microscope_border
from ssl_isic.data.augmentations.reinhard import LabStatistics, reinhard
from ssl_isic.data.augmentations.ruler import add_ruler
from ssl_isic.data.augmentations.skin_tone import set_ita, shift_ita, skin_ita
from ssl_isic.data.kept_views import keep_views
from ssl_isic.data.shown import shown_by
from ssl_isic.data.steps.overlays import Elastic, Hair, MicroscopeBorder, Ruler
from ssl_isic.data.steps.skin import FourierStyle, ReinhardStyle, SkinTone, SkinToneShift
from ssl_isic.data.steps.step import Step
from ssl_isic.data.views import TrainViewConfig, ViewsConfig, dino_views, simclr_views, train_view
from ssl_isic.errors import InputError

Image = NDArray[np.uint8]
AMPLITUDES = [[[3.0, 2.0, 2.0], [4.0, 3.0, 2.0]], [[160.0, 120.0, 100.0], [5.0, 4.0, 3.0]], [[3.0] * 3, [2.0] * 3]]
CLINIC = {
    "name": "A",
    "images": 30,
    "skin_mean": [160.0, 145.0, 140.0],
    "skin_spread": [9.0, 3.0, 2.0],
    "amplitudes": AMPLITUDES,
}


@pytest.fixture
def styles(tmp_path: Path) -> Path:
    path = tmp_path / "styles.json"
    path.write_text(json.dumps({"clinics": [CLINIC, {**CLINIC, "name": "B", "skin_mean": [200.0, 140.0, 120.0]}]}))
    return path


@pytest.fixture
def skin() -> Image:
    image = np.full((48, 60, 3), (215, 170, 150), np.uint8)
    image[16:32, 20:40] = (120, 75, 55)
    return (image + np.random.default_rng(0).integers(0, 8, image.shape)).astype(np.uint8)


@pytest.mark.parametrize(
    ("step", "function"),
    [
        (Hair(most=5, fair=0.5), lambda image, rng: add_hair(image, rng, 5, 0.5)),
        (Ruler(), add_ruler),
        (MicroscopeBorder(), add_microscope_border),
        (Elastic(strength=0.1, cells=3), lambda i, rng: deformed(i, elastic_places(rng, *i.shape[:2], 0.1, 3))),
    ],
    ids=["hair", "ruler", "microscope_border", "elastic"],
)
def test_a_step_with_a_seed_is_its_function(step: Step, function: Callable[..., Image], skin: Image) -> None:
    (seed,) = drawn = step.draw(np.random.default_rng(1), 48, 60)
    made = step.apply(skin, drawn)
    np.testing.assert_array_equal(made, function(skin, np.random.default_rng(int(seed))))
    np.testing.assert_array_equal(made, pickle.loads(pickle.dumps(step)).apply(skin, drawn))
    assert (made != skin).any()
    assert step.p < 1, "these are for now and then"


def test_skin_tone_moves_by_and_to_what_was_drawn(skin: Image) -> None:
    rng = np.random.default_rng(0)
    shift, absolute = SkinToneShift(degrees=(-40, -5)), SkinTone(ita=(-20, 60))
    for _ in range(10):
        (degrees,), (ita,) = shift.draw(rng, 48, 60), absolute.draw(rng, 48, 60)
        assert -40 <= degrees <= -5
        assert -20 <= ita <= 60
        np.testing.assert_array_equal(shift.apply(skin, (degrees,)), shift_ita(skin, degrees))
        np.testing.assert_array_equal(absolute.apply(skin, (ita,)), set_ita(skin, ita))
        assert skin_ita(absolute.apply(skin, (ita,))) == pytest.approx(ita, abs=1.5)


def test_a_skin_tone_before_the_crop_leaves_an_image_to_be_decoded_small() -> None:
    strong, plain = (
        shown_by(train_view(TrainViewConfig(preset=name), 32), "reduced") for name in ("finetune-strong", "finetune")
    )
    assert strong == plain != ()


def test_styles_are_drawn_from_the_file(skin: Image, styles: Path) -> None:
    step, fourier, rng = ReinhardStyle(styles=styles), FourierStyle(styles=styles), np.random.default_rng(0)
    drawn = [step.draw(rng, 48, 60) for _ in range(40)]
    assert {number for number, _ in drawn} == {0, 1}
    assert all(0.3 <= share <= 0.8 for _, share in drawn)
    second = LabStatistics((200.0, 140.0, 120.0), (9.0, 3.0, 2.0))
    np.testing.assert_array_equal(step.apply(skin, (1, 0.5)), reinhard(skin, second, 0.5))
    np.testing.assert_array_equal(fourier.apply(skin, (0, 0.5)), fourier_style(skin, np.array(AMPLITUDES), 0.5))


def test_a_run_is_not_resumed_with_other_styles(tmp_path: Path, styles: Path) -> None:
    def keep() -> None:
        preset = tmp_path / "own.yaml"
        preset.write_text(f"default: {{first: [{{name: resize}}, {{name: reinhard_style, styles: {styles}}}]}}")
        keep_views(tmp_path, train_view(TrainViewConfig(preset=str(preset)), 32))

    keep()
    (tmp_path / "model.safetensors").touch()
    keep()
    styles.write_text(json.dumps({"clinics": [CLINIC]}))
    with pytest.raises(InputError, match="view_1 of this run was another"):
        keep()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "holds no styles"),
        ('{"clinics": []}', "clinics .*at least 1"),
        (json.dumps({"clinics": [{**CLINIC, "amplitudes": AMPLITUDES[:2]}]}), "amplitudes must be 2K . 1 rows"),
        (json.dumps({"clinics": [{**CLINIC, "skin_mean": [1, 2, "x"]}]}), "clinics.0.skin_mean.2"),
    ],
)
def test_a_file_without_styles_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(ValidationError, match=message):
        ReinhardStyle(styles=path)


def test_styles_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"cannot read the styles .*ssl-isic styles"):
        FourierStyle(styles=tmp_path / "styles.json")


@pytest.mark.parametrize(
    ("step", "settings"), [(SkinTone, {"ita": (20, -20)}), (SkinToneShift, {"degrees": (-100, 0)})]
)
def test_angles_that_are_none_are_refused(step: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="degrees from -90 to 90"):
        step(**settings)


def test_the_presets_make_the_same_views_again_and_different_ones_of_another_seed(skin: Image) -> None:
    for views in (
        train_view(TrainViewConfig(preset="finetune-strong"), 32),
        simclr_views(ViewsConfig(preset="lesion-skin", size=32)),
        dino_views(ViewsConfig(preset="lesion-skin", size=32, local_size=16), 2),
    ):
        first = views(skin, (0, 1))
        for other in range(40):  # every step is taken now and then
            views(skin, (1, other))
        for ours, again, another in zip(first, views(skin, (0, 1)), views(skin, (0, 2)), strict=True):
            np.testing.assert_array_equal(ours, again)
            assert not np.array_equal(ours, another)
