"""Losses for rare positives, on logits (B,), with targets (B,) in [0, 1] that may be soft and a weight for each sample."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ssl_isic.config import Config


class FocalConfig(Config):
    """Focal loss: easy samples count little. Source: Lin et al. 2017, equation 5."""

    name: Literal["focal"] = "focal"
    alpha: float = Field(0.25, ge=0, le=1)
    """Weight of the positives; the negatives get 1 - alpha."""
    gamma: float = Field(2.0, ge=0)
    """How fast easy samples fade; 0 is weighted cross-entropy."""


class BCEConfig(Config):
    """Binary cross-entropy with a weight on the positives."""

    name: Literal["bce"] = "bce"
    positive_weight: float = Field(1.0, gt=0)
    """How many negatives one positive counts for."""


LossConfig = Annotated[FocalConfig | BCEConfig, Field(discriminator="name")]


def classification_loss(config: FocalConfig | BCEConfig, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The weighted sum of the samples' losses over their number, a scalar."""
    if isinstance(config, FocalConfig):
        losses = focal_loss(logits, target, config.alpha, config.gamma)
    else:
        losses = weighted_bce(logits, target, config.positive_weight)
    return (weight * losses).mean()


def focal_loss(logits: Tensor, target: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss of each sample (B,). A soft target weighs the loss of a positive against that of a negative."""
    log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
    # p**gamma by its logarithm: once p rounds to 1, (1 - p)**gamma has a gradient of infinity times 0 for gamma < 1
    positive = -alpha * torch.exp(gamma * log_not_p) * log_p
    negative = -(1 - alpha) * torch.exp(gamma * log_p) * log_not_p
    return target * positive + (1 - target) * negative


def weighted_bce(logits: Tensor, target: Tensor, positive_weight: float) -> Tensor:
    """Cross-entropy of each sample (B,), the positive part times `positive_weight`."""
    return -(positive_weight * target * F.logsigmoid(logits) + (1 - target) * F.logsigmoid(-logits))
