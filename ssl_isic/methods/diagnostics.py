"""Scalars that a method logs beside its loss, which tell a run that learns from one that collapses."""

import torch
from torch import Tensor, nn


def feature_std(features_BD: Tensor) -> Tensor:
    """Mean over dimensions of the standard deviation of L2-normalised features, times sqrt(D): 1 is isotropic, 0 collapse.

    Source: Chen and He 2021 (SimSiam), section 4.1.
    """
    unit = nn.functional.normalize(features_BD.detach().float(), dim=1)
    spread: Tensor = unit.std(dim=0).mean() * unit.shape[1] ** 0.5
    return spread


def prototype_entropies(p_BK: Tensor) -> tuple[Tensor, Tensor]:
    """Mean entropy of the rows of `p_BK` (probabilities over K prototypes), and the entropy of their mean, nats.

    The first is 0 when each image has one prototype and ln K when every image is spread over all of them; the second is 0
    when all images share one prototype. Where the two agree, the images are not told apart.
    """
    return _entropy(p_BK).mean(), _entropy(p_BK.mean(dim=0))


def _entropy(p: Tensor) -> Tensor:
    entropy: Tensor = -torch.special.xlogy(p, p).sum(dim=-1)
    return entropy
