"""Where a backbone comes from: each way gives timm's own features, each wrong way one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ssl_isic.config import validate
from ssl_isic.errors import InputError
from ssl_isic.evaluation.source import BackboneSource, Embedder, fingerprint, open_backbone


def source(**keys: Any) -> BackboneSource:
    return validate(BackboneSource, keys, "test")


def fingerprint_of(made: BackboneSource, size: int = 32) -> str:
    return fingerprint(Embedder(open_backbone(made, size)))


def test_a_folder_is_plain_timms_to_the_last_bit_with_its_own_normalisation(backbone_folder: Path) -> None:
    made = BackboneSource.model_validate(str(backbone_folder))
    assert made == source(weights=str(backbone_folder))
    assert (made.architecture(), made.image_size()) == ("test_resnet", 32)
    embedder = Embedder(open_backbone(made, 32))
    peer = timm.create_model(f"local-dir:{backbone_folder}", pretrained=True, num_classes=0).eval()
    pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in ([0.6, 0.5, 0.4], [0.2, 0.3, 0.4]))
    expected = (pixels.permute(0, 3, 1, 2).contiguous().float() - mean) / std
    with torch.no_grad():
        assert torch.equal(embedder(pixels), peer(expected))


@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
def test_features_are_those_of_float32_whatever_the_launchers_precision(model: str) -> None:
    embedder = Embedder(open_backbone(source(model=model), 64))
    pixels = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        exact = embedder(pixels)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(embedder(pixels), exact)


def test_pixels_are_normalised_where_the_backbone_is() -> None:
    """A network on a GPU that is not there: shapes and devices are kept, values are not."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("cuda"):
            backbone = timm.create_model("test_resnet", num_classes=0)
        features = Embedder(backbone)(torch.zeros(2, 64, 64, 3, dtype=torch.uint8, device="cuda"))
    assert (features.device.type, features.shape) == ("cuda", (2, backbone.num_features))


def test_a_file_a_folder_and_a_copy_of_it_hold_the_same_weights(backbone_folder: Path, tmp_path: Path) -> None:
    file = source(weights=str(backbone_folder / "model.safetensors"), model="test_resnet")
    folder = source(weights=str(backbone_folder))
    of_file, of_folder = (open_backbone(made, 32).state_dict() for made in (file, folder))
    assert of_file.keys() == of_folder.keys()
    assert all(torch.equal(value, of_folder[name]) for name, value in of_file.items())
    assert file.image_size() == timm.get_pretrained_cfg("test_resnet").input_size[-1]
    shutil.copytree(backbone_folder, tmp_path / "copy")
    assert fingerprint_of(source(weights=str(tmp_path / "copy"))) == fingerprint_of(folder)


def test_random_weights_are_a_function_of_their_seed_and_leave_the_generator_alone() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    prints = [fingerprint_of(source(model="test_resnet", seed=seed)) for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_fingerprint_tells_one_weight_and_the_normalisation_apart(backbone_folder: Path) -> None:
    model = open_backbone(source(weights=str(backbone_folder)), 32)
    known = fingerprint(Embedder(model))
    settings: Any = model.pretrained_cfg
    settings["mean"] = (0.6, 0.5, 0.5)
    assert fingerprint(Embedder(model)) != known
    settings["mean"] = (0.6, 0.5, 0.4)
    assert fingerprint(Embedder(model)) == known
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6
    assert fingerprint(Embedder(model)) != known


def test_a_folder_says_how_its_images_were_cleaned(backbone_folder: Path, tmp_path: Path) -> None:
    file = source(weights=str(backbone_folder / "model.safetensors"), model="test_resnet")
    assert source(weights=str(backbone_folder)).cleaning() == file.cleaning() == []
    assert source(model="test_resnet").cleaning() == []
    folder = tmp_path / "cleaned"
    shutil.copytree(backbone_folder, folder)
    settings = json.loads((folder / "config.json").read_text())
    for clean, message in {("hair", "hsv"): None, ("hiar",): "no cleaning is called hiar; did you mean hair"}.items():
        (folder / "config.json").write_text(json.dumps({**settings, "clean": clean}))
        if message is None:
            assert source(weights=str(folder)).cleaning() == list(clean)
        else:
            with pytest.raises(InputError, match=message):
                source(weights=str(folder)).cleaning()


def test_each_wrong_way_is_one_line(backbone_folder: Path, tmp_path: Path) -> None:
    file = backbone_folder / "model.safetensors"
    text = tmp_path / "text.safetensors"
    text.write_text("not weights")
    no_config, odd = tmp_path / "no-config", tmp_path / "odd"
    for folder in (no_config, odd):
        folder.mkdir()
        shutil.copy(file, folder)
    (odd / "config.json").write_text(json.dumps({"architecture": "test_resnet"}))
    for keys, message in {
        (("weights", "/nowhere"),): "no such file or folder: /nowhere",
        (("weights", "resnet18"),): "no such file or folder: resnet18; for random weights of this architecture set",
        (("weights", str(backbone_folder.parent)),): f"is a run; its weights are in {backbone_folder}",
        (("weights", str(file)),): "does not say its architecture; set backbone.model",
        (("weights", str(no_config)),): "does not say its architecture; set backbone.model",
        (("weights", str(odd)),): "is not timm's: it has no pretrained_cfg",
        (("weights", str(file)), ("model", "test_vit")): "is not of a test_vit",
        (("weights", str(backbone_folder)), ("model", "test_convnext")): "is not of a test_convnext",
        (("weights", str(text)), ("model", "test_resnet")): "is not a safetensors file",
        (("model", "resnett18"),): "timm has no resnett18; try one of resnet18",
        (("model", "test_vit"),): "image_size=33 does not divide into patches of 16 px",
    }.items():
        with pytest.raises(InputError, match=message) as refused:
            open_backbone(source(**dict(keys)), 33)
        assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="weights=FOLDER, or the name of an architecture"):
        source()
    with pytest.raises(InputError, match="weights=FOLDER, or the name of an architecture"):
        source(weights="timm")
