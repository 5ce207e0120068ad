"""A script run by path has its own folder first on sys.path: no name there may hide a module that others import."""

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import ssl_isic

ROOT = Path(ssl_isic.__file__).resolve().parents[1]
OURS = {"ssl_isic", "finetune", "pseudolabel"}


@pytest.mark.parametrize("package", sorted(OURS))
def test_no_module_of_ours_hides_another(package: str) -> None:
    folder = ROOT / package
    names = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    names.discard("__init__")
    installed = set(packages_distributions()) - OURS
    assert names & (set(sys.stdlib_module_names) | installed) == set()


def modules_after(statement: str) -> set[str]:
    words = [sys.executable, "-c", f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"]
    return set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())


def test_the_command_table_is_light() -> None:
    loaded = modules_after("import ssl_isic.cli; ssl_isic.cli.main([])")
    assert "ssl_isic.cli" in loaded
    assert not loaded & {"torch", "timm", "numpy", "pandas", "albumentations"}


@pytest.mark.slow
def test_training_does_not_import_lightning() -> None:
    loaded = modules_after("import ssl_isic.pretrain")
    assert "lightly.loss.dino_loss" in loaded
    assert not {name.partition(".")[0] for name in loaded} & {"pytorch_lightning", "lightning", "lightning_fabric"}
