"""Maps of patches against timm's own parts, and their colours against cases made by hand."""

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray

from ssl_isic.data.views import Image
from ssl_isic.evaluation.patches import component_colours, patch_maps
from ssl_isic.evaluation.source import BackboneSource, Embedder, open_backbone

Maps = NDArray[np.float32]


def pictures(count: int, size: int) -> list[Image]:
    rng = np.random.default_rng(0)
    return [rng.integers(256, size=(size, size, 3), dtype=np.uint8) for _ in range(count)]


def planted() -> tuple[Maps, NDArray[np.bool_]]:
    """Two 6 x 6 maps of five channels, one vector in a square of 2 x 2 near the middle and another around it."""
    inside = np.zeros((2, 6, 6), bool)
    inside[:, 2:4, 2:4] = True
    one, other = np.array([3, -1, 4, 1, 5], np.float32), np.array([2, 7, -1, 8, 2], np.float32)
    return np.where(inside[..., None], one, other), inside


def test_two_regions_get_two_colours_the_middle_brighter_and_no_component_that_is_not_there() -> None:
    features, inside = planted()
    colours, share = component_colours(features)
    assert (colours.shape, colours.dtype) == ((2, 6, 6, 3), np.uint8)
    assert np.unique(colours[inside], axis=0).tolist() == [[255, 128, 128]]
    assert np.unique(colours[~inside], axis=0).tolist() == [[0, 128, 128]]
    assert share == pytest.approx(1)


def test_colours_are_the_projections_on_the_main_axes_clipped_at_either_end() -> None:
    rng = np.random.default_rng(1)
    features = (rng.normal(size=(3, 9, 9, 7)) * [8, 4, 2, 1, 1, 1, 1] + 5).astype(np.float32)
    features[0, 0, 0] *= 100  # an outlier, which may take no colour from the others
    colours, share = component_colours(features)
    patches = features.reshape(-1, 7).astype(float)
    left, spread, _ = np.linalg.svd(patches - patches.mean(axis=0), full_matrices=False)
    middle = np.array([min(y, 8 - y, x, 8 - x) >= 3 for _ in range(3) for y in range(9) for x in range(9)])
    for colour, scores in zip(colours.reshape(-1, 3).T, left.T, strict=False):
        low, high = np.percentile(scores, (2, 98))
        bright = ((scores - low) / (high - low)).clip(0, 1)
        assert min(np.abs(colour / 255 - either).max() for either in (bright, 1 - bright)) < 0.003
        assert colour.std() > 50
    assert share == pytest.approx((spread[:3] ** 2).sum() / (spread**2).sum())
    colours, _ = component_colours(features + 9 * middle.reshape(3, 9, 9, 1))
    assert colours.reshape(-1, 3)[middle, 1].mean() > colours.reshape(-1, 3)[~middle, 1].mean()


def test_a_sign_a_turn_or_a_shift_of_the_features_changes_no_colour() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(size=(2, 5, 5, 6)) * [9, 5, 3, 1, 1, 1]
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    expected, _ = component_colours(features.astype(np.float32))
    for same in (-features, features @ turn, features + 3):
        assert np.abs(component_colours(same.astype(np.float32))[0].astype(int) - expected).max() <= 1


def test_few_patches_and_features_that_are_all_one_are_fine() -> None:
    colours, share = component_colours(np.full((2, 3, 3, 4), 0.3, np.float32))
    assert (np.unique(colours).tolist(), share) == ([128], 0)
    colours, _ = component_colours(np.array([[1.0, 2], [5, 2]], np.float32).reshape(2, 1, 1, 2))
    assert sorted(colours[:, 0, 0].tolist()) == [[0, 128, 128], [255, 128, 128]]
    small = np.zeros((1, 10, 10, 2), np.float32)
    small[0, 5, 5] = 1  # fewer patches than are clipped
    assert component_colours(small)[0][0, 5, 5].tolist() == [255, 128, 128]


@pytest.mark.parametrize("model", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit", "test_vit2"])
@pytest.mark.parametrize("size", [64, 96])
def test_maps_have_a_patch_for_16_px_whatever_the_family(model: str, size: int) -> None:
    embedder = Embedder(open_backbone(BackboneSource(model=model), size))
    maps = patch_maps(embedder, pictures(2, size))
    # timm's own word for what is deepest at that stride; two of these networks go on to 32 px
    of_stride = [about["num_chs"] for about in embedder.backbone.feature_info if about["reduction"] == 16]
    assert maps.features.shape == (2, size // 16, size // 16, of_stride[-1])
    assert np.isfinite(maps.features).all()


def test_coarser_patches_are_taken_where_there_are_no_others_and_norms_only_where_there_are_any() -> None:
    coarse = Embedder(timm.create_model("vit_tiny_patch16_224", num_classes=0, patch_size=32, img_size=96).eval())
    assert patch_maps(coarse, pictures(1, 96)).features.shape == (1, 3, 3, 192)
    hiera = Embedder(open_backbone(BackboneSource(model="hiera_tiny_224"), 224))
    assert patch_maps(hiera, pictures(1, 224)).features.shape == (1, 14, 14, 384)


def vit(**settings: object) -> Embedder:
    torch.manual_seed(0)
    return Embedder(timm.create_model("test_vit", num_classes=0, img_size=64, **settings).eval())


@pytest.mark.parametrize("registers", [0, 3])
def test_a_class_tokens_attention_is_the_softmax_of_the_last_block(registers: int) -> None:
    embedder = vit(reg_tokens=registers)
    network = embedder.backbone
    (picture,) = pictures(1, 64)
    maps = patch_maps(embedder, [picture])
    assert maps.attention is not None

    pixels = embedder.normalize(torch.from_numpy(picture)[None])
    with torch.no_grad():
        tokens = network.forward_features(pixels)
        block, before = network.blocks[-1], list[torch.Tensor]()
        block.norm1.register_forward_hook(lambda module, inputs, output: before.append(output))
        network(pixels)
        heads = block.attn.num_heads
        q, k, _ = block.attn.qkv(before[0])[0].reshape(-1, 3, heads, 64 // heads).unbind(1)
        weights = torch.stack([(q[0, h] @ k[:, h].T / (64 // heads) ** 0.5).softmax(-1) for h in range(heads)]).mean(0)
    skipped = 1 + registers
    assert np.allclose(maps.attention.ravel(), weights[skipped:], atol=1e-6)
    assert np.allclose(maps.features.reshape(16, 64), tokens[0, skipped:], atol=1e-5)
    assert block.attn.fused_attn == timm.create_model("test_vit").blocks[-1].attn.fused_attn


def test_patches_lie_where_they_do_in_the_image() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    spotted = black.copy()
    spotted[16:32, 48:64] = 255  # the patch of row 1, column 3
    embedder = vit()
    embedder.backbone.blocks = embedder.backbone.blocks[:0].append(torch.nn.Identity())  # no patch sees another
    before, after = patch_maps(embedder, [black, spotted]).features
    assert np.argwhere(np.abs(after - before).max(axis=-1) > 1e-6).tolist() == [[1, 3]]


def test_there_is_no_attention_where_the_class_token_is_not_the_feature() -> None:
    for settings in ({"class_token": False, "global_pool": "avg"}, {"global_pool": "avg", "reg_tokens": 2}):
        maps = patch_maps(vit(**settings), pictures(2, 64))
        assert maps.attention is None
        assert maps.features.shape == (2, 4, 4, 64)
    resnet = Embedder(timm.create_model("test_resnet", num_classes=0).eval())
    assert patch_maps(resnet, pictures(1, 64)).attention is None
