"""Presets are found by name and by path, and what is wrong in one is said in one line."""

from pathlib import Path

import pytest
import yaml

from ssl_isic.data.view_presets import FOLDER, Preset, preset_names, views_of
from ssl_isic.data.views import TrainViewConfig, ViewsConfig, crop_scales, dino_views, simclr_views, train_view
from ssl_isic.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
CROP = {"name": "random_resized_crop", "scale": [0.5, 1.0]}


def write(folder: Path, tree: object) -> str:
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(tree))
    return str(path)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_that_comes_along_says_what_it_is_and_can_be_read(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    sections = Preset.model_validate(yaml.safe_load(text)).model_dump()
    assert any(sections.values())
    for kind in ("simclr", "finetune"):
        assert views_of(path.stem, kind).first  # type: ignore[arg-type]


def test_presets_go_into_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert '[tool.setuptools.package-data]\nssl_isic = ["data/presets/*.yaml"]' in text
    assert {"lesion", "paper", "simclr", "dino", "dinov2", "mae", "finetune"} <= set(preset_names())


def test_the_example_of_ones_own_can_be_used() -> None:
    own = str(ROOT / "configs" / "views" / "own.yaml")
    assert len(dino_views(ViewsConfig(preset=own), 2)) == 4
    assert len(train_view(TrainViewConfig(preset=own), 32)) == 1


def test_a_method_takes_its_own_section_or_the_default(tmp_path: Path) -> None:
    tree = {"default": {"first": [CROP]}, "mae": {"first": [{"name": "resize"}]}}
    own = write(tmp_path, tree)
    assert views_of(own, "simclr").first[0].name == "random_resized_crop"
    assert views_of(own, "mae").first[0].name == "resize"


def test_scales_for_the_defaults(tmp_path: Path) -> None:
    assert crop_scales("paper", "dino").local == (0.05, 0.4)
    differ = write(tmp_path, {"default": {"first": [CROP], "second": [{**CROP, "scale": [0.1, 1.0]}]}})
    assert (crop_scales(differ, "dino").whole, crop_scales(differ, "dino").local) == (None, None)
    whole = write(tmp_path, {"default": {"first": [{"name": "resize"}]}})
    assert crop_scales(whole, "simclr").whole is None


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"default": {"first": [{"name": "crop"}]}}, r"own\.yaml: default\.first\.0.*'random_resized_crop'.*"),
        ({"default": {"first": [{**CROP, "scael": 1}]}}, r"unknown key default\.first\.0\.scael; did you mean scale"),
        ({"default": {"first": [{**CROP, "scale": [1, 0]}]}}, r"default\.first\.0\.scale: write \[smallest, largest\]"),
        ({"default": {"first": [CROP, {"name": "grey", "p": 2}]}}, r"default\.first\.1\.p.*less than or equal to 1"),
        ({"default": {"first": [{"name": "grey"}]}}, r"first for simclr needs random_resized_crop or resize"),
        ({"default": {"first": [{**CROP, "size": 9}]}}, r"first for simclr needs .*the last of them without size"),
        ({"default": {"first": []}}, r"default\.first"),
        ({"simlcr": {"first": [CROP]}}, r"unknown key simlcr; did you mean simclr"),
        ({"mae": {"first": [CROP]}}, r"no views for simclr: add a section simclr"),
        ([CROP], "expected keys and values"),
        (
            {"default": {"first": [CROP, {"name": "albumentations", "transform": "Elastic"}]}},
            r"default\.first\.1.*no transform of images called Elastic",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_said_in_one_line(tmp_path: Path, tree: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        simclr_views(ViewsConfig(preset=write(tmp_path, tree)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("lesions", "no preset of views is called 'lesions'; there are dino, .*lesion, .*paper"),
        ("../presets/lesion", "no preset of views is called"),
        ("none.yaml", "no such file: none.yaml"),
        ("simclr", "views.preset=simclr has no local crops for dino: add local"),
    ],
)
def test_a_preset_that_does_not_do_is_refused(preset: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dino_views(ViewsConfig(preset=preset), 2)


def test_fine_tuning_has_no_papers_preset() -> None:
    with pytest.raises(InputError, match="take finetune"):
        train_view(TrainViewConfig(preset="paper"), 32)
