"""A small backbone, as pretraining writes one."""

from pathlib import Path

import pytest
import torch

from ssl_isic.backbones import BackboneConfig, build_backbone, save_backbone


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder `backbone` of a test_resnet at 32 px, normalised unlike timm's own."""
    torch.manual_seed(4)
    model = build_backbone(BackboneConfig(model="test_resnet"), 32)
    model(torch.randn(8, 3, 32, 32))  # moves batch norm's statistics away from a new model's
    settings = model.pretrained_cfg
    assert isinstance(settings, dict)
    settings.update(mean=(0.6, 0.5, 0.4), std=(0.2, 0.3, 0.4))
    folder = tmp_path_factory.mktemp("run") / "backbone"
    save_backbone(model, folder, 32)
    return folder
