"""MAE: a vision transformer sees a quarter of a lesion's patches, and a small decoder paints the others.

Source: He et al. 2022, https://arxiv.org/abs/2111.06377, and the official code.
Shapes: B images of one rank, N patches of which V are visible and H = N - V hidden, D features, W width of the decoder,
P = 3 * patch area values of a patch. Tokens are the class and register tokens first, then the patches.
"""

from collections.abc import Iterable
from functools import partial
from typing import ClassVar, Literal

import torch
from lightly.models import utils
from pydantic import Field
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from ssl_isic.backbones import BackboneConfig, check_input_size, feature_size, normalization_of
from ssl_isic.data.loading import Batch
from ssl_isic.data.views import SeededViews, ViewsConfig, mae_view
from ssl_isic.errors import InputError
from ssl_isic.methods.diagnostics import feature_std
from ssl_isic.methods.masks import image_keys, random_order
from ssl_isic.methods.method import DataFacts, Default, MethodSettings, RunShape, crop_defaults
from ssl_isic.methods.patch_tokens import masked_vit
from ssl_isic.optim import ParameterGroup, parameter_groups
from ssl_isic.task import Task, full_precision

HEAD_WIDTH = 32  # of a decoder's attention head, as in the paper


class MAEConfig(MethodSettings):
    """MAE: reconstruction of hidden patches; one view, no negatives, vision transformers only."""

    calls_blocks: ClassVar[bool] = True
    name: Literal["mae"] = "mae"
    mask_ratio: float = Field(0.75, gt=0, lt=1)
    """Share of the patches that is hidden."""
    decoder_depth: int = Field(4, ge=1)
    """Blocks of the decoder (8 in the paper)."""
    decoder_width: int = Field(256, ge=HEAD_WIDTH, multiple_of=HEAD_WIDTH)
    """Width of the decoder (512 in the paper)."""

    def build_views(self, views: ViewsConfig) -> SeededViews:
        return mae_view(views)

    def build(self, backbone: BackboneConfig, run: RunShape) -> "MAE":
        return MAE(self, backbone, run.image_size)

    def defaults(self, facts: DataFacts) -> list[Default]:
        return [
            Default("optim.name", "adamw", "AdamW for all networks (MAE)"),
            Default("optim.betas", (0.9, 0.95), "a shorter memory of squared gradients (MAE)"),
            Default("optim.lr", 1.5e-4, "1.5e-4 for 256 images (MAE)"),
            Default("optim.lr_batch_size", 256, "the learning rate grows with the batch (MAE)"),
            Default("optim.end_lr", 0.0, "falls to 0 (MAE)"),
            Default(
                "optim.warmup_epochs", min(40.0, facts.epochs / 20), "40 epochs, a twentieth of the run at most (MAE)"
            ),
            Default("optim.weight_decay", 0.05, "0.05 (MAE)"),
            Default("loop.clip_norm", None, "gradients are not clipped (MAE)"),
            *crop_defaults(facts, "mae"),
        ]


class MAE(Task):
    """An encoder that sees the visible patches and a decoder that is thrown away."""

    def __init__(self, config: MAEConfig, backbone: BackboneConfig, image_size: int) -> None:
        super().__init__()
        self.encoder = masked_vit(backbone, image_size, config.name)
        self.encoder.mask_token.requires_grad_(False)  # hidden patches are left out, not replaced
        vit = self.encoder.vit
        if vit.attn_pool is not None:
            raise InputError(
                f"method mae does not train the attention by which backbone.model={backbone.model} pools its patches; "
                "use for instance vit_small_patch16_224, or method.name=dinov2"
            )
        self.patches: int = vit.patch_embed.num_patches
        self.visible = int(self.patches * (1 - config.mask_ratio))
        if self.visible == 0:
            check_input_size(vit, image_size, "views.size")
            raise InputError(
                f"method.mask_ratio={config.mask_ratio} leaves none of the {self.patches} patches of "
                f"views.size={image_size} visible; choose a lower ratio, or larger views"
            )
        if backbone.weights is None:
            _start_as_the_authors_do(vit)
        self.decoder = MAEDecoder(vit, config.decoder_width, config.decoder_depth)
        self.normalize = normalization_of(vit)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        images = self.normalize(batch["views"][0])
        order_BN = random_order(image_keys(step, batch["row"]), self.patches)
        visible_BV, hidden_BH = order_BN[:, : self.visible], order_BN[:, self.visible :]
        tokens_BTD = self._encoded(images, visible_BV)
        painted_BNP = self.decoder(self.encoder.vit.fc_norm(tokens_BTD), order_BN).float()
        with full_precision(painted_BNP):
            target_BNP = normalized_patches(images, self.decoder.patch_size)
            error_BH = (painted_BNP - target_BNP).square().mean(dim=2).gather(1, hidden_BH)
            loss = error_BH.mean()
        with torch.no_grad():
            features_BD = self.encoder.vit.forward_head(tokens_BTD, pre_logits=True)
        return {"loss": loss, "feature_std": feature_std(features_BD)}

    def parameter_groups(self) -> list[ParameterGroup]:
        return parameter_groups(self.parameters())

    def networks(self) -> list[nn.Module]:
        """The blocks of encoder and decoder, which are what the tokens go through."""
        return [self.encoder.vit.blocks, self.decoder.blocks]

    def held_first(self) -> Iterable[nn.Parameter]:
        """The encoder: the decoder is a new head."""
        yield from self.encoder.vit.parameters()

    def exported(self) -> nn.Module:
        vit: nn.Module = self.encoder.vit
        return vit

    def _encoded(self, images: Tensor, visible_BV: Tensor) -> Tensor:
        """The encoder's tokens, with the class and register tokens in front, of the visible patches in that order."""
        prefix: int = self.encoder.vit.num_prefix_tokens
        first = torch.arange(prefix, device=images.device).expand(len(images), -1)
        tokens: Tensor = self.encoder.encode(images, idx_keep=torch.cat([first, visible_BV + prefix], dim=1))
        return tokens


class MAEDecoder(nn.Module):
    """Blocks of a transformer over the encoder's tokens and a mask token for each hidden patch."""

    def __init__(self, vit: VisionTransformer, width: int, depth: int) -> None:
        super().__init__()
        self.prefix: int = vit.num_prefix_tokens
        self.patch_size: int = vit.patch_embed.patch_size[0]
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.embed = nn.Linear(feature_size(vit), width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions: Tensor
        self.register_buffer(
            "positions", sine_cosine_positions(width, vit.patch_embed.grid_size[0], self.prefix), persistent=False
        )
        self.blocks = nn.Sequential(
            *(Block(width, width // HEAD_WIDTH, qkv_bias=True, norm_layer=norm) for _ in range(depth))
        )
        self.norm = norm(width)
        self.paint = nn.Linear(width, 3 * self.patch_size**2)
        nn.init.normal_(self.mask_token, std=0.02)
        self.apply(_xavier)

    def forward(self, tokens_BTD: Tensor, order_BN: Tensor) -> Tensor:
        """Values (B, N, P) of all patches, from the encoder's tokens of the first patches of `order_BN`."""
        first, visible = self.embed(tokens_BTD).split([self.prefix, tokens_BTD.shape[1] - self.prefix], dim=1)
        unseen = self.mask_token.to(visible.dtype).expand(len(visible), order_BN.shape[1] - visible.shape[1], -1)
        patches = utils.get_at_index(torch.cat([visible, unseen], dim=1), order_BN.argsort(dim=1))
        tokens_BLW = self.blocks(torch.cat([first, patches], dim=1) + self.positions)
        painted: Tensor = self.paint(self.norm(tokens_BLW[:, self.prefix :]))
        return painted


def normalized_patches(images: Tensor, patch_size: int) -> Tensor:
    """(B, N, P): the pixels of each patch of (B, 3, h, h), row by row and channels last, to mean 0 and variance 1.

    Source: He et al. 2022, section 4.1 ("reconstruction target").
    """
    normalized: Tensor = utils.normalize_mean_var(utils.patchify(images, patch_size))
    return normalized


def sine_cosine_positions(width: int, side: int, prefix: int) -> Tensor:
    """(1, prefix + side * side, width): sines and cosines of a patch's column and row; zeros for `prefix` other tokens.

    Source: He et al. 2022, appendix A.1, and the official code.
    """
    grid = torch.from_numpy(utils.get_2d_sine_cosine_positional_embedding(width, side, cls_token=False))
    return torch.cat([torch.zeros(prefix, width), grid.float()]).unsqueeze(0)


def _start_as_the_authors_do(vit: VisionTransformer) -> None:
    """Xavier's weights and fixed sines and cosines for a network that starts from nothing, as in the official code."""
    vit.apply(_xavier)
    nn.init.xavier_uniform_(vit.patch_embed.proj.weight.view(vit.embed_dim, -1))
    if vit.cls_token is not None:
        nn.init.normal_(vit.cls_token, std=0.02)
    prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    positions = sine_cosine_positions(feature_size(vit), vit.patch_embed.grid_size[0], prefix)
    vit.pos_embed.data.copy_(positions)
    vit.pos_embed.requires_grad_(False)


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
