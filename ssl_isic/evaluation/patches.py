"""What a network makes of each place of an image: features of patches, their main components as colours, attention.

Shapes: B images, each of h x w patches with C channels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from timm.layers import Attention, AttentionRope
from timm.models.eva import Eva, EvaAttention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from ssl_isic.data.steps.step import Image
from ssl_isic.evaluation.source import Embedder

COARSEST_STRIDE_PX = 16
COMPONENTS = 3
CLIPPED_PERCENT = 2
ROUNDING = 1e-6  # components this small beside the features are float32's rounding


class PatchMaps(NamedTuple):
    """Features (B, h, w, C) of the patches, and where the class token looks (B, h, w), if it is what the network gives."""

    features: NDArray[np.float32]
    attention: NDArray[np.float32] | None


def patch_maps(embedder: Embedder, pictures: Sequence[Image]) -> PatchMaps:
    """The maps of `pictures`, uint8 (size, size, 3), one picture at a time, since a network's maps are large.

    A vision transformer's are the patch tokens after its last block and norm; any other network's are its deepest map
    with a patch for each 16 px or finer. Attention is the last block's, a mean over heads.
    """
    network: Any = embedder.backbone
    device = embedder.normalize.mean.device
    is_vit = isinstance(network, VisionTransformer | Eva)
    features, attention = list[Tensor](), list[Tensor]()
    with torch.no_grad(), _watched_attention(network) as seen:
        for picture in pictures:
            pixels = embedder.normalize(torch.from_numpy(picture)[None].to(device))
            maps = network.forward_intermediates(pixels, norm=is_vit, intermediates_only=True)
            fine = [map_ for map_ in maps if map_.shape[-1] * COARSEST_STRIDE_PX >= pixels.shape[-1]]
            features.append((fine or maps)[-1][0].permute(1, 2, 0).float().cpu())
            if seen:
                of_class = seen.pop()[0, :, 0, network.num_prefix_tokens :].mean(dim=0)
                attention.append(of_class.float().cpu().reshape(features[-1].shape[:2]))
    return PatchMaps(torch.stack(features).numpy(), torch.stack(attention).numpy() if attention else None)


def component_colours(features_BhwC: NDArray[np.float32]) -> tuple[Image, float]:
    """The first three principal components over all patches as red, green and blue, uint8 (B, h, w, 3).

    Each is stretched over its values but for 2 % at either end, and signed so that it is brighter in the middle of the
    images, where the lesion is. A component that the features do not have is grey. Also returns the three's share of the
    variance.
    """
    *shape, channels = features_BhwC.shape
    patches = features_BhwC.reshape(-1, channels).astype(np.float64)
    count = min(COMPONENTS, *patches.shape)
    with np.errstate(invalid="ignore"):  # shares of no variance at all
        pca = PCA(count, random_state=0).fit(patches)
    scores = pca.transform(patches)
    scores *= np.where(_nearness_to_middle(*shape) @ scores < 0, -1, 1)
    low, high = np.percentile(scores, (CLIPPED_PERCENT, 100 - CLIPPED_PERCENT), axis=0)
    few = low == high  # all but a few patches are one
    low, high = np.where(few, scores.min(axis=0), low), np.where(few, scores.max(axis=0), high)
    there = scores.std(axis=0) > ROUNDING * np.abs(patches).max()
    colours = np.full((len(patches), COMPONENTS), 0.5)
    colours[:, :count][:, there] = ((scores - low)[:, there] / (high - low)[there]).clip(0, 1)
    share = float(pca.explained_variance_ratio_[there].sum())
    return np.rint(255 * colours).astype(np.uint8).reshape(*shape, COMPONENTS), share


def _nearness_to_middle(images: int, height: int, width: int) -> NDArray[np.float64]:
    """How near each patch is to the middle of its image, 0 on average, (images x height x width,)."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5)
    return np.tile((distance.mean() - distance).ravel(), images)


@contextmanager
def _watched_attention(network: Any) -> Iterator[list[Tensor]]:
    """A list to which each forward pass adds the last block's attention (1, heads, tokens, tokens).

    It stays empty unless the network's features are the class token of a vision transformer with plain attention.
    """
    seen = list[Tensor]()
    is_vit = isinstance(network, VisionTransformer | Eva) and network.global_pool == "token"
    attention = getattr(network.blocks[-1], "attn", None) if is_vit else None
    if not isinstance(attention, Attention | AttentionRope | EvaAttention):
        yield seen
        return
    fused, attention.fused_attn = attention.fused_attn, False  # fused attention never has the matrix
    hook = attention.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        hook.remove()
        attention.fused_attn = fused
