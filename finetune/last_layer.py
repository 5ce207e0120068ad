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


def last_layers(model: nn.Module) -> list[nn.Linear]:
    """The linear layers that make a timm model's logits: one, or several whose logits it averages, as distilled networks have.

    Raises:
        InputError: none, as in a backbone or where the head is of another kind.
    """
    heads = model.get_classifier()  # type: ignore[operator]
    modules = [module for head in (heads if isinstance(heads, tuple) else (heads,)) for module in head.modules()]
    found = [module for module in modules if isinstance(module, nn.Linear) and module.out_features == model.num_classes]
    if not found:
        architecture = model.pretrained_cfg["architecture"]  # type: ignore[index]
        raise InputError(
            f"the {architecture} does not end in a linear layer, so it is no classifier; choose another network"
        )
    return found


def keep_logits_exact(model: nn.Module) -> None:
    """Let the last layers of `model` compute in float32. Their weights stay what and where they are."""
    for last in last_layers(model):
        if type(last) is nn.Linear:
            last.__class__ = Float32Linear
