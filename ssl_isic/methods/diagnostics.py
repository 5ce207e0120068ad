"""Scalars that a method logs beside its loss, which tell a run that learns from one that collapses."""

import torch
from torch import Tensor, nn

from ssl_isic.collapse import LEAST_STD


def feature_std(features_BD: Tensor) -> Tensor:
    """Mean over dimensions of the standard deviation of L2-normalised features, times sqrt(D): 1 is isotropic, 0 collapse.

    Source: Chen and He 2021 (SimSiam), section 4.1.
    """
    unit = nn.functional.normalize(features_BD.detach().float(), dim=1)
    spread: Tensor = unit.std(dim=0).mean() * unit.shape[1] ** 0.5
    return spread


@torch.no_grad()
def starts_alike(network: nn.Module, image_size: int) -> bool:
    """Whether a network that maps (B, 3, image_size, image_size) to features, as it starts, gives all images nearly the same.

    Those with LayerScale and a class token do, as DINOv2's: images reach the token through weights of 1e-5. Looked at with
    four images of coloured clouds.
    """
    clouds = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    images = nn.functional.interpolate(clouds, size=(image_size, image_size), mode="bicubic")
    training = network.training
    std = feature_std(network.eval()(images)).item()
    network.train(training)
    return std < LEAST_STD


def prototype_entropies(p_BK: Tensor) -> tuple[Tensor, Tensor]:
    """Mean entropy of the rows of `p_BK` (probabilities over K prototypes), and the entropy of their mean, nats.

    The first is 0 when each image has one prototype and ln K when every image is spread over all of them; the second is 0
    when all images share one prototype. Where the two agree, the images are not told apart. Of no rows both are 0.
    """
    if not len(p_BK):
        return p_BK.sum(), p_BK.sum()
    return _entropy(p_BK).mean(), _entropy(p_BK.mean(dim=0))


def _entropy(p: Tensor) -> Tensor:
    entropy: Tensor = -torch.special.xlogy(p, p).sum(dim=-1)
    return entropy
