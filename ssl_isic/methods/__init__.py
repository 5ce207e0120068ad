"""The methods: the union lists their settings, each of which builds its own views and task."""

from typing import Annotated

from pydantic import Field

from ssl_isic.methods.dino import DINOConfig
from ssl_isic.methods.dinov2 import DINOv2Config
from ssl_isic.methods.lejepa import LeJEPAConfig
from ssl_isic.methods.mae import MAEConfig
from ssl_isic.methods.simclr import SimCLRConfig
from ssl_isic.methods.vicreg import VICRegConfig

MethodConfig = Annotated[
    SimCLRConfig | DINOConfig | VICRegConfig | LeJEPAConfig | MAEConfig | DINOv2Config, Field(discriminator="name")
]
