"""The contrastive loss: NT-Xent and its decoupled form, over the images of all ranks.

Shapes: B images of one rank, R ranks, P projected features. The anchors of a rank are its 2B views.
"""

from typing import NamedTuple

import torch
from lightly.utils import dist
from torch import Tensor, nn

from ssl_isic.methods.ranks import gathered


class Contrast(NamedTuple):
    """The loss of this rank's anchors, and how many negatives an anchor had on average."""

    loss: Tensor
    negatives: Tensor


def contrastive_loss(
    first_BP: Tensor, second_BP: Tensor, temperature: float, group_B: Tensor, *, decoupled: bool = False
) -> Contrast:
    """Mean over this rank's anchors of -log(exp(s+ / t) / sum exp(s / t)), s the cosine similarity.

    The sum runs over the positive and all negatives; `decoupled` leaves the positive out of it. Images with the anchor's
    number in `group_B` (its own row, its patient, its lesion) are no negatives. An anchor without any negative
    learns nothing; if `decoupled`, it is only drawn to its positive. The mean over ranks of the loss and of its gradient are
    those of one process with all images: the gather carries gradient.

    Source: Chen et al. 2020, https://arxiv.org/abs/2002.05709, equation 1; Yeh et al. 2022, https://arxiv.org/abs/2110.06848,
    equation 6 without weights (decoupled).
    """
    anchors, positive, candidates = _pairs(first_BP, second_BP)
    same = gathered(group_B)
    rows = _own_rows(len(first_BP), same.device)
    negative = same[rows].repeat(2)[:, None] != same.repeat(2)[None, :]  # (2B, 2RB); never itself nor its positive
    logits = anchors @ candidates.T / temperature
    # a finite stand-in for minus infinity: the gradient of a row without negatives is 0, not NaN
    repelling = logits.masked_fill(~negative, torch.finfo(logits.dtype).min)
    attracting = logits.gather(1, positive[:, None])
    if not decoupled:
        repelling = torch.cat([attracting, repelling], dim=1)
    has_negative = negative.any(dim=1) | (not decoupled)
    pushed = torch.where(has_negative, repelling.logsumexp(dim=1), 0.0)
    return Contrast((pushed - attracting.squeeze(1)).mean(), negative.sum(dim=1).float().mean())


def _pairs(first_BP: Tensor, second_BP: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """This rank's anchors (2B, P), the column of each one's positive (2B,), and all ranks' candidates (2RB, P)."""
    first, second = nn.functional.normalize(first_BP, dim=1), nn.functional.normalize(second_BP, dim=1)
    candidates = torch.cat([gathered(first), gathered(second)])
    rows = _own_rows(len(first), first.device)
    return torch.cat([first, second]), torch.cat([rows + len(candidates) // 2, rows]), candidates


def _own_rows(images: int, device: torch.device) -> Tensor:
    first: int = dist.rank() * images
    return torch.arange(first, first + images, device=device)
