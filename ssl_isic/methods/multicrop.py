"""Multi-crop: views of several resolutions through one network.

Shapes: B images of one rank, D features.
"""

from collections.abc import Callable
from itertools import groupby

import torch
from torch import Tensor

GLOBAL_CROPS = 2


def forward_by_resolution(
    network: Callable[[Tensor], Tensor], normalize: Callable[[Tensor], Tensor], views: list[Tensor]
) -> list[Tensor]:
    """`network`'s features, one (B, D) a view, with one forward pass for each run of `views` (B, h, w, 3) of one size."""
    features: list[Tensor] = []
    for _, same_size in groupby(views, key=lambda view: view.shape[1]):
        group = list(same_size)
        features += network(normalize(torch.cat(group))).chunk(len(group))
    return features
