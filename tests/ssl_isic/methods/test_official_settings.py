"""What papers and their code set, and the library does by default: pinned, so that no value moves unnoticed."""

from typing import Any

import pytest

from ssl_isic.data.views import ViewsConfig
from ssl_isic.loop import LoopConfig
from ssl_isic.methods.dino import DINOConfig
from ssl_isic.methods.dinov2 import DINOv2Config
from ssl_isic.methods.lejepa import LeJEPAConfig
from ssl_isic.methods.mae import MAEConfig
from ssl_isic.methods.method import DataFacts, MethodSettings
from ssl_isic.methods.simclr import SimCLRConfig
from ssl_isic.methods.vicreg import VICRegConfig
from ssl_isic.optim import OptimConfig


@pytest.mark.parametrize(
    ("settings", "official"),
    [
        (LoopConfig(), {"clip_norm": 3.0}),
        (OptimConfig(), {"name": "adamw", "end_lr": 1e-6, "weight_decay": 0.04}),
        (SimCLRConfig(), {"temperature": 0.1, "head_layers": 3, "projection_size": 128, "hidden_size": 2048}),
        (
            DINOConfig(),
            {
                "local_crops": 8,
                "hidden_size": 2048,
                "bottleneck_size": 256,
                "student_temperature": 0.1,
                "teacher_warmup_temperature": 0.04,
                "teacher_temperature": 0.04,
                "center_momentum": 0.9,
            },
        ),
        (
            DINOv2Config(),
            {
                "local_crops": 8,
                "student_temperature": 0.1,
                "teacher_warmup_temperature": 0.04,
                "teacher_temperature": 0.07,
                "ema": 0.992,
                "centering": "sinkhorn",
                "sinkhorn_iterations": 3,
                "mask_probability": 0.5,
                "mask_ratio": (0.1, 0.5),
                "ibot_weight": 1.0,
                "koleo_weight": 0.1,
                "layer_decay": 0.9,
                "patch_embed_lr_scale": 0.2,
            },
        ),
        (LeJEPAConfig(), {"local_crops": 6, "slices": 1024}),
        (MAEConfig(), {"mask_ratio": 0.75}),
        (VICRegConfig(), {"invariance_weight": 25.0, "variance_weight": 25.0, "covariance_weight": 1.0}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else "",
)
def test_a_setting_is_its_authors(settings: Any, official: dict[str, Any]) -> None:
    assert {key: getattr(settings, key) for key in official} == official


@pytest.mark.parametrize(
    ("settings", "batch", "official"),
    [
        (SimCLRConfig(), 4096, {"optim.name": "lars", "optim.lr": 4.8, "optim.weight_decay": 1e-6}),
        (VICRegConfig(), 2048, {"optim.name": "lars", "optim.lr": 1.6, "optim.weight_decay": 1e-6}),
        (
            DINOConfig(teacher_temperature=0.07),
            1024,
            {"method.teacher_warmup_epochs": 30.0, "method.freeze_last_layer_epochs": 1.0},
        ),
        (DINOv2Config(), 1024, {"optim.lr": 4e-3, "optim.end_weight_decay": 0.4, "method.teacher_warmup_epochs": 30.0}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, MethodSettings) else "",
)
def test_at_their_size_the_rules_make_what_the_authors_took(
    settings: MethodSettings, batch: int, official: dict[str, Any]
) -> None:
    steps = 100 * (400_000 // batch)
    facts = DataFacts(400_000, 131.0, batch, ViewsConfig(), steps, is_like_vit=False, optimizer=None)
    values = {rule.key: rule.value for rule in settings.defaults(facts)}
    for key, value in official.items():
        assert values[key] == (pytest.approx(value, rel=0.01) if isinstance(value, float) else value), key


@pytest.mark.parametrize("settings", [DINOConfig(), DINOv2Config(), LeJEPAConfig()])
def test_local_crops_of_small_images_are_not_a_blur(settings: MethodSettings) -> None:
    """0.05 of a crop of 131 px is 29 px on a side: enlarged to 96 px, there would be nothing to see."""
    facts = DataFacts(
        19_000, 131.0, 256, ViewsConfig(preset="paper", local_size=96), 50_000, is_like_vit=True, optimizer=None
    )
    values = {rule.key: rule.value for rule in settings.defaults(facts)}
    assert values["views.local_scale"][0] == pytest.approx((0.5 * 96 / 131) ** 2, rel=0.01)
