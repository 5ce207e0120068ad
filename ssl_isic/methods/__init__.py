"""The methods: the union lists their settings, each of which builds its own views and task."""

from typing import Annotated

from pydantic import Field

from ssl_isic.methods.dino import DINOConfig
from ssl_isic.methods.simclr import SimCLRConfig

MethodConfig = Annotated[SimCLRConfig | DINOConfig, Field(discriminator="name")]
