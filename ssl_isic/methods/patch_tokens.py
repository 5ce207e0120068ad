"""Vision transformers of which a method hides some patches: how they are built, read and optimised.

Shapes: B images, N patches, L tokens with the class and register tokens in front, D features.
"""

import re

from lightly.models.modules.masked_vision_transformer_timm import MaskedVisionTransformerTIMM
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig, build_backbone
from ssl_isic.errors import InputError
from ssl_isic.optim import ParameterGroup, parameter_groups


def masked_vit(backbone: BackboneConfig, image_size: int, method: str) -> MaskedVisionTransformerTIMM:
    """A network of `build_backbone` that can hide patches; its `.vit` is the timm model, its weights untouched.

    Raises:
        InputError: the network is no vision transformer, or one whose patches are not its tokens.
    """
    vit = build_backbone(backbone, image_size)
    # subclasses and stems of convolutions have tokens that the wrapper does not know of, or that see their neighbours
    plain = type(vit) is VisionTransformer and isinstance(vit.patch_embed, PatchEmbed)
    if not plain or vit.pos_embed is None:
        raise InputError(
            f"method {method} masks patches and needs a plain vision transformer; backbone.model={backbone.model} is none; "
            "use for instance vit_small_patch16_224, or method.name=simclr"
        )
    # unless told to skip it, the wrapper draws new weights and puts frozen positions in place of the network's own
    masked = MaskedVisionTransformerTIMM(vit, weight_initialization="skip", pos_embed_initialization="skip")
    masked.set_grad_checkpointing(backbone.grad_checkpointing)
    return masked


def features_of(vit: VisionTransformer, tokens_BLD: Tensor) -> tuple[Tensor, Tensor]:
    """Features (B, D) of images as timm gives them, and of their patches (B, N, D), from the tokens after the last block."""
    return vit.forward_head(tokens_BLD, pre_logits=True), vit.fc_norm(tokens_BLD[:, vit.num_prefix_tokens :])


def layerwise_groups(student: nn.Module, decay: float, patch_embed_scale: float) -> list[ParameterGroup]:
    """Groups of the trainable parameters of a `masked_vit`, with a learning rate that falls by `decay` a layer from the end.

    The norm after the last block has the whole rate, the last block `decay` times that; what comes before the first block
    (patches, positions, class, register and mask tokens) is one layer, of which the patch embedding gets `patch_embed_scale`.

    Source: Oquab et al. 2023, official code.
    """
    depth = len(student.vit.blocks)  # type: ignore[union-attr,arg-type]
    by_scale: dict[float, list[nn.Parameter]] = {}
    for name, parameter in student.named_parameters():
        scale = decay ** (depth + 1 - _layer(name, depth))
        scale *= patch_embed_scale if name.startswith("vit.patch_embed.") else 1.0
        by_scale.setdefault(scale, []).append(parameter)
    return [group for scale, parameters in by_scale.items() for group in parameter_groups(parameters, lr_scale=scale)]


def _layer(name: str, depth: int) -> int:
    if block := re.match(r"vit\.blocks\.(\d+)\.", name):
        return int(block[1]) + 1
    return depth + 1 if name.startswith(("vit.norm.", "vit.fc_norm.", "vit.attn_pool.")) else 0
