"""The methods. The union lists their configurations; `build_method` maps each to its task."""

from typing import Annotated

from pydantic import Field

from ssl_isic.backbones import BackboneConfig
from ssl_isic.data.views import SeededViews, ViewsConfig, dino_views, simclr_views
from ssl_isic.methods.dino import DINO, DINOConfig
from ssl_isic.methods.simclr import SimCLR, SimCLRConfig
from ssl_isic.task import Task

MethodConfig = Annotated[SimCLRConfig | DINOConfig, Field(discriminator="name")]


def build_method(
    config: SimCLRConfig | DINOConfig, backbone: BackboneConfig, image_size: int, steps_per_epoch: int, total_steps: int
) -> Task:
    """The task that `config` describes, for a run of `total_steps` optimizer steps."""
    if isinstance(config, SimCLRConfig):
        return SimCLR(config, backbone, image_size)
    return DINO(config, backbone, image_size, steps_per_epoch, total_steps)


def build_views(config: SimCLRConfig | DINOConfig, views: ViewsConfig) -> SeededViews:
    """The views that the method learns from."""
    if isinstance(config, SimCLRConfig):
        return simclr_views(views)
    return dino_views(views, config.local_crops)
