"""The last layer of a classifier, in float32 whatever the network below it runs in.

In bf16 a logit between 4 and 8 is a multiple of 1/32: of 100,000 lesions most would tie, and ranks decide pAUC.
"""

from torch import Tensor, nn

from ssl_isic.errors import InputError
from ssl_isic.task import full_precision


class Float32Linear(nn.Linear):
    """`nn.Linear` that autocast does not reach."""

    def forward(self, features: Tensor) -> Tensor:
        """Float32 outputs (..., O) of features (..., D) of any precision."""
        with full_precision(features):
            return super().forward(features.float())


def last_layer(model: nn.Module) -> nn.Linear:
    """The linear layer with which a timm model ends. InputError where it ends in none: a backbone, or another kind of head."""
    last = model.get_classifier()  # type: ignore[operator]
    for module in last.modules():
        if isinstance(module, nn.Linear):
            return module
    architecture = model.pretrained_cfg["architecture"]  # type: ignore[index]
    raise InputError(
        f"the {architecture} does not end in a linear layer, so it is no classifier; choose another network"
    )


def keep_logits_exact(model: nn.Module) -> None:
    """Let the last layer of `model` compute in float32. Its weights stay what and where they are."""
    last = last_layer(model)
    if type(last) is nn.Linear:
        last.__class__ = Float32Linear
