"""A saved backbone is plain timm's to the last bit, and a wrong start is one line."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from ssl_isic.backbones import (
    BackboneConfig,
    build_backbone,
    check_input_size,
    feature_size,
    is_like_vision_transformer,
    normalization_of,
    save_backbone,
)
from ssl_isic.errors import InputError

SIZES = {
    "test_resnet": 32,
    "test_efficientnet": 32,
    "test_convnext": 32,
    "test_vit": 32,
    "eva02_tiny_patch14_224": 28,
}


@pytest.mark.parametrize("model", SIZES)
def test_plain_timm_gives_our_features_bit_for_bit(model: str, tmp_path: Path) -> None:
    size = SIZES[model]
    torch.manual_seed(0)
    ours = build_backbone(BackboneConfig(model=model, drop_path=0.1), size)
    images = torch.randn(4, 3, size, size)
    ours(images)  # moves the running statistics of batch norm away from where a new model has them
    ours.eval()
    save_backbone(ours, tmp_path / "run" / "backbone", size)
    theirs = timm.create_model(f"local-dir:{tmp_path / 'run' / 'backbone'}", pretrained=True).eval()
    with torch.no_grad():
        features = ours(images)
        assert torch.equal(theirs(images), features)
    assert features.shape == (4, feature_size(ours))
    assert theirs.pretrained_cfg["input_size"] == (3, size, size)
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["backbone"]


@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
def test_a_saved_backbone_starts_a_classifier_of_ours(model: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = build_backbone(BackboneConfig(model=model), 32)
    save_backbone(first, tmp_path / "backbone", 32)
    for weights in (tmp_path / "backbone", tmp_path / "backbone" / "model.safetensors"):
        second = build_backbone(BackboneConfig(model=model, weights=str(weights)), 32, num_classes=3)
        there = second.state_dict()
        assert all(torch.equal(there[name], value) for name, value in first.state_dict().items())
        assert second(torch.randn(2, 3, 32, 32)).shape == (2, 3)
        save_backbone(second, tmp_path / "again", 32)  # what was loaded can be saved


def test_saving_replaces_what_was_there(tmp_path: Path) -> None:
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = build_backbone(BackboneConfig(model="test_vit"), 32)
        save_backbone(network, tmp_path / "backbone", 32)
        saved = load_file(tmp_path / "backbone" / "model.safetensors")
        assert all(torch.equal(saved[name], value) for name, value in network.state_dict().items())


def test_the_position_embedding_is_resampled_and_all_else_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = build_backbone(BackboneConfig(model="test_vit"), 32)
    save_backbone(small, tmp_path / "backbone", 32)
    large = build_backbone(BackboneConfig(model="test_vit", weights=str(tmp_path / "backbone")), 64)
    tokens = {network: network.pos_embed.shape[1] for network in (small, large)}
    assert tokens == {small: 1 + 2 * 2, large: 1 + 4 * 4}
    assert torch.equal(large.pos_embed[:, :1], small.pos_embed[:, :1])
    grid_small, grid_large = (n.pos_embed[:, 1:].detach() for n in (small, large))
    assert grid_large.mean().item() == pytest.approx(grid_small.mean().item(), abs=0.01)
    rest = {name: value for name, value in small.state_dict().items() if name != "pos_embed"}
    assert all(torch.equal(large.state_dict()[name], value) for name, value in rest.items())


@pytest.mark.parametrize("model", ["test_vit", "eva02_tiny_patch14_224"])
def test_a_vit_takes_crops_of_another_size(model: str) -> None:
    network = build_backbone(BackboneConfig(model=model), 2 * SIZES[model])
    assert network(torch.randn(2, 3, SIZES[model], SIZES[model])).shape == (2, feature_size(network))


@pytest.mark.parametrize("model", ["levit_128s", "pvt_v2_b0", "swin_tiny_patch4_window7_224", "test_efficientnet"])
def test_a_network_is_laid_out_for_the_size_of_its_images(model: str) -> None:
    """LeViT has one size; PVT's patches of 7 px overlap, so that no size has to divide into them."""
    network = build_backbone(BackboneConfig(model=model), 64)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    check_input_size(network, 64, "views.size")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, feature_size(network))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("levit_128s", r"levit_128s does not take images of this size \(.*\); choose another"),
        ("test_vit", r"multiple of 16"),
    ],
)
def test_a_size_that_a_network_does_not_take_is_one_line(model: str, reason: str) -> None:
    network = build_backbone(BackboneConfig(model=model), 64)
    with pytest.raises(InputError, match=rf"views\.local_size=40.*{reason}") as caught:
        check_input_size(network, 40, "views.local_size")
    assert "\n" not in str(caught.value)
    assert network.training


@pytest.mark.parametrize(
    ("model", "like"),
    [
        *(("vit_small_patch16_224", True), ("vit_small_patch16_dinov3", True), ("swinv2_tiny_window8_256", True)),
        *(("pvt_v2_b0", True), ("convnext_atto", True), ("resnet18", False), ("tf_efficientnet_lite0", False)),
        *(("levit_128s", False), ("vgg11", False)),
    ],
)
def test_networks_with_layer_norm_alone_have_a_transformers_recipe(model: str, like: bool) -> None:
    assert is_like_vision_transformer(BackboneConfig(model=model)) is like


def test_dinov3s_network_is_saved_and_taken_up_at_another_size(tmp_path: Path) -> None:
    """Its positions are rotary: there is nothing to resample, and nothing of the size in its weights."""
    torch.manual_seed(0)
    first = build_backbone(BackboneConfig(model="vit_small_patch16_dinov3"), 32).eval()
    save_backbone(first, tmp_path / "backbone", 32)
    second = build_backbone(BackboneConfig(weights=str(tmp_path / "backbone")), 48).eval()
    plain = timm.create_model(f"local-dir:{tmp_path / 'backbone'}", pretrained=True).eval()
    for side in (32, 48, 64):
        images = torch.randn(2, 3, side, side)
        with torch.no_grad():
            assert torch.equal(second(images), first(images))
            assert torch.equal(plain(images), first(images))


def test_a_folder_names_its_network_unless_another_is_set(tmp_path: Path) -> None:
    save_backbone(build_backbone(BackboneConfig(model="test_vit"), 32), tmp_path / "backbone", 32)
    weights = str(tmp_path / "backbone")
    assert BackboneConfig(weights=weights).model == "test_vit"
    assert BackboneConfig(weights=str(tmp_path / "backbone" / "model.safetensors")).model == "resnet18", (
        "a file says nothing"
    )
    with pytest.raises(InputError, match=r"is not of a test_resnet: .* set backbone.model to test_vit"):
        build_backbone(BackboneConfig(model="test_resnet", weights=weights), 32)


def test_pixels_are_normalised_as_the_weights_expect() -> None:
    network = build_backbone(BackboneConfig(model="test_resnet"), 32)
    settings = network.pretrained_cfg
    pixels = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    mean, std = torch.tensor(settings["mean"]), torch.tensor(settings["std"])
    expected = ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)
    torch.testing.assert_close(normalization_of(network)(pixels), expected, rtol=1e-5, atol=1e-5)


def test_dropout_and_stochastic_depth_reach_the_network() -> None:
    network = build_backbone(BackboneConfig(model="test_vit", drop_path=0.5), 32, num_classes=1, drop_rate=0.3)
    rates = {type(m).__name__: m.drop_prob for m in network.modules() if type(m).__name__ == "DropPath"}
    assert rates == {"DropPath": 0.5}
    assert network.head_drop.p == 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "resnet18.nobodys"}, r"timm has no resnet18\.nobodys"),
        ({"model": "resnett18"}, r"backbone\.model: timm has no resnett18; try one of resnet"),
        ({"weights": "/nowhere/backbone"}, r"no such file: /nowhere/backbone"),
        ({"weights": "{tmp}"}, r"no such file: .*model\.safetensors"),
        ({"weights": "{tmp}/text.safetensors"}, r"text\.safetensors is not a safetensors file"),
        (
            {"model": "test_vit", "weights": "{tmp}/resnet.safetensors"},
            r"is not of a test_vit: it lacks .* and \d+ more",
        ),
        ({"model": "test_resnet", "weights": "{tmp}/wide.safetensors"}, r"its conv1\S* has another shape"),
    ],
)
def test_a_wrong_start_is_one_line(settings: dict[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("not weights")
    state = timm.create_model("test_resnet").state_dict()
    save_file(state, tmp_path / "resnet.safetensors")
    first = next(name for name in state if name.startswith("conv1"))
    save_file({**state, first: torch.zeros(1, 3, 3, 3)}, tmp_path / "wide.safetensors")
    settings = {key: value.format(tmp=tmp_path) for key, value in settings.items()}
    with pytest.raises(InputError, match=message) as caught:
        build_backbone(BackboneConfig(**{"model": "test_resnet", **settings}), 32)
    assert "\n" not in str(caught.value)


def test_an_architecture_may_be_named_with_the_tag_of_its_weights() -> None:
    assert build_backbone(BackboneConfig(model="resnet18.a1_in1k"), 32).num_features == 512


@pytest.mark.parametrize(
    "model",  # heads of several layers, biases and layers for one size of images
    ["levit_128s", "repvit_m0_9", "efficientformerv2_s0", "shvit_s1", "gmixer_12_224", "pit_ti_224"],
)
def test_what_was_saved_is_opened_again_at_its_size(model: str, tmp_path: Path) -> None:
    if not timm.is_model(model):
        pytest.skip(f"this timm has no {model}")
    first = build_backbone(BackboneConfig(model=model), 96)
    save_backbone(first, tmp_path / "backbone", 96)
    again = build_backbone(BackboneConfig(weights=str(tmp_path / "backbone")), 96).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_weights_for_another_size_are_one_line(file: str, tmp_path: Path) -> None:
    side = 224 if file else 96  # of a file alone the network's own size is known
    save_backbone(build_backbone(BackboneConfig(model="levit_128s"), side), tmp_path / "backbone", side)
    config = BackboneConfig(model="levit_128s", weights=str(tmp_path / "backbone" / file))
    with pytest.raises(InputError, match=rf"was trained on images of {side} px and .* choose {side} px") as refused:
        build_backbone(config, 128)
    assert "\n" not in str(refused.value)


def test_timms_weights_for_another_size_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object, **__: object) -> None:
        raise RuntimeError("Error(s) in loading state_dict for Levit:\n\tsize mismatch for bias")

    monkeypatch.setattr(timm, "create_model", too_large)
    with pytest.raises(InputError, match=r"do not fit images of 96 px \(size mismatch for bias\); choose the size"):
        build_backbone(BackboneConfig(model="levit_128s", weights="timm"), 96)


def test_paths_are_dropped_where_that_is_set_and_nowhere_else() -> None:
    images = torch.randn(8, 3, 32, 32)
    for drop_path in (0.0, 0.5):
        torch.manual_seed(0)
        network = build_backbone(BackboneConfig(model="nest_tiny", drop_path=drop_path), 32).train()  # timm's own: 0.5
        assert torch.equal(network(images), network(images)) == (drop_path == 0)


def test_a_network_with_a_tensor_in_two_places_is_refused() -> None:
    with pytest.raises(InputError, match="coat_tiny uses one tensor in several layers"):
        build_backbone(BackboneConfig(model="coat_tiny"), 64)


def test_weights_that_cannot_be_fetched_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **options: object) -> None:
        assert options["pretrained"]
        raise OSError("no network\nand more")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        InputError, match=r"^backbone\.weights: .*resnet18 cannot be fetched \(no network\); give a file"
    ):
        build_backbone(BackboneConfig(model="resnet18", weights="timm"), 32)


@pytest.mark.parametrize(("model", "stages", "frozen"), [("test_vit", 2, "blocks.0."), ("test_resnet", 1, "conv1.")])
def test_the_first_stages_can_be_kept_as_they_are(model: str, stages: int, frozen: str) -> None:
    network = build_backbone(BackboneConfig(model=model, freeze_stages=stages), 32)
    kept = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert any(name.startswith(frozen) for name in kept)
    first = ("cls_token", "pos_embed", "patch_embed.", "blocks.0.") if model == "test_vit" else ("conv1.", "bn1.")
    assert kept == {name for name, _ in network.named_parameters() if name.startswith(first)}
    free = build_backbone(BackboneConfig(model=model), 32)
    assert all(parameter.requires_grad for parameter in free.parameters())


def test_something_has_to_be_left_to_train() -> None:
    with pytest.raises(InputError, match=r"freeze_stages=50 leaves nothing of the \d+ stages"):
        build_backbone(BackboneConfig(model="test_vit", freeze_stages=50), 32)


@pytest.mark.parametrize("model", ["pit_ti_224", "rdnet_tiny"])
def test_stages_that_timm_does_not_know_are_one_line(model: str) -> None:
    with pytest.raises(InputError, match=r"freeze_stages=1: timm knows no stages"):
        build_backbone(BackboneConfig(model=model, freeze_stages=1), 224)
