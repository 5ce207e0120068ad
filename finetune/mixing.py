"""MixUp and CutMix: the images of a micro-batch mixed in pairs, and their targets with them.

Shapes: B images of one rank (B, 3, h, w), normalised, on their device; targets and weights (B,); `share` (B,) is the part
of each mixed image that is its own, lambda in the papers.

With rare positives mixing is not harmless. With `partners: any`, at a prevalence of 0.1 % next to no positive meets another:
each is blended into a negative, half of it lost with a beta of 1, and its target drops to `share`; the expected sum of the
targets stays what it was. Balanced sampling (`sampling.negatives_per_positive`) and a small `mixup_alpha`, which leaves most
images nearly whole, soften that. `partners: like` mixes positives with positives and negatives with negatives only: hard
targets stay hard, a positive alone in its micro-batch stays as it is, and what is learned is invariance within a class,
no longer a straight line between the two.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ssl_isic.config import Config
from ssl_isic.transfer import to_device


class MixingConfig(Config):
    """MixUp and CutMix of the images of a micro-batch; off unless `probability` is above 0."""

    probability: float = Field(0.0, ge=0, le=1)
    """Chance that a micro-batch is mixed; 0 never."""
    cutmix: float = Field(0.5, ge=0, le=1)
    """Chance that a mixed micro-batch is cut and pasted (CutMix) and not blended (MixUp)."""
    mixup_alpha: float = Field(0.2, gt=0)
    """Both parameters of the beta distribution of MixUp's lambda; small ones leave most images nearly whole."""
    cutmix_alpha: float = Field(1.0, gt=0)
    """The same for CutMix; 1 is uniform."""
    partners: Literal["any", "like"] = "any"
    """Whom an image is mixed with: any of the micro-batch, or those on its side of target 0.5."""


UNMIXED = MixingConfig()


@dataclass(frozen=True)
class Pairing:
    """How the images of one micro-batch are mixed."""

    partner: NDArray[np.int64]
    """Whose image and target is mixed in (B,)."""
    share: NDArray[np.float64]
    """What stays of an image's own (B,)."""
    boxes: NDArray[np.int64] | None
    """Where the partner is pasted, rows and columns [top, bottom, left, right) (B, 4); None where images are blended."""


class Mixed(NamedTuple):
    """What the loss is computed from."""

    images: Tensor
    target: Tensor
    weight: Tensor


def draw_pairing(
    config: MixingConfig, rng: np.random.Generator, positive: NDArray[np.bool_], height: int, width: int
) -> Pairing | None:
    """How B images of this size, px, are mixed, each with a lambda of its own; None where they are not.

    `positive` (B,) is only looked at for `partners: like`. Source: Zhang et al. 2018, section 1; Yun et al. 2019,
    equation 2 and algorithm 1, where a box's part beyond the image does not count.
    """
    if rng.random() >= config.probability:
        return None
    count = len(positive)
    partner = rng.permutation(count) if config.partners == "any" else _within(rng, positive)
    if rng.random() >= config.cutmix:
        return Pairing(partner, rng.beta(config.mixup_alpha, config.mixup_alpha, count), None)
    side = np.sqrt(1 - rng.beta(config.cutmix_alpha, config.cutmix_alpha, count))
    edges = []
    for size in (height, width):
        middle, half = rng.integers(size, size=count), np.rint(side * size / 2).astype(np.int64)
        edges += [np.clip(middle - half, 0, size), np.clip(middle + half, 0, size)]
    boxes = np.stack(edges, axis=1)
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    return Pairing(partner, 1 - area / (height * width), boxes)


def draw_from_torch(config: MixingConfig, target: Tensor, height: int, width: int) -> Pairing | None:
    """`draw_pairing` seeded by torch's global generator, which the loop sets for each (seed, step, micro-batch, rank).

    So a resumed run mixes as the one that was stopped would have. Nothing is drawn from it where mixing is off.
    """
    if config.probability == 0:
        return None
    rng = np.random.default_rng(int(torch.randint(2**62, ())))
    like = config.partners == "like"
    positive = (target >= 0.5).cpu().numpy() if like else np.zeros(len(target), bool)  # a copy makes a GPU wait
    return draw_pairing(config, rng, positive, height, width)


def mixed(images: Tensor, target: Tensor, weight: Tensor, pairing: Pairing) -> Mixed:
    """Images, targets and weights as `pairing` mixes them.

    A loss that is linear in its target, as all in `losses.py` are, gives for each mixed image
    share x weight x loss(own target) + (1 - share) x partner's weight x loss(partner's target): the papers' mixed loss,
    with a weight for each side.
    """
    partner = to_device(torch.from_numpy(pairing.partner), images.device)
    share = to_device(torch.from_numpy(pairing.share).to(target.dtype), target.device)
    if pairing.boxes is None:
        pixels = torch.lerp(images[partner], images, share.to(images)[:, None, None, None])
    else:
        pixels = torch.where(_inside(pairing.boxes, images), images[partner], images)
    own, others = share * weight, (1 - share) * weight[partner]
    total = own + others
    mean = (own * target + others * target[partner]) / total.clamp(min=torch.finfo(total.dtype).tiny)
    return Mixed(pixels, mean, total)


def _within(rng: np.random.Generator, positive: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A permutation that keeps positives among positives and negatives among negatives."""
    partner = np.empty(len(positive), np.int64)
    for rows in (np.flatnonzero(positive), np.flatnonzero(~positive)):
        partner[rows] = rng.permutation(rows)
    return partner


def _inside(boxes: NDArray[np.int64], images: Tensor) -> Tensor:
    """Which pixels lie in each image's box (B, 1, h, w)."""
    top, bottom, left, right = to_device(torch.from_numpy(boxes), images.device).T[..., None]
    y, x = (torch.arange(size, device=images.device) for size in images.shape[2:])
    down, across = (top <= y) & (y < bottom), (left <= x) & (x < right)
    inside: Tensor = down[:, None, :, None] & across[:, None, None, :]
    return inside
