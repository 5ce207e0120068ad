"""Weights of every kind that a user may have: what they hold, the pixels they expect, and what is refused in one line."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf

from finetune.classifier import Classifier, HeadConfig
from finetune.losses import FocalConfig
from ssl_isic.backbones import BackboneConfig, build_backbone, normalization_of, save_backbone
from ssl_isic.errors import InputError
from ssl_isic.evaluation.source import BackboneSource, open_backbone

MEAN, STD = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights that expect other pixels than timm's configuration of their architecture says."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=0)
    expected = {"pretrained_cfg": {"mean": MEAN, "std": STD}}
    save_for_hf(model, str(tmp_path / "vit"), safe_serialization=True, model_config=expected)
    return tmp_path / "vit"


def test_all_stages_normalise_pixels_as_the_folder_of_the_weights_says(folder: Path, tmp_path: Path) -> None:
    config = BackboneConfig(model="test_vit", weights=str(folder))
    pretrained = build_backbone(config, 64)
    save_backbone(pretrained, tmp_path / "backbone", 64)
    classifier = Classifier(
        HeadConfig(), FocalConfig(), BackboneConfig(model="test_vit", weights=str(tmp_path / "backbone")), 64, prior=0.5
    )
    save_backbone(classifier.exported(), tmp_path / "classifier", 64)
    networks = [
        pretrained,
        open_backbone(BackboneSource(weights=str(folder)), 64),
        open_backbone(BackboneSource(weights=str(tmp_path / "backbone")), 64),
        timm.create_model(f"local-dir:{tmp_path / 'classifier'}", pretrained=True),
    ]
    for normalize in (*map(normalization_of, networks), classifier.normalize):
        torch.testing.assert_close(normalize.mean.flatten(), 255 * torch.tensor(MEAN))
        torch.testing.assert_close(normalize.std.flatten(), 255 * torch.tensor(STD))
    other = build_backbone(BackboneConfig(model="test_vit", weights=str(folder / "model.safetensors")), 64)
    assert tuple(other.pretrained_cfg["mean"]) == timm.get_pretrained_cfg("test_vit").mean != MEAN


@pytest.mark.parametrize("wrong", ["half", [0.5, 0.5], [0.5, "x", 0.5], [0.5, 0.5, 0.0], 3])
def test_statistics_that_are_no_three_numbers_are_one_line(folder: Path, wrong: Any) -> None:
    settings = json.loads((folder / "config.json").read_text())
    settings["pretrained_cfg"]["std"] = wrong
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"std in .*config\.json is .*, not three numbers") as refused:
        build_backbone(BackboneConfig(model="test_vit", weights=str(folder)), 64)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "folder/pytorch_model.bin"])
def test_torch_files_of_tensors_are_read_as_they_are_or_from_a_checkpoint(
    name: str, wrapper: str | None, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    state = timm.create_model("test_resnet").state_dict()
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, file)
    weights = file.parent if file.suffix == ".bin" else file
    there = build_backbone(BackboneConfig(model="test_resnet", weights=str(weights)), 32).state_dict()
    assert there
    assert all(torch.equal(state[key], value) for key, value in there.items())


def test_names_of_a_networks_authors_are_taken_where_timm_knows_them(tmp_path: Path) -> None:
    """DINOv2 with registers: its files have a position for the class token, and a mask token."""
    model = "vit_small_patch14_reg4_dinov2"
    torch.manual_seed(0)
    plain = timm.create_model(model, num_classes=0, img_size=28)
    state = plain.state_dict()
    theirs = {key: value for key, value in state.items() if key != "reg_token"}
    theirs["register_tokens"], theirs["mask_token"] = state["reg_token"], torch.zeros(1, plain.embed_dim)
    theirs["pos_embed"] = torch.cat([torch.zeros(1, 1, plain.embed_dim), state["pos_embed"]], dim=1)
    save_file(theirs, tmp_path / "theirs.safetensors")
    config = BackboneConfig(model=model, weights=str(tmp_path / "theirs.safetensors"))
    images = torch.randn(1, 3, 28, 28)
    with torch.no_grad():
        features = build_backbone(config, 28).eval()(images)
        torch.testing.assert_close(features, plain.eval()(images), rtol=1e-4, atol=1e-5)


def test_a_runs_folder_is_told_where_its_weights_are(tmp_path: Path) -> None:
    run = tmp_path / "run"
    save_backbone(timm.create_model("test_vit", num_classes=0), run / "backbone", 32)
    modes = {path.stat().st_mode for path in (run / "backbone").iterdir()}
    assert len(modes) == 1, "safetensors writes files that nobody else may read"
    with pytest.raises(InputError, match=f"{run} is a run; its weights are in {run / 'backbone'}"):
        build_backbone(BackboneConfig(model="test_vit", weights=str(run)), 32)
    with pytest.raises(InputError, match=r"is not of a test_resnet: .*; set backbone\.model to test_vit"):
        build_backbone(BackboneConfig(model="test_resnet", weights=str(run / "backbone")), 32)


def test_bytes_of_any_kind_are_one_line(tmp_path: Path) -> None:
    """Noise, and a true file cut short or with bytes of its pickle replaced."""
    file, rng = tmp_path / "w.pth", np.random.default_rng(0)
    torch.save({"weight": torch.arange(6.0)}, file)
    whole = file.read_bytes()
    torch.save({"weight": torch.arange(6.0)}, file, _use_new_zipfile_serialization=False)
    old = file.read_bytes()
    for trial in range(300):
        data = bytearray([rng.bytes(40), whole, old][trial % 3])
        for place in rng.integers(0, min(len(data), 200), 4):
            data[place] = rng.integers(256)
        file.write_bytes(data[: int(rng.integers(1, len(data) + 1))])
        with pytest.raises(InputError, match=r"^backbone\.weights: .*w\.pth") as refused:
            build_backbone(BackboneConfig(model="test_resnet", weights=str(file)), 32)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"args": Namespace(lr=1), "model": {}},
            r"w\.pth is damaged, or holds more than tensors .*; save its weights alone",
        ),
        (b"not weights", r"w\.pth is damaged, or holds more than tensors"),
        ({"epoch": 3}, r"w\.pth holds no weights by name; save a model's state_dict"),
        (torch.zeros(3), r"w\.pth holds no weights by name"),
        ({"a": torch.zeros(3)}, r"is not of a test_resnet: it lacks"),
    ],
)
def test_a_torch_file_without_weights_is_one_line(content: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(InputError, match=message) as refused:
        build_backbone(BackboneConfig(model="test_resnet", weights=str(file)), 32)
    assert "\n" not in str(refused.value)
